"""Which pairs form which step: a pure function of the corpus's sizes, the seed and the step.

Nothing about the machine enters, so a run may move to another one in the middle of an
epoch and still see the same pairs in the same order. No list of indices exists: each
epoch is a permutation that is computed where it is looked at, in constant memory.

With a mix an epoch is a permutation of places, and each place draws the next pair of its
part of the corpus; a part is drawn from in rounds, each another permutation of it.
"""

import hashlib
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dragoman.data.mixing import Mix
from dragoman.errors import InputError

ROUNDS = 6
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


@dataclass(frozen=True)
class BatchPlan:
    """The order of all pairs over the whole run."""

    num_pairs: int
    pairs_per_step: int
    seed: int
    epochs: float = 1.0
    max_steps: int | None = None
    mix: Mix | None = None
    """How many pairs of each part an epoch holds; None: every pair once."""

    def __post_init__(self) -> None:
        if self.num_pairs < 1:
            raise InputError("--data: no pair is left to train on", "dragoman prepare shows what was dropped and why")

    @property
    def pairs_per_epoch(self) -> int:
        """Places of one epoch: all pairs, or as many as the mix says."""
        return self.mix.pairs_per_epoch if self.mix else self.num_pairs

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run; the last one may hold fewer pairs."""
        # From the rounded number of pairs: a fraction of a pair must not make a step that holds none.
        return math.ceil(self.total_pairs / self.pairs_per_step)

    @property
    def total_pairs(self) -> int:
        """Pairs seen in the whole run, repetitions counted."""
        if self.max_steps is not None:
            return self.max_steps * self.pairs_per_step
        return max(1, round(self.epochs * self.pairs_per_epoch))

    def pairs_seen(self, step: int) -> int:
        """Pairs of all steps before `step`."""
        return min(step * self.pairs_per_step, self.total_pairs)

    def indices(self, step: int) -> NDArray[np.int64]:
        """Indices into the corpus of the pairs of `step`; a step may span two epochs."""
        positions = np.arange(self.pairs_seen(step), self.pairs_seen(step + 1), dtype=np.int64)
        chosen = in_rounds(positions, self.pairs_per_epoch, self.seed)
        return self._drawn(positions // self.pairs_per_epoch, chosen, self.mix) if self.mix else chosen

    def _drawn(self, epochs: NDArray[np.int64], places: NDArray[np.int64], mix: Mix) -> NDArray[np.int64]:
        """The pairs that places of epochs draw from the parts of the corpus."""
        chosen = np.empty_like(places)
        parts = mix.part_of(places)
        for number, part in enumerate(mix.parts):
            inside = parts == number
            draws = epochs[inside] * part.quota + places[inside] - mix.starts[number]
            chosen[inside] = part.first + in_rounds(draws, part.num_pairs, self.seed, f" of part {number}")
        return chosen


def in_rounds(positions: NDArray[np.int64], num_pairs: int, seed: int, purpose: str = "") -> NDArray[np.int64]:
    """The values at `positions` of one permutation of range(num_pairs) after another."""
    rounds, places = positions // num_pairs, positions % num_pairs
    chosen = np.empty_like(places)
    for one in np.unique(rounds):
        inside = rounds == one
        chosen[inside] = permuted(places[inside], num_pairs, seed, int(one), purpose)
    return chosen


def permuted(places: NDArray[np.int64], num_pairs: int, seed: int, epoch: int, purpose: str = "") -> NDArray[np.int64]:
    """The values of a permutation of range(num_pairs) at `places`, another one for each seed, epoch and purpose.

    A Feistel network on the next even number of bits (Luby and Rackoff 1988); values
    outside the range walk on along their cycle until they fall inside.
    """
    half = max(1, ((num_pairs - 1).bit_length() + 1) // 2)
    keys = [_key(f"{seed}:{epoch}{purpose}:{number}") for number in range(ROUNDS)]
    values = places.astype(np.uint64)
    outside = np.ones(len(values), dtype=bool)
    while outside.any():
        values[outside] = _feistel(values[outside], half, keys)
        outside &= values >= np.uint64(num_pairs)
    return values.astype(np.int64)


def _key(name: str) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big"))


def _feistel(values: NDArray[np.uint64], half: int, keys: list[np.uint64]) -> NDArray[np.uint64]:
    shift, mask = np.uint64(half), np.uint64((1 << half) - 1)
    left, right = values >> shift, values & mask
    for key in keys:
        left, right = right, left ^ (_mix(right ^ key) & mask)
    return (left << shift) | right


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64 (Steele, Lea and Flood 2014)."""
    values = (values ^ (values >> np.uint64(30))) * _MIX_1
    values = (values ^ (values >> np.uint64(27))) * _MIX_2
    return values ^ (values >> np.uint64(31))
