"""Training goes on while a save is written, and neither sees the other."""

import errno
import json
import signal
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dragoman import host
from dragoman.checkpoint.lease import take_lease
from dragoman.checkpoint.log import RunLog
from dragoman.errors import Damaged, Superseded
from dragoman.evaluation import report
from dragoman.journal import RolledBack, Saved, SaveFailed, Warned
from dragoman.model.derived import changing
from dragoman.store.base import CARD
from dragoman.store.disk import Disk
from dragoman.store.local import FolderStore
from dragoman.store.record import FileEntry
from dragoman.training import dev, loop, saver, saving, snapshot
from dragoman.training.session import Session
from dragoman.training.stop import Stop
from tests.support.held_disk import HeldDisk, SignedDisk
from tests.support.sessions import Lab, final, trained

COPY: dict[str, Any] = {"snapshot": "copy"}
CONFIG, STATE = "training/config.yaml", "training/state.json"
BAD = loop.StepResult(float("nan"), 1, float("nan"), False)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A lab in which the run `plain` streamed its saves and was never disturbed."""
    made = Lab(tmp_path_factory.mktemp("lab"), {"keep": 20, "eval_steps": 0})
    assert made.train("plain", snapshot="stream", save_steps=1).outcome == "done"
    return made


@pytest.fixture
def run(lab: Lab, request: pytest.FixtureRequest) -> str:
    """The name of a new run with the corpus and base model of `plain`."""
    lab.prepared(request.node.name, like="plain")
    return request.node.name


@pytest.fixture
def before_step(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[int], object]], None]:
    """Have a function called before each step, with the number of steps done; what it returns is the result."""
    real: Callable[..., object] = loop.train_step

    def install(told: Callable[[int], object]) -> None:
        monkeypatch.setattr(loop, "train_step", lambda *a, **o: told(o["step"]) or real(*a, **o))

    return install


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let training wait for each save, after it has begun and before it is polled."""
    real = saving.poll

    def poll(run: Session) -> None:
        for thread in threading.enumerate():
            if thread.name == "saver":
                thread.join()
        real(run)

    monkeypatch.setattr(saving, "poll", poll)


def files(run: Path) -> dict[int, dict[str, Any]]:
    """What each checkpoint's files are, by step; without the settings, which differ in how to save, and all times."""
    kept = RunLog(FolderStore(run)).checkpoints
    return {each.step: _timeless(run / each.folder, each.files) for each in kept}


def _timeless(folder: Path, entries: Mapping[str, FileEntry]) -> dict[str, Any]:
    state = json.loads((folder / STATE).read_text("utf-8"))
    assert state.pop("seconds") > 0
    return {name: entry for name, entry in entries.items() if name not in (CONFIG, CARD, STATE)} | {STATE: state}


def saved(lab: Lab) -> list[int]:
    return [event.step for event in lab.events if isinstance(event, Saved)]


# --- what is written -------------------------------------------------------------


def test_a_copy_makes_the_same_files_as_the_stream(lab: Lab, run: str) -> None:
    lab.train(run, save_steps=1, **COPY)
    assert saved(lab) == list(range(1, 9))
    assert files(lab.folder / run) == files(lab.folder / "plain")
    assert final(lab.folder / run) == final(lab.folder / "plain")


def test_a_save_is_of_its_own_step_however_far_training_has_come_since(lab: Lab, run: str, before_step: Any) -> None:
    disk, trained_meanwhile = HeldDisk(save=1), list[int]()

    def told(done: int) -> None:
        if disk.reached.is_set():
            trained_meanwhile.append(done)
        if done == 3:
            assert disk.reached.wait(60)
        if done == 5:  # steps 4 and 5 are trained, step 6 is next and would save
            disk.release()

    before_step(told)
    lab.train(run, disk, save_steps=3, **COPY)
    assert {4, 5} <= set(trained_meanwhile)
    assert saved(lab) == [3, 6, 8]
    plain = files(lab.folder / "plain")
    assert files(lab.folder / run) == {step: plain[step] for step in (3, 6, 8)}


def test_a_stop_while_a_save_is_under_way_waits_for_it_and_the_resume_is_exact(
    lab: Lab, run: str, before_step: Any
) -> None:
    disk = HeldDisk(save=1)

    def told(done: int) -> None:
        if done == 4:
            signal.raise_signal(signal.SIGTERM)
            disk.release()

    before_step(told)
    ending = lab.train(run, disk, save_steps=3, **COPY)
    assert (ending.outcome, ending.step, ending.safe_step, saved(lab)) == ("stopped", 5, 5, [3, 5])
    before_step(lambda done: None)
    assert lab.train(run, save_steps=3, **COPY).exit_code == 0
    assert trained(lab.folder / run) == trained(lab.folder / "plain")


ERRORS = [(ValueError("a bug"), "failed"), (Superseded("another machine"), None), (KeyboardInterrupt(), None)]


@pytest.mark.parametrize(("error", "recorded"), ERRORS, ids=lambda value: type(value).__name__)
def test_an_error_while_a_save_is_under_way_still_makes_that_save_count(
    lab: Lab, before_step: Any, error: BaseException, recorded: str | None
) -> None:
    run, disk = f"error-{type(error).__name__}", HeldDisk(save=1)
    lab.prepared(run, like="plain")
    before_step(lambda done: (disk.release(), throw(error)) if done == 4 else None)
    with pytest.raises(type(error)):
        lab.train(run, disk, save_steps=3, **COPY)
    assert saved(lab) == [3]
    assert not any(thread.name == "saver" for thread in threading.enumerate())
    finished = RunLog(FolderStore(lab.folder / run)).finished
    assert (finished.outcome if finished else None) == recorded
    assert list(files(lab.folder / run)) == [3]


def test_an_error_of_training_is_not_hidden_by_that_of_a_save(lab: Lab, run: str, before_step: Any) -> None:
    disk = HeldDisk(save=1, after=lambda: throw(Damaged("a record is damaged")))
    before_step(lambda done: (disk.release(), throw(ValueError("a bug"))) if done == 4 else None)
    with pytest.raises(ValueError, match="a bug"):
        lab.train(run, disk, save_steps=3, **COPY)


def throw(error: BaseException) -> None:
    raise error


def test_the_deadline_knows_of_the_save_that_is_under_way(
    lab: Lab, run: str, before_step: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, told, real = HeldDisk(save=1), list[tuple[int, bool]](), Stop.reason

    def reason(self: Stop, step_seconds: float = 0.0) -> str:
        told.append((len(told), self.is_saving))
        return real(self, step_seconds)

    monkeypatch.setattr(Stop, "reason", reason)
    before_step(lambda done: disk.release() if done == 5 else None)
    lab.train(run, disk, save_steps=3, **COPY)
    assert told[:6] == [(0, False), (1, False), (2, False), (3, True), (4, True), (5, True)]


# --- what goes wrong -------------------------------------------------------------


class FailingDisk(Disk):
    """A disk that refuses the weights of the first save."""

    def __init__(self, error: Exception) -> None:
        self.error: Exception | None = error

    def write(self, path: Path, chunks: Any) -> Any:
        if path.name == "model.safetensors" and "staging" in path.parts and self.error:
            error, self.error = self.error, None
            raise error
        return super().write(path, chunks)


@pytest.mark.usefixtures("patient")
def test_a_save_that_fails_beside_the_training_is_loud_and_tried_again(
    lab: Lab, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "RETRY_SECONDS", 0.0)
    ending = lab.train(run, FailingDisk(OSError(errno.ENOSPC, "No space left on device")), save_steps=5, **COPY)
    told = [
        (event.step, event.reason if isinstance(event, Saved) else "failed")
        for event in lab.events
        if isinstance(event, Saved | SaveFailed)
    ]
    assert told == [(5, "failed"), (6, "again"), (8, "last")]
    assert ending.outcome == "done"
    assert not list((lab.folder / run / "dragoman/staging").iterdir())
    assert trained(lab.folder / run) == trained(lab.folder / "plain")


def test_what_is_no_fault_of_the_disk_ends_the_session(lab: Lab, run: str) -> None:
    with pytest.raises(Damaged, match="a record is damaged"):
        lab.train(run, FailingDisk(Damaged("a record is damaged")), save_steps=3, **COPY)


def test_a_machine_that_is_taken_over_during_a_save_stops_and_publishes_nothing(
    lab: Lab, run: str, before_step: Any
) -> None:
    others: list[RunLog] = []

    def take_over() -> None:
        others.append(RunLog(FolderStore(lab.folder / run)))
        take_lease(others[0], "there")

    disk = HeldDisk(save=1, after=take_over)
    before_step(lambda done: disk.release() if done == 4 else None)
    with pytest.raises(Superseded, match="there"):
        lab.train(run, disk, save_steps=3, **COPY)
    assert RunLog(FolderStore(lab.folder / run)).records == others[0].records
    assert not saved(lab)


def test_a_roll_back_waits_for_the_save_that_it_leads_to(lab: Lab, run: str, before_step: Any) -> None:
    disk = HeldDisk(save=1)

    def told(done: int) -> object:
        if done == 4:
            disk.release()
        return BAD if done in (3, 4) else None

    before_step(told)
    assert lab.train(run, disk, save_steps=3, max_bad_steps=2, **COPY).outcome == "done"
    assert [(e.from_step, e.to_step) for e in lab.events if isinstance(e, RolledBack)] == [(5, 3)]


def test_a_best_model_is_saved_or_forgotten_before_the_next_is_compared_with_it(
    lab: Lab, run: str, before_step: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    done_so_far: list[int] = []
    disk = HeldDisk(save=2, after=lambda: throw(OSError(errno.ENOSPC, "No space left on device")))

    def told(done: int) -> None:
        done_so_far.append(done + 1)
        if done == 5:
            disk.release()

    def judge(*values: Any) -> report.Judged:
        monkeypatch.setattr(report.Judged, "mean_chrf", {2: 10.0, 4: 30.0, 6: 20.0, 8: 15.0}[done_so_far[-1]])
        return report.judge("tuned", [pair.source for pair in values[3]], values[3])

    before_step(told)
    monkeypatch.setattr(dev, "judge_model", judge)
    lab.train(run, disk, eval_steps=2, save_steps=100, **COPY)
    assert saved(lab) == [2, 6, 8]
    best = RunLog(FolderStore(lab.folder / run)).best
    assert best is not None
    assert best.step == 6


# --- what it costs ---------------------------------------------------------------


def test_the_trainer_copies_once_per_save_and_never_touches_the_disk(
    lab: Lab, run: str, before_step: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, bounds, copied = SignedDisk(), dict[int, int](), list[int]()
    real = snapshot._copy

    def counted(pairs: list[tuple[Tensor, Tensor]]) -> None:
        copied.append(sum(copy.nbytes for copy, _ in pairs))
        real(pairs)

    monkeypatch.setattr(snapshot, "_copy", counted)
    before_step(lambda done: bounds.__setitem__(done, len(disk.changes)))
    lab.train(run, disk, **COPY)
    meanwhile = disk.threads[bounds[0] : bounds[7]]
    assert len(meanwhile) > 60
    assert set(meanwhile) == {"saver"}
    newest = RunLog(FolderStore(lab.folder / run)).newest
    assert newest is not None
    large = [newest.files[name].size for name in ("model.safetensors", "training/optimizer.safetensors")]
    assert saved(lab) == [2, 4, 6, 8]
    assert len(copied) == 4
    assert all(sum(large) * 0.9 < each < sum(large) for each in copied)


def test_later_copies_use_the_memory_of_the_first(lab: Lab, run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real, seen = saver.publish, list[set[int]]()

    def publish(taken: snapshot.Snapshot, *where: Any) -> Any:
        tensors = [tensor for named in taken.tensors.values() for tensor in named.values()]
        seen.append({part.data_ptr() for tensor in tensors for part in changing(tensor)})
        return real(taken, *where)

    monkeypatch.setattr(saver, "publish", publish)
    lab.train(run, **COPY)
    assert len(seen) == 4
    assert all(each == seen[0] for each in seen)


# --- how it is chosen ------------------------------------------------------------


def streamed(lab: Lab, run: str, **options: Any) -> tuple[bool, list[str]]:
    """Whether a run wrote from its own thread alone, and its warnings."""
    disk = SignedDisk()
    assert lab.train(run, disk, **options).outcome == "done"
    return "saver" not in disk.threads, [event.message for event in lab.events if isinstance(event, Warned)]


@pytest.mark.parametrize(
    ("free", "given_back", "way", "streams", "warns"),
    [
        (64 << 30, 0, "auto", False, False),
        (1 << 30, 0, "auto", True, True),
        (64 << 30, 63 << 30, "auto", True, True),  # the next step takes it again
        (1 << 30, 0, "copy", False, False),
        (64 << 30, 0, "stream", True, False),
    ],
)
def test_auto_copies_when_there_is_room(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, free: int, given_back: int, way: str, streams: bool, warns: bool
) -> None:
    name = f"room-{free}-{given_back}-{way}"
    lab.prepared(name, like="plain")
    monkeypatch.setattr(host, "memory_bytes", lambda: (64 << 30, free))
    monkeypatch.setattr(host, "given_back_bytes", lambda: given_back)
    did, warnings = streamed(lab, name, snapshot=way)
    assert did == streams
    assert len(warnings) == warns
    assert trained(lab.folder / name) == trained(lab.folder / "plain")


def test_when_memory_cannot_be_had_the_session_streams(lab: Lab, run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*values: Any) -> Tensor:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(snapshot.HostBuffers, "_like", refuse)
    did, warnings = streamed(lab, run, **COPY)
    assert did
    assert len(warnings) == 1
    assert "training stands still while it saves: a copy of the tensors takes 0.0 GB" in warnings[0]


def test_a_copy_holds_what_was_there_when_it_was_made() -> None:
    live: dict[str, dict[str, Any]] = {
        "a": {"x": torch.arange(6.0).view(2, 3).T, "y": torch.ones(2, dtype=torch.bfloat16)}
    }
    buffers = snapshot.HostBuffers()
    made, wait = buffers.copy(live)
    copies: Any = made
    before = live["a"]["x"].clone()
    live["a"]["x"].add_(1)
    buffers.wait_before_update()
    wait()
    assert torch.equal(copies["a"]["x"], before)
    assert copies["a"]["y"].dtype == torch.bfloat16
    again: Any = buffers.copy(live)[0]
    assert torch.equal(again["a"]["x"], live["a"]["x"])
    assert again["a"]["x"].data_ptr() == copies["a"]["x"].data_ptr()
