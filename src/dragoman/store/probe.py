"""Whether a folder can keep a store's promise, found out before a run depends on it."""

import contextlib
import errno
import secrets
from collections.abc import Generator
from pathlib import Path

from dragoman.errors import InputError
from dragoman.store.disk import PART, Disk

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
