"""More work never takes fewer steps, less time or fewer bytes."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dragoman.config import RunConfig, from_flat
from dragoman.estimate import memory
from dragoman.estimate.hours import hours_of
from dragoman.estimate.ranking import rank
from dragoman.estimate.storage import num_saves
from dragoman.estimate.work import work_of

samples = st.integers(1, 5_000_000)
GPUS = st.sampled_from(["t4", "l4", "a100-80", "h200-141", "cpu"])


def config(num_samples: int, **options: Any) -> RunConfig:
    return from_flat({"language_pairs": ["en-fr"], "max_samples": num_samples, "output": "nowhere"} | options)


@given(few=samples, more=samples, gpu=GPUS, epochs=st.floats(0.1, 5))
def test_more_samples_never_take_fewer_steps_or_less_time(few: int, more: int, gpu: str, epochs: float) -> None:
    few, more = sorted((few, more))
    one, other = (config(number, epochs=epochs, threads=1) for number in (few, more))
    first, second = work_of(one), work_of(other)
    assert first.steps <= second.steps
    assert first.target_tokens <= second.target_tokens
    way = memory.as_configured(one, memory.machine(gpu, one))
    shorter, longer = hours_of(one, first, way), hours_of(other, second, way)
    # A last step that is not full is computed for less than a full one, but counts as the mean of all.
    assert shorter.total.high <= longer.total.high * 1.01 + shorter.step.high
    assert shorter.storage.saves <= longer.storage.saves
    assert shorter.recipe.low <= longer.recipe.low


@given(steps=st.integers(1, 100_000), more=st.integers(0, 1000), seconds=st.floats(0.001, 1000))
def test_more_or_slower_steps_never_save_less(steps: int, more: int, seconds: float) -> None:
    assert num_saves(RunConfig(), steps, seconds) <= num_saves(RunConfig(), steps + more, seconds)
    assert num_saves(RunConfig(), steps, seconds) <= num_saves(RunConfig(), steps, 2 * seconds)


@given(few=samples, more=samples)
def test_no_platform_gets_cheaper_sooner_or_shorter_by_more_work(few: int, more: int) -> None:
    few, more = sorted((few, more))
    one, other = (config(number) for number in (few, 2 * more))
    by_name = [
        {(it.platform.name, it.offer.flavor): it for it in rank(asked, work_of(asked)).options}
        for asked in (one, other)
    ]
    for name, small in by_name[0].items():
        large = by_name[1][name]
        assert small.usd.high <= large.usd.high * 1.01
        assert small.days.high <= large.days.high * 1.01
        assert small.sessions.high <= large.sessions.high
