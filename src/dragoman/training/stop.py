"""Why a session should end before its last step: a signal or its deadline.

Python as process 1 of a container ignores SIGTERM unless a handler is installed, so
the handlers stand from the beginning to after the last save. Before the first step
there is nothing to save, and the process ends at once; a second signal also ends it at
once: what is recorded is safe anyway.
"""

import math
import os
import signal
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from dragoman.errors import ExitCode
from dragoman.training.time_limit import TimeLimit

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stop:
    """Asked after every step. Use as a context manager in the main thread."""

    def __init__(
        self, limit: TimeLimit | None, clock: Callable[[], float] = time.monotonic, *, speaks: bool = True
    ) -> None:
        self.clock = clock
        self.told = ""
        """Why another rank of this session wants to stop; empty while none does."""
        self._speaks = speaks
        self.limit = limit
        """When the session must be over; None when it may last."""
        self.deadline = clock() + limit.seconds - limit.margin_seconds if limit else None
        self.until = time.time() + limit.seconds - limit.margin_seconds if limit else None
        """The same instant in seconds since 1970."""
        self.received: signal.Signals | None = None
        self.save_seconds = 0.0
        """What the last save took: the time that the last checkpoint needs."""
        self.is_saving = False
        """Whether a save is under way, which the last one must wait for."""
        self.upload_seconds = 0.0
        """What the last upload took: the time that the last checkpoint needs after it was saved."""
        self.has_work = False
        """Whether there are steps that a checkpoint would save."""
        self._before: dict[signal.Signals, Any] = {}

    def reason(self, step_seconds: float = 0.0) -> str:
        """Why to stop now; empty to go on.

        Args:
            step_seconds: What one more step would take.
        """
        if self.received:
            return self.received.name
        if self.told:
            return self.told
        if self.deadline is None or self.limit is None:
            return ""
        needed = (3 if self.is_saving else 2) * self.save_seconds + 1.5 * self.upload_seconds + step_seconds
        return self.limit.reason if self.clock() + needed >= self.deadline else ""

    @property
    def seconds_left(self) -> float:
        """Time until the deadline; infinite without one."""
        return math.inf if self.deadline is None else max(0.0, self.deadline - self.clock())

    def _receive(self, number: int, _: FrameType | None) -> None:
        if self.received:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.received = signal.Signals(number)
        if not self.has_work:
            os.write(2, f"\n{self.received.name}: stopped before the first step of this session\n".encode())
            raise SystemExit(ExitCode.RESUME_ME)
        if not self._speaks:
            return
        # Not through the display: it may be in the middle of a line, or hold its lock.
        os.write(2, f"\n{self.received.name}: will save and stop; once more ends at once\n".encode())

    def __enter__(self) -> "Stop":
        self._before = {number: signal.signal(number, self._receive) for number in SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
