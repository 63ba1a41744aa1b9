"""The machine is lost before every change of sessions with a durable store: lease, saves, copying, drops, resume.

Run folder and store lie on one disk here, so that each of their changes is met in its
order. What is left is judged twice: with the run folder kept, and with nothing but the store.
"""

import random
import shutil
from collections.abc import Generator
from pathlib import Path

import pytest

from dragoman import journal
from dragoman.checkpoint.lease import OwnNames, claim, take_lease
from dragoman.checkpoint.log import RunLog
from dragoman.checkpoint.replicator import Replicator, Settings
from dragoman.checkpoint.restore import newest_good, repair_root
from dragoman.store.disk import Disk
from dragoman.store.local import FolderStore
from dragoman.store.record import CheckpointRecord
from tests.store.session import KEEP, Ledger, check_tidy, check_whole, no_damage, open_log, save, scratch, survivor
from tests.support.lost_machine import LosingDisk, Loss, MachineLost, WatchedDisk

PARTS = 4


@pytest.fixture
def folder() -> Generator[Path]:
    with scratch() as path:
        yield path


def fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


class Machine:
    """A machine that trains in `base/run` and copies to `base/store`."""

    def __init__(self, base: Path, disk: Disk, ledger: Ledger, replicated: list[str]) -> None:
        self.local, self.durable = FolderStore(base / "run", disk), FolderStore(base / "store", disk)
        self.ledger, self.replicated = ledger, replicated
        self.names = OwnNames(self.local.root, "here", disk)
        self.local.prepare()
        self.log = open_log(self.local, ledger)
        remote = open_log(self.durable, ledger)
        self.durable.prepare()
        lease = claim(remote, self.names, "here", run=self.log.run, epoch=self.log.epoch)
        take_lease(self.log, "here", run=lease.run, epoch=lease.epoch)
        self.log.clean()
        self.restored = newest_good(self.log, no_damage)
        ahead = remote.newest
        if ahead and (self.restored is None or ahead.place > self.restored.place):
            self.restored = self.bring(remote)
        repair_root(self.log, no_damage)
        self.replicator = Replicator(
            self.local,
            self.durable,
            self.names,
            Settings(keep=KEEP, lease_seconds=900.0, owner=remote.owner, follows=True),
            self.hear,
            clock=lambda: 0.0,
            chance=random.Random(0),
        )

    def bring(self, remote: RunLog) -> CheckpointRecord:
        inbox = self.local.root / "dragoman/inbox"
        found = newest_good(remote, no_damage, lambda each: self.durable.fetch(each, each.files, inbox / each.nonce))
        assert found is not None
        files = {name: (inbox / found.nonce / name, entry) for name, entry in found.files.items()}
        fields = found.model_dump(include={"step", "pairs_seen", "config", "corpus", "metrics", "losses", "best"})
        return self.log.publish_checkpoint(nonce=found.nonce, files=files, **fields)

    def hear(self, event: journal.Event) -> None:
        if isinstance(event, journal.Replicated):
            newest = self.log.newest
            assert newest is not None
            self.replicated.append(newest.nonce)
        assert not isinstance(event, journal.ReplicationFailed), event

    def save(self, step: int, *, best: bool = False) -> CheckpointRecord:
        return save(self.log, self.local, self.ledger, step, best=best)

    def copy(self) -> None:
        while self.replicator.turn() == 0.0:
            pass

    def sessions(self) -> None:
        """One session, and the beginning of the next."""
        for step in (500, 1000, 1500, 2000, 2500):
            self.save(step, best=step in (500, 1000))
            if step != 1500:  # overtaken before its upload
                self.copy()
        self.log.finish("stopped", "deadline", step=2500)
        self.copy()


def two_sessions(base: Path, disk: Disk, ledger: Ledger, replicated: list[str]) -> None:
    Machine(base, disk, ledger, replicated).sessions()
    again = Machine(base, disk, ledger, replicated)
    assert again.restored is not None
    again.save(3000, best=True)
    again.copy()
    again.log.finish("done", "all steps", step=3000, resumed_from=again.restored.nonce)
    again.copy()


def lose(base: Path, k: int | None, ledger: Ledger, replicated: list[str]) -> LosingDisk:
    disk = LosingDisk(fresh(base), k)
    try:
        two_sessions(base, disk, ledger, replicated)
    except MachineLost:
        assert k is not None
    else:
        assert k is None
    return disk


def live_on(base: Path, ledger: Ledger, replicated: list[str], *, wiped: bool) -> None:
    """The next machine finds what was promised, trains on, and leaves everything tidy."""
    order, safe = list(ledger.written), list(replicated)
    promised = Ledger()
    promised.written, promised.new_nonce = ledger.written, ledger.new_nonce
    promised.safe = safe[-1:]
    check_whole(base / "store", promised)
    if wiped:
        shutil.rmtree(base / "run", ignore_errors=True)
    else:
        check_whole(base / "run", ledger)
    machine = Machine(base, WatchedDisk(), ledger, [])
    found = machine.restored
    least = safe[-1:] if wiped else ledger.safe[-1:]
    assert not least or (found and order.index(found.nonce) >= order.index(least[0]))
    last = machine.save((found.step if found else 0) + 500)
    machine.log.finish("done", "all steps", step=last.step, resumed_from=found.nonce if found else "")
    machine.copy()
    log = open_log(machine.durable, ledger)
    assert log.newest is not None
    assert log.newest.nonce == last.nonce
    log = machine.replicator._remote  # pyright: ignore[reportPrivateUsage]
    assert log is not None
    log.clean()
    check_tidy(base / "store", log, strangers=False)


def test_the_sessions_go_through_the_disk_and_end_tidy(folder: Path) -> None:
    ledger, replicated = Ledger(), list[str]()
    disk = lose(folder / "m", None, ledger, replicated)
    shutil.rmtree(folder / "m/run/dragoman/outbox")  # need not survive anything, so goes past the disk
    disk.check_model()
    assert len(disk.changes) > 400
    assert len(replicated) == 5
    check_tidy(folder / "m/store", open_log(FolderStore(folder / "m/store"), ledger), strangers=False)


@pytest.mark.parametrize("part", range(PARTS))
def test_a_machine_lost_before_any_change_loses_nothing_that_was_said_to_be_safe(folder: Path, part: int) -> None:
    num_changes = len(lose(folder / "m", None, Ledger(), []).changes)
    losses: list[Loss] = ["power_cut", "killed"]  # the first leaves the lost disk as it is for the second
    for k in range(1 + part, num_changes + 1, PARTS):
        ledger, replicated = Ledger(), list[str]()
        disk = lose(folder / "m", k, ledger, replicated)
        for number, loss in enumerate(losses):
            wiped = (k // PARTS + number) % 2 == 0  # either way after each kind of change
            left = disk.survivors(loss, fresh(folder / "left"), seed=k)
            try:
                live_on(left, survivor(ledger), replicated, wiped=wiped)
            except Exception as error:
                where = f"{loss} before change {k} of {num_changes}: {disk.changes[k - 1]}"
                raise AssertionError(f"{where}, {'wiped' if wiped else 'kept'}") from error
