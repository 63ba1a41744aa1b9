"""From changes to the operations of a commit: files are hashed, and what was hashed is what is sent.

The operations of `huggingface_hub` remember what became of them, and one that is used twice
commits a record without its file. So each attempt to commit builds them anew, here.
"""

import contextlib
import copy
import io
from collections.abc import Callable, Generator, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO

from dragoman.errors import Damaged, StoreUnavailable
from dragoman.store.deadline import Transfer
from dragoman.store.hub_files import Add, Change, Copy, Remove

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete

    Operation = CommitOperationAdd | CommitOperationCopy | CommitOperationDelete


class Source(io.BufferedIOBase):
    """A file that the Hub's client reads: first to hash it, then, while `transfer` is set, to send it.

    That it is a file object and not a path also makes the client use LFS, which reads it
    piece by piece in this process, so that we can pace it, watch it and stop it.
    """

    def __init__(self, file: BinaryIO, beat: Callable[[], None]) -> None:
        super().__init__()
        self._file, self._beat = file, beat
        self.transfer: Transfer | None = None
        """What is told of every byte that is read, while they are sent."""

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes."""
        self._beat()
        data = self._file.read(-1 if size is None else size)
        if self.transfer:
            self.transfer.moved(len(data))
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go on reading from elsewhere."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """From where the next bytes are read."""
        return self._file.tell()

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def close(self) -> None:
        """Read nothing more."""
        self._file.close()
        super().close()


class Operations:
    """The operations of one attempt to commit. Not usable for a second one.

    Args:
        changes: What the commit is to change.
        lfs: Whether files are sent by LFS; else by Xet, which takes paths.
        beat: Called while files are hashed.

    Raises:
        Damaged: The bytes of a file are not those that were recorded.
        StoreUnavailable: A file cannot be read.
    """

    def __init__(self, changes: Sequence[Change], *, lfs: bool, beat: Callable[[], None]) -> None:
        from huggingface_hub import CommitOperationCopy, CommitOperationDelete

        self._open = contextlib.ExitStack()
        self._sources: list[Source] = []
        self.uploads: list[CommitOperationAdd] = []
        """Every file once, though it be added under two names."""
        self._twins: list[tuple[str, CommitOperationAdd]] = []
        self._others: list[Operation] = [
            CommitOperationDelete(change.path, is_folder=change.path.endswith("/"))
            for change in changes
            if isinstance(change, Remove)
        ]
        try:
            # By their bytes: see `rounds`. Those of another ending may go another way.
            first: dict[tuple[str, str], CommitOperationAdd] = {}
            for change in changes:
                if isinstance(change, Copy):
                    self._others.append(CommitOperationCopy(change.origin, change.path))
                elif isinstance(change, Add):
                    kind = (change.entry.sha256, PurePosixPath(change.path).suffix)
                    if kind in first:
                        self._twins.append((change.path, first[kind]))
                    else:
                        first[kind] = self._add(change, lfs, beat)
        except BaseException:
            self.close()
            raise

    def all(self) -> "list[Operation]":
        """What the commit consists of, once `uploads` were uploaded."""
        twins: list[CommitOperationAdd] = []
        for path, add in self._twins:
            twin = copy.copy(add)  # uploaded already, like the other one
            twin.path_in_repo = path
            twins.append(twin)
        return [*self._others, *self.uploads, *twins]

    @property
    def rounds(self) -> "list[list[CommitOperationAdd]]":
        """The uploads, to be made one list after the other: no list has two of the same bytes.

        The client knows an upload by its digest alone: two of its threads would read one of two equal files at once.
        """
        made: list[dict[str, CommitOperationAdd]] = []
        for add in self.uploads:
            digest = add.upload_info.sha256.hex()
            free = next((round_ for round_ in made if digest not in round_), None)
            if free is None:
                made.append(free := {})
            free[digest] = add
        return [list(round_.values()) for round_ in made]

    @property
    def num_bytes(self) -> int:
        """Size of all that is to be uploaded."""
        return sum(add.upload_info.size for add in self.uploads)

    @contextlib.contextmanager
    def sending(self, transfer: Transfer) -> Generator[None]:
        """For a `with` block: what is read is sent."""
        for source in self._sources:
            source.transfer = transfer
        yield
        for source in self._sources:
            source.transfer = None

    def close(self) -> None:
        """Close all files; an upload that was given up gets no more bytes."""
        self._open.close()

    def _add(self, change: Add, lfs: bool, beat: Callable[[], None]) -> "CommitOperationAdd":
        from huggingface_hub import CommitOperationAdd

        try:
            if isinstance(change.source, Path) and not lfs:
                content: Any = change.source
            else:
                file = io.BytesIO(change.source) if isinstance(change.source, bytes) else change.source.open("rb")
                content = source = self._open.enter_context(Source(file, beat))
                self._sources.append(source)
            add = CommitOperationAdd(change.path, content)
            sha256 = add.upload_info.sha256.hex()
        except OSError as error:
            raise StoreUnavailable(f"{change.source}: cannot be read: {error.strerror or error}") from error
        except ValueError as error:  # a path that is no file
            raise StoreUnavailable(f"{change.source}: cannot be read: {error}") from error
        if (add.upload_info.size, sha256) != (change.entry.size, change.entry.sha256):
            raise Damaged(f"{change.source}: its bytes are not those that were recorded")
        self.uploads.append(add)
        return add


@contextlib.contextmanager
def no_bars() -> Generator[None]:
    """The client's progress bars are for people at a terminal of their own."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
