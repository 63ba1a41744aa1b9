"""Windows of steps: what is summed, what is left out, when they end."""

import pytest

from dragoman.training.metrics import Metrics
from dragoman.training.step import Settled


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def result(nats: float, tokens: int) -> Settled:
    return Settled(nats, tokens, gradient_norm=2.0, updated=True, scale=1.0)


def test_a_window_is_weighted_by_tokens_and_leaves_pauses_out() -> None:
    clock = Clock()
    metrics = Metrics(log_steps=2, clock=clock)
    metrics.observe(result(10.0, 10))
    assert metrics.window(1, 0.1, last=False) is None
    metrics.observe(result(90.0, 30))
    clock.now += 4.0
    with metrics.paused():
        clock.now += 1000.0
    event = metrics.window(2, 0.1, last=False)
    assert event is not None
    assert (event.step, event.loss, event.target_tokens, event.gradient_norm) == (2, 2.5, 40, 2.0)
    assert (event.seconds, event.tokens_per_second) == (4.0, 10.0)
    assert metrics.step_seconds == 2.0
    metrics.observe(result(7.0, 7))
    later = metrics.window(3, 0.1, last=True)
    assert later is not None
    assert later.loss == pytest.approx(1.0), "the first window leaked into the second"


def test_a_slow_run_reports_at_least_every_minute() -> None:
    clock = Clock()
    metrics = Metrics(log_steps=100, clock=clock)
    metrics.observe(result(1.0, 1))
    clock.now += 61.0
    assert metrics.window(1, 0.1, last=False) is not None


def test_a_window_without_any_update_says_nothing() -> None:
    metrics = Metrics(log_steps=1, clock=Clock())
    assert metrics.window(1, 0.1, last=True) is None
