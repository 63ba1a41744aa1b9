"""However pairs are divided: each is computed once, by a rank that has about as much to do as any other."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman.data import balance

some = settings(max_examples=150, deadline=None)
RANKS = st.integers(1, 9)
STEPS = st.one_of(
    st.lists(st.integers(1, 10**15), max_size=40),
    st.lists(st.integers(1, 4), max_size=40),  # many that cost the same
).map(lambda values: np.array(values, dtype=np.int64))


def totals(costs_B: balance.Ints, num_ranks: int) -> list[int]:
    return [int(costs_B[share].sum()) for share in balance.shares(costs_B, num_ranks)]


@some
@given(STEPS, RANKS)
def test_every_pair_is_in_one_share_and_the_order_stays(costs_B: balance.Ints, num_ranks: int) -> None:
    found = balance.shares(costs_B, num_ranks)
    assert len(found) == num_ranks
    assert sorted(np.concatenate(found).tolist()) == list(range(len(costs_B)))
    assert all((np.diff(share) > 0).all() and share.dtype == np.int64 for share in found)


@some
@given(STEPS, RANKS)
def test_no_rank_is_idle_while_there_are_pairs_enough(costs_B: balance.Ints, num_ranks: int) -> None:
    found = balance.shares(costs_B, num_ranks)
    assert sum(len(share) > 0 for share in found) == min(num_ranks, len(costs_B))
    assert [len(share) > 0 for share in found] == sorted((len(share) > 0 for share in found), reverse=True)


@some
@given(STEPS, RANKS)
def test_no_two_shares_differ_by_more_than_the_costliest_pair(costs_B: balance.Ints, num_ranks: int) -> None:
    found = totals(costs_B, num_ranks)
    assert max(found) - min(found) <= costs_B.max(initial=0)


@some
@given(STEPS, RANKS)
def test_the_busiest_rank_has_no_exchange_left_that_would_help(costs_B: balance.Ints, num_ranks: int) -> None:
    """Unless it is within half a per cent of the mean."""
    found = balance.shares(costs_B, num_ranks)
    loads = [int(costs_B[share].sum()) for share in found]
    busiest = max(range(num_ranks), key=loads.__getitem__)
    if 200 * (num_ranks * loads[busiest] - sum(loads)) <= sum(loads):
        return
    for rank in range(num_ranks):
        for mine, other in itertools.product(costs_B[found[busiest]].tolist(), costs_B[found[rank]].tolist()):
            assert not (mine > other and loads[rank] + mine - other < loads[busiest])


@some
@given(STEPS, RANKS, st.integers(2, 1000))
def test_the_unit_of_costs_does_not_matter(costs_B: balance.Ints, num_ranks: int, unit: int) -> None:
    plain, scaled = (balance.shares(values, num_ranks) for values in (costs_B, costs_B * unit))
    assert [share.tolist() for share in plain] == [share.tolist() for share in scaled]


@some
@given(st.lists(st.integers(1, 100), min_size=1, max_size=7), st.integers(2, 3))
def test_no_division_at_all_is_better_by_more_than_a_third(values: list[int], num_ranks: int) -> None:
    """Against every division there is; the bound of Graham 1969 for m shares: 4/3 - 1/(3 m)."""
    divisions = itertools.product(range(num_ranks), repeat=len(values))
    best = min(max(np.bincount(ranks, values, num_ranks)) for ranks in divisions)
    assert 3 * num_ranks * max(totals(np.array(values), num_ranks)) <= (4 * num_ranks - 1) * best
