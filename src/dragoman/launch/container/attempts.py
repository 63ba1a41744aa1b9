"""How often to start training again: pauses grow while nothing more becomes safe, and then it is enough.

What kills a session each time at the same place will do so again, and a machine that is
paid for should not try for ever. A step that became safe makes all earlier ends forgotten.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from dragoman.checkpoint.status_shape import Session

MOST = 5
"""Ends in a row without one more safe step, after which nothing is tried any more."""
_LONGEST_PAUSE_SECONDS = 600.0
_SOON_SECONDS = 3600.0
"""A session that ended longer ago than this says nothing of the next one: a person has looked meanwhile."""


@dataclass
class Attempts:
    """The ends of training on this machine, as far as they led nowhere."""

    fruitless: int = 0
    """Ends in a row without one more safe step."""
    safe_step: int = -1
    """The newest step that is safe; -1 for none."""
    number: int = 0
    """How often training was started here."""

    @property
    def are_enough(self) -> bool:
        """Whether to stop trying."""
        return self.fruitless >= MOST

    @property
    def pause_seconds(self) -> float:
        """How long to wait before the next one: 1, 2, 4 … 600 s; nothing after an end that was not fruitless."""
        return min(_LONGEST_PAUSE_SECONDS, 2.0 ** (self.fruitless - 1)) if self.fruitless else 0.0

    def ended(self, safe_step: int) -> None:
        """Training ended before its time, with this step safe."""
        self.fruitless = 0 if safe_step > self.safe_step else self.fruitless + 1
        self.safe_step = max(safe_step, self.safe_step)


def fruitless_before(history: Sequence[Session], host: str, now: float) -> int:
    """How many of the newest sessions of a machine recorded no step, one soon after the other.

    A machine that is restarted with an empty disk remembers nothing; the store does.

    Args:
        history: Of the store, the newest first.
        host: Name of the machine.
        now: Seconds since 1970.
    """
    count = 0
    for session in history:
        soon = now - session["last_time"] < _SOON_SECONDS
        if session["host"] != host or session["step"] is not None or not soon:
            break
        now, count = session["first_time"], count + 1
    return count
