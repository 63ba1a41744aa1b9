"""One trainer per run folder on this machine, held by the kernel and freed by death.

This guards against two processes here; the lease guards against another machine.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Generator
from pathlib import Path

from dragoman.errors import InputError

_held: set[int] = set()


def _close_in_child() -> None:
    # A forked data worker shares the lock and would keep it alive after the trainer's death.
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_close_in_child)


@contextlib.contextmanager
def hold(path: Path, wait_seconds: float = 1.0, doing: str = "training in this folder") -> Generator[None]:
    """Hold the lock file at `path` for the length of a `with` block.

    Args:
        path: The lock file; its folder exists. Its content is the holder's process id.
        wait_seconds: How long a holder may take to go away; a look by `holder` is one, for an instant.
        doing: What the holder is said to do.

    Raises:
        InputError: Another process holds it (names its process id), or there are no locks here.
        OSError: The file cannot be written.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _wait(descriptor, path, wait_seconds, doing)
    except BaseException:
        os.close(descriptor)
        raise
    _held.add(descriptor)
    try:
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        if descriptor in _held:  # else this is a forked child, which closed it at its birth
            _held.remove(descriptor)
            os.close(descriptor)


def holder(path: Path) -> int | None:
    """Process id of whoever holds the lock file at `path`; None when nobody does."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        return None if _try(descriptor, fcntl.LOCK_SH) else _pid(descriptor)
    finally:
        os.close(descriptor)


def _wait(descriptor: int, path: Path, wait_seconds: float, doing: str) -> None:
    deadline = time.monotonic() + wait_seconds
    while not _try(descriptor, fcntl.LOCK_EX):
        if time.monotonic() >= deadline:
            pid = _pid(descriptor)
            raise InputError(
                f"{path.parent.parent}: process {pid} is {doing}",
                f"wait for it, stop it (kill {pid}), or give another --output",
            )
        time.sleep(0.05)


def _try(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise InputError(
            f"this file system has no locks ({error.strerror})", "use another disk for --output"
        ) from error
    return True


def _pid(descriptor: int) -> int:
    """The process id in the lock file; 0 in the instant before the holder has written it."""
    return int(os.pread(descriptor, 20, 0) or b"0")
