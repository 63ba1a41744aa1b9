"""Figures of the steps since the last report."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from dragoman import journal
from dragoman.training.step import Settled

LONGEST_SECONDS = 60.0
"""A window ends after this long even when fewer than `log_steps` are done, so that slow runs look alive."""


@dataclass
class Metrics:
    """Sums over a window of steps; a window ends with a `journal.Step`."""

    log_steps: int
    clock: Callable[[], float] = time.monotonic
    nats: float = 0.0
    tokens: int = 0
    norm: float = 0.0
    steps: int = 0
    step_seconds: float = 0.0
    """What one step took on average in the last window."""
    started: float = field(default=0.0)

    def __post_init__(self) -> None:
        self.started = self.clock()

    def observe(self, result: Settled) -> None:
        """Add one step that changed the weights."""
        self.nats += result.nats
        self.tokens += result.target_tokens
        self.norm += result.gradient_norm
        self.steps += 1

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out time that is not spent training (evaluation, saving)."""
        before = self.clock()
        yield
        self.started += self.clock() - before

    def ends_at(self, step: int, last: bool) -> bool:
        """Whether a window ends after `step`."""
        return last or step % self.log_steps == 0 or self.clock() - self.started >= LONGEST_SECONDS

    def window(self, step: int, rate: float, last: bool) -> journal.Step | None:
        """The figures of the window that ends after `step`; None when none ends here."""
        if self.steps == 0 or not self.ends_at(step, last):
            return None
        seconds = max(self.clock() - self.started, 1e-9)
        event = journal.Step(
            step=step,
            loss=self.nats / self.tokens,
            learning_rate=rate,
            gradient_norm=self.norm / self.steps,
            target_tokens=self.tokens,
            tokens_per_second=self.tokens / seconds,
            seconds=seconds,
        )
        self.step_seconds = seconds / self.steps
        self.nats, self.tokens, self.norm, self.steps = 0.0, 0, 0.0, 0
        self.started = self.clock()
        return event
