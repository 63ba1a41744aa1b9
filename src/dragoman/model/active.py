"""Training only the rows of the embedding that a corpus uses.

Of NLLB's 256,206 rows a few languages use a tenth. The model gets an embedding of those
rows alone, so products, gradients and moments of the largest matrix shrink with it. A
sample of the other rows, frozen and counted for all of them, keeps the model from
giving them probability that nobody would take back (Jean et al. 2015, section 3.2).
The other rows lie in a file, as they were read, and come back bit for bit.

Shape letters: V rows of the whole embedding, A of them trained, K sampled, D width.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dragoman.model.derived import RowFile, Spread
from dragoman.model.loss import Negatives

if TYPE_CHECKING:
    from transformers import M2M100ForConditionalGeneration

NUM_NEGATIVES = 2048
"""Rows that are sampled at each step to stand for all that are not trained."""

CHUNK = 256
"""Tokens whose logits over all rows are held at once."""


class ActiveVocabulary:
    """The rows that are trained, and the memory of those that are not."""

    def __init__(
        self, model: "M2M100ForConditionalGeneration", rows: NDArray[np.int64], folder: Path | None = None
    ) -> None:
        """Give the model an embedding of `rows` only.

        Args:
            model: With its whole embedding; its tokens are places in `rows` from now on.
            rows: Token ids, sorted, each once; frozen where the whole embedding is.
            folder: Where the file of all rows lies; the system's place for such files when left out.

        Raises:
            InputError: There is no room for that file.
        """
        trains = _embedding(model).requires_grad
        whole = _embedding(model).detach()
        self.rows_A = torch.from_numpy(rows)
        self.memory = RowFile(whole, folder)
        """The embedding as it was; rows that are trained are not read from it."""
        self.others = np.setdiff1d(np.arange(len(whole)), rows, assume_unique=True)
        _give(model, nn.Parameter(whole[self.rows_A.to(whole.device)], requires_grad=trains))

    def take(self, whole_VD: Tensor, trained_AD: Tensor) -> None:
        """Read another state of the whole embedding: into the memory, and its rows into the trained ones."""
        self.memory.take(whole_VD)
        trained_AD.copy_(whole_VD[self.rows_A])

    def spread(self, trained_AD: Tensor) -> Spread:
        """The whole embedding with the trained rows as they are, not put together yet."""
        return Spread(self.memory, self.rows_A, trained_AD)

    def negatives(self, seed: int) -> Negatives | None:
        """A sample of the rows that are not trained, on the host; all where they are few, None when there are none.

        Args:
            seed: Of this step.
        """
        if not len(self.others):
            return None
        chosen, sampled = self.others, min(NUM_NEGATIVES, len(self.others))
        if sampled < len(self.others):
            # With repetition: the estimate of the sum stays unbiased, and no permutation of V rows is needed.
            chosen = self.others[np.random.default_rng(seed).integers(len(self.others), size=sampled)]
        rows_KD = self.memory.rows(torch.from_numpy(chosen))
        each = len(self.others) / sampled
        return Negatives(rows_KD, math.log(each), each / len(self.memory))

    @contextmanager
    def whole(self, model: "M2M100ForConditionalGeneration") -> Iterator[None]:
        """Lend the model its whole embedding, with which it reads and writes token ids as anywhere else."""
        trained = _embedding(model)
        whole = trained.new_empty(self.memory.shape)
        start = 0
        for part in self.spread(trained).parts():
            whole[start : start + len(part)] = part.to(whole.device, whole.dtype)
            start += len(part)
        _give(model, nn.Parameter(whole, requires_grad=False))
        del whole
        try:
            yield
        finally:
            _give(model, trained)


def _embedding(model: "M2M100ForConditionalGeneration") -> nn.Parameter:
    weight: Any = model.model.shared.weight
    return weight


def _give(model: "M2M100ForConditionalGeneration", weight: nn.Parameter) -> None:
    """Tie all embeddings of the model to these rows."""
    for part in (model.model.shared, model.model.encoder.embed_tokens, model.model.decoder.embed_tokens, model.lm_head):
        part.weight = weight


def outside_mass(hidden_ND: Tensor, whole_VD: Tensor, rows_A: Tensor) -> Tensor:
    """Probability that the model gives to rows outside the trained ones, summed over N tokens.

    Args:
        hidden_ND: Last hidden states.
        whole_VD: The whole output embedding.
        rows_A: The trained rows.
    """
    outside = hidden_ND.new_zeros((), dtype=torch.float64)
    for part_ND in hidden_ND.split(CHUNK):
        logits = nn.functional.linear(part_ND, whole_VD).float()
        inside_N = (logits[:, rows_A].logsumexp(-1) - logits.logsumexp(-1)).exp()
        outside += (1 - inside_N).clamp(min=0).sum()
    return outside
