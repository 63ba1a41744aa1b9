"""With a mix: every part has its share of every epoch, its pairs occur equally often, and the step says which."""

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman.data.batch_plan import BatchPlan
from dragoman.data.mixing import Mix, Part, apportioned

SEEDS = st.integers(0, 2**32 - 1)
some = settings(max_examples=60, deadline=None)


@st.composite
def mixes(draw: st.DrawFn) -> Mix:
    """One to four parts that stand behind each other; quotas from none to several times the part."""
    parts: list[Part] = []
    first = 0
    for _ in range(draw(st.integers(1, 4))):
        num_pairs, quota = draw(st.integers(1, 30)), draw(st.integers(0, 80))
        parts.append(Part(first, num_pairs, quota))
        first += num_pairs
    if not sum(part.quota for part in parts):
        parts[0] = parts[0].__class__(0, parts[0].num_pairs, 1)
    return Mix(tuple(parts))


def plan_of(mix: Mix, batch: int, seed: int, epochs: float = 1.0, max_steps: int | None = None) -> BatchPlan:
    return BatchPlan(sum(part.num_pairs for part in mix.parts), batch, seed, epochs, max_steps, mix)


def order_of(plan: BatchPlan) -> list[int]:
    return [int(index) for step in range(plan.total_steps) for index in plan.indices(step)]


def drawn_from(part: Part, order: list[int]) -> list[int]:
    return [index for index in order if part.first <= index < part.first + part.num_pairs]


@some
@given(mixes(), st.integers(1, 50), SEEDS, st.integers(1, 4))
def test_every_epoch_draws_from_each_part_what_the_mix_says(mix: Mix, batch: int, seed: int, epochs: int) -> None:
    order, size = order_of(plan_of(mix, batch, seed, epochs)), mix.pairs_per_epoch
    assert len(order) == epochs * size
    for epoch in range(epochs):
        one = order[epoch * size : (epoch + 1) * size]
        assert [len(drawn_from(part, one)) for part in mix.parts] == [part.quota for part in mix.parts]


@some
@given(mixes(), st.integers(1, 50), SEEDS, st.integers(1, 6))
def test_at_the_end_of_any_epoch_the_pairs_of_a_part_occurred_equally_often(
    mix: Mix, batch: int, seed: int, epochs: int
) -> None:
    """So over-sampling repeats evenly, and under-sampling takes new pairs until all were there."""
    order = order_of(plan_of(mix, batch, seed, epochs))
    for part in mix.parts:
        for epoch in range(1, epochs + 1):
            seen = Counter(drawn_from(part, order[: epoch * mix.pairs_per_epoch]))
            counts = [seen[index] for index in range(part.first, part.first + part.num_pairs)]
            assert max(counts) - min(counts) <= 1
            assert sum(counts) == epoch * part.quota


@some
@given(mixes(), st.integers(1, 20), st.sampled_from([1, 2, 4]), SEEDS)
def test_the_pairs_of_a_step_do_not_depend_on_how_it_is_cut(mix: Mix, batch: int, cut: int, seed: int) -> None:
    whole, parts = plan_of(mix, batch * cut, seed, 2), plan_of(mix, batch, seed, 2)
    for step in range(whole.total_steps):
        pieces = [parts.indices(part) for part in range(step * cut, (step + 1) * cut)]
        assert np.array_equal(whole.indices(step), np.concatenate(pieces))


@some
@given(mixes(), st.integers(1, 50), SEEDS, st.floats(0.01, 5, allow_nan=False))
def test_steps_and_pairs_agree_and_no_step_is_empty(mix: Mix, batch: int, seed: int, epochs: float) -> None:
    plan = plan_of(mix, batch, seed, epochs)
    sizes = [len(plan.indices(step)) for step in range(plan.total_steps)]
    assert [plan.pairs_seen(step) for step in range(plan.total_steps + 1)] == [0, *np.cumsum(sizes)]
    assert abs(plan.total_pairs - max(1, epochs * mix.pairs_per_epoch)) <= 0.5
    assert min(sizes) >= 1


@some
@given(mixes(), SEEDS)
def test_another_seed_is_another_order_of_the_same_numbers(mix: Mix, seed: int) -> None:
    one, other = (order_of(plan_of(mix, 7, each, 3)) for each in (seed, seed + 1))
    counts = [[len(drawn_from(part, order)) for part in mix.parts] for order in (one, other)]
    assert counts[0] == counts[1]


@some
@given(st.integers(0, 10**9), st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=12))
def test_what_is_apportioned_adds_up_and_is_in_proportion(total: int, weights: list[float]) -> None:
    numbers = apportioned(total, weights)
    assert sum(numbers) == total
    assert min(numbers) >= (1 if total >= len(weights) else 0)
    for number, weight in zip(numbers, weights, strict=True):
        # Whole numbers, and the one that each part gets at least, move a share by at most the number of parts.
        assert abs(number - total * weight / sum(weights)) <= len(weights) + total * 1e-9
