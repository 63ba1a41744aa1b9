"""Objects become files: continued where a download was cut, proved by their digest, then named."""

import contextlib
import hashlib
from collections.abc import Callable, Generator
from io import FileIO
from pathlib import Path

from dragoman.errors import Damaged, StoreUnavailable
from dragoman.store.disk import Disk, chunks_of, digest, part
from dragoman.store.objects_bucket import Bucket
from dragoman.store.record import FileEntry

_DIFFERENT = "its bytes are not those that were recorded"


def fetch(bucket: Bucket, disk: Disk, path: str, target: Path, entry: FileEntry, told: Callable[[int], None]) -> None:
    """Bring an object to a file, whole and as recorded, or not at all; nothing is done where that is there.

    Args:
        bucket: Where it is.
        disk: Makes every change.
        path: The object.
        target: The file. While it grows, it has another name (`disk.part`).
        entry: What its bytes must be.
        told: Called with the number of bytes, each time that some arrived.

    Raises:
        Damaged: It is missing, or, asked for twice, is not as recorded.
        StoreUnavailable: The bucket or the disk failed. What has arrived stays, to be continued.
    """
    with _failing_as(target):
        if target.is_file() and digest(target) == entry:
            return
        found = _grow(bucket, disk, path, target, entry.size, told)
        if found != entry.sha256:  # perhaps what was there before the cut is what is wrong
            disk.unlink(part(target))
            found = _grow(bucket, disk, path, target, entry.size, told)
        if found == entry.sha256:
            _name(disk, target)
            return
        disk.unlink(part(target))
    raise Damaged(f"{bucket.url}/{path}: {_DIFFERENT}")


def bring(bucket: Bucket, disk: Disk, path: str, target: Path, told: Callable[[int], None]) -> None:
    """Bring an object of which no record tells to a file, as far as what is noted beside it can prove it.

    Raises:
        Damaged: Its bytes are not those of which the digest is noted.
        StoreUnavailable: It is missing, or the bucket or the disk failed.
    """
    found = bucket.look(path)
    if found is None:
        raise StoreUnavailable(f"{bucket.url}: {path} is missing")
    if found.sha256:
        fetch(bucket, disk, path, target, FileEntry(size=found.size, sha256=found.sha256), told)
        return
    with _failing_as(target):
        _grow(bucket, disk, path, target, found.size, told)
        _name(disk, target)


def verify(bucket: Bucket, path: str, entry: FileEntry, told: Callable[[int], None]) -> None:
    """Read all bytes of an object.

    Raises:
        Damaged: It is missing or is not as recorded.
    """
    sha256 = hashlib.sha256()
    for chunk in bucket.ranges(path, entry.size):
        sha256.update(chunk)
        told(len(chunk))
    if sha256.hexdigest() != entry.sha256:
        raise Damaged(f"{bucket.url}/{path}: {_DIFFERENT}")


def _grow(bucket: Bucket, disk: Disk, path: str, target: Path, size: int, told: Callable[[int], None]) -> str:
    """Bring what is missing of an object to the part of a file, durably; the digest of all of it."""
    grown = part(target)
    sha256 = hashlib.sha256()
    if grown.is_file() and grown.stat().st_size > size:
        disk.unlink(grown)
    elif grown.is_file():
        for old in chunks_of(grown):
            sha256.update(old)
    disk.make_folders(target.parent)
    with FileIO(grown, "a") if grown.is_file() else disk.create(grown) as file:
        for chunk in bucket.ranges(path, size, start=grown.stat().st_size):
            disk.append(file, chunk)
            sha256.update(chunk)
            told(len(chunk))
        disk.sync(file)
    return sha256.hexdigest()


def _name(disk: Disk, target: Path) -> None:
    disk.rename(part(target), target)
    disk.sync_folder(target.parent)


@contextlib.contextmanager
def _failing_as(target: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(f"{target}: cannot be written: {error.strerror or error}") from error
