"""What the parts of a container's entry share: its signals, its page, its log, and the time that passes."""

import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType

from dragoman.launch.container.page import Board, Situation

_BEAT_SECONDS = 10.0


class Signals:
    """The signals that end a container, noted from the moment that this is made. Only for the main thread."""

    def __init__(self) -> None:
        self.received: list[signal.Signals] = []
        """All that came, in order."""
        self._new = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._receive)

    def _receive(self, number: int, _: FrameType | None) -> None:
        self.received.append(signal.Signals(number))
        self._new.set()

    def wait(self, seconds: float) -> None:
        """Sleep, but no longer than until the next signal."""
        self._new.wait(seconds)
        self._new.clear()


@dataclass
class Voice:
    """How the entry speaks, and waits.

    Args:
        signals: Noted since before anything else.
        board: What the page shows.
        clock: Seconds since 1970.
    """

    signals: Signals
    board: Board
    clock: Callable[[], float] = time.time

    @property
    def is_over(self) -> bool:
        """Whether somebody told this container to end."""
        return bool(self.signals.received)

    def wait(self, seconds: float, *, heard: int | None = None) -> None:
        """Sleep until that time or the next signal, with signs of life.

        Args:
            seconds: How long at most.
            heard: Signals that the caller knows of; with more there is no sleep. Left out: all that came before.
        """
        until, received = self.clock() + seconds, len(self.signals.received) if heard is None else heard
        while (left := until - self.clock()) > 0 and len(self.signals.received) == received:
            self.board.beat()
            self.signals.wait(min(left, _BEAT_SECONDS))

    def show(self, phase: str, words: str = "", *, is_bad: bool = False, attempts: int | None = None) -> None:
        """Say on the page what the entry does now."""
        number = self.board.situation.attempts if attempts is None else attempts
        self.board.situation = Situation(phase, words, is_bad, number)
        self.board.beat()

    def tell(self, line: str) -> None:
        """One line of training, to the container's log and to the page."""
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
        self.board.say(line)

    def say(self, words: str) -> None:
        """One line of our own, likewise."""
        self.tell(f"dragoman space: {words}")
