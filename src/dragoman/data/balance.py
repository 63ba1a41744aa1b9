"""Which rank computes which pairs of a step: shares that cost the same, whatever their number.

The pairs of a step are given; ranks only divide them. What a rank has done, it waits with
until the slowest is done too, so shares are cut by cost, not by number: a long pair costs
as much as many short ones. Everything is a whole number, so that every rank computes the
same shares on its own.

Shape letters: B pairs of a step, R ranks, M pairs of the busiest rank, O pairs of all others.
"""

import heapq
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

ENOUGH = 200
"""Shares are equal enough when the costliest is one part in so many above the mean."""


class TokenCosts(Protocol):
    """What tokens cost; a pair of S source and T target tokens costs the sum of all five. Units are the caller's."""

    @property
    def source(self) -> int:
        """Times S."""
        ...

    @property
    def target(self) -> int:
        """Times T."""
        ...

    @property
    def source_source(self) -> int:
        """Times S²."""
        ...

    @property
    def target_source(self) -> int:
        """Times T S."""
        ...

    @property
    def target_target(self) -> int:
        """Times T²."""
        ...


def costs(lengths_B2: Ints, each: TokenCosts) -> Ints:
    """What each pair costs, in the units of `each`, shape (B,).

    Args:
        lengths_B2: Source and target tokens of each pair, codes and `</s>` included, as `Loader.lengths` gives them.
        each: Costs of the tokens, as `dragoman.model.costs` counts them in floating point operations.
    """
    source, target = lengths_B2[:, 0], lengths_B2[:, 1]
    by_source = source * (each.source + each.source_source * source + each.target_source * target)
    return by_source + target * (each.target + each.target_target * target)


def shares(costs_B: Ints, num_ranks: int) -> list[Ints]:
    """Divide the places 0 to B - 1 into shares of nearly equal cost, one for each rank.

    Each is ascending, so pairs that were sorted longest first stay so. With fewer pairs than
    ranks the last ones are empty. No two differ by more than the costliest pair.

    Args:
        costs_B: What each pair costs, positive.
        num_ranks: How many shares, at least one.
    """
    ranks_B, loads_R = _greedy(costs_B, num_ranks)
    if len(costs_B) > num_ranks:
        _exchange(costs_B, ranks_B, loads_R)
    return [np.flatnonzero(ranks_B == rank) for rank in range(num_ranks)]


def imbalance(costs_B: Ints, divided: Sequence[Ints]) -> float:
    """How much longer the slowest rank computes than the mean one, as a share of the mean: 0.05 is 5 %."""
    totals = np.array([costs_B[share].sum() for share in divided], dtype=np.float64)
    return float(totals.max() / totals.mean() - 1)


def _greedy(costs_B: Ints, num_ranks: int) -> tuple[Ints, Ints]:
    """The rank of each pair, and what each rank has to do.

    The costliest pair that is left goes to the rank with least to do (Graham 1969, longest processing time first).
    """
    values, ranks_B = costs_B.tolist(), np.empty(len(costs_B), dtype=np.int64)
    heap = [(0, rank) for rank in range(num_ranks)]
    for place in np.argsort(-costs_B, kind="stable").tolist():
        load, rank = heap[0]
        ranks_B[place] = rank
        heapq.heapreplace(heap, (load + values[place], rank))
    return ranks_B, np.array([load for load, _ in sorted(heap, key=lambda entry: entry[1])], dtype=np.int64)


def _exchange(costs_B: Ints, ranks_B: Ints, loads_R: Ints) -> None:
    """Exchange a pair of the busiest rank for a cheaper one of another, the best first, while needed and of use."""
    total = int(loads_R.sum())
    while ENOUGH * (len(loads_R) * int(loads_R.max()) - total) > total:
        busiest = int(loads_R.argmax())
        mine_M, others_O = np.flatnonzero(ranks_B == busiest), np.flatnonzero(ranks_B != busiest)
        less_MO = costs_B[mine_M, None] - costs_B[others_O]
        busier_MO = np.maximum(loads_R[busiest] - less_MO, loads_R[ranks_B[others_O]] + less_MO)
        best = np.unravel_index(busier_MO.argmin(), busier_MO.shape)
        if busier_MO[best] >= loads_R[busiest]:
            return
        mine, other = mine_M[best[0]], others_O[best[1]]
        rank = ranks_B[other]
        ranks_B[mine], ranks_B[other] = rank, busiest
        loads_R[busiest] -= less_MO[best]
        loads_R[rank] += less_MO[best]
