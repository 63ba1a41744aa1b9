"""From what a person types to a store: URLs, folders, and USER/REPO on the Hub."""

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dragoman.errors import InputError
from dragoman.store.base import Store
from dragoman.store.disk import Disk
from dragoman.store.local import FolderStore

HUB, FILE = "hf://", "file://"
OBJECTS = ("s3://", "gs://", "az://")
_REPO = re.compile(r"[\w.-]+/[\w.-]+")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def _nothing(*_: object) -> None:
    pass


@dataclass(frozen=True)
class Access:
    """How a store is used."""

    single_writer: bool = False
    """The user's word that nobody else ever writes there."""
    public: bool = False
    """A new Hub repository is made public."""
    commits_per_hour: int = 30
    """Commits to a Hub repository."""
    bytes_per_second: float | None = None
    """Cap of the uploads; None for none."""
    beat: Callable[[], None] = _nothing
    """Called whenever something moves, so that a watchdog knows that we live."""
    progress: Callable[[int], None] = _nothing
    """Told of bytes that have arrived."""


def named(text: str) -> str:
    """The URL of what may also be USER/REPO on the Hub: a folder that is there, else a repository.

    Raises:
        InputError: It is none of these.
    """
    if _SCHEME.match(text) or Path(text).expanduser().is_dir() or not _REPO.fullmatch(text):
        return normal(text)
    return f"{HUB}{text}"


def normal(text: str) -> str:
    """The URL of a store as it is written everywhere: a scheme, and for a folder its absolute path.

    Raises:
        InputError: The scheme is unknown, or what stands behind it has not its form.
    """
    scheme = _SCHEME.match(text)
    if scheme is None:
        return f"{FILE}{Path(text).expanduser().absolute()}"
    kind, rest = scheme[0].lower(), text[scheme.end() :]
    if kind == FILE:
        if not rest.startswith("/"):
            raise InputError(f"{text}: a file URL has three slashes", f"file:///{rest}")
        return f"{FILE}{Path(rest)}"
    if kind == HUB:
        if not _REPO.fullmatch(rest.rstrip("/")):
            raise InputError(f"{text}: not a repository of the Hub", "hf://USER/REPO")
        return f"{HUB}{rest.rstrip('/')}"
    if kind in OBJECTS:
        if not rest.strip("/"):
            raise InputError(f"{text}: names no bucket", f"{kind}BUCKET/PATH")
        return f"{kind}{rest.strip('/')}"
    known = [HUB, *OBJECTS, FILE]
    near = difflib.get_close_matches(kind, known, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise InputError(f"{text}: unknown kind of store {kind}", f"{hint}{' '.join(known)} or a folder")


def open_store(url: str, access: Access, disk: Disk | None = None) -> Store:
    """The store at a URL; nothing is asked of it yet.

    Args:
        url: As `normal` gives it.
        access: How it is used.
        disk: Makes every change to a disk of this machine.

    Raises:
        InputError: A package that it needs is not installed.
    """
    if url.startswith(HUB):
        from dragoman.store.hub import HubStore

        hub = HubStore(
            url.removeprefix(HUB),
            public=access.public,
            commits_per_hour=access.commits_per_hour,
            upload_bytes_per_second=access.bytes_per_second,
            disk=disk,
        )
        hub.beat, hub.progress = access.beat, access.progress
        return hub
    if url.startswith(OBJECTS):
        from dragoman.store.objects import ObjectStore

        objects = ObjectStore(
            url, single_writer=access.single_writer, disk=disk, upload_bytes_per_second=access.bytes_per_second
        )
        objects.beat, objects.progress = access.beat, access.progress
        return objects
    return FolderStore(Path(url.removeprefix(FILE)), disk, single_writer=access.single_writer)
