import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dragoman import platforms
from dragoman.checkpoint.doctor import Check
from dragoman.checkpoint.lease import take_lease
from dragoman.checkpoint.log import RunLog
from dragoman.errors import CheckSaidNo, InputError, StoreUnavailable
from dragoman.launch import selftest, selftest_there
from dragoman.launch.selftest import Pace
from dragoman.store.disk import digest
from dragoman.store.local import FolderStore
from dragoman.store.record import CheckpointRecord
from tests.support.launching import example


@dataclass
class Clock:
    """Time that passes only while somebody sleeps."""

    now: float = 0.0

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def pace(self) -> Pace:
        return Pace(look_seconds=10, patience_seconds=60, clock=self.time, sleep=self.sleep)


def answers(*given: object) -> Callable[[], object]:
    """Looks that find these, one after the other, and the last one for ever."""
    left = list(given)

    def look() -> object:
        found = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(found, Exception):
            raise found
        return found

    return look


# --- waiting -------------------------------------------------------------------------


def test_what_is_there_is_found_at_once_and_what_comes_at_the_next_look() -> None:
    clock = Clock()
    assert selftest.wait_for("it", answers("there"), clock.pace()) == "there"
    assert clock.now == 0
    assert selftest.wait_for("it", answers(None, None, "there"), clock.pace()) == "there"
    assert clock.now == 20


def test_a_store_that_does_not_answer_is_asked_again() -> None:
    look = answers(StoreUnavailable("no answer"), None, "there")
    assert selftest.wait_for("it", look, Clock().pace()) == "there"


def test_what_does_not_come_is_given_up_in_time_and_says_what_was_reached() -> None:
    clock = Clock()
    with pytest.raises(CheckSaidNo, match=r"it: not within 1 min; step 3\n"):
        selftest.wait_for("it", answers(None), clock.pace(), lambda: "step 3")
    assert clock.now == 60
    with pytest.raises(CheckSaidNo, match=r"it: not within 1 min \(at last: no answer\)"):
        selftest.wait_for("it", answers(StoreUnavailable("no answer")), Clock().pace())


def test_a_refusal_is_not_waited_out() -> None:
    clock = Clock()
    with pytest.raises(InputError, match="a token is missing"):
        selftest.wait_for("it", answers(InputError("a token is missing")), clock.pace())
    assert clock.now == 0


def test_something_that_did_not_come_is_the_last_check_and_a_problem() -> None:
    def checks() -> Iterator[Check]:
        yield Check("one", "ok", "fine")
        raise CheckSaidNo("it did not come", "dragoman doctor")

    found = list(selftest.complained(checks()))
    assert [(check.name, check.verdict, check.finding) for check in found] == [
        ("one", "ok", "fine"),
        ("reached the end", "problem", "it did not come"),
    ]


# --- the run and its store -----------------------------------------------------------


def test_the_data_is_the_same_on_every_machine_and_each_pair_says_the_same_backwards(tmp_path: Path) -> None:
    rows = selftest.write_pairs(tmp_path / "a.tsv").read_text("utf-8").splitlines()
    assert rows == selftest.write_pairs(tmp_path / "b.tsv").read_text("utf-8").splitlines()
    assert len(set(rows)) == selftest.NUM_PAIRS
    assert rows[0] == "one three seven\tsept trois un"


def test_a_selftest_never_shares_a_store() -> None:
    now = 1_764_426_540.0
    assert selftest.fresh_store("ada/run", "jobs", now) == "hf://ada/run-selftest-jobs-20251129-1429"
    assert selftest.fresh_store("s3://tries/a/", "here", now) == "s3://tries/a/dragoman-selftest-here-20251129-1429"
    assert selftest.fresh_store("/mnt/disk", "here", now) == "file:///mnt/disk/dragoman-selftest-here-20251129-1429"


def test_too_few_steps_are_refused() -> None:
    with pytest.raises(InputError, match="--steps 5: over before it could be cut"):
        selftest.tiny_run(Path("pairs.tsv"), "hf://ada/run", 5)


def saved(log: RunLog, folder: Path, step: int) -> CheckpointRecord:
    path = folder / f"weights-{step}"
    path.write_bytes(os.urandom(100))
    files = {"model.safetensors": (path, digest(path)), "training/rng": (path, digest(path))}
    return log.publish_checkpoint(
        nonce=log.new_nonce(), step=step, pairs_seen=step, files=files, config="c", corpus="d"
    )


def verdicts(log: RunLog, before: CheckpointRecord, steps: int) -> list[str]:
    return [check.verdict for check in selftest.aftermath(log, before, steps)]


def test_a_run_that_began_anew_or_ended_early_or_lost_a_byte_is_a_problem(tmp_path: Path) -> None:
    log = RunLog(FolderStore(tmp_path / "store"))
    log.store.prepare()
    take_lease(log, "first")
    safe = saved(log, tmp_path, 10)
    take_lease(RunLog(log.store), "second")
    log = RunLog(log.store)
    take_lease(log, "third")
    last = saved(log, tmp_path, 60)
    log.finish("done", "all steps done", step=60, resumed_from=safe.nonce)
    assert verdicts(log, safe, 60) == ["ok", "ok", "ok"]
    assert verdicts(log, safe, 61) == ["ok", "problem", "ok"]
    log.finish("done", "all steps done", step=60)
    assert verdicts(log, safe, 60) == ["problem", "ok", "ok"]
    best = log.best or last
    (tmp_path / "store" / best.folder / "model.safetensors").write_bytes(bytes(100))
    assert verdicts(log, safe, 60) == ["problem", "ok", "problem"]


# --- platforms -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["colab", "kaggle"])
def test_where_only_a_person_can_end_a_session_the_steps_are_told(name: str) -> None:
    with pytest.raises(InputError, match="no program can end a session") as refused:
        selftest_there.refuse_by_hand(platforms.find(name))
    assert f"dragoman launch {name}" in refused.value.hint


def test_both_machines_count_against_the_budget() -> None:
    job = example("jobs", "l4", max_hours=0.5, options={"language_pairs": ["en-fr"], "store": "hf://ada/run"})
    selftest_there.refuse_dear(job, 0.8)
    with pytest.raises(InputError, match=r"2 machines of 0.5 h may cost \$0.80"):
        selftest_there.refuse_dear(job, 0.79)
