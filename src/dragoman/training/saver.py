"""One save at a time, made durable while training goes on.

Between `begin` and the `finished` that returns its attempt, the run's log and store
belong to the save, and nobody else may touch them. The save touches nothing else of the
session: what became of it is the trainer's to take over.
"""

import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from dragoman.checkpoint.log import RunLog
from dragoman.errors import StoreUnavailable
from dragoman.store.local import FolderStore
from dragoman.store.record import CheckpointRecord
from dragoman.training import state
from dragoman.training.snapshot import HostBuffers, Snapshot


@dataclass
class Attempt:
    """A save: what is to be saved, and what became of it."""

    snapshot: Snapshot
    reason: str
    """Why it is due."""
    cleans: bool
    """Whether to give back the space of a save that failed before."""
    gathers: bool = False
    """Whether other ranks send their parts of it."""
    record: CheckpointRecord | None = None
    """The checkpoint that exists now; None while none does."""
    failure: OSError | StoreUnavailable | None = None
    """Why it failed, where it may be tried again; with a record, only what comes after a checkpoint is missing."""
    fatal: BaseException | None = None
    """What ends the session."""
    seconds: float = 0.0
    """From the snapshot to the last fsync."""
    waited_seconds: float = 0.0
    """Time training stood still for it."""

    def make(self, log: RunLog, store: FolderStore) -> None:
        """Write, publish, retire older ones; nothing is raised, all is noted."""
        files = state.files_of(self.snapshot.tensors, self.snapshot.updates)
        try:
            self._make(log, store, files)
        except BaseException as error:  # also the end of the world: it must reach the trainer's thread
            self.fatal = error
        self.seconds = time.monotonic() - self.snapshot.time

    def _make(self, log: RunLog, store: FolderStore, files: dict[str, Iterator[bytes | memoryview]]) -> None:
        try:
            if self.cleans:
                log.clean()
            self.record = publish(self.snapshot, files, log, store)
            log.publish_root()
            log.retire(self.snapshot.keep)
        except (OSError, StoreUnavailable) as error:
            self.failure = error
            if self.gathers:
                self._take_in(files)

    def _take_in(self, files: dict[str, Iterator[bytes | memoryview]]) -> None:
        """Read to the end what could not be written: other ranks send all of it, or wait for ever."""
        self.snapshot.wait()
        for chunks in files.values():
            for _ in chunks:
                pass


@dataclass
class Saver:
    """Makes the saves of a session, each in a thread of its own, or while the caller waits."""

    buffers: HostBuffers = field(default_factory=HostBuffers)
    """Where the copies go."""
    copies: bool | None = None
    """Whether tensors are copied, so that training can go on; None until the first save decides."""
    attempt: Attempt | None = None
    """The save that is under way, or whose end nobody has taken note of."""
    _thread: threading.Thread | None = field(init=False, default=None)

    def begin(self, attempt: Attempt, log: RunLog, store: FolderStore, *, beside: bool) -> None:
        """Start a save; there must be none under way.

        Args:
            attempt: The save.
            log: The run's log, the save's own until it has finished.
            store: The run folder, likewise.
            beside: Return at once and let it run beside the caller.
        """
        assert self.attempt is None, "one save at a time"
        self.attempt = attempt
        if beside:
            self._thread = threading.Thread(target=attempt.make, args=(log, store), name="saver")
            self._thread.start()
        else:
            attempt.make(log, store)

    def join(self) -> None:
        """Wait until the save under way is over, from any thread; nobody takes note of it."""
        if self._thread:
            self._thread.join()

    def finished(self, *, wait: bool) -> Attempt | None:
        """The save that has ended, once; None when there is none.

        Args:
            wait: Wait for the one that is under way.
        """
        if self._thread and wait:
            started = time.monotonic()
            self._thread.join()
            if self.attempt:
                self.attempt.waited_seconds += time.monotonic() - started
        if self._thread and self._thread.is_alive():
            return None
        if self.attempt and self._thread is None:
            self.attempt.waited_seconds = self.attempt.seconds
        attempt, self.attempt, self._thread = self.attempt, None, None
        return attempt


def publish(
    snapshot: Snapshot, large: Mapping[str, Iterator[bytes | memoryview]], log: RunLog, store: FolderStore
) -> CheckpointRecord:
    """Make a snapshot, of which `large` are the large files, a checkpoint.

    Raises:
        OSError: The disk failed; no checkpoint came to be.
        StoreUnavailable: It failed later; there may be a checkpoint or not.
        Superseded: Another machine has taken over this run.
    """
    nonce = log.new_nonce()
    staged = store.staging(nonce)
    snapshot.wait()
    files = state.write(store.disk, staged, snapshot.small, large)
    return log.publish_checkpoint(
        nonce=nonce,
        step=snapshot.step,
        pairs_seen=snapshot.pairs_seen,
        files={name: (staged / name, entry) for name, entry in files.items()},
        config=snapshot.config,
        corpus=snapshot.corpus,
        metrics=snapshot.metrics,
        losses=snapshot.losses,
        best=nonce if snapshot.is_best else snapshot.best,
    )
