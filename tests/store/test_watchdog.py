"""A copying process that hangs is killed and replaced; one whose parent dies, dies; the last save goes first.

Real processes, so real time passes; nothing that is asserted depends on how much.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from dragoman import journal
from dragoman.checkpoint import watchdog
from dragoman.store.local import FolderStore
from tests.store.session import Ledger, save, start

PROGRAM = """
import sys, time
from pathlib import Path
from dragoman.checkpoint import watchdog
from dragoman.checkpoint.lease import OwnNames
from dragoman.checkpoint.replicator import Replicator, Settings
from dragoman.journal import Journal
from dragoman.store.local import FolderStore

run, store, how = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
watchdog.RESTART_SECONDS = 0.1

class Store(FolderStore):
    def publish(self, records, files, root=None):
        if how == "hangs" and files and not (run / "hung").exists():
            (run / "hung").touch()
            time.sleep(1000)
        if how == "hangs for ever" and files:
            (run / "hung").touch()
            time.sleep(1000)
        if how == "slow for old ones" and files and records[0].step == 500:
            (run / "hung").touch()
            time.sleep(1000)
        super().publish(records, files, root)

def make(beat):
    if how == "dies" and not (run / "died").exists():
        (run / "died").touch()
        raise ZeroDivisionError("on purpose")
    journal = Journal(run / "dragoman/journal.jsonl")
    def tell(event):
        journal.append(event)
        beat()
    settings = Settings(keep=2, lease_seconds=900.0, follows=True)
    return Replicator(FolderStore(run), Store(store), OwnNames(run, "here"), settings, tell)

journal = Journal(run / "dragoman/journal.jsonl")
silent = float(sys.argv[4])
ended = watchdog.keep_alive(run, make, journal, silent_seconds=silent)
sys.exit(ended.exit_code)
"""


class Lab:
    def __init__(self, top: Path) -> None:
        self.folder, self.store = FolderStore(top / "run"), FolderStore(top / "store")
        self.ledger = Ledger()
        self.log, _ = start(self.folder, self.ledger)
        save(self.log, self.folder, self.ledger, 500, best=True)

    def start(self, how: str, silent: float = 60.0) -> "subprocess.Popen[bytes]":
        words = [sys.executable, "-c", PROGRAM, str(self.folder.root), str(self.store.root), how, str(silent)]
        return subprocess.Popen(words, stderr=subprocess.DEVNULL)

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in journal.read(self.folder.root / "dragoman/journal.jsonl") if event["kind"] == kind]

    def wait_for(self, name: str) -> None:
        deadline = time.monotonic() + 60
        while not (self.folder.root / name).exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_transfer_that_hangs_is_killed_and_goes_on_in_a_new_process(lab: Lab) -> None:
    assert lab.start("hangs", silent=1.5).wait(timeout=60) == 0
    assert len(lab.events("transfer_hung")) == 1
    assert [event["step"] for event in lab.events("replicated")] == [500]
    assert [event["outcome"] for event in lab.events("replicator_ended")] == ["done"]


def test_a_worker_that_dies_is_replaced_and_that_is_said(lab: Lab) -> None:
    assert lab.start("dies").wait(timeout=60) == 0
    assert "died" in lab.events("replication_failed")[0]["reason"]
    assert [event["step"] for event in lab.events("replicated")] == [500]


def test_a_worker_does_not_outlive_a_killed_watchdog_and_the_next_one_finishes(lab: Lab) -> None:
    process = lab.start("hangs for ever")
    lab.wait_for("hung")
    assert watchdog.holder(lab.folder.root) == process.pid
    (worker,) = children(process.pid)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 30
    while is_alive(worker):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert watchdog.holder(lab.folder.root) is None
    assert lab.start("whole").wait(timeout=60) == 0
    assert [event["step"] for event in lab.events("replicated")] == [500]


def test_a_killed_worker_is_replaced(lab: Lab) -> None:
    process = lab.start("hangs")
    lab.wait_for("hung")
    (worker,) = children(process.pid)
    os.kill(worker, signal.SIGKILL)
    assert process.wait(timeout=60) == 0
    assert [event["step"] for event in lab.events("replicated")] == [500]


def test_the_last_save_before_a_deadline_does_not_wait_behind_an_older_one(lab: Lab) -> None:
    process = lab.start("slow for old ones")
    lab.wait_for("hung")
    save(lab.log, lab.folder, lab.ledger, 1000, best=True)
    lab.log.finish("stopped", "--max-hours 1", step=1000)
    assert process.wait(timeout=60) == 0
    assert [event["step"] for event in lab.events("replicated")] == [1000]


def test_a_folder_has_one_watchdog(lab: Lab) -> None:
    process = lab.start("hangs for ever")
    lab.wait_for("hung")
    second = lab.start("whole")
    assert second.wait(timeout=60) != 0
    process.kill()
    process.wait()
