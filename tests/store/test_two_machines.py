"""Two and three machines train one run: paused, late, with lost answers, killed, wiped; nothing promised is ever lost.

The protocol is the real one; machines, clock and store are simulated (`tests/support/simulation`).
`make chaos` plays twenty thousand schedules; here are some.
"""

from collections import Counter

import pytest

from tests.store.session import scratch
from tests.support.simulation import run

SCHEDULES, PARTS = 1_000, 4


@pytest.mark.parametrize("part", range(PARTS))
def test_whatever_befalls_the_machines_the_run_ends_exactly_and_the_log_stays_linear(part: int) -> None:
    counts: Counter[str] = Counter()
    with scratch() as folder:
        for seed in range(part, SCHEDULES, PARTS):
            try:
                run(seed, folder, counts)
            except Exception as error:
                raise AssertionError(f"seed {seed}: {error}") from error
    assert counts["schedules"] == SCHEDULES / PARTS
    for what in ("take-overs by another machine", "fault: answer lost", "late effects: commit", "fault: stale"):
        assert counts[what] > 5 or part % 2, (what, counts[what])
