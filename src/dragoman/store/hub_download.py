"""Files from a Hub, each continued where it was cut, and hashed before it gets its name.

The Hub's client does not compare what it downloads with any hash, and a proxy, a cache or
a cut may hand over other bytes. So a file whose bytes are wrong is downloaded once more,
from its first byte. Only what is wrong twice is damage of the store.
"""

import contextlib
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple

from dragoman.errors import Damaged, StoreUnavailable
from dragoman.store.deadline import Transfer, together, within
from dragoman.store.disk import Disk, chunks_of, part
from dragoman.store.hub_api import HubApi
from dragoman.store.hub_files import Entry, Snapshot
from dragoman.store.outcome import NOT_FOUND, HubFailure

_NUM_IDLE = 3
"""Downloads without one new byte before the Hub is unavailable."""
_NUM_WRONG = 2
"""Downloads of all bytes that turn out wrong before the file is damaged."""
_PARTIAL, _NO_SUCH_RANGE = 206, 416


class Sink(ABC):
    """Where the bytes of a download go."""

    @abstractmethod
    def held(self) -> Iterator[bytes]:
        """The bytes that are there from before, in pieces."""

    @abstractmethod
    def clear(self) -> None:
        """Forget all bytes."""

    @abstractmethod
    def append(self, chunk: bytes) -> None:
        """Add bytes."""


class Nowhere(Sink):
    """Bytes that are only hashed."""

    def held(self) -> Iterator[bytes]:
        """None."""
        return iter(())

    def clear(self) -> None:
        """There are none."""

    def append(self, chunk: bytes) -> None:
        """They are not kept."""


class PartFile(Sink):
    """The file that `target` is until it is whole; it outlives a cut and this process.

    Raises:
        StoreUnavailable: This machine's disk failed.
    """

    def __init__(self, disk: Disk, target: Path) -> None:
        self._disk, self._target, self._part = disk, target, part(target)
        self._file: FileIO | None = None

    def held(self) -> Iterator[bytes]:
        """What an earlier download has left."""
        with self._failing():
            if self._part.exists():
                yield from chunks_of(self._part)

    def clear(self) -> None:
        """Remove it."""
        with self._failing():
            self.close()
            if self._part.exists():
                self._disk.unlink(self._part)

    def append(self, chunk: bytes) -> None:
        """Write at its end."""
        with self._failing():
            self._disk.append(self._opened(), memoryview(chunk))

    def finish(self) -> None:
        """Make it durable and give it its name."""
        with self._failing():
            self._disk.sync(self._opened())
            self.close()
            self._disk.rename(self._part, self._target)
            self._disk.sync_folder(self._target.parent)

    def close(self) -> None:
        """Let go of the file; what it holds stays."""
        if self._file:
            self._file.close()
        self._file = None

    def _opened(self) -> FileIO:
        if self._file is None:
            self._disk.make_folders(self._target.parent)
            self._file = FileIO(self._part, "a") if self._part.exists() else self._disk.create(self._part)
        return self._file

    @contextlib.contextmanager
    def _failing(self) -> Generator[None]:
        try:
            yield
        except OSError as error:
            raise StoreUnavailable(f"{self._target}: cannot be written: {error.strerror or error}") from error


class Found(NamedTuple):
    """A file at a commit."""

    oid: str
    """The commit."""
    path: str
    """The file."""
    entry: Entry
    """What its bytes must be."""


class Download:
    """One file of a Hub.

    Args:
        api: The repository.
        found: Where it is.
        transfer: Told of every byte.
        sleep: Waits for so many seconds.
    """

    def __init__(self, api: HubApi, found: Found, *, transfer: Transfer, sleep: Callable[[float], None]) -> None:
        self._api, (self._oid, self._path, self._entry) = api, found
        self._transfer, self._sleep = transfer, sleep
        self._sink: Sink = Nowhere()
        self._begin()

    def to_file(self, disk: Disk, target: Path) -> None:
        """Bring it to `target`, which is replaced if it is there.

        Raises:
            Damaged: It is missing, or its bytes are not what they must be; names it.
            StoreUnavailable: The Hub, or this machine's disk, failed. What has arrived is used next time.
        """
        self._sink = sink = PartFile(disk, target)
        try:
            self._bring()
            sink.finish()
        finally:
            sink.close()

    def prove(self) -> None:
        """Read every byte of it and keep none; raises as `to_file` does."""
        self._bring()

    def _bring(self) -> None:
        for chunk in self._sink.held():
            self._transfer.moved(0)
            self._count(chunk)
        num_wrong = -1 if self._size else 0  # what was here before may be what is wrong
        while problem := self._continue():
            self._sink.clear()
            self._begin()
            num_wrong += 1
            if num_wrong == _NUM_WRONG:
                raise Damaged(f"{self._api}/{self._path}: {problem}")

    def _continue(self) -> str:
        """Download what is not there yet; what is wrong with the whole then."""
        num_idle = 0
        while self._size < self._entry.size:
            before = self._size
            try:
                self._api.stream(self._path, self._oid, before, self._take)
            except HubFailure as failure:
                if failure.status == NOT_FOUND and failure.code in ("", "EntryNotFound"):
                    return "missing"
                if failure.status == _NO_SUCH_RANGE:
                    break
                num_idle = 0 if self._size > before else num_idle + 1
                if not failure.may_pass or num_idle == _NUM_IDLE:
                    raise
                self._sleep(2.0**num_idle)
            else:
                if self._size <= before:  # it says that this was all
                    break
        if self._size != self._entry.size:
            return f"{self._size} bytes, recorded {self._entry.size}"
        is_right = self._hash.hexdigest() == (self._entry.sha256 or self._entry.blob)
        return "" if is_right else "its bytes are not those that were recorded"

    def _take(self, response: Any) -> None:
        if self._size and response.status_code != _PARTIAL:
            self._sink.clear()
            self._begin()
        for chunk in response.iter_bytes():
            self._transfer.moved(len(chunk))
            self._sink.append(chunk)
            self._count(chunk)

    def _begin(self) -> None:
        self._size = 0
        self._hash = hashlib.sha256() if self._entry.sha256 else hashlib.sha1(b"blob %d\0" % self._entry.size)

    def _count(self, chunk: bytes) -> None:
        self._hash.update(chunk)
        self._size += len(chunk)


class Downloads:
    """Files of a Hub, some at once; each call ends when no byte moves, and does not last for ever.

    Args:
        api: The repository.
        told: Called with the number of bytes, each time that some arrived.
        at_once: How many files side by side.
        sleep: Waits for so many seconds.
    """

    def __init__(
        self, api: HubApi, told: Callable[[int], None], at_once: int, *, sleep: Callable[[float], None]
    ) -> None:
        self._api, self._told, self._at_once, self._sleep = api, told, at_once, sleep

    def each(self, found: Mapping[str, Found], bring: Callable[[Download, str], None]) -> None:
        """Call `bring` with the download of each file and the name that it has in `found`."""
        transfer = Transfer(self._told)

        def start(name: str) -> None:
            bring(Download(self._api, found[name], transfer=transfer, sleep=self._sleep), name)

        patience = self._api.patience
        calls = [partial(start, name) for name in found]
        within(
            patience.for_bytes(sum(at.entry.size for at in found.values())),
            f"{self._api}: {len(found)} files cannot be downloaded",
            partial(together, calls, self._at_once),
            transfer=transfer,
            stall_seconds=patience.stall_seconds,
        )

    def read(self, at: Snapshot, names: Sequence[str]) -> list[bytes]:
        """The bytes of small files."""
        return together([partial(self._api.read, name, at.oid) for name in names], self._at_once)
