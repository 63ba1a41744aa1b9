"""Precisions, and the scaler that fp16 needs; what a CPU can show of them."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dragoman.errors import InputError
from dragoman.training import trainee
from dragoman.training.forward import Forward
from dragoman.training.optimizer import Arithmetic, build, choose_arithmetic
from dragoman.training.step import Settled, train_step
from tests.support.tiny import CPU, Tiny, make


def one_step(run: Tiny, model: Any, scaler: torch.amp.GradScaler, arithmetic: Arithmetic, limit: int = 200) -> Settled:
    optimizer = build(model.named_parameters(), run.config.training)
    forward = Forward(model, arithmetic, smoothing=run.config.training.label_smoothing)
    feed = trainee.feed_of(forward, run.config, run.loader)
    return train_step(forward, optimizer, scaler, feed, run.config.training, step=0, limit=limit, rate=1e-3).settled()


class Casts(TorchDispatchMode):
    """Counts how often a matrix of a layer becomes one of halves."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.rows, self.count = rows, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        is_cast = func is torch.ops.aten._to_copy.default and (kwargs or {}).get("dtype") == torch.bfloat16
        self.count += (
            is_cast and isinstance(args[0], torch.nn.Parameter) and args[0].dim() == 2 and len(args[0]) != self.rows
        )
        return func(*args, **(kwargs or {}))


def test_weights_become_halves_once_a_step_however_it_is_cut(tmp_path: Path) -> None:
    """And the gradients are those of every microbatch by itself, bit for bit."""
    run, bf16 = make(tmp_path, dropout=0.0), Arithmetic(torch.device("cpu"), "bf16")
    counts = []
    for limit in (10**6, 100):
        model = run.model()
        with Casts(len(model.lm_head.weight)) as casts:
            one_step(run, model, CPU.scaler(), bf16, limit)
        counts.append(casts.count)
    assert counts[0] == counts[1] > 20
    alone, indices = run.model(), run.loader.batch(0)
    forward = Forward(alone, bf16, smoothing=run.config.training.label_smoothing)
    parts = list(run.loader.microbatches(indices, 100))
    for part in parts:
        forward.backward(run.loader.packed(indices[part]), None, lambda it: it / run.loader.target_tokens(indices))
    torch.nn.utils.clip_grad_norm_(alone.parameters(), run.config.training.clip_norm)
    assert len(parts) > 2
    for (name, one), (_, other) in zip(model.named_parameters(), alone.named_parameters(), strict=True):
        assert one.grad.equal(other.grad), name


def test_a_scaled_step_is_the_unscaled_one(tmp_path: Path) -> None:
    run = make(tmp_path, dropout=0.0)
    plain, scaled = run.model(), run.model()
    expected = one_step(run, plain, CPU.scaler(), CPU)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    found = one_step(run, scaled, scaler, CPU)
    assert found.gradient_norm == pytest.approx(expected.gradient_norm, rel=1e-6)
    for (name, one), (_, other) in zip(plain.named_parameters(), scaled.named_parameters(), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-6, msg=name)


def test_a_scale_that_overflows_skips_the_step_and_falls(tmp_path: Path) -> None:
    run = make(tmp_path, dropout=0.0)
    model = run.model()
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    model.model.encoder.layer_norm.bias.register_hook(lambda gradient: gradient * math.inf)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    result = one_step(run, model, scaler, CPU)
    assert not result.updated
    assert math.isfinite(result.nats), "the loss itself is fine, so the step does not count as bad"
    assert scaler.get_scale() == 2.0**15
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())


def test_bf16_on_a_cpu_costs_nearly_the_same_nats(tmp_path: Path) -> None:
    run = make(tmp_path, dropout=0.0)
    exact = one_step(run, run.model(), CPU.scaler(), CPU)
    half = one_step(run, run.model(), CPU.scaler(), Arithmetic(torch.device("cpu"), "bf16"))
    assert half.nats == pytest.approx(exact.nats, rel=5e-3)
    assert half.nats != exact.nats, "bf16 was not used"


def test_auto_takes_what_the_gpu_really_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    # A T4 emulates bf16 and torch says that it supports it: the capability decides.
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *a, **k: True)
    for capability, expected in (
        ((7, 5), "fp16"),
        ((7, 0), "fp16"),
        ((8, 0), "bf16"),
        ((9, 0), "bf16"),
        ((6, 1), "fp32"),
    ):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda c=capability: c)
        assert choose_arithmetic("auto", "auto").precision == expected
        if capability < (8, 0):
            with pytest.raises(InputError, match="Tesla T4 only emulates it"):
                choose_arithmetic("cuda", "bf16")


def test_a_cpu_trains_in_float32_unless_asked() -> None:
    assert choose_arithmetic("cpu", "auto").precision == "fp32"
    with pytest.raises(InputError, match="fp16: needs a GPU"):
        choose_arithmetic("cpu", "fp16")
