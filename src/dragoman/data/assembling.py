"""The last pass: from tokenised chunks to the blocks of a corpus, in their final order.

Pairs to train on stand in the order of the directions and their sources; those held out, by
direction, in the order of a hash, so that the first k of them are a uniform sample.
"""

import copy
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dragoman.data import work
from dragoman.data.choosing import TRAIN, Choice
from dragoman.data.cleaning import add_facts
from dragoman.data.corpus_writer import Block, SplitBlocks
from dragoman.data.encode import Encoder
from dragoman.data.filters import Funnel, Split
from dragoman.data.unknown import most_frequent

BLOCK_PAIRS = 65_536
"""Pairs held out that are gathered at once."""


class Assembled:
    """All tokenised chunks of a choice, seen as one."""

    def __init__(self, choice: Choice, num_directions: int, tokenizer: str) -> None:
        self._choice = choice
        self._num_directions = num_directions
        self._paths = [choice.folder.encoded(chunk, tokenizer) for chunk in choice.chunks]
        self._facts = [work.facts(path) for path in self._paths]
        self._rows_held_out = cache(choice.held_out)

    def funnels(self, chosen: Iterable[Funnel]) -> list[Funnel]:
        """The funnels of the directions, with the pairs that were too long counted too."""
        funnels = [copy.deepcopy(funnel) for funnel in chosen]
        for chunk, facts in zip(self._choice.chunks, self._facts, strict=True):
            add_facts(funnels[chunk.direction], facts["funnel"])
        return funnels

    def num_train(self) -> list[int]:
        """Pairs of each direction to train on."""
        counts = [0] * self._num_directions
        for chunk, facts in zip(self._choice.chunks, self._facts, strict=True):
            counts[chunk.direction] += facts["num_train"]
        return counts

    def used(self) -> NDArray[np.int64]:
        """The different token ids of all pairs."""
        seen = np.zeros(1, bool)
        for path in self._paths:
            (used,) = work.load(path, "used")
            if len(used) and used[-1] >= len(seen):
                seen = np.concatenate((seen, np.zeros(int(used[-1]) + 1 - len(seen), bool)))
            seen[used] = True
        return np.flatnonzero(seen).astype(np.int64)

    def split(self, split: Split) -> SplitBlocks:
        """The pairs of one split, and what its tokenizer could not write."""
        blocks = self._train if split == "train" else lambda: self._held_out(split)
        return SplitBlocks(blocks, self._unknown(split))

    def _train(self) -> Iterator[Block]:
        for chunk, path in zip(self._choice.chunks, self._paths, strict=True):
            fates, is_short, lengths = work.load(path, "fate", "is_short", "lengths")
            chosen = (fates == TRAIN)[is_short]
            if chosen.any():
                yield Block(chunk.direction, lengths[chosen], partial(_ids_of, path, lengths, chosen))

    def _held_out(self, split: Split) -> Iterator[Block]:
        for direction in range(self._num_directions):
            rows = self._rows_held_out(direction, split)
            for start in range(0, len(rows), BLOCK_PAIRS):
                block = self._gathered(direction, rows[start : start + BLOCK_PAIRS])
                if len(block.lengths):
                    yield block

    def _gathered(self, direction: int, rows: NDArray[np.int64]) -> Block:
        """The pairs at these rows of (place of the chunk, place in it), in this order; too long ones left out."""
        found: dict[tuple[int, int], tuple[NDArray[Any], NDArray[Any], tuple[str, str]]] = {}
        for place in map(int, np.unique(rows[:, 0])):
            wanted = set(rows[rows[:, 0] == place, 1].tolist())
            for index, lengths, ids, text in _held(self._paths[place]):
                if index in wanted:
                    found[place, index] = lengths, ids, text
        ordered = [found[row] for row in map(tuple, rows.tolist()) if row in found]
        lengths = np.array([lengths for lengths, _, _ in ordered], np.uint32).reshape(-1, 2)
        ids = np.concatenate([np.empty(0, np.uint32), *(ids for _, ids, _ in ordered)])
        return Block(direction, lengths, lambda: ids, [text for _, _, text in ordered])

    def _unknown(self, split: Split) -> dict[str, Any]:
        """Per language, the share of `<unk>` among its tokens and the characters that became it."""
        totals: dict[str, list[int]] = {}
        characters: dict[str, Counter[str]] = {}
        for facts in self._facts:
            for code, (tokens, unknown, found) in facts["unknown"].get(split, {}).items():
                total = totals.setdefault(code, [0, 0])
                total[0] += tokens
                total[1] += unknown
                characters.setdefault(code, Counter()).update(found)
        codes = sorted(totals)
        return {
            "unknown_rate": {code: totals[code][1] / max(totals[code][0], 1) for code in codes},
            "unknown_characters": {code: most_frequent(characters[code]) for code in codes if characters[code]},
        }


def assemble(choice: Choice, num_directions: int, encoder: Encoder) -> Assembled:
    """The tokenised chunks of a choice."""
    return Assembled(choice, num_directions, encoder.digest())


def _ids_of(path: Path, lengths: NDArray[np.uint32], chosen: NDArray[np.bool_]) -> NDArray[np.uint32]:
    """The ids of some short pairs of a chunk."""
    (ids,) = work.load(path, "ids")
    return ids[np.repeat(chosen, lengths.sum(axis=1, dtype=np.int64))]


def _held(path: Path) -> Iterator[tuple[int, NDArray[Any], NDArray[Any], tuple[str, str]]]:
    """Place, lengths, ids and text of each pair that is held out of a chunk."""
    names = ("held_of", "held_lengths", "held_ids", "held_text", "held_text_lengths")
    index, lengths, ids, blob, bytes_of = work.load(path, *names)
    ends = np.cumsum(lengths.sum(axis=1, dtype=np.int64)).tolist()
    text_ends = np.cumsum(bytes_of, dtype=np.int64).tolist()
    text = blob.tobytes()
    start = text_start = 0
    for number, place in enumerate(index.tolist()):
        middle, text_end = text_ends[2 * number], text_ends[2 * number + 1]
        sides = text[text_start:middle].decode(), text[middle:text_end].decode()
        yield place, lengths[number], ids[start : ends[number]], sides
        start, text_start = ends[number], text_end
