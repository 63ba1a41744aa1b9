"""The training loss: nats, summed, and divided once by the tokens of the whole step.

transformers' M2M100 averages each microbatch, so gradient accumulation multiplies its
loss. Here every microbatch contributes a sum, and only the step knows the divisor.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Nats(NamedTuple):
    """Sums over the target tokens of one microbatch, both in nats."""

    objective: Tensor
    """With label smoothing: what is differentiated."""
    plain: Tensor
    """Without: what is reported and comparable between settings. Carries no gradient."""


def token_nats(logits_NV: Tensor, labels_N: Tensor, smoothing: float) -> Nats:
    """Sum of cross-entropies over N target tokens and V vocabulary entries.

    With smoothing e the target distribution is (1 - e) on the label and e / V everywhere
    (Szegedy et al. 2016, section 7). Half precision is summed in float32.
    """
    if logits_NV.dtype in (torch.float16, torch.bfloat16):
        logits_NV = logits_NV.float()
    log_total_N = torch.logsumexp(logits_NV, dim=-1)
    plain = (log_total_N - logits_NV.gather(-1, labels_N[:, None]).squeeze(-1)).sum()
    if smoothing == 0:
        return Nats(plain, plain.detach())
    uniform = (log_total_N - logits_NV.mean(dim=-1)).sum()
    return Nats((1 - smoothing) * plain + smoothing * uniform, plain.detach())
