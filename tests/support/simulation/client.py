"""What every simulated durable store has in common, as one process on one machine uses it."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from dragoman.errors import Damaged
from dragoman.store.disk import Disk, digest, part
from dragoman.store.record import CheckpointRecord, DropRecord, FileEntry, Record, TrimRecord
from tests.support.simulation.faults import Wire

NAME = "hf://sim/run"


class Server(ABC):
    """The durable store itself; `Watch` is told of every change."""

    watch: "Watch"
    last_record_time = 0.0
    """When the last record appeared."""

    @property
    @abstractmethod
    def records(self) -> Sequence[Record]:
        """All records, in order."""

    @abstractmethod
    def read(self, path: str) -> bytes | None:
        """The bytes under a path now."""

    @abstractmethod
    def is_spoilt(self, path: str) -> bool:
        """Whether we have damaged what is under a path."""

    @abstractmethod
    def spoil(self, path: str) -> None:
        """Damage what is under a path, behind everybody's back."""

    @abstractmethod
    def edit_card(self, text: str) -> None:
        """A person writes the model card."""

    @abstractmethod
    def held_bytes(self) -> int:
        """What the store charges for."""


class Watch(ABC):
    """Sees everything."""

    @abstractmethod
    def appended(self, before: Sequence[Record], record: Record) -> None:
        """A record has appeared behind others."""

    @abstractmethod
    def changed(self, what: str) -> None:
        """Something has changed in the store."""

    @abstractmethod
    def deletes(self, shown: Sequence[Record]) -> None:
        """A process is about to ask for a deletion; `shown` is the log as it last saw it."""

    @abstractmethod
    def was_known(self, sha256: str) -> bool:
        """Whether damage to these bytes has been found, and recorded."""


class Client(ABC):
    """A `Store`, for one process.

    Args:
        wire: Carries its requests.
        disk: Of this machine.
        pause: How long to wait between two publishes that are not urgent.
    """

    def __init__(self, wire: Wire, disk: Disk, pause: float) -> None:
        self.wire, self.disk, self._pause = wire, disk, pause
        self._published = float("-inf")

    def __str__(self) -> str:
        return NAME

    # --- what differs ----------------------------------------------------------------

    @abstractmethod
    def prepare(self) -> None: ...

    @abstractmethod
    def records(self, after: int = 0) -> list[Record]: ...

    @abstractmethod
    def publish(
        self, records: Sequence[Record], files: Mapping[str, Path], root: CheckpointRecord | None = None
    ) -> None: ...

    @abstractmethod
    def remove(self, gone: DropRecord | TrimRecord, freed: Collection[str]) -> None: ...

    @abstractmethod
    def publish_root(self, checkpoint: CheckpointRecord) -> None: ...

    @abstractmethod
    def held(self) -> list[str]: ...

    @abstractmethod
    def discard(self, paths: Iterable[str]) -> None: ...

    @abstractmethod
    def idle_seconds(self) -> float: ...

    @abstractmethod
    def get(self, path: str) -> bytes | None:
        """The bytes of a file, or what is left of them."""

    # --- what does not ---------------------------------------------------------------

    def fetch(self, checkpoint: CheckpointRecord, names: Iterable[str], into: Path) -> None:
        for name in names:
            target, entry = into / name, checkpoint.files[name]
            if target.is_file() and digest(target) == entry:
                continue
            data = self._proved(checkpoint, name)
            self.disk.make_folders(target.parent)
            self.disk.write(part(target), [data])
            self.disk.rename(part(target), target)

    def verify(self, checkpoint: CheckpointRecord, names: Iterable[str] | None = None) -> None:
        for name in checkpoint.files if names is None else names:
            self._proved(checkpoint, name)

    def _proved(self, checkpoint: CheckpointRecord, name: str) -> bytes:
        path = f"{checkpoint.folder}/{name}"
        data = self.get(path)
        if data is None:
            raise Damaged(f"{self}/{path}: missing")
        if entry_of(data) != checkpoint.files[name]:
            raise Damaged(f"{self}/{path}: its bytes are not those that were recorded")
        return data

    def keep(self, files: Mapping[str, Path]) -> None:
        raise NotImplementedError("the simulated runs have no data")

    def kept(self, prefix: str) -> list[str]:
        return []

    def bring(self, names: Iterable[str], into: Path) -> None:
        raise NotImplementedError("the simulated runs have no data")

    def num_bytes(self) -> int:
        raise NotImplementedError("nobody asks")

    def pause_seconds(self) -> float:
        return self._published + self._pause - self.wire.baton.now


def entry_of(data: bytes) -> FileEntry:
    """Size and digest of bytes."""
    return FileEntry(size=len(data), sha256=hashlib.sha256(data).hexdigest())
