"""Every epoch sees every pair once, whatever the sizes; how a step is cut changes nothing."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman.data.batch_plan import BatchPlan, permuted

SIZES = st.integers(1, 120)
SEEDS = st.integers(0, 2**32 - 1)
# Time is not what is tested, and other processes share these cores.
some = settings(max_examples=60, deadline=None)


def order_of(plan: BatchPlan) -> list[int]:
    return [int(index) for step in range(plan.total_steps) for index in plan.indices(step)]


@some
@given(SIZES, st.integers(1, 150), SEEDS, st.integers(1, 3))
def test_every_epoch_sees_every_pair_once(num_pairs: int, batch: int, seed: int, epochs: int) -> None:
    order = order_of(BatchPlan(num_pairs, batch, seed, epochs))
    assert len(order) == epochs * num_pairs
    for epoch in range(epochs):
        assert sorted(order[epoch * num_pairs : (epoch + 1) * num_pairs]) == list(range(num_pairs))


@some
@given(SIZES, st.integers(1, 40), st.sampled_from([1, 2, 4]), SEEDS)
def test_the_pairs_of_a_step_do_not_depend_on_how_it_is_cut(num_pairs: int, batch: int, cut: int, seed: int) -> None:
    whole = BatchPlan(num_pairs, batch * cut, seed, epochs=2)
    parts = BatchPlan(num_pairs, batch, seed, epochs=2)
    for step in range(whole.total_steps):
        pieces = [parts.indices(part) for part in range(step * cut, (step + 1) * cut)]
        assert np.array_equal(whole.indices(step), np.concatenate(pieces))


@some
@given(SIZES, st.integers(1, 100), SEEDS, st.floats(0.01, 5, allow_nan=False))
def test_steps_and_pairs_agree_and_no_step_is_empty(num_pairs: int, batch: int, seed: int, epochs: float) -> None:
    plan = BatchPlan(num_pairs, batch, seed, epochs)
    sizes = [len(plan.indices(step)) for step in range(plan.total_steps)]
    assert [plan.pairs_seen(step) for step in range(plan.total_steps + 1)] == [0, *np.cumsum(sizes)]
    assert sum(sizes) == plan.total_pairs
    assert abs(plan.total_pairs - max(1, epochs * num_pairs)) <= 0.5
    assert set(sizes[:-1]) <= {batch}
    assert 1 <= sizes[-1] <= batch


@some
@given(st.integers(1, 10**9), SEEDS, st.integers(0, 1000))
def test_places_of_any_corpus_map_into_it_and_never_onto_each_other(num_pairs: int, seed: int, epoch: int) -> None:
    places = np.unique(np.linspace(0, num_pairs - 1, 300).astype(np.int64))
    values = permuted(places, num_pairs, seed, epoch)
    assert len(np.unique(values)) == len(places)
    assert values.min() >= 0
    assert values.max() < num_pairs
