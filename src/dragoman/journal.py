"""What happened on this machine, one JSON object per line, never rewritten.

Terminal, `status`, logs and pages all read the journal and nothing else, so what
they show is what was written. A line is appended with one write; a line torn by the
death of the process is skipped by readers and closed by the next writer.
"""

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """A fact with units, in the past tense. The journal adds `kind` and `time`."""

    @classmethod
    def kind(cls) -> str:
        """The event's name in the journal: `StepSkipped` becomes `step_skipped`."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionStarted(Event):
    """A process took the lease and is about to train from `step`."""

    run: str
    epoch: int
    owner: str
    step: int
    total_steps: int
    steps_per_epoch: float
    device: str
    precision: str
    threads: int
    host: str
    pid: int
    resumed_from: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared(Event):
    """The corpus is ready; `funnel` says what became of every row read."""

    corpus: str
    reused: bool
    pairs: dict[str, int]
    funnel: dict[str, Any]
    unknown_rate: dict[str, float]
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Step(Event):
    """Optimizer steps up to `step` are done; figures are over the steps since the last such event."""

    step: int
    loss: float
    """Nats per target token of the global batch, without label smoothing."""
    learning_rate: float
    gradient_norm: float
    target_tokens: int
    tokens_per_second: float
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class StepSkipped(Event):
    """The loss or gradient of a step was not finite; the weights were left alone."""

    step: int
    consecutive: int
    passed_over: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class RolledBack(Event):
    """Training returned to an earlier step and will pass over the recorded bad ones."""

    from_step: int
    to_step: int
    bad_steps: list[int]


@dataclass(frozen=True, kw_only=True, slots=True)
class OutOfMemory(Event):
    """A microbatch did not fit; the same step was repeated with smaller ones."""

    step: int
    microbatch: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluated(Event):
    """The dev sample was scored."""

    step: int
    loss: float
    chrf: float
    """Mean chrF++ over the directions."""
    directions: dict[str, dict[str, Any]]
    samples: list[dict[str, str]]
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Saved(Event):
    """A checkpoint is recorded; losing the process now costs nothing before `step`."""

    step: int
    folder: str
    num_bytes: int
    seconds: float
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SaveFailed(Event):
    """A checkpoint could not be saved; training goes on and tries again."""

    step: int
    reason: str
    last_safe_step: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Warned(Event):
    """Something is not as it should be, and training goes on."""

    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionEnded(Event):
    """The process ended by itself; a kill leaves no such event."""

    outcome: str
    reason: str
    step: int
    safe_step: int


@dataclass
class Journal:
    """Appends events to `path` and hands each to `echo` (the terminal's display)."""

    path: Path
    echo: Callable[[Event], None] = lambda event: None
    clock: Callable[[], float] = time.time
    broken: str = field(default="", init=False)
    """Why the last event could not be written; empty when it was."""

    def append(self, event: Event) -> None:
        """Write one line. A disk that refuses never stops training: `broken` says why."""
        line = json.dumps({"kind": event.kind(), "time": round(self.clock(), 3), **asdict(event)}, ensure_ascii=False)
        was_broken = self.broken
        try:
            self._write(line.encode() + b"\n")
            self.broken = ""
        except OSError as error:
            self.broken = f"{self.path}: {error.strerror}"
        if self.broken and not was_broken:
            self.echo(Warned(message=f"the journal cannot be written, status will lag behind: {self.broken}"))
        self.echo(event)

    def _write(self, line: bytes) -> None:
        descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            end = os.lseek(descriptor, 0, os.SEEK_END)
            torn = end > 0 and os.pread(descriptor, 1, end - 1) != b"\n"
            os.write(descriptor, b"\n" + line if torn else line)
        finally:
            os.close(descriptor)


def read(path: Path) -> Iterator[dict[str, Any]]:
    """All whole events of the journal at `path`, oldest first; none when there is no file."""
    if not path.exists():
        return
    with path.open("rb") as lines:
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict):
                yield event
