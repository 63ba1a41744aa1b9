"""A durable store like the Hub: one commit holds files, records, drops and root.

Bytes lie apart from their names, once for all names. A commit that drops a name frees
nothing: a later request does, and it rewrites the history, so that the head gets another
number. Bytes that are there are not sent again, whatever has become of them.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dragoman.checkpoint.retention import existing
from dragoman.store.base import CARD
from dragoman.store.record import CheckpointRecord, Record
from tests.support.simulation.client import Server
from tests.support.simulation.faults import Refusal
from tests.support.simulation.training import TRUTH


@dataclass(frozen=True)
class Snapshot:
    """What a commit holds."""

    number: int
    files: Mapping[str, str]
    """Sha256 by path."""
    records: tuple[Record, ...]


@dataclass(frozen=True)
class Change:
    """What a commit is to change."""

    files: Mapping[str, str | None]
    """New sha256 by path; None removes it."""
    records: Sequence[Record] = ()
    sources: Mapping[str, Path] | None = None
    """Where bytes to be uploaded are, by their sha256."""


class Repository(Server):
    """The repository."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.shown = [Snapshot(0, {}, ())]
        """Everything that was ever the head, the present one last."""
        self.blobs: dict[str, bytes] = {}
        self.card = ""
        self._charged: dict[str, int] = {}
        self._spoilt: set[str] = set()

    @property
    def head(self) -> Snapshot:
        return self.shown[-1]

    @property
    def records(self) -> Sequence[Record]:
        return self.head.records

    def read(self, path: str) -> bytes | None:
        return self.blobs.get(self.head.files.get(path, ""))

    def is_spoilt(self, path: str) -> bool:
        return self.head.files.get(path) in self._spoilt

    def spoil(self, path: str) -> None:
        sha256 = self.head.files[path]
        self.blobs[sha256] = b"rot" + self.blobs[sha256][3:]
        self._spoilt.add(sha256)

    def edit_card(self, text: str) -> None:
        self.card = text
        self._move({**self.head.files, CARD: text}, self.head.records)

    def held_bytes(self) -> int:
        return sum(self._charged.values())

    # --- what requests do ------------------------------------------------------------

    def upload(self, sha256: str, data: bytes) -> None:
        if sha256 not in self.blobs:
            self.blobs[sha256] = data
            self._spoilt.discard(sha256)

    def commit(self, parent: int, change: Change) -> Snapshot:
        if parent != self.head.number:
            raise Refusal("somebody else changed the repository")
        for sha256 in change.files.values():
            if sha256 is not None and sha256 not in self.blobs:
                raise Refusal("a pointer to a file that does not exist")
        for sha256 in self._spoilt.intersection(filter(None, change.files.values())):
            # Damage that nobody can have found, nobody can heal when the same bytes come again: it is taken back.
            if not self.watch.was_known(sha256):
                self.blobs[sha256] = TRUTH[sha256]
                self._spoilt.discard(sha256)
        files = {**self.head.files, **change.files}
        files = {path: sha256 for path, sha256 in files.items() if sha256 is not None}
        self._charged |= {sha256: len(self.blobs[sha256]) for sha256 in change.files.values() if sha256}
        for number, record in enumerate(change.records):
            self.watch.appended([*self.head.records, *change.records[:number]], record)
            self.last_record_time = self._clock()
        self._move(files, (*self.head.records, *change.records))
        return self.head

    def free(self, freed: Collection[str]) -> None:
        for sha256 in freed:
            self.blobs.pop(sha256, None)
            self._charged.pop(sha256, None)
            self._spoilt.discard(sha256)
        left = {path: sha256 for path, sha256 in self.head.files.items() if sha256 not in freed}
        self._move(left, self.head.records)

    def free_nameless(self, freed: Collection[str]) -> None:
        self.free([sha256 for sha256 in freed if sha256 not in self.head.files.values()])

    def is_old(self, sha256: str) -> bool:
        """Whether nobody makes these bytes again, since every checkpoint is later than all that had them."""
        steps = [
            record.step
            for record in self.records
            if isinstance(record, CheckpointRecord) and any(file.sha256 == sha256 for file in record.files.values())
        ]
        oldest = min((each.step for each in existing(self.records)), default=0)
        return bool(steps) and max(steps) < oldest

    def _move(self, files: Mapping[str, str], records: tuple[Record, ...]) -> None:
        self.shown.append(Snapshot(self.head.number + 1, files, records))
        self.watch.changed("commit")
