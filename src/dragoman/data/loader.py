"""From a step number to padded arrays; no state, no position, nothing to resume."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dragoman.data.batch_plan import BatchPlan
from dragoman.data.corpus import Corpus
from dragoman.data.encode import decoder_input, sentence
from dragoman.data.filters import Split


@dataclass(frozen=True)
class Batch:
    """Padded pairs. B pairs, S source and T target positions; masks are True at tokens."""

    source_BS: NDArray[np.int64]
    source_mask_BS: NDArray[np.bool_]
    decoder_BT: NDArray[np.int64]
    labels_BT: NDArray[np.int64]
    target_mask_BT: NDArray[np.bool_]

    @property
    def target_tokens(self) -> int:
        """Positions that the loss counts: pieces, language code and `</s>`."""
        return int(self.target_mask_BT.sum())


class Loader:
    """The batches of a run."""

    def __init__(self, corpus: Corpus, plan: BatchPlan, split: Split = "train") -> None:
        self.corpus = corpus
        self.plan = plan
        self.arrays = corpus.arrays(split)
        self.codes = corpus.codes
        self.pad, self.eos = corpus.manifest["pad"], corpus.manifest["eos"]
        self.lengths = self.arrays.target_lengths()

    def batch(self, step: int) -> NDArray[np.int64]:
        """Indices of the pairs of `step`, longest target first.

        The order inside a step is free (the loss is one sum), and sorted microbatches
        hold less padding; the longest come first so that memory fails early or never.
        """
        chosen = self.plan.indices(step)
        return chosen[np.argsort(-self.lengths[chosen], kind="stable")]

    def target_tokens(self, indices: NDArray[np.int64]) -> int:
        """Target tokens of these pairs, language codes and `</s>` included."""
        return int(self.lengths[indices].sum()) + 2 * len(indices)

    def padded(self, indices: NDArray[np.int64]) -> Batch:
        """The pairs at `indices` as one padded batch."""
        sources = [self._sentence(int(index), 0) for index in indices]
        labels = [self._sentence(int(index), 1) for index in indices]
        source_BS, source_mask_BS = pad(sources, self.pad)
        labels_BT, target_mask_BT = pad(labels, self.pad)
        decoder_BT, _ = pad([decoder_input(label) for label in labels], self.pad)
        return Batch(source_BS, source_mask_BS, decoder_BT, labels_BT, target_mask_BT)

    def _sentence(self, index: int, side: Literal[0, 1]) -> NDArray[np.int64]:
        code = self.codes[self.arrays.way[index], side]
        return sentence(code, self.arrays.pieces(index, side), self.eos)


def pad(rows: list[NDArray[np.int64]], value: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Rows of different lengths as one array filled up with `value`, and where they are real."""
    lengths = np.array([len(row) for row in rows])
    places = np.arange(int(lengths.max()))
    mask: NDArray[np.bool_] = np.less(places[None, :], lengths[:, None])
    filled: NDArray[np.int64] = np.full((len(rows), len(places)), value, dtype=np.int64)
    filled[mask] = np.concatenate(rows)
    return filled, mask
