"""The records in a folder: one file each, which appears at once and only if its number is free."""

import hashlib
import re
from pathlib import Path

from dragoman.errors import Damaged
from dragoman.store.base import NumberTaken
from dragoman.store.disk import PART, Disk
from dragoman.store.record import COPY_BACK, LOG, Record, parse, record_name

_RECORD = re.compile(r"\d{6,}\.json")


_NUM_TRIES = 3


class FolderLog:
    """The log in the folder `root`. All of it raises `OSError` as the disk gives it.

    Args:
        disk: Makes every change.
        root: The folder of the store.
        single_writer: The user's word that nobody else ever writes here.
    """

    def __init__(self, disk: Disk, root: Path, *, single_writer: bool) -> None:
        self._disk, self._root, self._single_writer = disk, root, single_writer

    def records(self, after: int) -> list[Record]:
        """All records with a higher number.

        Raises:
            Damaged: One is missing or is not as it was written.
        """
        folder = self._root / LOG
        if not folder.is_dir():
            return []
        last = max((int(path.stem) for path in folder.iterdir() if _RECORD.fullmatch(path.name)), default=0)
        return [self._read(number) for number in range(after + 1, last + 1)]

    def has(self, record: Record) -> bool:
        """Whether exactly this record is there.

        Raises:
            NumberTaken: Another one has its number.
        """
        target = self._root / record_name(record.seq)
        if not target.exists():
            return False
        if target.read_bytes() != record.to_bytes():
            self.forget(record)
            raise NumberTaken(f"{target}: another record holds this number")
        return True

    def add(self, record: Record) -> None:
        """Give a record its name, if nothing has it; durable only after `sync`.

        Raises:
            NumberTaken: Another one has it.
        """
        if not self._name(self._root / record_name(record.seq), self._part_of(record), record.to_bytes()):
            self.has(record)

    def claim(self, name: str, data: bytes) -> bytes:
        """Give bytes a name, if nothing has it, and make that durable; returns the bytes that have it."""
        target = self._root / name
        if not target.exists():
            self._disk.make_folders(target.parent)
            temporary = target.with_name(f"{target.name}.{hashlib.sha256(data).hexdigest()[:16]}{PART}")
            self._name(target, temporary, data)
            if temporary.exists():
                self._disk.unlink(temporary)
        # Also where it was there: who made it may have been killed before this.
        self._disk.sync_folder(target.parent)
        return target.read_bytes()

    def sync(self) -> None:
        """Make the names of all records survive a power cut."""
        self._disk.sync_folder(self._root / LOG)

    def forget(self, record: Record) -> None:
        """Remove what `add` may have left beside the record."""
        if self._part_of(record).exists():
            self._disk.unlink(self._part_of(record))

    def _name(self, target: Path, temporary: Path, data: bytes) -> bool:
        """Write bytes and give them a name that nothing has yet; whether that was so."""
        for attempt in range(_NUM_TRIES):
            self._disk.write(temporary, [data])
            try:
                if self._single_writer:
                    self._disk.rename(temporary, target)
                else:
                    self._disk.link(temporary, target)
            except FileExistsError:
                return False
            except FileNotFoundError:  # whoever holds the lease takes what is unfinished for debris
                if attempt == _NUM_TRIES - 1:
                    raise
                continue
            return True
        return False

    def _part_of(self, record: Record) -> Path:
        target = self._root / record_name(record.seq)
        return target.with_name(f"{target.name}.{record.nonce}{PART}")

    def _read(self, number: int) -> Record:
        path = self._root / record_name(number)
        try:
            record = parse(path.read_bytes(), str(path))
        except FileNotFoundError as error:
            raise Damaged(f"{path}: missing, though a later record exists", COPY_BACK) from error
        if record.seq != number:
            raise Damaged(f"{path}: holds record {record.seq}", COPY_BACK)
        return record
