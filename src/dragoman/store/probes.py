"""Trials of a store before a run depends on it, each with a file or two that are gone afterwards.

A trial writes where a run writes and by the same requests. What it leaves, when it is
killed, lies under `dragoman/probe-*`; no reader takes it for anything.
"""

import secrets
from collections.abc import Sequence
from contextlib import suppress
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Protocol

from dragoman.errors import InputError, StoreUnavailable
from dragoman.store import probe
from dragoman.store.address import FILE, HUB
from dragoman.store.deadline import Patience, Transfer, within
from dragoman.store.disk import PART, Disk
from dragoman.store.hub_access import Tokens
from dragoman.store.hub_api import HubApi
from dragoman.store.hub_files import Add, Remove, in_memory
from dragoman.store.objects_bucket import Bucket
from dragoman.store.objects_failure import NOT_IMPLEMENTED, Refused
from dragoman.store.outcome import MOVED_ON, NOT_FOUND, HubFailure

PATIENCE = Patience(answer_seconds=30.0, stall_seconds=30.0, transfer_seconds=60.0)
"""Somebody waits for the answer at a terminal."""
_TRIES = 3


class Probe(Protocol):
    """The trials of one store, in the order in which they are made.

    All of them may raise `StoreUnavailable` or `InputError`, which say what the store refuses.
    """

    def is_there(self) -> bool:
        """Whether there is something to write to."""
        ...

    def write(self, data: bytes) -> None:
        """Store a file, as the large ones of a checkpoint are stored."""
        ...

    def read(self) -> bytes:
        """The file's bytes again."""
        ...

    def keeps_one_writer(self) -> bool:
        """Whether of two writers, who both saw the same state, the store refuses the second."""
        ...

    def clock(self) -> float:
        """What time it is there, in seconds since 1970."""
        ...

    def clear(self) -> None:
        """Remove all that was written, and give its space back."""
        ...


def open_probe(url: str) -> Probe:
    """The trials of the store at a URL, as `address.normal` gives it.

    Raises:
        InputError: A package that it needs is not installed, or the URL is not taken.
    """
    if url.startswith(HUB):
        return HubProbe(url.removeprefix(HUB))
    if url.startswith(FILE):
        return FolderProbe(Path(url.removeprefix(FILE)))
    return ObjectsProbe(url)


def _new_name() -> str:
    return f"dragoman/probe-{secrets.token_hex(8)}"


class FolderProbe:
    """Trials of a folder; one that is not there is made and goes again."""

    def __init__(self, root: Path, disk: Disk | None = None) -> None:
        self._file = root / f"{_new_name()}{PART}"
        self._disk = disk or Disk()
        self._made: list[Path] = []

    def is_there(self) -> bool:
        """Always: a folder can be made, unless writing says no."""
        return True

    def write(self, data: bytes) -> None:
        """See `Probe`."""
        self._made = [folder for folder in self._file.parents if not folder.exists()]
        with probe.refusing(self._file.parent):
            self._disk.make_folders(self._file.parent)
            self._write(data)

    def read(self) -> bytes:
        """See `Probe`."""
        return self._file.read_bytes()

    def keeps_one_writer(self) -> bool:
        """See `Probe`. Of two links to one name the second fails."""
        try:
            probe.link(self._disk, self._file.parent)
        except InputError:
            return False
        return True

    def clock(self) -> float:
        """See `Probe`. The time that the file system gives a file."""
        self._write(b"now")
        return self._file.stat().st_mtime

    def clear(self) -> None:
        """See `Probe`."""
        with suppress(FileNotFoundError):
            self._disk.unlink(self._file)
        for folder in self._made:
            with suppress(OSError):
                self._disk.remove_folder(folder)

    def _write(self, data: bytes) -> None:
        try:
            self._disk.write(self._file, [data])
        except PermissionError:
            raise
        except OSError as error:
            raise StoreUnavailable(f"{self._file.parent}: cannot be written: {error.strerror or error}") from error


class ObjectsProbe:
    """Trials of a bucket."""

    def __init__(self, url: str) -> None:
        self._bucket = Bucket(url, patience=PATIENCE)
        self._names = [_new_name(), _new_name(), _new_name()]

    def is_there(self) -> bool:
        """See `Probe`. A bucket that is not there raises, for nobody but its owner makes one."""
        self._bucket.top()
        return True

    def write(self, data: bytes) -> None:
        """See `Probe`."""
        self._bucket.put(self._names[0], data)

    def read(self) -> bytes:
        """See `Probe`."""
        return self._bucket.read(self._names[0]) or b""

    def keeps_one_writer(self) -> bool:
        """See `Probe`. Of two creations of one name the second fails."""
        try:
            self._bucket.create(self._names[1], b"first")
            return not self._bucket.create(self._names[1], b"second")
        except Refused as refusal:
            if refusal.status != NOT_IMPLEMENTED:
                raise
            return False

    def clock(self) -> float:
        """See `Probe`. The time that the bucket gives an object."""
        self._bucket.put(self._names[2], b"now")
        found = self._bucket.look(self._names[2])
        if found is None:
            raise StoreUnavailable(f"{self._bucket.url}: does not show what was stored")
        return found.modified

    def clear(self) -> None:
        """See `Probe`."""
        self._bucket.delete(self._names)


class HubProbe:
    """Trials of a repository: two commits, and one that must be refused."""

    def __init__(self, repo_id: str) -> None:
        self.tokens = Tokens()
        """Which token is sent."""
        self.api = HubApi(repo_id, endpoint=None, tokens=self.tokens, patience=PATIENCE, beat=lambda: None)
        """The repository."""
        # Its ending makes the Hub take it as it takes weights: apart from Git.
        self._path, self._other = f"{_new_name()}.bin", _new_name()
        self._before = self._oid = self._sha256 = ""

    def is_there(self) -> bool:
        """See `Probe`."""
        return self.api.head() is not None

    def write(self, data: bytes) -> None:
        """See `Probe`."""
        entry = in_memory(data)
        self._sha256 = entry.sha256
        for attempt in range(_TRIES):
            self._before = self._head()
            try:
                self._oid = self._commit([Add(self._path, data, entry)], self._before)
                return
            except HubFailure as failure:
                if failure.status != MOVED_ON or attempt == _TRIES - 1:
                    raise

    def read(self) -> bytes:
        """See `Probe`."""
        return self.api.read(self._path, self._oid)

    def keeps_one_writer(self) -> bool:
        """See `Probe`. Of two commits on one parent the second is refused."""
        try:
            self._commit([Add(self._other, b"second", in_memory(b"second"))], self._before)
        except HubFailure as failure:
            if failure.status != MOVED_ON:
                raise
            return True
        return False

    def clock(self) -> float:
        """See `Probe`. The time that stands above every answer, in whole seconds."""
        return hub_time()

    def clear(self) -> None:
        """See `Probe`."""
        for attempt in range(_TRIES):
            parent = self._head()
            there = self.api.tree(parent)
            left = [Remove(path) for path in (self._path, self._other) if path in there]
            try:
                if left:
                    self._commit(left, parent)
                break
            except HubFailure as failure:
                if failure.status != MOVED_ON or attempt == _TRIES - 1:
                    raise
        if self._sha256 and (blobs := [blob for blob in self.api.blobs() if blob.sha256 == self._sha256]):
            self.api.free(blobs)

    def _head(self) -> str:
        head = self.api.head()
        if head is None:
            raise HubFailure(f"{self.api}: it is gone, or hidden from this token", status=NOT_FOUND)
        return head

    def _commit(self, changes: Sequence[Add | Remove], parent: str) -> str:
        transfer = Transfer(lambda num_bytes: None)
        return self.api.commit(changes, "dragoman doctor: a probe", parent, transfer=transfer)


def hub_time() -> float:
    """What time it is at the Hub, in seconds since 1970.

    Raises:
        StoreUnavailable: It does not say.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    def ask() -> float:
        answer = get_session().head(f"{constants.ENDPOINT}/api/models", timeout=PATIENCE.answer_seconds)
        return parsedate_to_datetime(answer.headers["Date"]).timestamp()

    try:
        return within(PATIENCE.answer_seconds, "the time cannot be asked", ask)
    except StoreUnavailable:
        raise
    except Exception as error:
        raise StoreUnavailable(f"{constants.ENDPOINT}: the time cannot be asked ({type(error).__name__})") from None
