"""What a Hub repository holds at one commit, and which changes make it hold something else.

All of this is pure: from what is there and what is wanted follows what to change, and a
commit has done its work when nothing is left to change.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from dragoman.errors import Damaged, StoreUnavailable
from dragoman.store.base import CARD, MODEL_FILE, NumberTaken
from dragoman.store.record import (
    LOG,
    TRAINING,
    CheckpointRecord,
    DropRecord,
    FileEntry,
    FinishedRecord,
    LeaseRecord,
    Record,
    TrimRecord,
    record_name,
)

CHECKPOINT = re.compile(r"checkpoint-\d+(-[0-9a-f]+)?")
_RECORD = re.compile(rf"{LOG}/(\d{{6,}})\.json")


class Entry(NamedTuple):
    """One file at a commit."""

    size: int
    """Length, in bytes."""
    blob: str
    """Git's name of it: of its bytes, or of the pointer that stands for them."""
    sha256: str | None = None
    """Digest of its bytes, when they are kept apart from Git (LFS)."""

    def differs(self, recorded: FileEntry) -> str:
        """How it differs from what was recorded, as far as can be told without its bytes; empty when not."""
        if self.size != recorded.size:
            return f"{self.size} bytes, recorded {recorded.size}"
        same = self.sha256 in (None, recorded.sha256)
        return "" if same else "its bytes are not those that were recorded"

    def holds(self, source: "Path | bytes", wanted: FileEntry) -> bool:
        """Whether its bytes are those of `source`, whose digest is `wanted`."""
        if self.differs(wanted):
            return False
        if self.sha256:
            return True
        return self.blob == git_blob(source if isinstance(source, bytes) else source.read_bytes())


@dataclass(frozen=True)
class Snapshot:
    """A repository at one commit."""

    store: str
    """Its URL."""
    oid: str
    """The commit."""
    files: Mapping[str, Entry]
    """Every file, by its path."""

    @cached_property
    def last(self) -> int:
        """Number of the newest record; 0 without one."""
        numbers = (int(found.group(1)) for path in self.files if (found := _RECORD.fullmatch(path)))
        return max((number for number in numbers if record_name(number) in self.files), default=0)

    @property
    def named(self) -> set[str]:
        """Sha256 of all bytes that are kept apart from Git and have a path."""
        return {entry.sha256 for entry in self.files.values() if entry.sha256}

    def size(self, path: str) -> int | None:
        """Length of a file, in bytes; None when it is not there."""
        return self.files[path].size if path in self.files else None

    def weights(self) -> list[str]:
        """The model at the root, if there is one."""
        return [path for path in self.files if path == MODEL_FILE]

    def below(self, folder: str) -> list[str]:
        """Paths of all files in a folder and its folders."""
        return sorted(path for path in self.files if path.startswith(f"{folder}/"))

    def checkpoint_files(self) -> list[str]:
        """Paths of all files in folders that are named like a checkpoint's."""
        return sorted(path for path in self.files if "/" in path and CHECKPOINT.fullmatch(path.split("/")[0]))


@dataclass(frozen=True)
class Add:
    """Make a file, or give it other bytes."""

    path: str
    """Where."""
    source: Path | bytes
    """A file on this disk, or the bytes."""
    entry: FileEntry
    """What they must be."""


@dataclass(frozen=True)
class Copy:
    """Give a file the bytes of another one."""

    path: str
    """Where."""
    origin: str
    """The path that has the bytes."""


@dataclass(frozen=True)
class Remove:
    """Remove a file, or a folder with all that is in it."""

    path: str
    """Which; a folder ends in a slash."""


Change = Add | Copy | Remove


def git_blob(data: bytes) -> str:
    """Git's name of a file with these bytes."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def in_memory(data: bytes) -> FileEntry:
    """Size and sha256 of bytes."""
    return FileEntry(size=len(data), sha256=hashlib.sha256(data).hexdigest())


def in_words(records: Sequence[Record]) -> str:
    """What a commit with these records says to people: the first one's story."""
    record = records[0]
    if isinstance(record, CheckpointRecord):
        return f"{record.folder}: step {record.step}"
    if isinstance(record, LeaseRecord):
        return f"lease: {record.host}"
    if isinstance(record, FinishedRecord):
        return f"{record.outcome}: step {record.step}"
    return f"{record.kind}: {', '.join(record.checkpoints.values())}"


def publishing(
    at: Snapshot,
    records: Sequence[Record],
    files: Mapping[str, Path],
    root: CheckpointRecord | None,
    is_ours: Callable[[Entry], bool],
) -> list[Change]:
    """What is left to change until records, the files of the first one, and the root are there.

    Args:
        at: What is there.
        records: The records.
        files: The files of the checkpoint among them, by the names in its record.
        root: The checkpoint whose model is to stand at the root.
        is_ours: Whether a card is one that we wrote and nobody changed.

    Raises:
        NumberTaken: Another record holds one of the numbers.
        StoreUnavailable: Records before these are not there.
    """
    missing = [record for record in records if not _is_there(at, record)]
    if not missing and at.last > records[-1].seq:
        return []  # all of it happened, and more since
    if missing and missing[0].seq != at.last + 1:
        raise StoreUnavailable(f"{at.store}: it shows an old state, without record {missing[0].seq - 1}")
    changes: list[Change] = []
    for record in records:
        if isinstance(record, DropRecord | TrimRecord):
            changes += leftovers(at, record)
    made: dict[str, Add] = {}
    for record in records:
        if isinstance(record, CheckpointRecord) and (files or record in missing):
            if files.keys() != record.files.keys():
                raise ValueError(f"files {sorted(files)} are not those of the record, {sorted(record.files)}")
            made = {name: Add(f"{record.folder}/{name}", files[name], record.files[name]) for name in files}
            changes += _adding(at, made.values())
            if root and root.nonce == record.nonce:
                at_root = [Add(name, made[name].source, made[name].entry) for name in root.model_files]
                changes += _without_card(at, _adding(at, at_root), is_ours)
                root = None
    for record in missing:
        data = record.to_bytes()
        changes.append(Add(record_name(record.seq), data, in_memory(data)))
    if root and not _wrong(at, root):
        changes += rooting(at, root, is_ours)
    return changes


def rooting(at: Snapshot, checkpoint: CheckpointRecord, is_ours: Callable[[Entry], bool]) -> list[Change]:
    """What is left to change until the model at the root is that of a checkpoint that is there.

    Raises:
        Damaged: A file of it is missing or is not as recorded; names the file.
    """
    if wrong := _wrong(at, checkpoint):
        raise Damaged(wrong)
    pairs = [(name, f"{checkpoint.folder}/{name}") for name in checkpoint.model_files]
    copies = [Copy(name, origin) for name, origin in pairs if at.files.get(name) != at.files[origin]]
    return _without_card(at, copies, is_ours)


def leftovers(at: Snapshot, gone: DropRecord | TrimRecord) -> list[Change]:
    """What is left to remove of checkpoints that were dropped or trimmed."""
    part = f"/{TRAINING.rstrip('/')}" if isinstance(gone, TrimRecord) else ""
    folders = [f"{folder}{part}" for folder in gone.checkpoints.values()]
    return [Remove(f"{folder}/") for folder in folders if at.below(folder)]


def _is_there(at: Snapshot, record: Record) -> bool:
    """Whether exactly this record has its number already."""
    entry, data = at.files.get(record_name(record.seq)), record.to_bytes()
    if entry is not None and not entry.holds(data, in_memory(data)):
        raise NumberTaken(f"{at.store}/{record_name(record.seq)}: another record holds this number")
    return entry is not None


def _adding(at: Snapshot, wanted: Iterable[Add]) -> list[Change]:
    """Those files that are not there yet with these bytes."""
    return [
        add for add in wanted if (entry := at.files.get(add.path)) is None or not entry.holds(add.source, add.entry)
    ]


def _without_card(at: Snapshot, changes: Sequence[Change], is_ours: Callable[[Entry], bool]) -> list[Change]:
    """The same changes, but not of a card that a person has edited."""
    found = at.files.get(CARD)
    if any(change.path == CARD for change in changes) and found is not None and not is_ours(found):
        return [change for change in changes if change.path != CARD]
    return list(changes)


def _wrong(at: Snapshot, checkpoint: CheckpointRecord) -> str:
    """Which file of a checkpoint's model is not as recorded, as far as can be told without its bytes."""
    for name in checkpoint.model_files:
        path = f"{checkpoint.folder}/{name}"
        problem = at.files[path].differs(checkpoint.files[name]) if path in at.files else "missing"
        if problem:
            return f"{at.store}/{path}: {problem}"
    return ""
