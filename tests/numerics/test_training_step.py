"""The loop computes what it says: against a naive oracle, and however a step is cut."""

import math
from pathlib import Path

import pytest
import torch

from dragoman.training.optimizer import learning_rate
from tests.support import naive_loop, tiny

STEPS = 50


@pytest.mark.parametrize(
    ("smoothing", "dtype", "tolerance"),
    [(0.0, torch.float32, 1e-5), (0.1, torch.float32, 1e-5), (0.1, torch.float64, 1e-10)],
)
def test_fifty_steps_cost_the_same_nats_as_the_naive_loop(
    tmp_path: Path, smoothing: float, dtype: torch.dtype, tolerance: float
) -> None:
    run = tiny.make(tmp_path, dropout=0.0, learning_rate=5e-5, label_smoothing=smoothing, warmup_steps=10)
    ours = [result.nats / result.target_tokens for result in run.train(run.model(dtype), STEPS, limit=100)]
    texts = run.texts

    def rows_of(step: int) -> list[naive_loop.Row]:
        chosen = [texts[index] for index in run.plan.indices(step)]
        return [(pair.source, pair.target, pair.direction.source, pair.direction.target) for pair in chosen]

    training = run.config.training
    theirs = naive_loop.losses(
        run.made.base,
        rows_of,
        [learning_rate(training, step, STEPS) for step in range(STEPS)],
        smoothing=smoothing,
        weight_decay=training.weight_decay,
        clip_norm=training.clip_norm,
        dtype=dtype,
    )
    assert ours == pytest.approx(theirs, rel=tolerance)
    assert ours[-1] < ours[0] - 0.05, "nothing was learned, so equality would prove nothing"


def test_a_step_is_the_same_however_it_is_cut(tmp_path: Path) -> None:
    """One, some and many microbatches in float64: losses, gradients and weights after 50 steps."""
    run = tiny.make(tmp_path, dropout=0.0, learning_rate=1e-3)
    outcomes = []
    for limit in (10_000, 200, 60):
        model = run.model(torch.float64)
        results = run.train(model, STEPS, limit)
        gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
        outcomes.append((results, gradients, dict(model.named_parameters())))
    whole_results, whole_gradients, whole_weights = outcomes[0]
    for results, gradients, weights in outcomes[1:]:
        for one, other in zip(whole_results, results, strict=True):
            assert other.nats == pytest.approx(one.nats, rel=1e-12)
            assert other.gradient_norm == pytest.approx(one.gradient_norm, rel=1e-9)
        for name in whole_weights:
            torch.testing.assert_close(gradients[name], whole_gradients[name], rtol=1e-7, atol=1e-11)
            torch.testing.assert_close(weights[name], whole_weights[name], rtol=1e-7, atol=1e-9)


def test_dropout_depends_on_seed_and_step_alone(tmp_path: Path) -> None:
    run = tiny.make(tmp_path, dropout=0.3)
    first = run.train(run.model(), 3, limit=200)
    torch.manual_seed(12345)
    torch.rand(17)
    assert run.train(run.model(), 3, limit=200) == first
    other = tiny.make(tmp_path, dropout=0.3, seed=2)
    assert other.train(other.model(), 3, limit=200) != first


def test_dropout_overrides_every_dropout_of_the_model(tmp_path: Path) -> None:
    model = tiny.make(tmp_path, dropout=0.25).model()
    kinds = {
        round(module.dropout, 3) for module in model.modules() if isinstance(getattr(module, "dropout", None), float)
    }
    assert kinds == {0.25}
    assert {module.activation_dropout for module in model.modules() if hasattr(module, "activation_dropout")} == {0.25}


def test_long_gradients_are_clipped_and_short_ones_left_alone(tmp_path: Path) -> None:
    run = tiny.make(tmp_path, dropout=0.0, clip_norm=0.001)
    model = run.model()
    norm = run.train(model, 1)[0].gradient_norm
    clipped = math.sqrt(sum(float(p.grad.square().sum()) for p in model.parameters()))
    assert norm > 0.1
    assert clipped == pytest.approx(0.001, rel=1e-3)


def test_biases_and_norms_do_not_decay(tmp_path: Path) -> None:
    """With a gradient of zero AdamW only decays; a huge decay shows who takes part."""
    run = tiny.make(tmp_path, weight_decay=0.5)
    model = run.model()
    from dragoman.training.optimizer import build

    optimizer = build(model.named_parameters(), run.config.training)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    optimizer.step()
    for name, parameter in model.named_parameters():
        factor = 0.95 if parameter.ndim >= 2 else 1.0
        torch.testing.assert_close(parameter.detach(), before[name] * factor)
