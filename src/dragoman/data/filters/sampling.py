"""Which side of the split a pair is on, and which pairs are drawn.

Neither the order of the files, nor the other pairs, nor the machine enters; so adding a
file moves no sentence from train to test, and a sample does not depend on how its
source was sorted.
"""

import heapq
from typing import Literal

from dragoman.data.filters.keys import hash64, key
from dragoman.data.sources.rows import Pair
from dragoman.languages import Direction

Split = Literal["train", "dev", "test"]


def split_of(source: str, dev_percent: float, test_percent: float) -> Split:
    """The side of the split of every pair with this source, in any direction, run and corpus.

    Args:
        source: Text of the side that is translated from; compared by its `key`.
        dev_percent: Share of the sources that choose the checkpoint, in per cent.
        test_percent: Share of the sources that only `dragoman evaluate` sees, in per cent.
    """
    return split_at(text_hash(source), dev_percent, test_percent)


def text_hash(text: str) -> int:
    """A number below 2**64 that texts with equal keys share, in every release."""
    return hash64(b"dragoman split", key(text))


def split_at(source_hash: int, dev_percent: float, test_percent: float) -> Split:
    """`split_of` for a source of which the `text_hash` is known."""
    percent = 100 * source_hash / 2**64
    if percent < test_percent:
        return "test"
    return "dev" if percent < test_percent + dev_percent else "train"


def sample_priority(seed: int, direction: Direction, source: str, target: str) -> int:
    """A number below 2**64 that looks random but depends on the arguments alone.

    The pairs with the k smallest numbers are a uniform sample of k, another one for each
    seed. Pairs with equal keys have equal numbers.
    """
    return hash64(b"dragoman sample", str(seed), str(direction), key(source), key(target))


class Sample:
    """Draws `num_pairs` of the pairs that stream by, in memory for that many; None keeps all."""

    def __init__(self, num_pairs: int | None, seed: int, direction: Direction) -> None:
        self._num_pairs = num_pairs
        self._seed = seed
        self._direction = direction
        self._num_added = 0
        # Greatest priority first out, so both numbers are negated: the later of equal pairs goes first.
        self._heap: list[tuple[int, int, Pair]] = []

    def add(self, pair: Pair) -> None:
        """Show one more pair."""
        self._num_added += 1
        if self._num_pairs is None:
            self._heap.append((0, -self._num_added, pair))
            return
        priority = sample_priority(self._seed, self._direction, pair.source, pair.target)
        item = (-priority, -self._num_added, pair)
        if len(self._heap) < self._num_pairs:
            heapq.heappush(self._heap, item)
        else:
            heapq.heappushpop(self._heap, item)

    def pairs(self) -> list[Pair]:
        """The pairs drawn from those shown so far, in the order in which they were shown."""
        return [pair for _, _, pair in sorted(self._heap, key=lambda item: -item[1])]
