"""Several ranks, for real: processes over gloo that lose one of them. All moments and ranks are `make ranks`."""

from pathlib import Path

import pytest

from bench.ranks_play import Fault, Lab, Row, play
from dragoman import journal
from dragoman.cli.app import run as command


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    made = Lab(tmp_path_factory.mktemp("ranks"))
    assert command(made.words(made.folder / "undisturbed")[2:]) == 0
    return made


def test_a_rank_killed_within_the_sum_of_gradients_costs_an_interval_and_no_digit(lab: Lab) -> None:
    killed: Fault = {"at": "reduce", "step": 9, "nth": 2, "rank": 1, "do": "SIGKILL"}
    outcome = play(lab, Row("killed", (killed,), devices=2, begins=True))
    assert not outcome.wrong
    assert (outcome.codes, outcome.restarts) == ([0], 1)


def test_out_of_memory_on_a_rank_that_is_not_the_first_makes_all_compute_less(lab: Lab) -> None:
    short: Fault = {"at": "", "do": "memory", "step": 9, "tokens": 45, "rank": 1}
    outcome = play(lab, Row("memory", (short,), devices=2, parallel="fsdp", begins=True))
    assert not outcome.wrong
    (limit,) = recorded_limits(lab.folder / "memory")
    assert 0 < limit <= short["tokens"]


def recorded_limits(run: Path) -> list[int]:
    events = journal.read(run / "dragoman/journal.jsonl")
    return [event["microbatch_tokens"] for event in events if event["kind"] == "out_of_memory"]
