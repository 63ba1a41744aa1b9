"""`status` against folders that sessions left in every state, made without torch and with a clock of our own."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

from dragoman import journal
from dragoman.checkpoint import watchdog
from dragoman.checkpoint.lease import take_lease
from dragoman.checkpoint.log import RunLog
from dragoman.checkpoint.run_folder import CONFIG
from dragoman.checkpoint.status import newest_run, status
from dragoman.cli import reports
from dragoman.cli.app import run
from dragoman.errors import ExitCode, InputError
from dragoman.store import lock
from dragoman.store.disk import digest
from dragoman.store.local import FolderStore

KEYS = {"schema", "run", "state", "step", "total_steps", "epoch", "loss", "chrf", "tokens_per_second", "eta_seconds"}
KEYS |= {"safe", "degraded", "lease", "local", "store", "history", "preparing"}
URL = "hf://ada/run"


class Clock:
    """Seconds, moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Run:
    """What a training session leaves in its folder, step by step."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.clock, self.store = clock, FolderStore(folder)
        self.store.prepare()
        self.log = RunLog(self.store, now=clock)
        self.journal = journal.Journal(folder / "dragoman/journal.jsonl", clock=clock)

    def prepare(self) -> None:
        self.journal.append(
            journal.Prepared(
                corpus="c", reused=False, pairs={"eng_Latn-fra_Latn": 80}, funnel={}, unknown_rate={}, seconds=1.0
            )
        )

    def read_rows(self, num_rows: int) -> None:
        self.journal.append(
            journal.Preparing(stage="reading", rows=num_rows, kept=num_rows - 10, share=0.25, pairs_per_second=900.0)
        )

    def start(self, step: int = 0, store: str = "") -> None:
        self.prepare()
        (self.store.root / CONFIG).write_text("")
        take_lease(self.log, "kaggle")
        self.journal.append(
            journal.SessionStarted(
                run=self.log.run,
                epoch=self.log.epoch,
                owner=self.log.owner,
                step=step,
                total_steps=100,
                steps_per_epoch=20.0,
                device="cpu",
                precision="fp32",
                threads=2,
                host="kaggle",
                pid=1,
                resumed_from="",
                store=store,
            )
        )

    def copy_starts(self, safe_step: int, store: str = URL) -> None:
        told = journal.ReplicatorStarted(store=store, pid=2, owner="0123", epoch=1, safe_step=safe_step)
        self.journal.append(told)

    def copied(self, step: int, store: str = URL) -> None:
        self.journal.append(journal.Replicated(step=step, num_bytes=7, seconds=1.0, store=store))

    def fail_to_copy(self, reason: str, safe_step: int = -1) -> None:
        self.journal.append(
            journal.ReplicationFailed(reason=reason, safe_step=safe_step, attempts=1, retry_seconds=2.0)
        )

    def steps(self, upto: int, seconds: float) -> None:
        self.clock.now += seconds
        self.journal.append(
            journal.Step(
                step=upto,
                loss=2.5,
                learning_rate=1e-4,
                gradient_norm=1.0,
                target_tokens=100,
                tokens_per_second=50.0,
                seconds=seconds,
            )
        )

    def evaluate(self, step: int, chrf: float) -> None:
        self.journal.append(journal.Evaluated(step=step, loss=2.0, chrf=chrf, directions={}, samples=[], seconds=1.0))

    def save(self, step: int) -> None:
        nonce = self.log.new_nonce()
        path = self.store.staging(nonce) / "model.safetensors"
        path.write_bytes(b"weights")
        self.log.publish_checkpoint(
            nonce=nonce,
            step=step,
            pairs_seen=step,
            files={"training/state.json": (path, digest(path))},
            config="c",
            corpus="c",
        )
        self.journal.append(journal.Saved(step=step, folder=f"checkpoint-{step}", num_bytes=7, seconds=0.1, reason="x"))

    def fail_to_save(self, step: int, reason: str) -> None:
        self.journal.append(journal.SaveFailed(step=step, reason=reason, last_safe_step=0))

    def end(self, outcome: Literal["done", "stopped", "failed"], step: int) -> None:
        self.log.finish(outcome, "why", step=step)
        self.journal.append(journal.SessionEnded(outcome=outcome, reason="why", step=step, safe_step=step))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def made(folder: Path, clock: Clock) -> Run:
    return Run(folder, clock)


def look(made: Run) -> dict[str, Any]:
    """The status, after its shape was checked; JSON can hold it."""
    found = status(made.store.root, now=made.clock.now)
    assert set(found) == KEYS
    assert found["schema"] == 1
    if found["preparing"]:
        assert found["state"] == "preparing"
        assert set(found["preparing"]) == {"stage", "rows", "kept", "share", "pairs_per_second", "age_seconds"}
    if found["safe"]:
        assert set(found["safe"]) == {"step", "store", "age_seconds", "verified"}
    if found["degraded"]:
        assert set(found["degraded"]) == {"reason", "since_seconds"}
    if found["lease"]:
        assert set(found["lease"]) == {"owner", "host", "epoch", "age_seconds"}
    if found["local"]:
        assert set(found["local"]) == {"step", "folder", "age_seconds"}
    if found["store"]:
        assert set(found["store"]) == {"url", "num_bytes", "checkpoints"}
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    return found


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no run here"):
        status(tmp_path)


def test_a_folder_that_was_only_prepared_says_so(made: Run) -> None:
    made.prepare()
    found = look(made)
    assert (found["state"], found["step"], found["run"]) == ("prepared", 0, None)
    nothing = ("total_steps", "epoch", "loss", "chrf", "eta_seconds", "safe", "degraded", "lease", "local", "store")
    assert [found[key] for key in nothing] == [None] * len(nothing)


def test_a_session_that_reads_its_data_is_preparing(made: Run) -> None:
    with made.store.lock():
        assert look(made)["state"] == "preparing"


def test_a_session_that_prepares_for_long_says_how_far_it_is(made: Run, clock: Clock) -> None:
    with made.store.lock():
        made.read_rows(5000)
        clock.now += 3
        found = look(made)
        assert found["state"] == "preparing"
        assert found["preparing"] == {
            "stage": "reading", "rows": 5000, "kept": 4990, "share": 0.25, "pairs_per_second": 900.0, "age_seconds": 3.0
        }  # fmt: skip
        made.prepare()
        assert look(made)["preparing"] is None
    made.read_rows(6000)
    assert (look(made)["state"], look(made)["preparing"]) == ("prepared", None)


def test_a_killed_run_that_reads_its_data_again_is_preparing_and_not_running(made: Run) -> None:
    with made.store.lock():
        made.start()
        made.save(10)
    with made.store.lock():
        made.read_rows(5000)
        found = look(made)
        assert (found["state"], found["step"], found["preparing"]["rows"]) == ("preparing", 10, 5000)
        made.start(10)
        assert (look(made)["state"], look(made)["preparing"]) == ("running", None)


def test_a_run_that_was_just_started_is_running_and_nothing_is_safe(made: Run) -> None:
    with made.store.lock():
        made.start()
        found = look(made)
    assert (found["state"], found["step"], found["total_steps"], found["epoch"]) == ("running", 0, 100, 0.0)
    assert found["run"] == made.log.run
    assert (found["loss"], found["eta_seconds"], found["safe"]) == (None, None, None)
    assert found["lease"] == {"owner": made.log.owner, "host": "kaggle", "epoch": 1, "age_seconds": 0.0}


def test_a_running_run_tells_its_speed_and_the_age_of_what_is_safe(made: Run, clock: Clock) -> None:
    with made.store.lock():
        made.start()
        made.steps(10, seconds=20.0)
        made.save(10)
        made.evaluate(10, chrf=31.5)
        made.steps(30, seconds=40.0)
        clock.now += 5
        found = look(made)
    assert (found["state"], found["step"], found["epoch"]) == ("running", 30, 1.5)
    assert (found["loss"], found["chrf"], found["tokens_per_second"]) == (2.5, 31.5, 50.0)
    assert found["eta_seconds"] == pytest.approx(70 * 2.0)
    assert found["safe"] == {"step": 10, "store": str(made.store.root), "age_seconds": 45.0, "verified": False}
    where = str(made.store.root / "checkpoint-10")
    assert (found["local"], found["store"]) == ({"step": 10, "folder": where, "age_seconds": 45.0}, None)


def test_a_run_that_was_killed_is_interrupted_and_is_where_its_checkpoint_is(made: Run) -> None:
    made.start()
    made.steps(10, seconds=20.0)
    made.save(10)
    made.steps(30, seconds=40.0)
    found = look(made)
    assert (found["state"], found["step"], found["eta_seconds"]) == ("interrupted", 10, None)
    assert found["safe"]["step"] == 10


def test_a_run_that_was_killed_before_its_first_save_has_nothing(made: Run) -> None:
    made.start()
    found = look(made)
    assert (found["state"], found["step"], found["safe"]) == ("interrupted", 0, None)


@pytest.mark.parametrize("outcome", ["done", "stopped", "failed"])
def test_a_session_that_ended_by_itself_says_how(made: Run, outcome: Literal["done", "stopped", "failed"]) -> None:
    made.start()
    made.steps(40, seconds=20.0)
    made.save(40)
    made.end(outcome, 40)
    found = look(made)
    assert (found["state"], found["step"], found["eta_seconds"]) == (outcome, 40, None)


def test_a_run_that_continues_is_running_again(made: Run, clock: Clock) -> None:
    made.start()
    made.steps(40, seconds=20.0)
    made.save(40)
    made.end("stopped", 40)
    clock.now += 100
    again = Run(made.store.root, clock)
    with again.store.lock():
        assert look(again)["state"] == "preparing"
        again.start(step=40)
        found = look(again)
        assert (found["state"], found["step"], found["lease"]["epoch"]) == ("running", 40, 2)
        again.steps(50, seconds=30.0)
        assert look(again)["eta_seconds"] == pytest.approx(50 * 3.0), "of this session, not of the pause"


def test_a_run_whose_saves_fail_is_degraded_since_the_first_failure(made: Run, clock: Clock) -> None:
    with made.store.lock():
        made.start()
        made.steps(10, seconds=10.0)
        made.fail_to_save(10, "No space left on device")
        clock.now += 60
        made.fail_to_save(12, "Input/output error")
        clock.now += 5
        assert look(made)["degraded"] == {"reason": "Input/output error", "since_seconds": 65.0}
        made.save(13)
        assert look(made)["degraded"] is None


# --- with a durable store ----------------------------------------------------------


@pytest.fixture
def stored(made: Run, clock: Clock) -> Iterator[Run]:
    """A running run with a durable store, and a process that copies; steps 10 and 20 are saved, 10 is in the store."""
    with made.store.lock(), lock.hold(made.store.root / watchdog.REPLICATOR_LOCK):
        made.start(store=URL)
        made.copy_starts(safe_step=-1)
        made.steps(10, seconds=20.0)
        made.save(10)
        clock.now += 1
        made.copied(10)
        made.steps(20, seconds=20.0)
        made.save(20)
        clock.now += 2
        yield made


def test_what_is_safe_is_what_the_durable_store_holds_and_what_the_disk_holds_is_said_too(stored: Run) -> None:
    found = look(stored)
    assert found["safe"] == {"step": 10, "store": URL, "age_seconds": 23.0, "verified": True}
    where = str(stored.store.root / "checkpoint-20")
    assert found["local"] == {"step": 20, "folder": where, "age_seconds": 2.0}
    assert found["store"] == {"url": URL, "num_bytes": None, "checkpoints": None}, "nobody was asked"
    assert found["degraded"] is None


def test_a_store_that_holds_nothing_yet_is_no_reason_to_call_the_disk_safe(made: Run) -> None:
    with made.store.lock():
        made.start(store=URL)
        made.save(10)
        found = look(made)
    assert (found["safe"], found["local"]["step"], found["store"]["url"]) == (None, 10, URL)


def test_what_a_new_copier_finds_in_the_store_is_safe_but_nobody_saw_it_arrive(made: Run) -> None:
    with made.store.lock():
        made.start(step=10, store=URL)
        made.copy_starts(safe_step=10)
        found = look(made)
        assert (found["safe"]["step"], found["safe"]["verified"]) == (10, False)
        made.copied(20)
        made.copy_starts(safe_step=20)
        assert look(made)["safe"]["verified"], "that it arrived was seen before"


def test_a_folder_as_the_store_is_one_store_by_its_path_and_by_its_url(made: Run) -> None:
    with made.store.lock():
        made.start(store="file:///mnt/disk")
        made.copied(10, store="/mnt/disk")
        made.start(store="file:///mnt/disk")
        assert look(made)["safe"]["step"] == 10


def test_what_another_store_holds_does_not_count(made: Run) -> None:
    with made.store.lock():
        made.start(store=URL)
        made.copied(10)
        made.fail_to_copy("refused")
        made.start(store="s3://bucket/run")
        found = look(made)
        assert (found["safe"], found["degraded"], found["store"]["url"]) == (None, None, "s3://bucket/run")
        made.start()
        made.save(20)
        assert look(made)["safe"]["store"] == str(made.store.root), "the session has no durable store any more"


def test_the_model_of_an_older_best_does_not_set_what_is_safe_back(stored: Run) -> None:
    stored.copied(20)
    stored.copied(5)
    assert look(stored)["safe"]["step"] == 20


def test_copying_that_fails_is_degraded_from_the_first_failure_until_something_arrives(
    stored: Run, clock: Clock
) -> None:
    stored.fail_to_copy("no answer", safe_step=10)
    clock.now += 60
    stored.fail_to_copy("the storage of ada is full")
    clock.now += 5
    found = look(stored)
    assert found["degraded"] == {"reason": "the storage of ada is full", "since_seconds": 65.0}
    assert found["safe"]["step"] == 10, "-1 means that it is not known"
    stored.copy_starts(safe_step=10)
    assert look(stored)["degraded"], "a new process has not yet brought anything there"
    stored.copied(20)
    assert look(stored)["degraded"] is None


def test_a_copier_that_finds_everything_in_the_store_ends_the_degraded_state(stored: Run) -> None:
    stored.fail_to_copy("no answer")
    stored.copy_starts(safe_step=20)
    found = look(stored)
    assert (found["degraded"], found["safe"]["step"]) == (None, 20)


def test_a_transfer_that_hung_is_said_until_one_arrives(stored: Run) -> None:
    stored.journal.append(journal.TransferHung(seconds=300.0))
    assert "silent for 300 s" in look(stored)["degraded"]["reason"]
    stored.copied(20)
    assert look(stored)["degraded"] is None


def test_a_run_that_another_machine_has_taken_says_so(stored: Run, clock: Clock) -> None:
    stored.journal.append(journal.ReplicatorEnded(outcome="superseded", reason="another machine has taken over"))
    clock.now += 3
    assert look(stored)["degraded"] == {"reason": "another machine has taken over", "since_seconds": 3.0}
    stored.copy_starts(safe_step=10)
    assert look(stored)["degraded"] is None


def test_a_trainer_whose_copier_is_gone_is_degraded(made: Run, clock: Clock) -> None:
    with made.store.lock():
        made.start(store=URL)
        clock.now += 5
        assert look(made)["degraded"] is None, "it is being started"
        clock.now += 30
        assert look(made)["degraded"] == {
            "reason": f"nothing is copied to {URL}, the process that copies is gone",
            "since_seconds": 35.0,
        }
        made.fail_to_copy("no answer")
        clock.now += 30
        assert "the process that copies is gone (at last: no answer)" in look(made)["degraded"]["reason"]


def test_what_nobody_copies_after_the_end_is_degraded_with_a_way_out(made: Run, clock: Clock) -> None:
    made.start(store=URL)
    made.save(10)
    made.end("stopped", 10)
    clock.now += 30
    reason = look(made)["degraded"]["reason"]
    assert reason.endswith(f"is gone; dragoman replicate {made.store.root} brings it there")
    with lock.hold(made.store.root / watchdog.REPLICATOR_LOCK):
        assert look(made)["degraded"] is None, "it goes on by itself"
    made.copied(10)
    assert look(made)["degraded"] is None, "everything is there"


def test_a_save_that_fails_is_worse_than_a_copy_that_fails(stored: Run) -> None:
    stored.fail_to_copy("no answer")
    stored.fail_to_save(30, "No space left on device")
    assert look(stored)["degraded"]["reason"] == "No space left on device"


def test_the_sessions_of_a_folder_are_told_the_newest_first(made: Run, clock: Clock) -> None:
    made.start()
    made.save(10)
    made.end("stopped", 10)
    clock.now += 100
    again = Run(made.store.root, clock)
    with again.store.lock():
        again.start(step=10)
        history = look(again)["history"]
    assert [(each["epoch"], each["outcome"], each["step"]) for each in history] == [
        (2, "running", None),
        (1, "stopped", 10),
    ]
    assert (history[0]["first_time"], history[1]["last_time"], history[1]["host"]) == (1100.0, 1000.0, "kaggle")


def test_a_person_reads_what_is_safe_where_and_what_goes_wrong(
    stored: Run, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    stored.fail_to_copy("the storage of ada is full")
    clock.now += 300
    reports.status(status(stored.store.root, now=clock.now), as_json=False)
    assert capsys.readouterr().out.splitlines() == [
        "running: step 20 of 100, 1.00 passes over the data",
        "loss 2.500, 50 target tokens/s",
        "about 3 min left",
        f"safe: step 10, saved 5 min ago in {URL}",
        f"on this disk: step 20, saved 5 min ago in {stored.store.root}/checkpoint-20",
        "DEGRADED for 5 min: the storage of ada is full",
        "lease: kaggle holds it (epoch 1), last seen 5 min ago",
    ]


# --- what is not whole --------------------------------------------------------------


def test_a_torn_last_line_does_not_hide_the_rest(made: Run) -> None:
    made.start()
    made.steps(10, seconds=10.0)
    with made.journal.path.open("ab") as file:
        file.write(b'{"kind": "step", "ti')
    assert look(made)["loss"] == 2.5


def test_a_lost_journal_leaves_what_the_log_knows(made: Run) -> None:
    made.start()
    made.save(10)
    made.end("done", 10)
    made.journal.path.unlink()
    found = look(made)
    assert (found["state"], found["step"], found["safe"]["step"]) == ("done", 10, 10)
    assert found["loss"] is None


def test_looking_writes_nothing(made: Run, folder: Path) -> None:
    made.start()
    made.save(10)
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in folder.rglob("*")}
    look(made)
    assert {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in folder.rglob("*")} == before


def test_the_newest_run_is_the_one_whose_journal_was_written_last(tmp_path: Path, clock: Clock) -> None:
    with pytest.raises(InputError, match="there is no run below"):
        newest_run(tmp_path / "runs")
    for number, name in enumerate(("b", "c", "a")):
        made = Run(tmp_path / "runs" / name, clock)
        made.prepare()
        os.utime(made.journal.path, (number, number))
    assert newest_run(tmp_path / "runs").name == "a"


def test_the_command_finds_the_newest_run_and_prints_one_object(
    tmp_path: Path, clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = Run(Path("runs/x"), clock)
    made.start()
    made.save(10)
    assert run(["status", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == KEYS
    assert run(["status"]) == 0
    assert capsys.readouterr().out.startswith("interrupted: step 10 of 100, 0.50 passes over the data\n")


def test_looking_at_a_run_with_a_durable_store_asks_no_network(
    stored: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("a store was opened")

    monkeypatch.setattr("dragoman.store.address.open_store", forbidden)
    monkeypatch.setattr("dragoman.checkpoint.place.open_store", forbidden)
    assert run(["status", str(stored.store.root)]) == ExitCode.DONE
    assert "safe: step 10, saved" in capsys.readouterr().out
