"""Many processes, one at a time: threads that hand on a baton, and a clock that only they move.

Whoever holds the baton runs; at a `point` it may hand it on, to whom chance says. So a seed
fixes every interleaving, and what took an hour of virtual time takes milliseconds.
"""

import _thread
import contextlib
import heapq
import itertools
import os
import random
import threading
from collections.abc import Callable, Generator
from typing import Any


class Killed(BaseException):
    """This process is gone. Not an Exception, so that no handler can mistake it for an error."""


class Life:
    """One process life: a thread that runs only while it holds the baton.

    Args:
        name: For people.
        machine: Where it runs.
        body: What it does.
    """

    def __init__(self, name: str, machine: Any, body: Callable[[], None]) -> None:
        self.name, self.machine, self.body = name, machine, body
        self.wake = 0.0
        """When it goes on; it sleeps until then."""
        self.sent: BaseException | None = None
        """What it meets when it gets the baton next."""
        self.has_ended = False
        self.gate = _thread.allocate_lock()
        self.gate.acquire()

    def __repr__(self) -> str:
        return self.name


class Baton:
    """All process lives of one schedule, and its clock.

    Args:
        chance: Decides who goes on.
        stay: How likely a process goes on at a point.
    """

    def __init__(self, chance: random.Random, stay: float) -> None:
        self.now = 0.0
        """Seconds since the schedule began."""
        self.current: Life | None = None
        """Who holds the baton; None for the schedule itself."""
        self.lives: list[Life] = []
        """Those that have not ended."""
        self.story: list[str] | None = None
        """What happened, line by line, when somebody wants to know."""
        self._chance, self._stay = chance, stay
        self._left = 0
        self._until = 0.0
        self._error: BaseException | None = None
        self._gate = _thread.allocate_lock()
        self._gate.acquire()
        self._late: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    # --- what the schedule calls -----------------------------------------------------

    def start(self, life: Life) -> None:
        """Let a process begin; it runs when it gets the baton."""
        life.wake = self.now
        self.lives.append(life)
        threading.Thread(target=self._run, args=(life,), daemon=True).start()

    def run(self, points: int, seconds: float) -> None:
        """Let the processes go on for so many points, but at most so many seconds.

        Raises:
            BaseException: What no process handled.
        """
        self._left, self._until = points, self.now + seconds
        if (next_one := self._choose()) is not None:
            self.current = next_one
            next_one.gate.release()
            self._gate.acquire()
            self.current = None
        if self._error is not None:
            raise self._error

    def kill(self, life: Life) -> None:
        """End a process where it stands; nothing of it happens any more but what is on its way."""
        life.sent = Killed()
        self._left, self.current = 0, life
        life.gate.release()
        self._gate.acquire()
        self.current = None

    def later(self, seconds: float, effect: Callable[[], None]) -> None:
        """Have something happen in so many seconds, whoever lives then."""
        heapq.heappush(self._late, (self.now + seconds, next(self._numbers), effect))

    def tell(self, what: object) -> None:
        """Add a line to the story."""
        if self.story is not None:
            self.story.append(f"{self.now:9.1f} {self.current or 'schedule'}: {what}")

    # --- what a process calls --------------------------------------------------------

    def point(self) -> None:
        """Perhaps let others go on here; a process dies at such points only."""
        me = self.current
        if me is None:
            return
        self._deliver(me)
        self._left -= 1
        if self._left <= 0 or self._chance.random() >= self._stay:
            self._yield(me)

    def sleep(self, seconds: float) -> None:
        """Do nothing for so long."""
        me = self.current
        assert me is not None
        self._deliver(me)
        self._left -= 1
        me.wake = self.now + seconds
        self._yield(me)

    # --- parts -----------------------------------------------------------------------

    def _yield(self, me: Life) -> None:
        next_one = self._choose()
        if next_one is not me:
            self.current = next_one  # before the gate opens: whoever stands behind it may be gone on at once
            (next_one.gate if next_one else self._gate).release()
            me.gate.acquire()
        self._deliver(me)

    @staticmethod
    def _deliver(me: Life) -> None:
        if (sent := me.sent) is not None:
            if not isinstance(sent, Killed):
                me.sent = None
            raise sent

    def _choose(self) -> Life | None:
        """Who goes on; the clock moves when all sleep. None when it is the schedule's turn."""
        while self._left > 0 and self._error is None:
            while self._late and self._late[0][0] <= self.now:
                heapq.heappop(self._late)[2]()
            ready = [life for life in self.lives if life.wake <= self.now]
            if ready:
                return ready[int(self._chance.random() * len(ready))]
            times = [life.wake for life in self.lives] + [late[0] for late in self._late[:1]]
            if not times or min(times) > self._until:
                self.now = max(self.now, self._until) if times else self.now
                return None
            self.now = min(times)
        return None

    def _run(self, life: Life) -> None:
        life.gate.acquire()
        try:
            if not isinstance(life.sent, Killed):
                life.body()
        except Killed:
            pass
        except BaseException as error:
            self._error = self._error or error
        life.has_ended = True
        self.lives.remove(life)
        try:
            next_one = self._choose()
        except BaseException as error:
            self._error, next_one = self._error or error, None
        self.current = next_one
        (next_one.gate if next_one else self._gate).release()


@contextlib.contextmanager
def on_one_core(number: int) -> Generator[None]:
    """For a `with` block: stay on one core. Only one thread runs at a time; handing on between cores is what costs.

    Args:
        number: Which of those that this process may use; counted round.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[number % len(cores)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
