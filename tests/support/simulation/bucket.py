"""A durable store like S3: objects are put one by one, and a record only if its number is free.

What a look shows is always the present state, as S3, Google and Azure promise. A request that
was given up may still have its effect later.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dragoman.checkpoint.retention import existing
from dragoman.errors import StoreUnavailable
from dragoman.store.base import CARD, MODEL_FILE, NumberTaken
from dragoman.store.disk import Disk
from dragoman.store.record import TRAINING, CheckpointRecord, DropRecord, FileEntry, LeaseRecord, Record, TrimRecord
from tests.support.simulation.client import Client, Server
from tests.support.simulation.faults import Refusal, Wire

_TRIES = 3


@dataclass(frozen=True)
class Object:
    """One object."""

    data: bytes
    sha256: str
    """As noted by whoever put it."""
    writer: object
    """The machine that put it, as long as that was in time; else None."""


class Bucket(Server):
    """The bucket."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.objects: dict[str, Object] = {}
        self._records: list[Record] = []
        self._spoilt: set[str] = set()

    @property
    def records(self) -> Sequence[Record]:
        return self._records

    def read(self, path: str) -> bytes | None:
        found = self.objects.get(path)
        return found.data if found else None

    def is_spoilt(self, path: str) -> bool:
        return path in self._spoilt

    def spoil(self, path: str) -> None:
        found = self.objects[path]
        self.objects[path] = Object(b"rot" + found.data[3:], found.sha256, found.writer)
        self._spoilt.add(path)

    def edit_card(self, text: str) -> None:
        self.objects[CARD] = Object(text.encode(), "", None)

    def held_bytes(self) -> int:
        # What a machine that was taken over still puts, and what arrives late, its successor finds at the next look.
        lease = next((record for record in reversed(self._records) if isinstance(record, LeaseRecord)), None)
        named = {each.folder for each in existing(self._records)}
        return sum(
            len(found.data)
            for path, found in self.objects.items()
            if path != CARD and ((lease and found.writer == lease.host) or path.split("/")[0] in {*named, path})
        )

    # --- what requests do ------------------------------------------------------------

    def put(self, path: str, data: bytes, sha256: str, writer: object) -> None:
        self.objects[path] = Object(data, sha256, writer)
        self._spoilt.discard(path)
        self.watch.changed(f"put {path}")

    def copy(self, old: str, new: str, writer: object) -> None:
        if old not in self.objects:
            raise Refusal(f"{old} is missing")
        found = self.objects[old]
        self.objects[new] = Object(found.data, found.sha256, writer)
        self.watch.changed(f"copy to {new}")

    def create(self, record: Record) -> bool:
        if record.seq <= len(self._records):
            return False
        assert record.seq == len(self._records) + 1
        self.watch.appended(self._records, record)
        self._records.append(record)
        self.last_record_time = self._clock()
        self.watch.changed(f"record {record.seq}")
        return True

    def delete(self, paths: Iterable[str]) -> None:
        for path in paths:
            self.objects.pop(path, None)
            self._spoilt.discard(path)
        self.watch.changed("delete")


class BucketClient(Client):
    """The bucket, as one process sees it."""

    def __init__(self, server: Bucket, wire: Wire, disk: Disk, pause: float, writer: object) -> None:
        super().__init__(wire, disk, pause)
        self._server, self._writer = server, writer
        self._unsettled: Record | None = None
        self._shown: Sequence[Record] = ()

    def prepare(self) -> None:
        self.wire.ask("probe", lambda: None)

    def records(self, after: int = 0) -> list[Record]:
        self._shown = self.wire.ask("list records", lambda: list(self._server.records))
        return list(self._shown[after:])

    def publish(
        self, records: Sequence[Record], files: Mapping[str, Path], root: CheckpointRecord | None = None
    ) -> None:
        for record in records:
            if not self._is_visible(record):
                if isinstance(record, CheckpointRecord) and record is records[0]:
                    self._send(record, files)
                self._create(record)
        if root:
            self.publish_root(root)
        self._published = self.wire.baton.now

    def publish_root(self, checkpoint: CheckpointRecord) -> None:
        for name in sorted(checkpoint.model_files, key=lambda name: name == MODEL_FILE):
            if not self._holds(name, checkpoint.files[name]):
                self._copy(f"{checkpoint.folder}/{name}", name)

    def remove(self, gone: DropRecord | TrimRecord, freed: Collection[str]) -> None:
        below = f"/{TRAINING}" if isinstance(gone, TrimRecord) else "/"
        folders = [f"{folder}{below}" for folder in gone.checkpoints.values()]
        self._delete(self._list(lambda path: any(path.startswith(folder) for folder in folders)))

    def held(self) -> list[str]:
        if self._unsettled:
            try:
                self._create(self._unsettled)
            except NumberTaken:
                self._unsettled = None
        return self._list(lambda path: path.startswith("checkpoint-"))

    def discard(self, paths: Iterable[str]) -> None:
        self._delete(list(paths))

    def idle_seconds(self) -> float:
        asked = self.wire.ask("age", lambda: (self.wire.baton.now, self._server.last_record_time))
        return asked[0] - asked[1] if self._server.records else math.inf

    def get(self, path: str) -> bytes | None:
        return self.wire.ask("get", lambda: self._server.read(path))

    # --- parts -----------------------------------------------------------------------

    def _is_visible(self, record: Record) -> bool:
        def found() -> Record | None:
            there = self._server.records[record.seq - 1 : record.seq]
            return there[0] if there else None

        there = self.wire.ask("read record", found)
        if there is not None and there.to_bytes() != record.to_bytes():
            self._unsettled = None
            raise NumberTaken(f"another record holds number {record.seq}")
        return there is not None

    def _create(self, record: Record) -> None:
        failure = StoreUnavailable(f"record {record.seq} exists but is not shown")
        for _ in range(_TRIES):
            self._unsettled = record
            try:
                if self.wire.ask("create record", lambda: self._server.create(record), changes=True):
                    self._unsettled = None
                    return
            except StoreUnavailable as error:
                failure = error
            if self._is_visible(record):
                self._unsettled = None
                return
        raise failure

    def _send(self, record: CheckpointRecord, files: Mapping[str, Path]) -> None:
        assert files.keys() == record.files.keys()
        there = self._list(lambda path: path.startswith(f"{record.folder}/"))
        for name, source in files.items():
            path, entry = f"{record.folder}/{name}", record.files[name]
            if not (path in there and self._holds(path, entry)):
                self._put(path, source.read_bytes(), entry)

    def _put(self, path: str, data: bytes, entry: FileEntry) -> None:
        def put() -> None:
            self._server.put(path, data, entry.sha256, None if self.wire.is_landing else self._writer)

        try:
            self.wire.ask("put", put, changes=True)
        except StoreUnavailable:
            if not self._holds(path, entry):
                raise

    def _copy(self, old: str, new: str) -> None:
        try:
            self.wire.ask("copy", lambda: self._server.copy(old, new, self._writer), changes=True)
        except Refusal as refusal:
            raise StoreUnavailable(str(refusal)) from refusal

    def _holds(self, path: str, entry: FileEntry) -> bool:
        found = self.wire.ask("look", lambda: self._server.objects.get(path))
        return found is not None and (len(found.data), found.sha256) == (entry.size, entry.sha256)

    def _list(self, wanted: Callable[[str], bool]) -> list[str]:
        return self.wire.ask("list", lambda: sorted(filter(wanted, self._server.objects)))

    def _delete(self, paths: Sequence[str]) -> None:
        if paths:
            self._server.watch.deletes(self._shown)
            self.wire.ask("delete", lambda: self._server.delete(paths), changes=True)
