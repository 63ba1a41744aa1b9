"""Files become objects: hashed on their way, and whole objects only when they are what was recorded."""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dragoman.errors import Damaged, StoreUnavailable
from dragoman.store import card
from dragoman.store.base import CARD, MODEL_FILE
from dragoman.store.deadline import Transfer
from dragoman.store.disk import chunks_of
from dragoman.store.objects_bucket import Bucket, Found
from dragoman.store.record import CheckpointRecord, FileEntry

COPY_BYTES = 5 << 30
"""Largest object that S3 copies by itself; the model of 1.3 billion parameters is larger."""


@dataclass(frozen=True)
class Sender:
    """Sends to a bucket."""

    bucket: Bucket
    """Where to."""
    bytes_per_second: float | None = None
    """Cap on the rate; None for none."""
    clock: Callable[[], float] = time.monotonic
    """In seconds; only differences count."""
    sleep: Callable[[float], None] = time.sleep
    """Waits for so many seconds."""

    def file(self, path: str, source: Path, entry: FileEntry) -> None:
        """Store a file.

        Raises:
            Damaged: Its bytes are not those of `entry`; nothing is stored.
        """
        self._send(path, chunks_of(source), str(source), entry)

    def checkpoint(self, record: CheckpointRecord, files: Mapping[str, Path]) -> None:
        """Store the files of a checkpoint that are not there yet.

        Raises:
            Damaged: The bytes of one are not those of the record; it is not stored.
        """
        if files.keys() != record.files.keys():
            raise ValueError(f"files {sorted(files)} are not those of the record, {sorted(record.files)}")
        there = {found.path for found in self.bucket.below(record.folder)}
        for name, source in files.items():
            path, entry = f"{record.folder}/{name}", record.files[name]
            if not (path in there and _holds(self.bucket.look(path), entry)):
                self.file(path, source, entry)

    def root(self, checkpoint: CheckpointRecord, files: Mapping[str, Path]) -> None:
        """Make the model at the root that of a checkpoint which is stored; `files` are its own, if they are here.

        The bucket copies them itself, if it can. The weights come last.
        """
        for name in sorted(checkpoint.model_files, key=lambda name: name == MODEL_FILE):
            entry, origin = checkpoint.files[name], f"{checkpoint.folder}/{name}"
            found = self.bucket.look(name)
            if _holds(found, entry) or (found and name == CARD and not self._is_our_card()):
                continue
            if entry.size <= COPY_BYTES:
                self.bucket.copy(origin, name)
            elif name in files:
                self.file(name, files[name], entry)
            else:
                self._send(name, self.bucket.ranges(origin, entry.size), f"{self.bucket.url}/{origin}", entry)

    def _is_our_card(self) -> bool:
        return card.is_ours(self.bucket.read(CARD) or b"")

    def _send(self, path: str, chunks: Iterable[bytes | memoryview], origin: str, entry: FileEntry) -> None:
        transfer = Transfer(
            lambda num_bytes: self.bucket.beat(), self.bytes_per_second, clock=self.clock, sleep=self.sleep
        )
        seconds = self.bucket.patience.for_bytes(entry.size, self.bytes_per_second)
        try:
            self.bucket.upload(path, _proved(chunks, origin, entry, transfer), entry, transfer, seconds)
        except StoreUnavailable:
            if not _holds(self.bucket.look(path), entry):  # else only the answer was lost
                raise


def _holds(found: Found | None, entry: FileEntry) -> bool:
    return found is not None and found.holds(entry)


def _proved(
    chunks: Iterable[bytes | memoryview], origin: str, entry: FileEntry, transfer: Transfer
) -> Iterator[bytes | memoryview]:
    """The same bytes on their way; raises `Damaged` at their end unless they are those of `entry`."""
    sha256, size = hashlib.sha256(), 0
    try:
        for chunk in chunks:
            sha256.update(chunk)
            size += len(chunk)
            transfer.moved(len(chunk))
            yield chunk
    except OSError as error:
        raise StoreUnavailable(f"{origin}: cannot be read: {error.strerror or error}") from error
    if (size, sha256.hexdigest()) != (entry.size, entry.sha256):
        raise Damaged(f"{origin}: its bytes are not those that were recorded")
