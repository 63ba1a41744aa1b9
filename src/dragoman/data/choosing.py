"""The second pass: which pairs are kept, by comparing each with all others, on hashes alone.

Duplicates first: of equal pairs of a direction the first stays. Then leaks: a pair to train on
goes when either side is a text that stands on either side of any pair held out, or of a test set
that stands apart, in the same language, whatever the direction. Then the sample is drawn. Memory
is one byte per pair, 24 bytes per pair held out, and a bounded part of the hashes.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dragoman.data import cleaning, work
from dragoman.data.cleaning import SAME, SPLITS
from dragoman.data.filters import NUM_EXAMPLES, Funnel, Split
from dragoman.data.work import Chunk, Work

DROPPED = (*SAME, "leak", "not_sampled")
"""Why a good pair is dropped, in this order."""

TRAIN = SPLITS.index("train")
PART_PAIRS = 1_000_000
"""Hashes that are compared at once; equal ones are always among the same."""

TEXT_PAIRS = 65_536
"""Texts of pairs held out that are gathered at once."""

Fates = NDArray[np.uint8]
"""Per pair of a cleaned chunk its place in `SPLITS`, or, behind those, in `DROPPED`."""


@dataclass
class Choice:
    """What becomes of every pair."""

    folder: Work
    chunks: Sequence[Chunk]
    fates: list[Fates]
    """Per chunk."""

    def counts(self, direction: int) -> NDArray[np.int64]:
        """Pairs of a direction with each fate."""
        total = np.zeros(len(SPLITS) + len(DROPPED), np.int64)
        for chunk, fates in zip(self.chunks, self.fates, strict=True):
            if chunk.direction == direction:
                total += np.bincount(fates, minlength=len(total))
        return total

    def kept(self, place: int) -> NDArray[np.uint32]:
        """The pairs of the chunk at this place that are in any split."""
        return np.flatnonzero(self.fates[place] < len(SPLITS)).astype(np.uint32)

    def held_out(self, direction: int, split: Split) -> NDArray[np.int64]:
        """The pairs of a direction in `dev` or `test` as rows of (place of the chunk, place in it).

        They stand in the order of a hash, so that the first k are a uniform sample.
        """
        rows: list[NDArray[np.int64]] = []
        priorities: list[NDArray[np.uint64]] = []
        for place in self.places(direction):
            found = np.flatnonzero(self.fates[place] == SPLITS.index(split))
            rows.append(np.stack((np.full_like(found, place), found), axis=1))
            priorities.append(self.column(place, "priority")[found])
        if not rows:
            return np.empty((0, 2), np.int64)
        return np.concatenate(rows)[np.argsort(np.concatenate(priorities), kind="stable")]

    def texts(self, direction: int, split: Split) -> Iterator[tuple[str, str]]:
        """Source and target of the pairs of a direction in a split, in their order."""
        if split == "train":
            for place in self.places(direction):
                found = np.flatnonzero(self.fates[place] == TRAIN)
                yield from cleaning.texts_at(self.folder.cleaned(self.chunks[place]), found)
            return
        rows = self.held_out(direction, split)
        for start in range(0, len(rows), TEXT_PAIRS):
            yield from self._texts_of(rows[start : start + TEXT_PAIRS])

    def _texts_of(self, rows: NDArray[np.int64]) -> Iterator[tuple[str, str]]:
        found: dict[tuple[int, int], tuple[str, str]] = {}
        for place in map(int, np.unique(rows[:, 0])):
            wanted = rows[rows[:, 0] == place, 1]
            texts = cleaning.texts_at(self.folder.cleaned(self.chunks[place]), wanted)
            found |= {(place, index): text for index, text in zip(wanted.tolist(), texts, strict=True)}
        return (found[place, index] for place, index in rows.tolist())

    def places(self, direction: int) -> Iterator[int]:
        """The places of a direction's chunks."""
        return (place for place, chunk in enumerate(self.chunks) if chunk.direction == direction)

    def column(self, place: int, name: str) -> NDArray[Any]:
        """An array of the cleaned chunk at this place."""
        return work.load(self.folder.cleaned(self.chunks[place]), name)[0]

    def examples(self, direction: int, why: str) -> Iterator[tuple[str, str]]:
        """The first few pairs that were dropped for a reason."""
        fate, remaining = _fate(why), NUM_EXAMPLES
        for place in self.places(direction):
            found = np.flatnonzero(self.fates[place] == fate)[:remaining]
            if len(found):
                remaining -= len(found)
                yield from cleaning.texts_at(self.folder.cleaned(self.chunks[place]), found)


def choose(
    folder: Work,
    chunks: Sequence[Chunk],
    num_directions: int,
    same: Sequence[str],
    max_samples: int | None,
    held_out: NDArray[np.uint64],
) -> Choice:
    """Decide over the pairs of all cleaned chunks.

    Args:
        folder: Where they are.
        chunks: All of them.
        num_directions: How many directions they have.
        same: Which of `SAME` drop a later pair.
        max_samples: Pairs to train on per direction.
        held_out: Hashes of texts, of no pair here, that are not trained on.
    """
    fates = [work.load(folder.cleaned(chunk), "split")[0].copy() for chunk in chunks]
    choice = Choice(folder, chunks, fates)
    for direction in range(num_directions):
        for why in same:
            _drop_later(choice, direction, why)
    _drop_leaks(choice, held_out)
    if max_samples is not None:
        for direction in range(num_directions):
            _draw(choice, direction, max_samples)
    return choice


def complete(funnel: Funnel, choice: Choice, direction: int) -> None:
    """Count in a funnel, with examples, what was dropped here."""
    counts = choice.counts(direction)
    for why in DROPPED:
        for source, target in choice.examples(direction, why) if why != "not_sampled" else ():
            funnel.reject(why, source, target)
        funnel.rejected[why] = int(counts[_fate(why)])


def _fate(why: str) -> int:
    return len(SPLITS) + DROPPED.index(why)


def _drop_later(choice: Choice, direction: int, why: str) -> None:
    """Of pairs that have the same hash, keep the first."""
    places = list(choice.places(direction))
    num_parts = math.ceil(sum(len(choice.fates[place]) for place in places) / PART_PAIRS)
    for part in range(num_parts):
        first, last = (part << 64) // num_parts, ((part + 1 << 64) // num_parts) - 1
        found = [_within(choice, place, why, first, last) for place in places]
        hashes = np.concatenate([hashes for hashes, _ in found])
        owners = np.repeat(np.arange(len(found)), [len(pairs) for _, pairs in found])
        pairs = np.concatenate([pairs for _, pairs in found])
        # Stable: among equal hashes the chunks stay in their order, and the pairs of a chunk in theirs.
        order = np.argsort(hashes, kind="stable")
        later = order[1:][hashes[order[1:]] == hashes[order[:-1]]]
        for owner in np.unique(owners[later]):
            choice.fates[places[owner]][pairs[later[owners[later] == owner]]] = _fate(why)


def _within(choice: Choice, place: int, why: str, first: int, last: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Hashes between two numbers, both included, of pairs of a chunk that are still kept, and these pairs."""
    hashes, pairs = choice.column(place, why), choice.column(place, f"{why}_of")
    start = np.searchsorted(hashes, np.uint64(first), side="left")
    end = np.searchsorted(hashes, np.uint64(last), side="right")
    kept = choice.fates[place][pairs[start:end]] < len(SPLITS)
    return hashes[start:end][kept], pairs[start:end][kept]


def _drop_leaks(choice: Choice, held_out: NDArray[np.uint64]) -> None:
    held = [held_out]
    for place, fates in enumerate(choice.fates):
        is_held = (fates != TRAIN) & (fates < len(SPLITS))
        if is_held.any():
            held.append(np.unique(choice.column(place, "sides")[is_held]))
    known = np.unique(np.concatenate(held))
    if not len(known):
        return
    for place, fates in enumerate(choice.fates):
        sides = choice.column(place, "sides")
        leaks = (known[np.minimum(np.searchsorted(known, sides), len(known) - 1)] == sides).any(axis=1)
        fates[leaks & (fates == TRAIN)] = _fate("leak")


def _draw(choice: Choice, direction: int, num_pairs: int) -> None:
    """Keep the training pairs with the smallest priorities, and of equal ones the first."""
    shift = np.uint64(48)
    counts = np.zeros(1 << 16, np.int64)
    for place in choice.places(direction):
        counts += np.bincount((_candidates(choice, place)[1] >> shift).astype(np.int64), minlength=len(counts))
    if counts.sum() <= num_pairs:
        return
    # The bucket in which the last place falls is looked at one by one, all before it are kept.
    bucket = int(np.searchsorted(np.cumsum(counts), num_pairs, side="left"))
    room = num_pairs - int(counts[:bucket].sum())
    undecided: list[tuple[int, int, int]] = []
    for place in choice.places(direction):
        pairs, priorities = _candidates(choice, place)
        buckets = (priorities >> shift).astype(np.int64)
        choice.fates[place][pairs[buckets > bucket]] = _fate("not_sampled")
        here = np.flatnonzero(buckets == bucket)
        undecided += [(int(priorities[index]), place, int(pairs[index])) for index in here]
    for _, place, pair in sorted(undecided)[room:]:
        choice.fates[place][pair] = _fate("not_sampled")


def _candidates(choice: Choice, place: int) -> tuple[NDArray[Any], NDArray[np.uint64]]:
    pairs = np.flatnonzero(choice.fates[place] == TRAIN)
    return pairs, choice.column(place, "priority")[pairs]
