"""Pairs cost what they cost, and ranks get shares that cost the same."""

from dataclasses import dataclass

import numpy as np
import pytest

from dragoman.data import balance
from dragoman.model import costs, sizes
from dragoman.model.regime import Regime

NLLB = sizes.KNOWN["facebook/nllb-200-distilled-600M"]


@dataclass(frozen=True)
class Each:
    source: int = 0
    target: int = 0
    source_source: int = 0
    target_source: int = 0
    target_target: int = 0


def totals(costs_B: list[int], num_ranks: int) -> list[int]:
    values = np.array(costs_B)
    return sorted(int(values[share].sum()) for share in balance.shares(values, num_ranks))


@pytest.mark.parametrize(
    ("each", "expected"),
    [
        (Each(source=10), [30, 50]),
        (Each(target=10), [70, 20]),
        (Each(source_source=1), [9, 25]),
        (Each(target_source=1), [21, 10]),
        (Each(target_target=1), [49, 4]),
        (Each(1, 1, 1, 1, 1), [3 + 7 + 9 + 21 + 49, 5 + 2 + 25 + 10 + 4]),
    ],
)
def test_each_kind_of_token_costs_its_own(each: Each, expected: list[int]) -> None:
    assert balance.costs(np.array([[3, 7], [5, 2]]), each).tolist() == expected


def test_a_step_of_the_largest_model_is_counted_exactly() -> None:
    """More than 2**53 operations, where floating point would begin to round, and far from the end of 64 bits."""
    lengths_B2 = np.full((100_000, 2), 256)
    each = costs.token_costs(sizes.KNOWN["facebook/nllb-200-3.3B"], Regime())
    found = balance.costs(lengths_B2, each)
    one = 256 * (each.source + each.target) + 256**2 * (each.source_source + each.target_source + each.target_target)
    assert found.dtype == np.int64
    assert int(found.sum()) == 100_000 * one > 2**53


def test_a_target_token_costs_more_than_a_source_token_by_the_whole_vocabulary() -> None:
    each = costs.token_costs(NLLB, Regime())
    assert each.target - each.source == 6 * 256_206 * 1024
    few = costs.token_costs(NLLB, Regime(vocabulary="active", active_rows=1000, negatives=0))
    assert few.target - few.source == 6 * 1000 * 1024
    assert few.source == each.source


def test_attention_itself_is_little_for_a_sentence_and_much_for_a_page() -> None:
    each = costs.token_costs(NLLB, Regime(vocabulary="active"))
    straight = costs.TokenCosts(each.source, each.target, 0, 0, 0)
    for tokens, least, most in ((25, 0.001, 0.02), (1024, 0.1, 0.4)):
        whole, linear = (int(balance.costs(np.array([[tokens, tokens]]), it)[0]) for it in (each, straight))
        assert least < (whole - linear) / whole < most


def test_exchanges_mend_what_greedy_leaves() -> None:
    """The textbook case: giving the largest to the least loaded leaves 17 and 13, differencing 16 and 14."""
    assert totals([8, 7, 6, 5, 4], 2) == [15, 15]


def test_shares_that_are_equal_enough_are_left_alone() -> None:
    """The same beside much larger pairs: 2 of 1,015 are not worth the search."""
    assert totals([1000, 1000, 8, 7, 6, 5, 4], 2) == [1013, 1017]


def test_a_pair_that_costs_as_much_as_all_others_is_alone() -> None:
    assert [share.tolist() for share in balance.shares(np.array([90, 30, 30, 20, 10]), 2)] == [[0], [1, 2, 3, 4]]


def test_one_rank_computes_all() -> None:
    assert [share.tolist() for share in balance.shares(np.array([5, 4, 3]), 1)] == [[0, 1, 2]]


def test_with_fewer_pairs_than_ranks_the_last_ones_have_none() -> None:
    assert [share.tolist() for share in balance.shares(np.array([5, 4]), 4)] == [[0], [1], [], []]
    assert [share.tolist() for share in balance.shares(np.array([], dtype=np.int64), 2)] == [[], []]


def test_the_shares_of_a_given_step_never_change() -> None:
    """Each rank computes all shares on its own: another order among equals would lose pairs and repeat others."""
    values = np.array([9, 9, 7, 7, 7, 5, 5, 3, 3, 3, 1, 1])
    expected = [[0, 4, 8, 10], [1, 5, 6, 11], [2, 3, 7, 9]]
    assert [share.tolist() for share in balance.shares(values, 3)] == expected


def test_pairs_that_cost_the_same_are_dealt_in_turn() -> None:
    """A sort that is not stable orders equals otherwise on another processor."""
    found = balance.shares(np.array([7, 5] * 300), 2)
    assert [share.tolist() for share in found] == [sorted([*range(r, 600, 4), *range(r + 1, 600, 4)]) for r in (0, 2)]


def test_sentences_of_a_step_are_shared_within_half_a_per_cent() -> None:
    """Lognormal lengths; greedy alone leaves up to 2.1 %."""
    each, chance = costs.token_costs(NLLB, Regime()), np.random.default_rng(1)
    for _ in range(20):
        lengths_B2 = chance.lognormal(3, 0.6, (128, 2)).astype(np.int64) + 2
        costs_B = balance.costs(lengths_B2, each)
        assert balance.imbalance(costs_B, balance.shares(costs_B, 8)) <= 0.005


def test_imbalance_is_how_much_longer_than_the_mean_the_slowest_takes() -> None:
    values = np.array([6, 4, 2])
    assert balance.imbalance(values, [np.array([0]), np.array([1, 2])]) == 0
    assert balance.imbalance(values, [np.array([0, 2]), np.array([1])]) == pytest.approx(8 / 6 - 1)
    assert balance.imbalance(values, [np.array([0, 1, 2]), np.array([], dtype=np.int64)]) == 1
