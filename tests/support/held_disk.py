"""Disks that let a test decide when a save in another thread goes on, and that note who changed what.

    disk = HeldDisk(save=1)                # the first save stops before its weights are written
    ...                                    # train on
    disk.release()

A test that forgets to release fails after a while instead of hanging.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dragoman.store.disk import Disk
from tests.support.lost_machine import WatchedDisk

SECONDS = 120.0
"""Longest that a save is held; no test that passes waits for it."""


class HeldDisk(Disk):
    """A disk on which one save stops before it writes the weights, until it is released.

    Args:
        save: Which save is held; the first is 1.
        after: Called in the save's thread when it goes on, and may raise.
    """

    def __init__(self, save: int, after: Callable[[], None] = lambda: None) -> None:
        self.reached = threading.Event()
        """Set when the save has come to the point where it is held."""
        self._save, self._after, self._count = save, after, 0
        self._released = threading.Event()

    def release(self) -> None:
        """Let it go on."""
        self._released.set()

    def write(self, path: Path, chunks: Any) -> Any:
        if path.name == "model.safetensors" and "staging" in path.parts:
            self._count += 1
            if self._count == self._save:
                self.reached.set()
                assert self._released.wait(SECONDS), "never released"
                self._after()
        return super().write(path, chunks)


class SignedDisk(WatchedDisk):
    """A disk that notes which thread makes each change."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[str] = []
        """Names of the threads, one per change."""

    def _before(self, kind: str, path: Path) -> None:
        super()._before(kind, path)
        self.threads.append(threading.current_thread().name)
