"""One optimizer step: microbatches, one divisor, one update.

The gradient is that of (nats of all microbatches) / (target tokens of the whole step),
so it does not depend on how the step was cut. Random numbers are seeded from the seed,
the step and the place of the microbatch, so no generator state needs saving. Nothing
here waits for a GPU: what a step did stays on the device until somebody asks.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dragoman.config import TrainingConfig
from dragoman.model.loss import Negatives
from dragoman.training.feed import Batches, Feed, Ready
from dragoman.training.forward import Forward
from dragoman.training.graphs import Graphs
from dragoman.training.seeds import device_seed, seed_of


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
    feed: Feed,
    training: TrainingConfig,
    *,
    step: int,
    limit: int,
    rate: float,
    before_update: Callable[[], None] = lambda: None,
    graphs: Graphs | None = None,
) -> StepResult:
    """Forward and backward over all microbatches of `step`, then one update.

    Args:
        forward: Computes the model, which is in training mode.
        optimizer: Holds the model's parameters.
        scaler: Its scale is state; does nothing unless the precision is fp16.
        feed: Gives the microbatches of the step.
        training: Seed and clipping.
        step: Counted from 0.
        limit: Largest number of source and target tokens in one forward pass.
        rate: Learning rate of this update.
        before_update: Called when everything but the update is done.
        graphs: Repeat what small microbatches do; None without static shapes.

    Raises:
        torch.OutOfMemoryError: A microbatch did not fit. The weights are unchanged.
    """
    batches = feed.step(step, limit)
    tokens, device = batches.tokens, forward.arithmetic.device
    if graphs:
        graphs.zero_gradients()
    else:
        forget_gradients(forward, optimizer)
    nats = _gradients(forward, batches, scaler, graphs, lambda start: seed_of(training.seed, step, start))
    if forward.new_rows:
        forward.new_rows.take_gradient()
    if forward.parallel:
        forward.parallel.add_gradients()
        forward.parallel.add(nats)
        if scaler.is_enabled():
            forward.parallel.share_overflow()
    scaler.unscale_(optimizer)
    norm = clipped(forward, training.clip_norm)
    finite = torch.isfinite(norm) & torch.isfinite(nats)
    before_update()
    for group in optimizer.param_groups:
        group["lr"] = rate
    _update(optimizer, scaler, finite)
    return StepResult(nats, tokens, norm, finite, scaler.scale(torch.ones((), device=device)))


def _gradients(
    forward: Forward,
    batches: Batches,
    scaler: torch.amp.GradScaler,
    graphs: Graphs | None,
    seed_at: Callable[[int], int],
) -> Tensor:
    """All forward and backward passes of a step; their nats.

    Args:
        forward: Computes the model.
        batches: Of the step.
        scaler: Of the objective.
        graphs: Repeat what small microbatches do.
        seed_at: The seed of the microbatch whose first pair has this place in the step.
    """
    device = forward.arithmetic.device
    nats = torch.zeros((), dtype=torch.float64, device=device)
    negatives = batches.negatives.on(device) if batches.negatives else None
    divisor = graphs.divisor.fill_(batches.tokens) if graphs else batches.tokens
    num_passes = len(batches.parts) + len(batches.idle)

    def computed(ready: Ready, negatives: Negatives | None, *, number: int = 0, weight: float = 1.0) -> Tensor:
        def scaled(objective: Tensor) -> Tensor:
            return scaler.scale(objective * weight / divisor if weight != 1 else objective / divisor)

        return forward.backward(ready, negatives, scaled, is_last=number == num_passes - 1).plain

    # Around all microbatches, so that weights are turned into halves once; a graph does that for itself.
    with _cpu_memory_errors(), nullcontext() if graphs else forward.arithmetic.autocast():
        for number, (start, ready) in enumerate(batches.parts):

            def seed(start: int = start) -> None:
                device_seed(device, seed_at(start))

            if graphs and ready.shape and not forward.checkpointing:
                nats += graphs.run(ready, negatives, computed, seed, is_first=number == 0)
            else:
                seed()
                nats += computed(ready, negatives, number=number)
        for number, ready in enumerate(batches.idle, len(batches.parts)):
            computed(ready, negatives, number=number, weight=0.0)
    return nats


def forget_gradients(forward: Forward, optimizer: torch.optim.Optimizer) -> None:
    """As before the first microbatch of a step."""
    optimizer.zero_grad(set_to_none=True)
    if forward.parallel:
        forward.parallel.forget_gradients()


def clipped(forward: Forward, most: float) -> Tensor:
    """Clip the gradients of the whole model, wherever its parts are; their norm before."""
    if forward.parallel:
        return forward.parallel.clip(most)
    return torch.nn.utils.clip_grad_norm_(forward.model.parameters(), most)


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
