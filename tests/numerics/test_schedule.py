"""The learning rate is a pure function of the step."""

import itertools
import math

import pytest

from dragoman.config import TrainingConfig
from dragoman.training.optimizer import learning_rate, warmup_steps


def rates(schedule: str, total: int = 100, warmup: int = 10) -> list[float]:
    training = TrainingConfig.model_validate({"schedule": schedule, "warmup_steps": warmup, "learning_rate": 0.1})
    return [learning_rate(training, step, total) for step in range(total)]


@pytest.mark.parametrize("schedule", ["linear", "cosine", "inverse-sqrt", "constant"])
def test_the_warm_up_is_linear_and_ends_at_the_peak(schedule: str) -> None:
    assert rates(schedule)[:10] == pytest.approx([0.01 * (step + 1) for step in range(10)])
    assert max(rates(schedule)) == pytest.approx(0.1)


def test_each_schedule_falls_as_its_name_says() -> None:
    assert rates("constant")[10:] == [0.1] * 90
    assert rates("linear")[55] == pytest.approx(0.05)
    assert rates("linear")[99] == pytest.approx(0.1 / 90)
    assert rates("cosine")[55] == pytest.approx(0.05)
    assert rates("cosine")[30] == pytest.approx(0.1 * 0.5 * (1 + math.cos(math.pi * 20 / 90)))
    assert rates("inverse-sqrt")[39] == pytest.approx(0.1 * math.sqrt(10 / 40))
    for schedule in ("linear", "cosine", "inverse-sqrt"):
        falling = rates(schedule)[9:]
        assert all(later <= earlier for earlier, later in itertools.pairwise(falling))


@pytest.mark.parametrize("schedule", ["linear", "cosine", "inverse-sqrt", "constant"])
def test_no_warm_up_starts_at_the_peak(schedule: str) -> None:
    assert rates(schedule, warmup=0)[0] == pytest.approx(0.1)


def test_the_warm_up_left_out_is_six_per_cent_at_most_500() -> None:
    assert warmup_steps(TrainingConfig(), 1000) == 60
    assert warmup_steps(TrainingConfig(), 100_000) == 500
