"""Two and three machines train one run: paused, late, with lost answers, killed, wiped; nothing promised is ever lost.

The protocol is the real one; machines, clock and durable store are simulated (`tests/support/simulation`). `make chaos`
plays twenty thousand schedules; these are some of them.
"""

import os
from collections import Counter
from collections.abc import Generator

import pytest

from tests.store.session import scratch
from tests.support.simulation import play
from tests.support.simulation.baton import on_one_core

SCHEDULES, PARTS = 1_000, 4
ALWAYS = (
    *("take-overs by another machine", "event: damage in the store", "event: disk wiped", "records: trims"),
    *("fault: answer lost", "fault: late", "fault: slow", "session ended: superseded", "passed over: damaged"),
)
"""What happens in every part, if the simulation is worth anything."""


@pytest.fixture(autouse=True)
def one_core() -> Generator[None]:
    with on_one_core(int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))):
        yield


@pytest.mark.parametrize("part", range(PARTS))
def test_whatever_befalls_the_machines_the_run_ends_exactly_and_nothing_promised_is_lost(part: int) -> None:
    counts: Counter[str] = Counter()
    size = SCHEDULES // PARTS
    with scratch() as folder:
        for seed in range(part * size, (part + 1) * size):
            play(seed, folder, counts)
    assert counts["schedules"] == size
    assert not [what for what in ALWAYS if not counts[what]]


def test_a_seed_fixes_everything_that_happens() -> None:
    stories: list[list[str]] = []
    for _ in range(2):
        counts: Counter[str] = Counter()
        with scratch() as folder:
            for seed in (10, 11):
                play(seed, folder, counts, story := [])
                stories.append([line.replace(str(folder), "") for line in story])
    assert stories[:2] == stories[2:]
    assert all(len(story) > 20 for story in stories)
