"""One bucket, through obstore: every request to an object store is made here.

Each of them ends: with an answer, or as `StoreUnavailable` in one line of words. A failure
does not tell whether a change took effect, and a repeated request may meet its own success;
whoever has to know looks.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from dragoman.errors import Damaged, InputError, StoreUnavailable
from dragoman.store.deadline import Patience, Transfer, within
from dragoman.store.objects_failure import CREDENTIALS, Missing, Refused, explain
from dragoman.store.record import FileEntry

if TYPE_CHECKING:
    from typing_extensions import Buffer

T = TypeVar("T")

PART_BYTES = 8 << 20
"""Pieces in which large files travel. One that is cut is cheap to send again."""
STREAMS = 4
"""Pieces of a file that travel side by side: some 200 MB/s at S3, with 32 MiB in flight."""

_MAX_PARTS = 9_000  # S3 takes 10,000 of one object
_PAGE = 1000
_SHA256 = "sha256"
_NOT_FOUND, _NO_SUCH_RANGE = 404, 416
_RETRIES, _RETRY_SECONDS = 3, 45


@dataclass(frozen=True)
class Found:
    """An object, as the bucket tells of it."""

    path: str
    """Its name below the store's URL."""
    size: int
    """Length, in bytes."""
    modified: float
    """When it was stored, in seconds since 1970, by the bucket's clock."""
    sha256: str = ""
    """Digest of its bytes, noted by whoever stored it and kept by every copy; empty where nobody did, and in lists."""

    def holds(self, entry: FileEntry) -> bool:
        """Whether its bytes are these, as far as can be told without reading them."""
        return (self.size, self.sha256) == (entry.size, entry.sha256)


class Bucket:
    """The objects below a URL.

    Args:
        url: `s3://BUCKET/PREFIX`, `gs://…` or `az://CONTAINER/PREFIX`.
        options: Given to obstore: `config`, `client_options`, `retry_config`. What is not given
            is read by obstore itself, from the environment.
        patience: How long to wait.
        part_bytes: Size of the pieces in which large files travel.
        beat: Called before and after each request; requests of one file are made side by side.

    Raises:
        InputError: obstore is not installed, or does not take this URL or these settings.
    """

    def __init__(
        self,
        url: str,
        options: Mapping[str, Any] | None = None,
        patience: Patience | None = None,
        part_bytes: int = PART_BYTES,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self.url, self.beat = url, beat
        self.scheme = url.split("://")[0]
        """`s3`, `gs` or `az`."""
        self.patience = patience or Patience()
        self.part_bytes = part_bytes
        in_flight = STREAMS * part_bytes / self.patience.slowest_bytes_per_second
        self.stall_seconds = self.patience.stall_seconds + in_flight
        """How long nothing may move: on a slow line, pieces side by side take their time to arrive."""
        self.remote = _open(url, options or {}, self.patience.answer_seconds / 2)
        """For what is small."""
        self._bulk = _open(url, options or {}, self.stall_seconds)

    # --- looking ---------------------------------------------------------------------

    def look(self, path: str) -> Found | None:
        """What is stored under a path; None when nothing is."""

        def ask() -> Found:
            result = self.remote.get(path, options={"head": True})
            meta = result.meta
            noted = str(result.attributes.get(_SHA256, ""))
            return Found(path, meta["size"], meta["last_modified"].timestamp(), noted)

        return self._or_none(f"cannot ask for {path}", ask)

    def read(self, path: str) -> bytes | None:
        """The bytes of a small object; None when it is not there."""
        return self._or_none(f"cannot read {path}", lambda: bytes(self.remote.get(path).bytes()))

    def below(self, prefix: str, after: str = "") -> list[Found]:
        """Every object in a folder and its folders, in order of their names; only those behind `after`."""

        def ask() -> list[Found]:
            pages = self.remote.list(prefix, offset=after or None, chunk_size=_PAGE)
            return [_found(meta) for page in pages for meta in page]

        return sorted(self.ask(f"cannot list {prefix}", ask), key=lambda found: found.path)

    def top(self, prefix: str | None = None) -> tuple[list[str], list[Found]]:
        """Names of the folders, and the objects, that are directly in a folder; by default in that of the URL."""
        answer = self.ask("cannot be listed", lambda: self.remote.list_with_delimiter(prefix))
        return sorted(answer["common_prefixes"]), [_found(meta) for meta in answer["objects"]]

    def ranges(self, path: str, size: int, start: int = 0) -> Iterator[memoryview]:
        """The bytes of an object from `start` on, in order, while the next ones are on their way.

        Raises:
            Damaged: It is missing, or does not have this size.
        """
        if size == 0:
            self._expect(path, size, self._size(path))
        pieces = (
            lambda at=at: self._piece(path, at, min(at + self.part_bytes, size))
            for at in range(start, size, self.part_bytes)
        )
        for piece, found_size in _ahead(pieces):
            self._expect(path, size, found_size)
            yield memoryview(piece)

    def _piece(self, path: str, start: int, end: int) -> "tuple[Buffer, int]":
        """Some bytes of an object, and the size of all of it."""

        def ask() -> "tuple[Buffer, int]":
            result = self._bulk.get(path, options={"range": (start, end)})
            return result.bytes(), result.meta["size"]

        try:
            return self.ask(f"cannot read {path}", ask, self.stall_seconds)
        except Refused as refusal:
            if refusal.status not in (_NOT_FOUND, _NO_SUCH_RANGE):
                raise
            if start < (found_size := self._size(path)):
                raise  # it is there, so this is no damage
            return b"", found_size

    def _size(self, path: str) -> int:
        if found := self.look(path):
            return found.size
        # A portal in between answers 404 to everything. So what is missing is believed only of a list.
        if any(found.path == path for found in self.below(path.rpartition("/")[0])):
            raise StoreUnavailable(f"{self.url}: {path} is listed but not shown")
        raise Damaged(f"{self.url}/{path}: missing")

    def _expect(self, path: str, size: int, found_size: int) -> None:
        if found_size != size:
            raise Damaged(f"{self.url}/{path}: {found_size} bytes, recorded {size}")

    # --- changing --------------------------------------------------------------------

    def create(self, path: str, data: bytes) -> bool:
        """Store a small object if nothing has its name; whether that was so.

        False may also be our own success, when an answer was lost on the way.
        """
        from obstore.exceptions import AlreadyExistsError

        def ask() -> bool:
            try:
                self.remote.put(path, data, mode="create")
            except AlreadyExistsError:
                return False
            return True

        return self.ask(f"cannot create {path}", ask)

    def put(self, path: str, data: bytes) -> None:
        """Store a small object, whatever was there."""
        self.ask(f"cannot store {path}", lambda: self.remote.put(path, data))

    def upload(
        self, path: str, chunks: Iterable[bytes | memoryview], entry: FileEntry, transfer: Transfer, seconds: float
    ) -> None:
        """Store an object, whatever was there. It appears when it is whole, and not when `chunks` raises.

        Args:
            path: Where.
            chunks: Its bytes; raises at their end unless they are those of `entry`.
            entry: Its size and digest, which is noted beside it.
            transfer: Is told of the bytes by `chunks`; given up when they stand still.
            seconds: Longest time for all of it.
        """
        noted = {_SHA256: entry.sha256}
        part_bytes = max(self.part_bytes, -(-entry.size // _MAX_PARTS))

        def send() -> None:
            if entry.size <= part_bytes:
                self._bulk.put(path, b"".join(chunks), attributes=noted, use_multipart=False)
            else:
                self._bulk.put(path, iter(chunks), attributes=noted, chunk_size=part_bytes, max_concurrency=STREAMS)

        self.ask(f"cannot store {path}", send, seconds, transfer)

    def copy(self, old: str, new: str) -> None:
        """Give `new` the bytes of `old` and what is noted beside them, at once, without their coming here."""
        self.ask(f"cannot copy {old} to {new}", lambda: self._bulk.copy(old, new), self.stall_seconds)

    def delete(self, paths: Sequence[str]) -> None:
        """Remove objects. One that is gone already is no failure."""
        for start in range(0, len(paths), _PAGE):
            some = list(paths[start : start + _PAGE])
            if not self._or_none("cannot delete objects", lambda some=some: self.remote.delete(some) is None):
                for path in some:  # Azure and Google answer for the first that is gone, and leave the others
                    self._or_none(f"cannot delete {path}", lambda path=path: self.remote.delete(path))

    # --- parts -----------------------------------------------------------------------

    def _or_none(self, what: str, call: Callable[[], T], seconds: float = 0.0) -> T | None:
        try:
            return self.ask(what, call, seconds)
        except Missing:
            return None

    def ask(self, what: str, call: Callable[[], T], seconds: float = 0.0, transfer: Transfer | None = None) -> T:
        """The result of a request; what obstore raises becomes `StoreUnavailable`.

        Args:
            what: What cannot be done if it fails, in words.
            call: Makes it, in a thread that may be abandoned.
            seconds: Longest wait; that for an answer when not given.
            transfer: The bytes that it moves; it may not stand still.
        """
        from obstore.exceptions import BaseError

        what, seconds = f"{self.url}: {what}", seconds or self.patience.answer_seconds
        self.beat()
        try:
            return within(seconds, what, call, transfer=transfer, stall_seconds=self.stall_seconds)
        except (BaseError, FileNotFoundError) as error:
            raise explain(error, what, self.scheme) from None
        finally:
            self.beat()


def _open(url: str, options: Mapping[str, Any], seconds: float) -> Any:
    """A client whose requests take at most so long."""
    try:
        from obstore.exceptions import BaseError
        from obstore.store import from_url
    except ImportError as error:
        raise InputError(f"{url.split('://')[0]}:// needs obstore", "pip install 'dragoman[s3]'") from error
    # Plain http is used only where the person's own endpoint says so.
    client = {"timeout": timedelta(seconds=seconds), "allow_http": True} | dict(options.get("client_options", {}))
    retry = {"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=_RETRY_SECONDS)}
    retry |= dict(options.get("retry_config", {}))
    try:
        ask: Any = from_url  # its types are those of one kind of store at a time
        return ask(url, config=options.get("config"), client_options=client, retry_config=retry)
    except (BaseError, ValueError) as error:
        reason = str(error).split("\n")[0].removeprefix("Generic ")[:200]
        scheme = url.split("://")[0]
        hint = f"{scheme}://BUCKET/PATH" if "recognise URL" in reason else CREDENTIALS.get(scheme, "")
        raise InputError(f"{url}: obstore does not take it: {reason}", hint) from None


def _found(meta: Any) -> Found:
    return Found(meta["path"], meta["size"], meta["last_modified"].timestamp())


def _ahead(calls: Iterable[Callable[[], T]]) -> Iterator[T]:
    """The results of calls in their order, while the next ones are being made."""
    waiting: deque[Future[T]] = deque()
    for call in calls:
        future: Future[T] = Future()
        threading.Thread(target=_fulfil, args=(future, call), daemon=True).start()
        waiting.append(future)
        if len(waiting) == STREAMS:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _fulfil(future: "Future[T]", call: Callable[[], T]) -> None:
    try:
        future.set_result(call())
    except BaseException as error:
        future.set_exception(error)
