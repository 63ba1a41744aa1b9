"""One optimizer step: microbatches, one divisor, one update.

The gradient is that of (nats of all microbatches) / (target tokens of the whole step),
so it does not depend on how the step was cut. Random numbers are seeded from the seed,
the step and the place of the microbatch, so no generator state needs saving. Nothing
here waits for a GPU: what a step did stays on the device until somebody asks.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dragoman.config import TrainingConfig
from dragoman.data.loader import Loader
from dragoman.training.forward import Forward, device_seed


class StepResult(NamedTuple):
    """What one step did; on a GPU its figures are on their way until it is settled."""

    nats: float | Tensor
    """Sum over the target tokens, without label smoothing."""
    target_tokens: int
    gradient_norm: float | Tensor
    """Before clipping; not finite when the step was skipped."""
    updated: bool | Tensor
    """Whether the weights changed."""
    scale: float | Tensor = 1.0
    """Of the fp16 gradient scaler after the step."""

    def settled(self) -> "Settled":
        """Its figures as numbers; waits for the device."""
        return Settled(
            float(self.nats), self.target_tokens, float(self.gradient_norm), bool(self.updated), float(self.scale)
        )


class Settled(NamedTuple):
    """The figures of a `StepResult`."""

    nats: float
    target_tokens: int
    gradient_norm: float
    updated: bool
    scale: float


def train_step(
    forward: Forward,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    loader: Loader,
    training: TrainingConfig,
    *,
    step: int,
    limit: int,
    rate: float,
    before_update: Callable[[], None] = lambda: None,
) -> StepResult:
    """Forward and backward over all microbatches of `step`, then one update.

    Args:
        forward: Computes the model, which is in training mode.
        optimizer: Holds the model's parameters.
        scaler: Its scale is state; does nothing unless the precision is fp16.
        loader: Gives the pairs of the step.
        training: Seed and clipping.
        step: Counted from 0.
        limit: Largest number of source and target tokens in one forward pass.
        rate: Learning rate of this update.
        before_update: Called when everything but the update is done.

    Raises:
        torch.OutOfMemoryError: A microbatch did not fit. The weights are unchanged.
    """
    indices = loader.batch(step)
    tokens = loader.target_tokens(indices)
    device = forward.arithmetic.device
    optimizer.zero_grad(set_to_none=True)
    nats = torch.zeros((), dtype=torch.float64, device=device)
    negatives = None
    if forward.active:
        negatives = forward.active.negatives(seed_of(training.seed, step, -1), forward.model.lm_head.weight)
    with _cpu_memory_errors():
        for part in loader.microbatches(indices, limit, padded=not forward.packed):
            device_seed(device, seed_of(training.seed, step, part.start))
            batch = loader.packed(indices[part])
            summed = forward.backward(batch, negatives, lambda objective: scaler.scale(objective / tokens))
            nats += summed.plain
    if forward.new_rows:
        forward.new_rows.take_gradient()
    scaler.unscale_(optimizer)
    norm = torch.nn.utils.clip_grad_norm_(forward.model.parameters(), training.clip_norm)
    finite = torch.isfinite(norm) & torch.isfinite(nats)
    before_update()
    for group in optimizer.param_groups:
        group["lr"] = rate
    _update(optimizer, scaler, finite)
    return StepResult(nats, tokens, norm, finite, scaler.scale(torch.ones((), device=device)))


def _update(optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, finite: Tensor) -> None:
    """Change the weights, unless the gradient is not finite."""
    if scaler.is_enabled():
        scaler.step(optimizer)  # skips by itself when a gradient is not finite
        scaler.update()
    elif optimizer.defaults.get("fused"):
        # As the scaler does it: fused kernels look at this flag on the device, so nobody has to wait for it.
        fused: Any = optimizer
        fused.grad_scale, fused.found_inf = None, (~finite).float()
        optimizer.step()
    elif bool(finite):
        optimizer.step()


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
