"""From a packed batch to its nats: which forward pass, which vocabulary, which precision."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dragoman.data.loader import PackedBatch
from dragoman.model import nllb
from dragoman.model import packed as without_padding
from dragoman.model.active import ActiveVocabulary
from dragoman.model.adapters import Lora
from dragoman.model.loss import Nats, Negatives, head_nats
from dragoman.model.new_rows import NewRows
from dragoman.training.optimizer import Arithmetic

if TYPE_CHECKING:
    from transformers import M2M100ForConditionalGeneration


@dataclass(frozen=True)
class Forward:
    """How a model is computed; the same object serves training and judging."""

    model: "M2M100ForConditionalGeneration"
    arithmetic: Arithmetic
    packed: bool = True
    """Without padding; else transformers' own forward over padded rows, which gives the same numbers."""
    smoothing: float = 0.0
    active: ActiveVocabulary | None = None
    """The trained rows, when the model holds no others."""
    lora: Lora | None = None
    """The adapters, when nothing else is trained but them and `new_rows`."""
    new_rows: NewRows | None = None
    """The rows of new languages, when the rest of the embedding is frozen."""
    checkpointing: bool = False
    """Compute the layers a second time in the backward pass instead of keeping what is inside."""

    def whole(self) -> AbstractContextManager[None]:
        """Within it the model holds its whole embedding and takes token ids."""
        return self.active.whole(self.model) if self.active else nullcontext()

    def plain(self) -> "Forward":
        """The same without label smoothing, as losses are judged."""
        return replace(self, smoothing=0.0)

    def nats(self, batch: PackedBatch, negatives: Negatives | None = None) -> Nats:
        """Sums of cross-entropies over the batch's target tokens, without a gradient.

        Args:
            batch: Its tokens as the model numbers them.
            negatives: Stand for the rows that the model does not hold.
        """
        with torch.no_grad():
            return self._nats(batch, negatives)[0]

    def backward(
        self, batch: PackedBatch, negatives: Negatives | None, scaled: Callable[[Tensor], Tensor] = lambda it: it
    ) -> Nats:
        """The same, and the gradient of the objective added to that of every weight.

        Args:
            batch: Its tokens as the model numbers them.
            negatives: Stand for the rows that the model does not hold.
            scaled: Turns the objective into what is differentiated.
        """
        summed, looked_up = self._nats(batch, negatives)
        scaled(summed.objective).backward()
        if looked_up:
            weight: Any = self.model.model.shared.weight
            looked_up.add_gradient(weight)
        return summed

    def _nats(self, batch: PackedBatch, negatives: Negatives | None) -> tuple[Nats, without_padding.LookUp | None]:
        with self.arithmetic.autocast():
            hidden_ND, labels_N, looked_up = self._packed(batch) if self.packed else (*self._padded(batch), None)
            weight_VD = self.model.lm_head.weight
            return head_nats(hidden_ND, weight_VD, labels_N, self.smoothing, negatives), looked_up

    def hidden(self, batch: PackedBatch) -> tuple[Tensor, Tensor]:
        """Last hidden states and labels of all target tokens, shapes (N, D) and (N,)."""
        return self._packed(batch)[:2] if self.packed else self._padded(batch)

    def _packed(self, batch: PackedBatch) -> tuple[Tensor, Tensor, without_padding.LookUp]:
        where = without_padding.layout(batch.source_lengths_B, batch.target_lengths_B, self.arithmetic.device)
        looked_up = without_padding.look_up(self.model, self._on(np.concatenate((batch.source_N, batch.decoder_N))))
        hidden_ND = without_padding.hidden(
            self.model, looked_up, len(batch.source_N), where, checkpointing=self.checkpointing
        )
        return hidden_ND, self._on(batch.labels_N), looked_up

    def _padded(self, batch: PackedBatch) -> tuple[Tensor, Tensor]:
        rows = batch.padded()
        target_mask_BT = self._on(rows.target_mask_BT)
        source_BS, source_mask_BS, decoder_BT = (
            self._on(part) for part in (rows.source_BS, rows.source_mask_BS, rows.decoder_BT)
        )
        hidden_BTD = nllb.hidden(self.model, source_BS, source_mask_BS, decoder_BT)
        return hidden_BTD[target_mask_BT], self._on(rows.labels_BT)[target_mask_BT]

    def _on(self, array: NDArray[Any]) -> Tensor:
        return without_padding.on(array, self.arithmetic.device)


def device_seed(device: torch.device, seed: int) -> None:
    """Seed the generator that dropout draws from.

    `torch.manual_seed` would also seed GPUs that are not there, which costs more than a small step.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)
