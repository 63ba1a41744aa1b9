"""Files by path, and what operations make of them."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple


class Entry(NamedTuple):
    """One file in a tree."""

    size: int
    blob: str
    """Git's name of the file; of its pointer, when it is in LFS."""
    lfs: str | None = None
    """SHA-256 of the contents, when they are in LFS."""


class Operation(NamedTuple):
    """What a commit does to one path."""

    kind: str
    """`add`, `add_lfs`, `delete` or `delete_folder`."""
    path: str
    entry: Entry | None = None


class NoSuchEntry(Exception):
    """A path to be deleted is not in the tree."""


def git_oid(data: bytes) -> str:
    """Git's name of a file with these contents."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def pointer(oid: str, size: int) -> bytes:
    """The file that Git keeps in place of an LFS object."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n".encode()


def after(tree: Mapping[str, Entry], operations: Iterable[Operation]) -> dict[str, Entry]:
    """The tree that operations make of another one, in their order.

    Raises:
        NoSuchEntry: Something is to be deleted that is not there.
    """
    new = dict(tree)
    for kind, path, entry in operations:
        if entry is not None:
            new[path] = entry
            continue
        prefix = path.rstrip("/") + "/"
        gone = [path] if kind == "delete" else [name for name in new if name.startswith(prefix)]
        if not gone or gone[0] not in new:
            raise NoSuchEntry(path)
        for name in gone:
            del new[name]
    return new
