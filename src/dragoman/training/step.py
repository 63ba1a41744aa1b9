"""One optimizer step: microbatches, one divisor, one update.

The gradient is that of (nats of all microbatches) / (target tokens of the whole step),
so it does not depend on how the step was cut. Random numbers are seeded from the seed,
the step and the place of the microbatch, so no generator state needs saving.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dragoman.config import TrainingConfig
from dragoman.data.loader import Batch, Loader
from dragoman.model import nllb
from dragoman.training.optimizer import Arithmetic

if TYPE_CHECKING:
    from transformers import M2M100ForConditionalGeneration


class StepResult(NamedTuple):
    """What one step did."""

    nats: float
    """Sum over the target tokens, without label smoothing."""
    target_tokens: int
    gradient_norm: float
    """Before clipping; not finite when the step was skipped."""
    updated: bool
    """Whether the weights changed."""


class DeviceBatch(NamedTuple):
    """A `Batch` as tensors on the training device."""

    source_BS: Tensor
    source_mask_BS: Tensor
    decoder_BT: Tensor
    labels_BT: Tensor
    target_mask_BT: Tensor


def to_device(batch: Batch, device: torch.device) -> DeviceBatch:
    """Move a batch to the device."""
    arrays = (batch.source_BS, batch.source_mask_BS, batch.decoder_BT, batch.labels_BT, batch.target_mask_BT)
    return DeviceBatch(*(torch.from_numpy(array).to(device, non_blocking=True) for array in arrays))


def train_step(
    model: "M2M100ForConditionalGeneration",
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    loader: Loader,
    training: TrainingConfig,
    arithmetic: Arithmetic,
    *,
    step: int,
    microbatch: int,
    rate: float,
    before_update: Callable[[], None] = lambda: None,
) -> StepResult:
    """Forward and backward over all microbatches of `step`, then one update.

    Args:
        model: In training mode.
        optimizer: Holds the model's parameters.
        scaler: Its scale is state; does nothing unless the precision is fp16.
        loader: Gives the pairs of the step.
        training: Seed, smoothing, clipping.
        arithmetic: Device and precision.
        step: Counted from 0.
        microbatch: Largest number of pairs in one forward pass.
        rate: Learning rate of this update.
        before_update: Called when everything but the update is done.

    Raises:
        torch.OutOfMemoryError: A microbatch did not fit. The weights are unchanged.
    """
    indices = loader.batch(step)
    tokens = loader.target_tokens(indices)
    optimizer.zero_grad(set_to_none=True)
    nats = torch.zeros((), dtype=torch.float64, device=arithmetic.device)
    with _cpu_memory_errors():
        for start in range(0, len(indices), microbatch):
            part: NDArray[np.int64] = indices[start : start + microbatch]
            torch.manual_seed(seed_of(training.seed, step, start))
            with arithmetic.autocast():
                summed = nllb.nats(model, to_device(loader.padded(part), arithmetic.device), training.label_smoothing)
            scaler.scale(summed.objective / tokens).backward()
            nats += summed.plain
    scaler.unscale_(optimizer)
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), training.clip_norm)
    finite = bool(torch.isfinite(norm) & torch.isfinite(nats))
    before_update()
    for group in optimizer.param_groups:
        group["lr"] = rate
    if scaler.is_enabled():
        scaler.step(optimizer)  # skips by itself when a gradient is not finite
        scaler.update()
    elif finite:
        optimizer.step()
    return StepResult(float(nats), tokens, float(norm), finite)


@contextmanager
def _cpu_memory_errors() -> Iterator[None]:
    """Give the CPU's failed allocation the name that a GPU's has."""
    try:
        yield
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):
            raise
        raise torch.OutOfMemoryError(str(error)) from None


def seed_of(seed: int, step: int, start: int) -> int:
    """A 63-bit seed from (seed, step, first pair of the microbatch)."""
    digest = hashlib.blake2b(f"{seed}:{step}:{start}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
