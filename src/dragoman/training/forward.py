"""From a packed batch to its nats: which forward pass, which vocabulary, which precision."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

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
from dragoman.model.parallel import Named, Parallel
from dragoman.training.feed import Ready, ready
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
    parallel: Parallel | None = None
    """How several ranks share the model; None when there is one."""
    checkpointing: bool = False
    """Compute the layers a second time in the backward pass instead of keeping what is inside."""

    @property
    def rows(self) -> int:
        """Rows of the embedding that the model holds."""
        return len(self.model.lm_head.weight)

    @property
    def trained_bytes(self) -> int:
        """Of all weights that are trained, over all ranks."""
        return sum(each.numel() * each.element_size() for each in self.model.parameters() if each.requires_grad)

    @contextmanager
    def whole(self) -> Iterator["Forward"]:
        """With all weights of the model, taking token ids, and by this rank alone; all enter and leave it together."""
        embedding = self.active.whole(self.model) if self.active else nullcontext()
        with embedding, self.parallel.whole() if self.parallel else nullcontext(self.model) as model:
            yield replace(self, model=model, parallel=None)

    def trained(self) -> Named:
        """What the optimizer of this process changes, by the names of the model."""
        return self.parallel.trained() if self.parallel else list(self.model.named_parameters())

    def plain(self) -> "Forward":
        """The same without label smoothing, as losses are judged."""
        return replace(self, smoothing=0.0)

    def nats(self, pairs: PackedBatch | Ready, negatives: Negatives | None = None) -> Nats:
        """Sums of cross-entropies over the pairs' target tokens, without a gradient.

        Args:
            pairs: Their tokens as the model numbers them.
            negatives: Stand for the rows that the model does not hold; on its device.
        """
        with torch.no_grad():
            return self._nats(pairs, negatives)[0]

    def backward(
        self,
        pairs: PackedBatch | Ready,
        negatives: Negatives | None,
        scaled: Callable[[Tensor], Tensor] = lambda it: it,
        *,
        is_last: bool = True,
    ) -> Nats:
        """The same, and the gradient of the objective added to that of every weight.

        Args:
            pairs: Their tokens as the model numbers them.
            negatives: Stand for the rows that the model does not hold; on its device.
            scaled: Turns the objective into what is differentiated.
            is_last: Whether it is the last microbatch of the step.
        """
        with self.parallel.taking_part(is_last) if self.parallel else nullcontext():
            if self.parallel:
                summed, looked_up = self.parallel.computed(lambda: self._nats(pairs, negatives))
            else:
                summed, looked_up = self._nats(pairs, negatives)
            with torch.autocast(self.arithmetic.device.type, enabled=False):  # one may be open around all microbatches
                scaled(summed.objective).backward()
        if looked_up:
            weight: Any = self.model.model.shared.weight
            looked_up.add_gradient(weight)
        return summed

    def _nats(
        self, pairs: PackedBatch | Ready, negatives: Negatives | None
    ) -> tuple[Nats, without_padding.LookUp | None]:
        with self.arithmetic.autocast():
            hidden_ND, labels_N, looked_up = self._packed(pairs) if self.packed else (*self._padded(pairs), None)
            weight_VD = self.model.lm_head.weight
            return head_nats(hidden_ND, weight_VD, labels_N, self.smoothing, negatives), looked_up

    def hidden(self, pairs: PackedBatch | Ready) -> tuple[Tensor, Tensor]:
        """Last hidden states and labels of all target tokens, shapes (N, D) and (N,)."""
        return self._packed(pairs)[:2] if self.packed else self._padded(pairs)

    def _packed(self, pairs: PackedBatch | Ready) -> tuple[Tensor, Tensor, without_padding.LookUp]:
        made = (pairs if isinstance(pairs, Ready) else ready(pairs)).moved(self._here)
        looked_up = without_padding.look_up(self.model, made.ids_N)
        hidden_ND = without_padding.hidden(
            self.model, looked_up, made.num_source, made.where, checkpointing=self.checkpointing
        )
        return hidden_ND, made.labels_N, looked_up

    def _padded(self, pairs: PackedBatch | Ready) -> tuple[Tensor, Tensor]:
        rows = (pairs.batch if isinstance(pairs, Ready) else pairs).padded()
        target_mask_BT = self._on(rows.target_mask_BT)
        source_BS, source_mask_BS, decoder_BT = (
            self._on(part) for part in (rows.source_BS, rows.source_mask_BS, rows.decoder_BT)
        )
        hidden_BTD = nllb.hidden(self.model, source_BS, source_mask_BS, decoder_BT)
        return hidden_BTD[target_mask_BT], self._on(rows.labels_BT)[target_mask_BT]

    def _on(self, array: NDArray[Any]) -> Tensor:
        return self._here(torch.from_numpy(array))

    def _here(self, tensor: Tensor) -> Tensor:
        """On the device; a GPU is not waited for, if the memory is one that it can read by itself."""
        return tensor.to(self.arithmetic.device, non_blocking=True)
