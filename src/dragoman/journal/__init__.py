"""What happened on this machine, one JSON object per line, never rewritten.

Terminal, `status`, logs and pages all read the journal and nothing else, so what
they show is what was written. A line is appended with one write; a line torn by the
death of the process is skipped by readers and closed by the next writer.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dragoman.journal.events import (
    Draining,
    Evaluated,
    Event,
    Fetching,
    LanguagesAdded,
    OutOfMemory,
    Prepared,
    Preparing,
    RanksLost,
    Replicated,
    ReplicationFailed,
    ReplicationRecovered,
    ReplicatorEnded,
    ReplicatorStarted,
    RolledBack,
    Saved,
    SaveFailed,
    SessionEnded,
    SessionStarted,
    Step,
    StepSkipped,
    TimeLimited,
    TransferHung,
    UploadSkipped,
    UploadStarted,
    Warned,
)

__all__ = [
    "Draining",
    "Evaluated",
    "Event",
    "Fetching",
    "Journal",
    "LanguagesAdded",
    "OutOfMemory",
    "Prepared",
    "Preparing",
    "RanksLost",
    "Replicated",
    "ReplicationFailed",
    "ReplicationRecovered",
    "ReplicatorEnded",
    "ReplicatorStarted",
    "RolledBack",
    "SaveFailed",
    "Saved",
    "SessionEnded",
    "SessionStarted",
    "Step",
    "StepSkipped",
    "Tail",
    "TimeLimited",
    "TransferHung",
    "UploadSkipped",
    "UploadStarted",
    "Warned",
    "read",
]


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


class Tail:
    """What others append to the journal at `path` from now on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = path.stat().st_size if path.exists() else 0

    def events(self) -> list[Event]:
        """The whole events that came since the last call, of kinds that this version knows."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            whole = file.read().rpartition(b"\n")[0]
        self._offset += len(whole) + 1 if whole else 0
        return [event for line in whole.splitlines() if (event := _parsed(line))]


def _parsed(line: bytes) -> Event | None:
    try:
        fields = json.loads(line)
        del fields["time"]
        return _KINDS[fields.pop("kind")](**fields)
    except (ValueError, TypeError, KeyError):
        return None


_KINDS = {event.kind(): event for event in Event.__subclasses__()}


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
