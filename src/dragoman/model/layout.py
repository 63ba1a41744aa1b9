"""Where the sentences of a packed microbatch stand: in the row of tokens, and side by side for attention.

Two ways. Usually sentences are padded in groups of like length, and each microbatch has
sizes of its own. With static shapes everything is padded to one of few sizes, so that a GPU
can replay the work as one graph: the row by tokens that nobody sees, the grid to a power of two.

Shape letters: N tokens of a row, B sentences, L their padded length.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SPREAD = 0.6
"""A group of sentences holds none shorter than this share of its longest, on either side."""
FIRST_POSITION = 2
"""M2M100 counts positions from the padding index plus one."""
ROUND_TOKENS = 128
"""Static rows have a multiple of this many tokens."""
LEAST_LENGTH = 32
"""Static grids have this length, or it doubled once or more."""

Lengths = NDArray[np.int64]


@dataclass(frozen=True)
class Side:
    """One group of sentences, source or target: where its tokens stand in the row and in the padded grid."""

    start: int
    end: int
    num_sentences: int
    length: int
    place_N: Tensor | None
    """Where each token goes in the grid of B x L; None when nothing is padded."""
    mask_B11L: Tensor | None
    """True at tokens; None when nothing is padded."""
    spare: int = 0
    """Places behind the grid, for tokens of the row that are none."""

    @property
    def places(self) -> int:
        """Of the grid: B x L."""
        return self.num_sentences * self.length


@dataclass(frozen=True)
class Layout:
    """Where everything stands: made once for a microbatch, used by every layer."""

    source: list[Side]
    target: list[Side]
    source_positions_N: Tensor
    target_positions_N: Tensor

    def moved(self, move: Callable[[Tensor], Tensor]) -> "Layout":
        """The same with every tensor replaced, always in the same order."""

        def side(old: Side) -> Side:
            if old.place_N is None or old.mask_B11L is None:
                return old
            return replace(old, place_N=move(old.place_N), mask_B11L=move(old.mask_B11L))

        return Layout(
            [side(each) for each in self.source],
            [side(each) for each in self.target],
            move(self.source_positions_N),
            move(self.target_positions_N),
        )


@dataclass(frozen=True)
class Shape:
    """The sizes to which a microbatch is padded."""

    pairs: int
    source_tokens: int
    target_tokens: int
    source_length: int
    target_length: int


def layout(source_lengths_B: Lengths, target_lengths_B: Lengths, *, spread: float = SPREAD) -> Layout:
    """Group the sentences of a batch, whose pairs are sorted by length, and number their tokens; on the host.

    Args:
        source_lengths_B: Tokens of each source.
        target_lengths_B: Tokens of each target, of the same pairs.
        spread: Shortest sentence of a group as a share of its longest; 0 makes one group.
    """
    cuts = _cuts(source_lengths_B, target_lengths_B, spread)
    return Layout(
        _sides(source_lengths_B, cuts),
        _sides(target_lengths_B, cuts),
        torch.from_numpy(_positions(source_lengths_B) + FIRST_POSITION),
        torch.from_numpy(_positions(target_lengths_B) + FIRST_POSITION),
    )


def shape_of(source_lengths_B: Lengths, target_lengths_B: Lengths) -> Shape:
    """The least static shape that holds these sentences."""
    return Shape(
        len(source_lengths_B),
        _rounded(source_lengths_B),
        _rounded(target_lengths_B),
        _doubled(source_lengths_B),
        _doubled(target_lengths_B),
    )


def static_layout(source_lengths_B: Lengths, target_lengths_B: Lengths, shape: Shape) -> Layout:
    """The same in a static shape: one group, and a row that ends with tokens that are none.

    Args:
        source_lengths_B: Tokens of each source.
        target_lengths_B: Tokens of each target, of the same pairs.
        shape: From `shape_of`, of these or of larger sentences.
    """
    source, source_positions_N = _static_side(source_lengths_B, shape.source_tokens, shape.source_length)
    target, target_positions_N = _static_side(target_lengths_B, shape.target_tokens, shape.target_length)
    return Layout([source], [target], source_positions_N, target_positions_N)


def filled(row_N: NDArray[np.int64], tokens: int, value: int) -> NDArray[np.int64]:
    """A row of tokens, filled up to a static size."""
    return np.concatenate((row_N, np.full(tokens - len(row_N), value, dtype=np.int64)))


def _rounded(lengths_B: Lengths) -> int:
    return -(-int(lengths_B.sum()) // ROUND_TOKENS) * ROUND_TOKENS


def _doubled(lengths_B: Lengths) -> int:
    length = LEAST_LENGTH
    while length < lengths_B.max():
        length *= 2
    return length


def _static_side(lengths_B: Lengths, tokens: int, length: int) -> tuple[Side, Tensor]:
    places = len(lengths_B) * length
    sentence = np.repeat(np.arange(len(lengths_B)), lengths_B)
    nobody = np.arange(places, places + tokens - len(sentence))
    place_N = np.concatenate((sentence * length + _positions(lengths_B), nobody))
    positions_N = filled(_positions(lengths_B), tokens, 0) + FIRST_POSITION
    mask_B11L = _mask(lengths_B, length)
    side = Side(0, tokens, len(lengths_B), length, torch.from_numpy(place_N), mask_B11L, ROUND_TOKENS)
    return side, torch.from_numpy(positions_N)


def _cuts(source_B: Lengths, target_B: Lengths, spread: float) -> list[tuple[int, int]]:
    """Ranges of sentences that are padded together, in order."""
    cuts: list[tuple[int, int]] = []
    start = 0
    most = least = np.array([source_B[0], target_B[0]])
    for index, lengths in enumerate(np.stack((source_B, target_B), axis=1)):
        wider, narrower = np.maximum(most, lengths), np.minimum(least, lengths)
        if (narrower < spread * wider).any():
            cuts.append((start, index))
            start, wider, narrower = index, lengths, lengths
        most, least = wider, narrower
    return [*cuts, (start, len(source_B))]


def _sides(lengths_B: Lengths, cuts: Sequence[tuple[int, int]]) -> list[Side]:
    ends = np.cumsum(lengths_B)
    sides: list[Side] = []
    for first, last in cuts:
        lengths = lengths_B[first:last]
        start, longest = int(ends[first] - lengths_B[first]), int(lengths.max())
        place = mask = None
        if (lengths != longest).any():
            sentence = np.repeat(np.arange(last - first), lengths)
            place = torch.from_numpy(sentence * longest + _positions(lengths))
            mask = _mask(lengths, longest)
        sides.append(Side(start, int(ends[last - 1]), last - first, longest, place, mask))
    return sides


def _mask(lengths_B: Lengths, length: int) -> Tensor:
    """True at tokens, shape (B, 1, 1, L)."""
    return torch.from_numpy((np.arange(length)[None] < lengths_B[:, None])[:, None, None])


def _positions(lengths_B: Lengths) -> NDArray[np.int64]:
    """0, 1, 2 … within each sentence."""
    starts = np.cumsum(lengths_B) - lengths_B
    return np.arange(int(lengths_B.sum())) - np.repeat(starts, lengths_B)
