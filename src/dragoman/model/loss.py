"""The training loss: nats, summed, and divided once by the tokens of the whole step.

transformers' M2M100 averages each microbatch, so gradient accumulation multiplies its
loss. Here every microbatch contributes a sum, and only the step knows the divisor.

Over 256,206 rows the logits are the largest tensor of all, so they are never held
together: each chunk of tokens gives its loss and its gradient in one place, and its memory
to the next one (Hsu et al. 2024, "Liger Kernel", section 3).

Shape letters: N target tokens, D model width, V vocabulary rows, K sampled rows.
"""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dragoman.model.memory import CHUNK_BYTES, PRODUCT_ROWS


class Nats(NamedTuple):
    """Sums over the target tokens of one microbatch, both in nats."""

    objective: Tensor
    """With label smoothing: what is differentiated."""
    plain: Tensor
    """Without: what is reported and comparable between settings. Carries no gradient."""


@dataclass(frozen=True)
class Negatives:
    """Rows that stand for all rows which are not trained (Jean et al. 2015, "Very Large Target Vocabulary")."""

    rows_KD: Tensor
    """A uniform sample of them, frozen."""
    offset: float
    """Added to their logits: ln of how many rows each one stands for."""
    share: float
    """How many rows each one stands for, by the rows of the whole vocabulary."""

    def on(self, device: torch.device) -> "Negatives":
        """The same, with its rows on the device; a GPU is not waited for."""
        return replace(self, rows_KD=self.rows_KD.to(device, non_blocking=True))


@dataclass(frozen=True)
class Target:
    """The distribution that the loss asks for."""

    smoothing: float
    """Share that is spread evenly over the whole vocabulary (Szegedy et al. 2016, section 7)."""
    each: float
    """What of it falls on one trained row."""
    each_negative: float
    """What of it falls on one sampled row."""


def head_nats(
    hidden_ND: Tensor,
    weight_VD: Tensor,
    labels_N: Tensor,
    smoothing: float,
    negatives: Negatives | None = None,
    *,
    chunk_bytes: int = CHUNK_BYTES,
) -> Nats:
    """Sum of cross-entropies of N target tokens against the output embedding.

    With smoothing e the target distribution is (1 - e) on the label and e / V everywhere.
    Under autocast the products are in its precision; sums are in float32 at least.

    Args:
        hidden_ND: Last hidden states.
        weight_VD: The output embedding.
        labels_N: Rows of the target tokens; a negative one is no token and counts for nothing.
        smoothing: Label smoothing.
        negatives: A sample that stands for further, frozen rows.
        chunk_bytes: Logits of a chunk have at most this size, or are those of one token.
    """
    rows = len(weight_VD) + (len(negatives.rows_KD) if negatives else 0)
    row_bytes = rows * max(4, weight_VD.element_size())
    target = _target(smoothing, len(weight_VD), negatives)
    chunk = max(1, chunk_bytes // row_bytes)
    objective, plain = _Chunked.apply(hidden_ND, weight_VD, labels_N, target, negatives, chunk, torch.is_grad_enabled())
    return Nats(objective, plain)


def _target(smoothing: float, trained: int, negatives: Negatives | None) -> Target:
    if negatives is None:
        return Target(smoothing, smoothing / trained, 0.0)
    sampled_share = negatives.share * len(negatives.rows_KD)
    return Target(smoothing, smoothing * (1 - sampled_share) / trained, smoothing * negatives.share)


class _Chunked(torch.autograd.Function):
    """Loss and gradient of one chunk of tokens after the other; the gradient waits for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        weight_VD: Tensor,
        labels_N: Tensor,
        target: Target,
        negatives: Negatives | None,
        chunk: int,
        training: bool,
    ) -> tuple[Tensor, Tensor]:
        device = hidden_ND.device.type
        half = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        wants = (training and ctx.needs_input_grad[0], training and ctx.needs_input_grad[1])
        with torch.autocast(device, enabled=False):
            pass_ = _Pass(hidden_ND, weight_VD, negatives, target, half, wants)
            for start in range(0, len(hidden_ND), chunk):
                pass_.over(slice(start, start + chunk), labels_N)
        ctx.gradients = [pass_.hidden_gradient, pass_.weight_gradient]
        ctx.mark_non_differentiable(pass_.plain)
        return pass_.objective, pass_.plain

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        # In place, and held by nobody else: another matrix as large as the embedding would be the peak of a step.
        parts, ctx.gradients = ctx.gradients, None
        for part in parts:
            if part is not None:
                part.mul_(gradients[0])
        return parts.pop(0), parts.pop(), None, None, None, None, None


class _Pass:
    """The sums of a chunked pass."""

    def __init__(
        self,
        hidden_ND: Tensor,
        weight_VD: Tensor,
        negatives: Negatives | None,
        target: Target,
        half: torch.dtype | None,
        wants: tuple[bool, bool],
    ) -> None:
        self.dtype = half or weight_VD.dtype
        self.wide = torch.float32 if self.dtype.itemsize < 4 else self.dtype
        # Probabilities below 6e-8 would be zero in fp16, and a quarter of a million of them are not nothing.
        self.boost = 256.0 if self.dtype == torch.float16 else 1.0
        self.hidden_ND, self.weight_VD = hidden_ND.to(self.dtype), weight_VD.to(self.dtype)
        self.negatives, self.target = negatives, target
        self.rows_KD = negatives.rows_KD.to(self.dtype) if negatives else None
        self.objective = hidden_ND.new_zeros((), dtype=self.wide)
        self.plain = hidden_ND.new_zeros((), dtype=self.wide)
        self.hidden_gradient = torch.empty_like(hidden_ND) if wants[0] else None
        self.weight_gradient = torch.zeros_like(weight_VD, dtype=self.wide) if wants[1] else None

    def over(self, part: slice, labels_N: Tensor) -> None:
        """Add the tokens of one chunk."""
        hidden, labels, smoothing = self.hidden_ND[part], labels_N[part], self.target.smoothing
        logits = (hidden @ self.weight_VD.T).to(self.wide)
        sampled = (hidden @ self.rows_KD.T).to(self.wide) if self.rows_KD is not None else None
        is_real = (labels >= 0).to(self.wide)
        labels = labels.clamp(min=0)
        label = logits.gather(-1, labels[:, None]).squeeze(-1)
        spread = self.target.each * logits.sum(-1) if smoothing else 0.0
        largest = logits.amax(-1)
        if sampled is not None and self.negatives:
            spread = spread + self.target.each_negative * sampled.sum(-1)
            largest = torch.maximum(largest, sampled.add_(self.negatives.offset).amax(-1))
        # From here on in place: each becomes e to its power, then a probability, then a gradient.
        mass = logits.sub_(largest[:, None]).exp_().sum(-1)
        if sampled is not None:
            mass += sampled.sub_(largest[:, None]).exp_().sum(-1)
        log_total = largest + mass.log()
        self.plain += ((log_total - label) * is_real).sum()
        self.objective += ((log_total - (1 - smoothing) * label - spread) * is_real).sum()
        if self.hidden_gradient is not None or self.weight_gradient is not None:
            self._differentiate(part, logits, sampled, mass, labels, is_real)

    def _differentiate(
        self, part: slice, masses: Tensor, sampled: Tensor | None, mass: Tensor, labels: Tensor, is_real: Tensor
    ) -> None:
        """Turn masses into the gradient of the logits, and that into those of both factors."""
        real = is_real[:, None]
        share = real / mass[:, None]
        gradient = masses.mul_(share)
        if self.target.each:
            gradient.sub_(self.target.each * real)
        gradient.scatter_add_(-1, labels[:, None], (self.target.smoothing - 1) * real)
        narrow = self._narrowed(gradient)
        if self.hidden_gradient is not None:
            found = narrow @ self.weight_VD
            if sampled is not None and self.rows_KD is not None:
                pulled = sampled.mul_(share)
                if self.target.each_negative:
                    pulled.sub_(self.target.each_negative * real)
                found = found + self._narrowed(pulled) @ self.rows_KD
            self.hidden_gradient[part] = found.to(self.wide).div_(self.boost)
        if self.weight_gradient is not None:
            _add_product(self.weight_gradient, narrow, self.hidden_ND[part], 1 / self.boost)

    def _narrowed(self, gradient: Tensor) -> Tensor:
        """In the precision of the products, boosted into its range."""
        return (gradient.mul_(self.boost) if self.boost != 1 else gradient).to(self.dtype)


def _add_product(total_VD: Tensor, gradient_NV: Tensor, hidden_ND: Tensor, share: float) -> None:
    """total += share * gradient.T @ hidden, summed in the total's precision where the device can."""
    if total_VD.dtype == gradient_NV.dtype:
        total_VD.addmm_(gradient_NV.T, hidden_ND, alpha=share)
        return
    # Some rows at a time: a second matrix as large as the embedding would decide what fits on a small GPU.
    for part_RD, gradient_NR in zip(total_VD.split(PRODUCT_ROWS), gradient_NV.split(PRODUCT_ROWS, dim=1), strict=True):
        if total_VD.is_cuda:
            part_RD.add_(torch.mm(gradient_NR.T, hidden_ND, out_dtype=total_VD.dtype), alpha=share)
        else:
            part_RD.add_(gradient_NR.T @ hidden_ND, alpha=share)
