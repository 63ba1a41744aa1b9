"""The trainer's view of the copying: a child process does it, the journal tells how it goes.

Between the first and the last step the trainer touches no network. It starts the child,
looks once a second at a file and a lock on its own disk, and waits at the end.
"""

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from dragoman.checkpoint import watchdog
from dragoman.checkpoint.replicator import NOTHING_SAFE
from dragoman.errors import Superseded
from dragoman.journal import (
    Draining,
    Journal,
    Replicated,
    ReplicationFailed,
    ReplicationRecovered,
    ReplicatorEnded,
    ReplicatorStarted,
    Tail,
    TransferHung,
    UploadSkipped,
    UploadStarted,
    read,
)
from dragoman.store.address import normal

LOOK_SECONDS = 1.0
RESTART_SECONDS = 5.0
DRAIN_LOOK_SECONDS = 0.1


@dataclass
class Replication:
    """The copying of one run folder to its durable store, as seen by a session.

    Args:
        folder: The run folder.
        url: The durable store.
        owner: Name under which the session holds the store's lease; empty when the store could not be reached.
        journal: The session's.
        clock: Seconds, for intervals only.
    """

    folder: Path
    url: str
    owner: str
    journal: Journal
    clock: Callable[[], float] = time.monotonic
    safe_step: int = NOTHING_SAFE
    """Newest step that the store is known to hold; -1 for none."""
    upload_seconds: float = 0.0
    """What the last upload took."""
    ended: ReplicatorEnded | None = None
    """How the copying ended by itself."""
    _tail: Tail = field(init=False)
    _looked: float = field(init=False, default=-math.inf)
    _started: float = field(init=False, default=-math.inf)
    _process: subprocess.Popen[bytes] | None = field(init=False, default=None)

    def start(self) -> None:
        """Have a process that copies: one that still lives from an earlier session, or a new one."""
        self._tail = Tail(self.journal.path)
        self._end_what_copies_elsewhere()
        self._keep_running()

    def poll(self) -> None:
        """Take note of what the copying has done; costs nothing most of the time.

        Raises:
            Superseded: Another machine has taken over this run.
        """
        if self.clock() - self._looked < LOOK_SECONDS:
            return
        self._look()
        self._keep_running()

    def drain(self, step: int, seconds: float) -> bool:
        """Wait until the step is in the store; whether it is.

        Args:
            step: The last step of the session.
            seconds: Wait no longer than this; the copying goes on by itself afterwards.
        """
        until = self.clock() + seconds
        if self.ended is None:
            self.journal.append(Draining(step=step, store=self.url, seconds=seconds))
        while self.ended is None and self.clock() < until:
            time.sleep(DRAIN_LOOK_SECONDS)
            self._look()
            if self.ended is None:
                self._keep_running()
        return self.safe_step >= step

    def _look(self) -> None:
        self._looked = self.clock()
        for event in self._tail.events():
            match event:
                case ReplicatorStarted():
                    self.safe_step = event.safe_step
                case Replicated():
                    self.safe_step = max(event.step, self.safe_step)
                    self.upload_seconds = event.seconds
                case ReplicatorEnded():
                    self.ended = event
                case UploadStarted() | UploadSkipped():
                    pass
                case ReplicationFailed() | ReplicationRecovered() | TransferHung():
                    pass
                case _:
                    continue  # our own, shown already
            self.journal.echo(event)
        if self.ended and self.ended.outcome == "superseded":
            raise Superseded(self.ended.reason, "let that one go on, or take the run back with dragoman resume")

    def _end_what_copies_elsewhere(self) -> None:
        """A replicator of an earlier session may still copy to the store that the run had then."""
        pid = watchdog.holder(self.folder)
        started = [event for event in read(self.journal.path) if event["kind"] == ReplicatorStarted.kind()]
        if pid and started and normal(started[-1]["store"]) != self.url:
            os.kill(pid, signal.SIGTERM)
            while watchdog.holder(self.folder) == pid:
                time.sleep(DRAIN_LOOK_SECONDS)

    def _keep_running(self) -> None:
        code = self._process.poll() if self._process else None  # not asked, it would stay a zombie
        if watchdog.holder(self.folder) is not None or self.clock() - self._started < RESTART_SECONDS:
            return
        if code:
            self.journal.append(
                ReplicationFailed(
                    reason=f"the copying process ended (exit code {code}): see {self.folder / watchdog.LOG_FILE}",
                    safe_step=self.safe_step,
                    attempts=1,
                    retry_seconds=0.0,
                )
            )
        self._started, self.ended = self.clock(), None
        words = [sys.executable, "-m", "dragoman", "replicate", str(self.folder), "--beside-trainer"]
        words += ["--owner", self.owner] if self.owner else []
        with (self.folder / watchdog.LOG_FILE).open("ab") as log:
            self._process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
