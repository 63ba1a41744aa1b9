"""Every change to a disk goes through here, one change at a time.

Nothing else writes, renames, links or deletes a file that must outlive this machine.
So a test that replaces this class can lose the machine before any single change.

Two habits keep the stores simple. A file is fsynced before it gets the name that
readers look for. And a file is never written again: `write` makes a new one even
where one stood, so that a hard link to a file is as good as a copy of it.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
from collections.abc import Iterable, Iterator
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

from dragoman.store.record import FileEntry

if TYPE_CHECKING:
    from typing_extensions import Buffer

PART = ".dragoman.part"
"""Behind the name of a file that is not whole yet. No one else's files end so; what ends so is debris."""

_CHUNK_BYTES = 4 << 20
# fsync on macOS stops at the drive's cache; this goes through it.
_FULL_SYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None)


def chunks_of(path: Path) -> Iterator[bytes]:
    """The bytes of a file, a few megabytes at a time.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def digest(path: Path) -> FileEntry:
    """Size and sha256 of the bytes that a file has now.

    Raises:
        OSError: The file cannot be read.
    """
    sha256, size = hashlib.sha256(), 0
    for chunk in chunks_of(path):
        sha256.update(chunk)
        size += len(chunk)
    return FileEntry(size=size, sha256=sha256.hexdigest())


def part(path: Path) -> Path:
    """Where the new content of `path` grows before it is whole."""
    return path.with_name(path.name + PART)


class Disk:
    """The disk of this machine. All of it raises `OSError` as the system gives it, `ENOSPC` included."""

    # --- single changes: a test that loses the machine replaces these ten --------------

    def make_folder(self, path: Path) -> None:
        """Make one folder; its parent exists, it does not."""
        path.mkdir()

    def create(self, path: Path) -> FileIO:
        """Make an empty file and open it; fails when something has that name."""
        return FileIO(path, "x")

    def append(self, file: FileIO, chunk: memoryview) -> None:
        """Write bytes (format B) at the end of a file that `create` opened."""
        while chunk:
            chunk = chunk[file.write(chunk) :]

    def sync(self, file: FileIO) -> None:
        """Make the content of an open file survive a power cut; its name may still be lost."""
        if _FULL_SYNC is None:
            os.fsync(file.fileno())
        else:
            fcntl.fcntl(file.fileno(), _FULL_SYNC)

    def sync_file(self, path: Path) -> None:
        """Make the content of a file that somebody else wrote survive a power cut."""
        with FileIO(path, "r") as file:
            Disk.sync(self, file)

    def sync_folder(self, path: Path) -> None:
        """Make the names in a folder survive a power cut: those that came and those that went."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            # Some network file systems have no fsync for folders: there, this is as durable as it gets.
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                raise
        finally:
            os.close(descriptor)

    def rename(self, old: Path, new: Path) -> None:
        """Give a file another name, at once; what had the new name is gone."""
        old.rename(new)

    def link(self, old: Path, new: Path) -> None:
        """Give a file a second name; `FileExistsError` when something has it already."""
        new.hardlink_to(old)

    def unlink(self, path: Path) -> None:
        """Take a file's name away."""
        path.unlink()

    def remove_folder(self, path: Path) -> None:
        """Remove one empty folder."""
        path.rmdir()

    # --- made of those ---------------------------------------------------------------

    def make_folders(self, path: Path) -> None:
        """Make a folder and what is missing above it; each new one survives a power cut."""
        if path.is_dir():
            return
        self.make_folders(path.parent)
        # Another process may have made it since: fine, but a file in its place is not.
        try:
            self.make_folder(path)
        except FileExistsError:
            if not path.is_dir():
                raise
        self.sync_folder(path.parent)

    def write(self, path: Path, chunks: "Iterable[Buffer]") -> FileEntry:
        """Write a new file, in the place of any that stood there, and make its content durable.

        The name is durable only after `sync_folder` of its folder. When it fails, nothing
        has that name, so that a full disk gets its bytes back.

        Returns:
            Size and sha256 of what was written.
        """
        with contextlib.suppress(FileNotFoundError):
            self.unlink(path)
        sha256, size = hashlib.sha256(), 0
        try:
            with self.create(path) as file:
                for chunk in chunks:
                    view = memoryview(chunk)
                    if view.nbytes:  # an empty array of several dimensions cannot be cast
                        self.append(file, view.cast("B"))
                        sha256.update(view)
                        size += view.nbytes
                self.sync(file)
        except OSError:
            with contextlib.suppress(OSError):
                self.unlink(path)
            raise
        return FileEntry(size=size, sha256=sha256.hexdigest())

    def copy(self, old: Path, new: Path) -> FileEntry:
        """Write a new file with the bytes of another and make its content durable."""
        return self.write(new, chunks_of(old))

    def replace(self, path: Path, data: bytes) -> FileEntry:
        """Give a file new content, durably: whatever happens, it has all of the old or all of the new."""
        entry = self.write(part(path), [data])
        self.rename(part(path), path)
        self.sync_folder(path.parent)
        return entry
