"""Whether a folder can keep a store's promise, found out before a run depends on it."""

import contextlib
import errno
import secrets
from collections.abc import Generator, Iterable
from pathlib import Path

from dragoman.errors import InputError
from dragoman.store.base import MODEL_FILE
from dragoman.store.disk import PART, Disk
from dragoman.store.record import LOG

_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENOENT}
_NO_LINK = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


@contextlib.contextmanager
def refusing(folder: Path) -> Generator[None]:
    """Turn the system's refusal to write in `folder` into an `InputError` that names the path."""
    try:
        yield
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        raise InputError(
            f"{error.filename or folder}: cannot be written ({error.strerror})",
            "give an --output that this user may write to",
        ) from error


def refuse_strangers(root: Path, checkpoints: Iterable[Path]) -> None:
    """Without a record of ours no checkpoint is ours: we must neither write over one nor clean it away.

    Raises:
        InputError: There are checkpoints, or a model, and no log.
    """
    if any((root / LOG).glob("*.json")):
        return
    for path in [*checkpoints, root / MODEL_FILE]:
        if path.exists():
            raise InputError(
                f"{path}: already there, and not written by dragoman",
                "give another --output (to start from those weights, give that folder to --model)",
            )


def now(disk: Disk, folder: Path) -> float:
    """The time by the clock of the disk that `folder` is on, in seconds since 1970.

    Raises:
        OSError: The disk failed.
    """
    path = folder / f"clock-{secrets.token_hex(4)}{PART}"
    disk.write(path, [b""])
    try:
        return path.stat().st_mtime
    finally:
        disk.unlink(path)


def link(disk: Disk, folder: Path) -> None:
    """Prove that `link` works in `folder` and fails when the name is taken: one writer rests on it.

    Raises:
        InputError: It does not.
        OSError: The disk failed in another way.
    """
    first, second = (folder / f"probe-{secrets.token_hex(4)}{PART}" for _ in range(2))
    disk.write(first, [b"probe"])
    try:
        disk.link(first, second)
        disk.link(first, second)
    except FileExistsError:
        return
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
    finally:
        for path in (first, second):
            with contextlib.suppress(FileNotFoundError):
                disk.unlink(path)
    raise InputError(
        f"{folder}: this file system cannot create a name only if it is absent (no hard links)",
        "use another disk, or --single-writer if no other machine will ever write there",
    )
