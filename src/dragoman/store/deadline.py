"""Calls that end: with an answer, with an error, or because we waited long enough.

The Hub's client has no deadline of its own, and a server that never answers would stop a
run for ever. So a call is made in a thread that may be abandoned. Whatever an abandoned
call still does must be harmless: a commit that lands late names its parent, and a file
that was being sent gives no more bytes.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from dragoman.errors import StoreUnavailable

T = TypeVar("T")


@dataclass(frozen=True)
class Patience:
    """How long we wait for a server before we call it unavailable."""

    answer_seconds: float = 60.0
    """For the answer to one call that moves no large file. The Hub answers its slowest, a commit, in some 10 s."""
    stall_seconds: float = 120.0
    """For the next byte of a file. A router that restarts is back within two minutes."""
    transfer_seconds: float = 120.0
    """For a file of no size: to ask where it goes, and to have it checked."""
    slowest_bytes_per_second: float = 200_000.0
    """A file that moves slower than this on the whole is given up: 7.4 GB then took ten hours."""

    def for_bytes(self, num_bytes: int, bytes_per_second: float | None = None) -> float:
        """How long so many bytes may take, in seconds, over a line that we may have capped ourselves."""
        slowest = self.slowest_bytes_per_second
        if bytes_per_second:
            slowest = min(slowest, bytes_per_second / 2)
        return self.transfer_seconds + num_bytes / slowest


class GivenUp(Exception):
    """The transfer was given up: who still works on it must stop."""


class Transfer:
    """Bytes on their way: told of, held back to a rate, and missed when they stand still.

    Args:
        told: Called with the number of bytes, each time that some moved.
        bytes_per_second: Cap on the rate; None for none.
        clock: In seconds; only differences count.
        sleep: Waits for so many seconds.
    """

    def __init__(
        self,
        told: Callable[[int], None],
        bytes_per_second: float | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.bytes_per_second = bytes_per_second
        """Cap on the rate; None for none."""
        self._told, self._clock, self._sleep = told, clock, sleep
        self._lock = threading.Lock()
        self._given_up = False
        self._last_moved = self._free_at = clock()

    @property
    def last_moved(self) -> float:
        """When a byte moved last, by the clock."""
        return self._last_moved

    def give_up(self) -> None:
        """Let no more bytes through."""
        self._given_up = True

    def moved(self, num_bytes: int) -> None:
        """So many bytes are on their way; returns when the next ones may go.

        Raises:
            GivenUp: Nobody waits for them any more.
        """
        if self._given_up:
            raise GivenUp
        self._told(num_bytes)
        with self._lock:
            now = self._last_moved = self._clock()
            if self.bytes_per_second:
                self._free_at = max(self._free_at, now) + num_bytes / self.bytes_per_second
            wait = self._free_at - now
        if wait > 0:
            self._sleep(wait)
            self._last_moved = self._clock()


def within(
    seconds: float,
    what: str,
    call: Callable[[], T],
    *,
    transfer: Transfer | None = None,
    stall_seconds: float = 0.0,
) -> T:
    """The result of a call, if it comes in time; what it raises is raised here.

    Args:
        seconds: Longest wait.
        what: What cannot be done then, in words.
        call: Made in a thread of its own, which is abandoned when it is late.
        transfer: The bytes that it moves; given up with it.
        stall_seconds: Longest wait while none of them moves.

    Raises:
        StoreUnavailable: It took longer.
    """
    results: list[T] = []
    errors: list[BaseException] = []
    done = threading.Event()

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:  # the loss of the machine in a test is one too
            errors.append(error)
        finally:
            done.set()

    def stalled() -> float:
        return transfer.last_moved + stall_seconds if transfer else math.inf

    threading.Thread(target=run, daemon=True, name=f"dragoman: {what}").start()
    late = time.monotonic() + seconds
    try:
        while not done.wait(max(0.0, min(late, stalled()) - time.monotonic())):
            if time.monotonic() >= late:
                raise StoreUnavailable(f"{what}: no answer within {seconds:g} s")
            if time.monotonic() >= stalled():
                raise StoreUnavailable(f"{what}: no byte moved for {stall_seconds:g} s")
    except BaseException:
        if transfer:
            transfer.give_up()
        raise
    if errors:
        raise errors[0]
    return results[0]


def together(calls: Sequence[Callable[[], T]], at_once: int) -> list[T]:
    """The results of calls that are made side by side; of several errors one is raised.

    Args:
        calls: What to call.
        at_once: How many at a time; 1 makes them in order, in this thread.
    """
    if at_once == 1 or len(calls) < 2:
        return [call() for call in calls]
    results: dict[int, T] = {}
    errors: list[BaseException] = []
    waiting = deque(enumerate(calls))

    def work() -> None:
        while not errors:
            try:
                number, call = waiting.popleft()
            except IndexError:
                return
            try:
                results[number] = call()
            except BaseException as error:
                errors.append(error)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(at_once, len(calls)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return [results[number] for number in range(len(calls))]
