"""Sums of nats against torch's own cross-entropy."""

import pytest
import torch
from torch.nn import functional

from dragoman.model.loss import token_nats


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_the_sum_and_its_gradient_equal_those_of_torch(smoothing: float) -> None:
    torch.manual_seed(1)
    logits = (3 * torch.randn(7, 50, dtype=torch.float64)).requires_grad_()
    labels = torch.randint(0, 50, (7,))
    ours = token_nats(logits, labels, smoothing)
    (gradient,) = torch.autograd.grad(ours.objective, logits)
    expected = functional.cross_entropy(logits, labels, reduction="sum", label_smoothing=smoothing)
    (expected_gradient,) = torch.autograd.grad(expected, logits)
    torch.testing.assert_close(ours.objective, expected)
    torch.testing.assert_close(gradient, expected_gradient)
    torch.testing.assert_close(ours.plain, functional.cross_entropy(logits, labels, reduction="sum").detach())
    assert not ours.plain.requires_grad


def test_half_precision_is_summed_in_float32() -> None:
    torch.manual_seed(1)
    logits = torch.randn(4096, 64)
    labels = torch.randint(0, 64, (4096,))
    half = token_nats(logits.bfloat16(), labels, 0.1)
    assert half.objective.dtype == torch.float32
    exact = token_nats(logits.bfloat16().double(), labels, 0.1)
    assert half.plain.item() == pytest.approx(exact.plain.item(), rel=1e-6)
