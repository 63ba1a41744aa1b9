"""One model on several ranks: each computes its share of a step, and the gradients of all are added.

With DDP (`ddp.py`) every rank holds the model, with FSDP2 (`fsdp.py`) some rows of every
layer. In both, embedding and look-up get their gradient by hand (`packed.LookUp`), behind
torch's hooks; so that one is added here, after the last microbatch.

Gradients are added, never averaged: the step has divided by the tokens of all ranks.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dragoman.model.pieces import Peers, Pieces

if TYPE_CHECKING:
    from transformers import M2M100ForConditionalGeneration

Made = TypeVar("Made")
SMALL = 1 << 20
"""Gradients below so many numbers travel together."""
Named = Sequence[tuple[str, nn.Parameter]]


class Parallel(Protocol):
    """How the ranks of a session share a model."""

    peers: Peers
    name: str
    """ddp or fsdp."""

    @property
    def is_divided(self) -> bool:
        """Whether no rank holds all of the model: then every microbatch is a collective, and all compute as many."""
        ...

    def trained(self) -> Named:
        """What this rank's optimizer changes, by the names of the model."""
        ...

    def taking_part(self, is_last: bool) -> AbstractContextManager[None]:
        """Around forward and backward of a microbatch.

        Args:
            is_last: Of the step: now gradients are added, where that was put off.
        """
        ...

    def computed(self, compute: Callable[[], Made]) -> Made:
        """The forward pass of a microbatch, done so that its backward pass is noticed."""
        ...

    def add_gradients(self) -> None:
        """After the last microbatch: add what is not added yet, and give this rank's optimizer its gradients."""
        ...

    def share_overflow(self) -> None:
        """Let a gradient that is not finite on one rank not be finite on any: fp16's scaler looks on each by itself."""
        ...

    def add(self, numbers: Tensor) -> None:
        """Add numbers of all ranks, in place."""
        ...

    def forget_gradients(self) -> None:
        """Before the first microbatch."""
        ...

    def clip(self, norm: float) -> Tensor:
        """Scale all gradients down to this norm at most; the norm before, the same on all ranks."""
        ...

    def whole(self) -> AbstractContextManager["M2M100ForConditionalGeneration"]:
        """A model with all weights, which this rank may compute alone; all ranks enter and leave it together."""
        ...

    def saved(self, name: str, tensor: Tensor) -> Tensor | Pieces:
        """A weight or moment as a checkpoint holds it.

        Args:
            name: Of its parameter in the model.
            tensor: As this rank holds it.
        """
        ...

    def mine(self, name: str, whole: Tensor) -> Tensor:
        """What this rank holds of a whole weight or moment."""
        ...

    def mine_of(self, weight: Tensor) -> Tensor:
        """The part of a weight that this rank holds, where it lies."""
        ...


def add(parameters: Sequence[nn.Parameter]) -> None:
    """Add the gradients of these parameters over all ranks, small ones together; all ranks have one of the same."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    small = [gradient for gradient in gradients if gradient.numel() < SMALL]
    for gradient in gradients:
        if gradient.numel() >= SMALL:
            dist.all_reduce(gradient)
    if not small:
        return
    together = torch.cat([gradient.reshape(-1) for gradient in small])
    dist.all_reduce(together)
    for gradient, part in zip(small, together.split([each.numel() for each in small]), strict=True):
        gradient.copy_(part.view_as(gradient))
