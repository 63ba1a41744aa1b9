"""The machine is lost before every single change of a save, and in the middle of whole sessions.

The save is the real one: the tensors of a real session, streamed to the disk, or written
from a copy in a thread, where the loss is raised and must reach the trainer. What is
found afterwards is the checkpoint before or the new one, whole; and training on from
it ends with the weights of a run that was never disturbed.
"""

import dataclasses
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from dragoman.checkpoint.lease import take_lease
from dragoman.checkpoint.log import RunLog
from dragoman.checkpoint.restore import newest_good
from dragoman.checkpoint.run_folder import CONFIG
from dragoman.errors import ExitCode
from dragoman.store.disk import Disk
from dragoman.store.local import FolderStore
from dragoman.training import loop, saving, session
from dragoman.training.session import Session
from dragoman.training.stop import Stop
from tests.support.lost_machine import LosingDisk, Loss, MachineLost
from tests.support.sessions import Lab, final, fingerprint, trained

LOSSES: list[Loss] = ["killed", "power_cut"]
Way = Literal["stream", "copy"]
SAVES: list[tuple[Loss, Way]] = [("killed", "stream"), ("power_cut", "stream"), ("power_cut", "copy")]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    made = Lab(tmp_path_factory.mktemp("lab"), {"eval_steps": 0})
    made.train("plain", max_steps=4)
    return made


@pytest.fixture(scope="module")
def at_work(lab: Lab) -> Iterator[tuple[Session, Path]]:
    """A session with two steps done and step 1 saved, and a copy of its folder in that moment."""
    folder = lab.prepared("at-work", like="plain")
    config = lab.config("at-work", max_steps=1, save_steps=1)
    assert loop.run(config).outcome == "done"
    longer = lab.config("at-work", max_steps=4, save_steps=1000, snapshot="copy")
    (folder / "dragoman/log").joinpath("000003.json").unlink()  # as if killed before it could say how it ended
    (folder / CONFIG).unlink()
    store = FolderStore(folder)
    store.prepare()
    with store.lock(), Stop(None) as stop:
        opened = session.open_session(longer, store, stop, lambda event: None)
        assert isinstance(opened, Session)
        assert opened.state.step == 1
        copy = folder.with_name("copy")
        shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("corpus", "base"))
        opened.stop.reason = lambda step_seconds=0.0: "enough" if opened.state.step == 2 else ""  # type: ignore[method-assign]
        assert loop.train(opened) == "enough"
        yield opened, copy


def on(disk: Disk, opened: Session, folder: Path) -> Session:
    """The same session, as if its run were in `folder`, with the lease taken there."""
    store = FolderStore(folder, disk)
    log = RunLog(store)
    take_lease(log, "test")
    return dataclasses.replace(opened, folder=folder, store=store, log=log)


def save(run: Session, way: Way) -> None:
    """One save, until it has ended; a copy is written by another thread."""
    if way == "stream":
        saving.save(run, "test")
        return
    saving.begin(run, "test")
    assert run.saver.copies
    saving.settle(run)


def changes_of_one_save(opened: Session, copy: Path, to: Path, way: Way) -> tuple[int, int]:
    """How many changes there are before a save and after it."""
    disk = LosingDisk(shutil.copytree(copy, to))
    moved = on(disk, opened, to)
    before = len(disk.changes)
    save(moved, way)
    assert moved.safe_step == 2
    disk.check_model()
    return before, len(disk.changes)


@pytest.mark.parametrize(("loss", "way"), SAVES)
def test_a_save_is_whole_or_absent_wherever_the_machine_is_lost(
    at_work: tuple[Session, Path], tmp_path: Path, loss: Loss, way: Way
) -> None:
    opened, copy = at_work
    first, last = changes_of_one_save(opened, copy, tmp_path / "counted", way)
    saved = RunLog(FolderStore(tmp_path / "counted")).newest
    assert saved is not None
    assert last - first > 60, "the save became smaller than its files: is it still going through the disk?"
    found: set[int] = set()
    for k in range(first + 1, last + 1):
        folder = shutil.copytree(copy, tmp_path / "run")
        disk = LosingDisk(folder, lose_before=k)
        with pytest.raises(MachineLost):
            save(on(disk, opened, folder), way)
        left = disk.survivors(loss, tmp_path / "left")
        log = RunLog(FolderStore(left))
        passed_over: list[str] = []
        newest = newest_good(log, lambda checkpoint, why, to=passed_over: to.append(f"{checkpoint.folder} {why}"))
        assert newest is not None
        assert not passed_over, f"lost before change {k}"
        if newest.step == 2:
            assert fingerprint(newest) == fingerprint(saved)
        assert newest.step in (1, 2)
        found.add(newest.step)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(tmp_path / "left", ignore_errors=True)
    assert found == {1, 2}


@pytest.mark.parametrize("loss", LOSSES)
def test_whole_sessions_that_lose_the_machine_end_with_the_same_weights(lab: Lab, loss: Loss) -> None:
    name = f"whole-{loss}"
    counting = LosingDisk(lab.prepared(name, like="plain"))
    lab.train(name, counting, max_steps=4, snapshot="copy")
    chooser = random.Random(1)
    for k in sorted(chooser.sample(range(1, len(counting.changes)), 6)):
        lost = f"{name}-{k}"
        disk = LosingDisk(lab.prepared(lost, like="plain"), lose_before=k)
        with pytest.raises(MachineLost):
            lab.train(lost, disk, max_steps=4, snapshot="copy")
        left = disk.survivors(loss, lab.folder / f"{lost}-left")
        assert lab.train(left.name, max_steps=4).exit_code is ExitCode.DONE
        assert trained(left) == trained(lab.folder / "plain"), f"lost before {disk.changes[-1]}"
        assert final(left) == final(lab.folder / "plain")
