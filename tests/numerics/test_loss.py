"""The loss in chunks, and with a sample of rows, against torch's own over all logits."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from dragoman.model.loss import Nats, Negatives, head_nats

N, D, V = 23, 16, 57


def tensors(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(3)
    hidden = torch.randn(N, D, dtype=torch.float64).to(dtype).requires_grad_()
    weight = torch.randn(V, D, dtype=torch.float64).to(dtype).requires_grad_()
    return hidden, weight, torch.randint(0, V, (N,))


def in_chunks(hidden: Tensor, weight: Tensor, labels: Tensor, smoothing: float, rows: int, **more: Any) -> Nats:
    """`rows` tokens at a time."""
    size = rows * (len(weight) + (len(more["negatives"].rows_KD) if more.get("negatives") else 0))
    size *= max(4, weight.element_size())
    return head_nats(hidden, weight, labels, smoothing, chunk_bytes=size, **more)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("rows", [1, 5, 23, 100])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
def test_the_loss_and_both_gradients_are_those_of_torch(
    smoothing: float, rows: int, dtype: torch.dtype, tolerance: float
) -> None:
    hidden, weight, labels = tensors(dtype)
    ours = in_chunks(hidden, weight, labels, smoothing, rows)
    found = torch.autograd.grad(ours.objective / 7, (hidden, weight))
    logits = hidden.double() @ weight.double().T
    expected = functional.cross_entropy(logits, labels, reduction="sum", label_smoothing=smoothing)
    wanted = torch.autograd.grad(expected / 7, (hidden, weight))
    assert float(ours.objective.detach()) == pytest.approx(float(expected.detach()), rel=tolerance)
    plain = functional.cross_entropy(logits.detach(), labels, reduction="sum")
    assert float(ours.plain) == pytest.approx(float(plain), rel=tolerance)
    assert not ours.plain.requires_grad
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=10 * tolerance, atol=10 * tolerance)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("rows", [5, 100])
def test_all_other_rows_as_negatives_are_the_whole_softmax(smoothing: float, rows: int) -> None:
    """Nothing is left to chance when the sample is everything: it must be the full loss, of the trained rows."""
    hidden, weight, labels = tensors(torch.float64)
    trained, frozen = weight[:40].detach().requires_grad_(), weight[40:].detach()
    labels = labels % 40
    ours = in_chunks(hidden, trained, labels, smoothing, rows, negatives=Negatives(frozen, 0.0, 1 / V))
    logits = hidden @ torch.cat((trained, frozen)).T
    expected = functional.cross_entropy(logits, labels, reduction="sum", label_smoothing=smoothing)
    assert float(ours.objective.detach()) == pytest.approx(float(expected.detach()), rel=1e-12)
    found = torch.autograd.grad(ours.objective, (hidden, trained))
    for one, other in zip(found, torch.autograd.grad(expected, (hidden, trained)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_a_sample_counts_for_all_the_rows_that_it_stands_for() -> None:
    """Equal rows: five of them, each counted three times, are fifteen."""
    hidden, weight, labels = tensors(torch.float64)
    row = weight[:1].detach()
    five, fifteen = row.repeat(5, 1), row.repeat(15, 1)
    for rows in (5, 100):
        sampled = in_chunks(hidden, weight, labels, 0.1, rows, negatives=Negatives(five, math.log(3), 3 / (V + 15)))
        everything = in_chunks(hidden, weight, labels, 0.1, rows, negatives=Negatives(fifteen, 0.0, 1 / (V + 15)))
        assert float(sampled.objective.detach()) == pytest.approx(float(everything.objective.detach()), rel=1e-12)
        for one, other in zip(
            torch.autograd.grad(sampled.objective, (hidden, weight)),
            torch.autograd.grad(everything.objective, (hidden, weight)),
            strict=True,
        ):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_frozen_embeddings_and_no_gradient_at_all() -> None:
    hidden, weight, labels = tensors(torch.float64)
    frozen = in_chunks(hidden, weight.detach(), labels, 0.1, 5)
    whole = in_chunks(hidden, weight, labels, 0.1, 1000)
    (one,) = torch.autograd.grad(frozen.objective, (hidden,))
    (other,) = torch.autograd.grad(whole.objective, (hidden,))
    torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)
    with torch.no_grad():
        judged = in_chunks(hidden, weight, labels, 0.1, 5)
    assert float(judged.objective) == pytest.approx(float(whole.objective.detach()), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_float32(dtype: torch.dtype) -> None:
    hidden, weight, labels = tensors(torch.float32)
    with torch.autocast("cpu", dtype=dtype):
        half = in_chunks(hidden, weight, labels, 0.1, 5)
    assert half.objective.dtype == torch.float32
    found = torch.autograd.grad(half.objective, (hidden, weight))
    assert [gradient.dtype for gradient in found] == [torch.float32] * 2
    exact = in_chunks(hidden, weight, labels, 0.1, 5)
    assert float(half.objective.detach()) == pytest.approx(float(exact.objective.detach()), rel=1e-2)
    assert float(half.objective.detach()) != float(exact.objective.detach()), "half precision was not used"
    for one, other in zip(found, torch.autograd.grad(exact.objective, (hidden, weight)), strict=True):
        assert float((one - other).norm()) < 0.02 * float(other.norm())


class Largest(TorchDispatchMode):
    """The largest tensor that any operation made, in elements."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, Tensor):
            self.elements = max(self.elements, made.numel())
        return made


def test_all_logits_are_never_held_together() -> None:
    hidden, weight = torch.randn(512, 8, requires_grad=True), torch.randn(900, 8, requires_grad=True)
    labels = torch.randint(0, 900, (512,))
    with Largest() as whole:
        in_chunks(hidden, weight, labels, 0.1, 1000).objective.backward()
    assert whole.elements == 512 * 900
    with Largest() as chunked:
        in_chunks(hidden, weight, labels, 0.1, 16).objective.backward()
    assert chunked.elements == 16 * 900
