"""What may happen to a request on its way to the durable store, and how often in one schedule."""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TypeVar

from dragoman.errors import StoreUnavailable
from tests.support.simulation.baton import Baton

T = TypeVar("T")

PAUSES = (8.0, 70.0, 400.0, 2500.0)
"""How long a request, or its machine, may stand still, in seconds."""
SILENT_SECONDS = 300.0
"""The watchdog kills a copying process that is silent for so long."""


class Hung(BaseException):
    """The watchdog has killed the process that copies."""


@dataclass(frozen=True)
class Rates:
    """How likely each fault is, per request."""

    refused: float = 0.0
    """It is refused, at once."""
    lost: float = 0.0
    """It never arrives."""
    answer_lost: float = 0.0
    """It has its effect, and the answer is lost or is a 500."""
    late: float = 0.0
    """No answer comes, and it has its effect later, whether or not its sender still lives."""
    slow: float = 0.0
    """It stands still before it has its effect."""
    answer_slow: float = 0.0
    """It has its effect at once, and the answer stands still."""
    hung: float = 0.0
    """It is never answered."""
    stale: float = 0.0
    """A look shows an old state (of a store that may do that)."""

    @classmethod
    def drawn(cls, chance: random.Random) -> "Rates":
        """Some faults of one schedule: most are absent, some rare, one or two frequent; sometimes there are none."""
        if chance.random() < 0.1:
            return cls()
        return cls(**{field.name: chance.choice((0, 0, 0, 0.01, 0.04, 0.1)) for field in fields(cls)})


@dataclass
class Wire:
    """Between one process and the durable store.

    Args:
        baton: Whose turn it is.
        chance: Draws the faults.
        rates: How often they come.
        counts: Counts them.
        hangs: Whether a watchdog kills the process when a request is never answered.
        refusing: Whether the store refuses everything just now.
    """

    baton: Baton
    chance: random.Random
    rates: Callable[[], Rates]
    counts: Counter[str]
    hangs: bool
    refusing: Callable[[], bool]
    is_landing: bool = False
    """What happens now at the store was asked for long ago."""

    def ask(self, what: str, effect: Callable[[], T], *, changes: bool = False) -> T:
        """Make one request.

        Args:
            what: Which; for people.
            effect: What it does at the store, at once and as a whole.
            changes: Whether it changes anything there.

        Raises:
            StoreUnavailable: It failed; it has had its effect, or has it later, or never.
        """
        rates = self.rates()
        self.counts["requests"] += 1
        self.baton.tell(f"{what} ...")
        self._wait(self.chance.random() * (6.0 if changes else 1.0))
        if self.refusing():
            self._fail("refused for a while", what)
        if self._meets("refused", rates.refused):
            self._fail("refused", what)
        if self._meets("lost", rates.lost):
            self._wait(30.0)
            self._fail("lost", what)
        if self._meets("hung", rates.hung):
            self._wait(SILENT_SECONDS)
            if self.hangs:
                self.counts["fault: hung"] += 1
                raise Hung
            self._fail("hung", what)
        if changes and self._meets("late", rates.late):
            self.baton.later(self._pause(), lambda: self._land(what, effect))
            self._wait(self.chance.choice((0.0, 30.0)))
            self._fail("late", what)
        if self._meets("slow", rates.slow):
            self.counts["fault: slow"] += 1
            self._wait(self._pause())
        result = effect()
        self.baton.tell(f"{what}: done")
        if self._meets("answer_slow", rates.answer_slow):
            self.counts["fault: answer slow"] += 1
            self._wait(self._pause())
        if self._meets("answer_lost", rates.answer_lost):
            self._fail("answer lost", what)
        return result

    def lag(self) -> int:
        """How many changes behind the present a look is."""
        if not self._meets("stale", self.rates().stale):
            return 0
        self.counts["fault: stale"] += 1
        return self.chance.randint(1, 3)

    def _meets(self, _: str, rate: float) -> bool:
        return rate > 0 and self.chance.random() < rate

    def _pause(self) -> float:
        return self.chance.choice(PAUSES) * self.chance.random()

    def _wait(self, seconds: float) -> None:
        self.baton.sleep(seconds)

    def _fail(self, fault: str, what: str) -> None:
        self.counts[f"fault: {fault}"] += 1
        self.baton.tell(f"{what}: {fault}")
        raise StoreUnavailable(f"{what}: {fault}")

    def _land(self, what: str, effect: Callable[[], object]) -> None:
        self.baton.tell(f"{what}: its late effect")
        self.is_landing = True
        try:
            effect()
        except Refusal:
            self.counts["late effects that were refused"] += 1
        else:
            self.counts[f"late effects: {what}"] += 1
        finally:
            self.is_landing = False


class Refusal(Exception):
    """The store did not do what it was asked for, and changed nothing."""
