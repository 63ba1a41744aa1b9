"""Which pairs form which step: whole epochs, a partial last step, constant memory."""

import tracemalloc
from collections import Counter

import numpy as np
import pytest

from dragoman.data.batch_plan import BatchPlan, permuted
from dragoman.errors import InputError


def steps(plan: BatchPlan) -> list[list[int]]:
    return [plan.indices(step).tolist() for step in range(plan.total_steps)]


def test_the_last_step_holds_what_is_left() -> None:
    plan = BatchPlan(num_pairs=10, pairs_per_step=4, seed=1, epochs=1)
    assert [len(step) for step in steps(plan)] == [4, 4, 2]
    assert sorted(index for step in steps(plan) for index in step) == list(range(10))


def test_a_step_may_span_two_epochs() -> None:
    plan = BatchPlan(num_pairs=3, pairs_per_step=2, seed=1, epochs=2)
    (a, b), (c, d), (e, f) = steps(plan)
    assert sorted((a, b, c)) == sorted((d, e, f)) == [0, 1, 2]


@pytest.mark.parametrize(("epochs", "pairs", "num_steps"), [(0.5, 5, 2), (1.5, 15, 4), (2.25, 22, 6), (0.001, 1, 1)])
def test_epochs_may_be_fractions(epochs: float, pairs: int, num_steps: int) -> None:
    plan = BatchPlan(num_pairs=10, pairs_per_step=4, seed=1, epochs=epochs)
    assert (plan.total_pairs, plan.total_steps) == (pairs, num_steps)
    seen = Counter(index for step in steps(plan) for index in step)
    assert seen.total() == pairs
    assert max(seen.values()) - min(seen[index] for index in range(10)) <= 1


def test_max_steps_gives_full_steps_and_outdoes_epochs() -> None:
    plan = BatchPlan(num_pairs=5, pairs_per_step=4, seed=1, epochs=7, max_steps=3)
    assert [len(step) for step in steps(plan)] == [4, 4, 4]


def test_one_pair_is_enough() -> None:
    assert steps(BatchPlan(num_pairs=1, pairs_per_step=4, seed=1, epochs=2)) == [[0, 0]]
    assert steps(BatchPlan(num_pairs=1, pairs_per_step=2, seed=1, max_steps=2)) == [[0, 0], [0, 0]]


def test_no_pair_is_refused() -> None:
    with pytest.raises(InputError, match="no pair is left to train on"):
        BatchPlan(num_pairs=0, pairs_per_step=4, seed=1)


def test_every_epoch_and_every_seed_has_another_order() -> None:
    def order(seed: int, epoch: int) -> bytes:
        return permuted(np.arange(50), 50, seed, epoch).tobytes()

    orders = {order(seed, epoch) for seed in range(20) for epoch in range(20)}
    assert len(orders) == 400


def test_an_order_looks_random() -> None:
    # Each of 8 places should meet each of 8 values about 500 times in 4,000 orders; 5 sigma is 105.
    met = np.zeros((8, 8), dtype=int)
    for seed in range(4000):
        met[np.arange(8), permuted(np.arange(8), 8, seed, 0)] += 1
    assert np.abs(met - 500).max() < 105, met


def test_the_order_never_changes_between_versions() -> None:
    # A run that was begun with this version must find its pairs again in every later one.
    assert BatchPlan(10, 10, seed=1).indices(0).tolist() == GOLDEN


GOLDEN = [8, 6, 2, 9, 5, 4, 1, 0, 3, 7]


def test_a_step_among_a_hundred_million_pairs_needs_no_list_of_them() -> None:
    plan = BatchPlan(num_pairs=10**8, pairs_per_step=4096, seed=3, epochs=5)
    plan.indices(0)
    tracemalloc.start()
    try:
        chosen = plan.indices(98_765)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000
    assert len(set(chosen.tolist())) == 4096
    assert 0 <= chosen.min() < 10**6
    assert 99 * 10**6 < chosen.max() < 10**8
