"""From a step number to arrays of tokens; no state, no position, nothing to resume."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dragoman.data.batch_plan import BatchPlan
from dragoman.data.corpus import Corpus
from dragoman.data.encode import decoder_input
from dragoman.data.filters import Split

OVERHEAD = 2
"""Tokens of a sentence besides its pieces: language code and `</s>`."""

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class PackedBatch:
    """Pairs without padding: sentence after sentence in one row per side, the longest pair first."""

    source_N: Ids
    decoder_N: Ids
    labels_N: Ids
    source_lengths_B: Ids
    target_lengths_B: Ids
    pad: int
    """Token that fills up `padded`."""

    @property
    def target_tokens(self) -> int:
        """Positions that the loss counts: pieces, language code and `</s>`."""
        return len(self.labels_N)

    def padded(self) -> "Batch":
        """The same pairs, one row each."""
        source_BS, source_mask_BS = pad(_split(self.source_N, self.source_lengths_B), self.pad)
        labels_BT, target_mask_BT = pad(_split(self.labels_N, self.target_lengths_B), self.pad)
        decoder_BT, _ = pad(_split(self.decoder_N, self.target_lengths_B), self.pad)
        return Batch(source_BS, source_mask_BS, decoder_BT, labels_BT, target_mask_BT)


@dataclass(frozen=True)
class Batch:
    """Padded pairs. B pairs, S source and T target positions; masks are True at tokens."""

    source_BS: Ids
    source_mask_BS: NDArray[np.bool_]
    decoder_BT: Ids
    labels_BT: Ids
    target_mask_BT: NDArray[np.bool_]


class Loader:
    """The batches of a run."""

    def __init__(self, corpus: Corpus, plan: BatchPlan, split: Split = "train", *, active: bool = False) -> None:
        """Open a split.

        Args:
            corpus: The prepared pairs.
            plan: Which pairs form which step.
            split: Which pairs.
            active: Give tokens as places in the corpus's rows, for a model that holds no others.
        """
        self.corpus = corpus
        self.plan = plan
        self.arrays = corpus.arrays(split)
        self.rows = None if active else corpus.rows
        self.codes = np.searchsorted(corpus.rows, corpus.codes) if active else corpus.codes
        self.pad, self.eos = corpus.manifest["pad"], corpus.manifest["eos"]

    def lengths(self, indices: Ids) -> Ids:
        """Tokens of these sources and targets, codes and `</s>` included, shape (pairs, 2)."""
        return self.arrays.lengths(indices) + OVERHEAD

    def batch(self, step: int) -> Ids:
        """Indices of the pairs of `step`, longest first.

        The order inside a step is free (the loss is one sum), sentences of like length
        need little padding, and with the longest first memory fails early or never.
        """
        return self.sorted(self.plan.indices(step))

    def sorted(self, indices: Ids) -> Ids:
        """The same pairs, longest first."""
        return indices[np.argsort(-self.lengths(indices).sum(axis=1), kind="stable")]

    def target_tokens(self, indices: Ids) -> int:
        """Target tokens of these pairs, language codes and `</s>` included."""
        return int(self.lengths(indices)[:, 1].sum())

    def microbatches(self, indices: Ids, limit: int, *, padded: bool = False) -> Iterator[slice]:
        """Cut sorted pairs into parts of at most `limit` source and target tokens, at least one pair each.

        Args:
            indices: Pairs, longest first.
            limit: Largest number of tokens of one forward pass.
            padded: Count padding, for a forward pass that computes it.
        """
        start, lengths = 0, self.lengths(indices)
        while start < len(indices):
            remaining = lengths[start:]
            costs = remaining.sum(axis=1).cumsum()
            if padded:
                costs = np.maximum.accumulate(remaining).sum(axis=1) * np.arange(1, len(remaining) + 1)
            end = start + max(1, int(np.searchsorted(costs, limit, side="right")))
            yield slice(start, end)
            start = end

    def packed(self, indices: Ids) -> PackedBatch:
        """The pairs at `indices`, in this order."""
        lengths = self.lengths(indices)
        labels_N = self._row(indices, 1)
        decoder_N = decoder_input(labels_N)  # each target behind the `</s>` of the one before it
        return PackedBatch(self._row(indices, 0), decoder_N, labels_N, lengths[:, 0], lengths[:, 1], self.pad)

    def _row(self, indices: Ids, side: Literal[0, 1]) -> Ids:
        """`[code] pieces </s>` of every pair, one behind the other, without a loop over pairs."""
        starts = self.arrays.bounds[2 * indices + side].astype(np.int64)
        lengths = self.lengths(indices)[:, side]
        ends = np.cumsum(lengths)
        places = np.repeat(starts - 1 - (ends - lengths), lengths) + np.arange(int(ends[-1]))
        is_piece = np.ones(len(places), dtype=bool)
        is_piece[ends - lengths] = is_piece[ends - 1] = False
        row = np.full(len(places), self.eos, dtype=np.int64)
        pieces = self.arrays.ids[places[is_piece]]
        row[is_piece] = pieces if self.rows is None else self.rows[pieces]
        row[ends - lengths] = self.codes[self.arrays.way[indices], side]
        return row


def pad(rows: list[Ids], value: int) -> tuple[Ids, NDArray[np.bool_]]:
    """Rows of different lengths as one array filled up with `value`, and where they are real."""
    lengths = np.array([len(row) for row in rows])
    places = np.arange(int(lengths.max()))
    mask: NDArray[np.bool_] = np.less(places[None, :], lengths[:, None])
    filled: Ids = np.full((len(rows), len(places)), value, dtype=np.int64)
    filled[mask] = np.concatenate(rows)
    return filled, mask


def _split(row_N: Ids, lengths_B: Ids) -> list[Ids]:
    return np.split(row_N, np.cumsum(lengths_B)[:-1])
