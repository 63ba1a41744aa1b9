"""How much of an epoch each direction gets.

Shares come from weights that the user names, or from a temperature: a direction with
n pairs gets a share like n to the power of 1/T (Arivazhagan et al. 2019, "Massively
Multilingual NMT in the Wild", section 4.2). T is 1 where nothing is mixed; the
greater it is, the more alike are the shares.

Rehearsed pairs come on top: their share is one of the whole epoch, so that every pair to
learn still occurs as often as without them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dragoman.languages import Direction


@dataclass(frozen=True)
class Part:
    """The pairs of one direction, which stand together in the corpus, and how many of them an epoch draws."""

    first: int
    """Index of its first pair."""

    num_pairs: int
    """How many pairs it has."""

    quota: int
    """Pairs that an epoch draws; more than there are repeats them, fewer takes others in the next epoch."""


@dataclass(frozen=True)
class Mix:
    """The parts of a corpus that one epoch draws from."""

    parts: tuple[Part, ...]

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """First place of each part among the places of an epoch, and their number."""
        return np.cumsum([0, *(part.quota for part in self.parts)], dtype=np.int64)

    @property
    def pairs_per_epoch(self) -> int:
        """Places of one epoch."""
        return int(self.starts[-1])

    def part_of(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Which part each place of an epoch draws from."""
        return np.searchsorted(self.starts, places, side="right") - 1


def mix_of(
    counts: Mapping[Direction, int],
    weights: Mapping[Direction, float] | None,
    temperature: float,
    replay: Mapping[Direction, float],
) -> Mix | None:
    """The mix that the options of a run ask for; None when every pair occurs once in an epoch.

    Args:
        counts: Training pairs of each direction, in the order of the corpus.
        weights: Relative shares of the directions to learn; None: by temperature.
        temperature: From 1, which leaves the shares as the pairs have them.
        replay: Shares of the whole epoch of the rehearsed directions, together below 1.
    """
    learned = [way for way in counts if not way.is_replay]
    if not weights and temperature == 1 and not replay:
        return None
    num_learned = sum(counts[way] for way in learned)
    # Rounded, because the last bit of a power is not the same on every machine, and the plan has to be.
    wanted = [weights[way] if weights else float(f"{counts[way] ** (1 / temperature):.9g}") for way in learned]
    quotas = dict(zip(learned, apportioned(num_learned, wanted), strict=True))
    rehearsed = sum(replay.values())
    num_rehearsed = round(num_learned * rehearsed / (1 - rehearsed))
    quotas |= zip(replay, apportioned(num_rehearsed, list(replay.values())), strict=True)
    firsts = np.cumsum([0, *counts.values()]).tolist()
    return Mix(tuple(Part(first, n, quotas[way]) for first, (way, n) in zip(firsts, counts.items(), strict=False)))


def apportioned(total: int, weights: Sequence[float]) -> list[int]:
    """Whole numbers in proportion to `weights` that add up to `total`, each at least 1 if there is room.

    By the greatest remainders (Hamilton); equal ones go to the first.
    """
    if not weights:
        return []
    least = 1 if total >= len(weights) else 0
    free, whole = total - least * len(weights), sum(weights)
    exact = [max(0.0, total * weight / whole - least) for weight in weights]
    scale = free / (sum(exact) or 1.0)
    shares = [value * scale for value in exact]
    numbers = [int(share) for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda i: numbers[i] - shares[i])
    for i in by_remainder[: free - sum(numbers)]:
        numbers[i] += 1
    return [least + number for number in numbers]
