"""The tiny run on this machine: its processes are killed, its folder is removed, and it goes on from its store."""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from dragoman import journal
from dragoman.checkpoint import watchdog
from dragoman.checkpoint.doctor import Check
from dragoman.checkpoint.log import RunLog
from dragoman.checkpoint.run_folder import JOURNAL
from dragoman.errors import CheckSaidNo
from dragoman.launch import selftest
from dragoman.launch.selftest import Pace
from dragoman.store.address import Access, open_store
from dragoman.store.record import CheckpointRecord


def run(folder: Path, store: str, steps: int, pace: Pace) -> Iterator[Check]:
    """Train, kill, remove, resume, and look; no process is left.

    Args:
        folder: An empty one, for the data and the run.
        store: URL of a store that holds nothing.
        steps: Of the whole run.
        pace: How its store is looked at.

    Raises:
        InputError: The store holds a run, or there are too few steps.
        CheckSaidNo: A session ended too early, or did not end.
    """
    config = selftest.tiny_run(selftest.write_pairs(folder / "pairs.tsv"), store, steps)
    (folder / "run.yaml").write_text(config.to_yaml(), encoding="utf-8")
    log = RunLog(open_store(store, Access()))
    selftest.refuse_used(log)
    here = folder / "run"
    session = _Session(here, folder / "first.txt", ["train", "-c", str(folder / "run.yaml"), "--output", str(here)])

    def first() -> CheckpointRecord | None:
        session.refuse_ended()
        return selftest.newest(log)

    with session:
        safe = selftest.wait_for("the first checkpoint in the store", first, pace)
    yield selftest.safe_check(safe, log)
    log.refresh()
    yield _lost(here, log.newest or safe, selftest.interval(steps))
    shutil.rmtree(here)
    resumed = _Session(here, folder / "second.txt", ["resume", store, "--output", str(here)])
    with resumed:
        code = selftest.wait_for("the end of the resumed session", resumed.code, pace, lambda: selftest.far(log))
    if code:
        raise CheckSaidNo(f"dragoman resume {store}: exit code {code}: {resumed.last_line()}")
    log.refresh()
    yield from selftest.aftermath(log, safe, steps)
    yield selftest.translation(store, folder)


class _Session:
    """One `dragoman` process that trains; at the end of the `with` block it and what it started are dead."""

    def __init__(self, folder: Path, output: Path, words: list[str]) -> None:
        self._folder, self._output = folder, output
        self._process = selftest.started(words, output)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        _kill(self._process)
        kill_copying(self._folder)

    def code(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.poll()

    def refuse_ended(self) -> None:
        """Raise `CheckSaidNo` if it has ended, which is too early."""
        if (code := self.code()) is not None:
            raise CheckSaidNo(f"the first session ended before it could be cut: exit code {code}: {self.last_line()}")

    def last_line(self) -> str:
        """The last that it said."""
        lines = self._output.read_text("utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


def _kill(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def kill_copying(folder: Path) -> None:
    """SIGKILL the processes that copy a run folder to its store; they lead a group of their own."""
    pid = watchdog.holder(folder)
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)


def _lost(folder: Path, safe: CheckpointRecord, every: int) -> Check:
    """Steps that must be done again: those of one interval, and those that were done while two saves were copied.

    The save that is safe was copied to its end; a newer one may be on its way when all is killed.
    """
    done, copied, newest = 0, 0, safe.step
    for event in journal.read(folder / JOURNAL):
        if event["kind"] == "step":
            done = event["step"]
        elif event["kind"] == "saved":
            newest = event["step"]
        elif event["kind"] == "replicated" and event["step"] == safe.step:
            copied = max(0, done - safe.step)
    copied += max(0, done - newest) if newest > safe.step else 0
    lost, most = max(0, done - safe.step), every + copied
    copying = f", and {copied:,} more while saves were copied" if copied else ""
    return Check(
        "steps lost",
        "ok" if lost <= most else "problem",
        f"{lost:,} of {done:,}; it is saved every {every:,}{copying}",
        facts={"lost": lost, "done": done, "interval": every},
    )
