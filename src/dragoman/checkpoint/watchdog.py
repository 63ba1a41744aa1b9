"""Keeps the copying alive: a worker process does it, this one kills the worker when it hangs.

Uploads run in libraries that have been seen to wait for ever, some while they hold the
interpreter's lock. So nothing inside the worker is trusted to notice. It writes a line
whenever something moves; after too long a silence it is killed and another one goes on
from what the store and the folder say.
"""

import json
import os
import select
import signal
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from dragoman.checkpoint.log import RunLog
from dragoman.checkpoint.replicator import NOTHING_SAFE, Replicator
from dragoman.errors import DragomanError, ExitCode
from dragoman.journal import Journal, ReplicationFailed, ReplicatorEnded, TransferHung
from dragoman.store import lock
from dragoman.store.local import FolderStore

REPLICATOR_LOCK = "dragoman/replicator.lock"
LOG_FILE = "dragoman/replicate.log"
"""Where a replicator that a trainer starts writes what no journal can hold."""
SILENT_SECONDS = 300.0
"""A worker that shows no sign of life for this long hangs; every call of a store gives up sooner by itself."""
RESTART_SECONDS = 5.0
"""Pause before a worker that crashed is replaced."""
LOOK_SECONDS = 1.0

Make = Callable[[Callable[[], None]], Replicator]
"""Makes the replicator, in the worker; it is given what to call when something moves."""


@dataclass(frozen=True)
class Ended:
    """How a worker ended by itself."""

    exit_code: int
    message: str = ""
    hint: str = ""


def holder(folder: Path) -> int | None:
    """Process id of the replicator that is alive for a run folder; None when there is none."""
    return lock.holder(folder / REPLICATOR_LOCK)


def keep_alive(
    folder: Path,
    make: Make,
    journal: Journal,
    *,
    silent_seconds: float = SILENT_SECONDS,
) -> Ended:
    """Copy until all is done and nobody trains, or another machine takes over.

    Args:
        folder: The run folder.
        make: Makes the replicator.
        journal: Told of hangs and of the end.
        silent_seconds: Silence after which a worker is killed.

    Raises:
        InputError: Another replicator works for this folder.
    """
    with lock.hold(folder / REPLICATOR_LOCK, doing="copying this folder to its store"):
        hurried: set[str] = set()
        while True:
            ended = _one_worker(folder, make, journal, silent_seconds, hurried)
            if ended is None:
                continue
            if ended.exit_code != ExitCode.BUG:
                outcome = {ExitCode.DONE: "done", ExitCode.SUPERSEDED: "superseded"}.get(ExitCode(ended.exit_code))
                journal.append(ReplicatorEnded(outcome=outcome or "failed", reason=ended.message))
                return ended
            died = f"the copying process died: see {LOG_FILE}"
            journal.append(
                ReplicationFailed(reason=died, attempts=1, retry_seconds=RESTART_SECONDS, safe_step=NOTHING_SAFE)
            )
            time.sleep(RESTART_SECONDS)


def _one_worker(folder: Path, make: Make, journal: Journal, silent_seconds: float, hurried: set[str]) -> Ended | None:
    """Run one worker to its end; None when it was killed, because it hung or because the last save is urgent."""
    (from_worker, tell), (alive, living) = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(from_worker)
        os.close(living)
        _work(make, tell, alive)
    os.close(tell)
    os.close(alive)
    try:
        return _watch(pid, folder, from_worker, journal, silent_seconds, hurried)
    finally:
        os.close(living)
        os.close(from_worker)


def _watch(
    pid: int, folder: Path, from_worker: int, journal: Journal, silent_seconds: float, hurried: set[str]
) -> Ended | None:
    heard, uploading, rest, ended = time.monotonic(), "", b"", Ended(ExitCode.BUG)
    log = RunLog(FolderStore(folder))
    while True:
        if select.select([from_worker], [], [], LOOK_SECONDS)[0]:
            told = os.read(from_worker, 65536)
            if not told:
                os.waitpid(pid, 0)
                return ended
            heard = time.monotonic()
            *lines, rest = (rest + told).split(b"\n")
            for message in map(json.loads, filter(None, lines)):
                uploading = message.get("uploading", uploading)
                ended = Ended(**message["ended"]) if "ended" in message else ended
        silent = time.monotonic() - heard
        if silent > silent_seconds:
            _kill(pid)
            journal.append(TransferHung(seconds=round(silent, 1)))
            return None
        if uploading and (last := _urgent(log)) not in ("", uploading, *hurried):
            hurried.add(last)
            _kill(pid)
            return None


def _urgent(log: RunLog) -> str:
    """The last checkpoint of a session that was told to stop: no older one may be in its way. Empty for none."""
    log.refresh()
    finished, newest = log.finished, log.newest
    return newest.nonce if newest and finished and finished.outcome == "stopped" else ""


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


# --- the worker ------------------------------------------------------------------


def _work(make: Make, tell: int, alive: int) -> None:
    """The life of a worker, in a process of its own; never returns."""
    code = ExitCode.BUG
    try:
        threading.Thread(target=_die_with_parent, args=(alive,), daemon=True).start()
        signal.signal(signal.SIGTERM, _end_at_once)
        made: list[Replicator] = []

        def say(**message: Any) -> None:
            os.write(tell, json.dumps(message).encode() + b"\n")

        def beat() -> None:
            uploading = made[0].uploading if made else None
            say(uploading=uploading.nonce if uploading else "")

        made.append(make(beat))
        say(ended=asdict(_copy(made[0], beat)))
        code = ExitCode.DONE
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _copy(replicator: Replicator, beat: Callable[[], None]) -> Ended:
    """Turn after turn until there is nothing left to do."""
    try:
        while (wait := replicator.turn()) is not None:
            until = time.monotonic() + wait
            while (left := until - time.monotonic()) > 0:
                beat()
                time.sleep(min(left, LOOK_SECONDS))
    except DragomanError as error:
        return Ended(int(error.exit_code), error.message, error.hint)
    return Ended(int(ExitCode.DONE), "everything is in the store")


def _die_with_parent(alive: int) -> None:
    """The other end of this pipe is open as long as the watchdog lives: nobody else would end a hung worker."""
    os.read(alive, 1)
    os._exit(ExitCode.BUG)


def _end_at_once(number: int, _: FrameType | None) -> None:
    os._exit(128 + number)
