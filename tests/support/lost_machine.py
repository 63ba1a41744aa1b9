"""Disks that lose the machine, or run full, before any single change that is chosen.

    disk = LosingDisk(tmp_path, lose_before=14)
    try:
        work(FolderStore(tmp_path / "run", disk))
    except MachineLost:
        left = disk.survivors("power_cut", another_empty_folder)    # and look at left / "run"

Count the changes with `lose_before=None` first, then lose the machine before each of
them. `LosingDisk` knows what survives by keeping its own model of the disk: what a file
contained at its last fsync, which names a folder had at its last fsync.
"""

import errno
import os
import random
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Literal

from dragoman.store.disk import Disk

Loss = Literal["killed", "power_cut", "power_cut_reordered"]
LOSSES: tuple[Loss, ...] = ("killed", "power_cut", "power_cut_reordered")


class MachineLost(BaseException):
    """The machine is gone. Not an Exception, so that no handler can mistake it for an error."""


class WatchedDisk(Disk):
    """A disk that counts every single change; subclasses decide in `_before` what happens to it."""

    def __init__(self) -> None:
        self.changes: list[str] = []
        """What was changed, in order; the change that was prevented is the last one."""

    def _before(self, kind: str, path: Path) -> None:
        self.changes.append(f"{kind} {path}")

    def make_folder(self, path: Path) -> None:
        self._before("make_folder", path)
        super().make_folder(path)

    def create(self, path: Path) -> FileIO:
        self._before("create", path)
        return super().create(path)

    def append(self, file: FileIO, chunk: memoryview) -> None:
        # In two halves, so that the machine is also lost in the middle of a chunk.
        for half in (chunk[: len(chunk) // 2], chunk[len(chunk) // 2 :]):
            self._before("append", Path(os.fsdecode(file.name)))
            super().append(file, half)
            self._appended(Path(os.fsdecode(file.name)), half)

    def _appended(self, path: Path, half: memoryview) -> None:
        pass

    def sync(self, file: FileIO) -> None:  # The real fsync would only cost time: the machine under the test stays.
        self._before("sync", Path(os.fsdecode(file.name)))

    def sync_file(self, path: Path) -> None:
        self._before("sync_file", path)
        path.stat()

    def sync_folder(self, path: Path) -> None:
        self._before("sync_folder", path)
        assert path.is_dir(), path

    def rename(self, old: Path, new: Path) -> None:
        self._before("rename", new)
        super().rename(old, new)

    def link(self, old: Path, new: Path) -> None:
        self._before("link", new)
        super().link(old, new)

    def unlink(self, path: Path) -> None:
        self._before("unlink", path)
        super().unlink(path)

    def remove_folder(self, path: Path) -> None:
        self._before("remove_folder", path)
        super().remove_folder(path)


class FullDisk(WatchedDisk):
    """A disk without space (ENOSPC) from change `full_before` (the first is 1) on, until `free`.

    Removing goes on working, everything else needs space. With `once`, one change fails and no more.
    """

    def __init__(self, full_before: int | None, *, once: bool = False) -> None:
        super().__init__()
        self._full_before = full_before
        self.once = once
        """Whether only one change fails."""
        self.refused = 0
        """How many changes failed."""

    def fill(self, changes_from_now: int) -> None:
        """Have no space before that change, counted from now (the next is 1)."""
        self._full_before = len(self.changes) + changes_from_now

    def free(self) -> None:
        """Space is back."""
        self._full_before = None

    def _before(self, kind: str, path: Path) -> None:
        super()._before(kind, path)
        if self._full_before is None or len(self.changes) < self._full_before or kind in ("unlink", "remove_folder"):
            return
        self.refused += 1
        if self.once:
            self.free()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


@dataclass
class _File:
    """Files only grow, so what is durable is a length."""

    live: bytearray = field(default_factory=bytearray)
    num_durable: int = 0


@dataclass
class _Folder:
    live: "dict[str, _File | _Folder]" = field(default_factory=lambda: {})
    durable: "dict[str, _File | _Folder]" = field(default_factory=lambda: {})


class LosingDisk(WatchedDisk):
    """A disk whose machine is lost before change `lose_before` (the first is 1), and stays lost.

    Args:
        base: The folder that the model covers; what is in it now is durable. Changes
            elsewhere are counted, not modelled.
        lose_before: Number of the change that does not happen; None loses nothing.
        restarted: The disk of a process that was killed on this machine before: what it
            had not fsynced is still there and still not durable.
    """

    def __init__(self, base: Path, lose_before: int | None = None, *, restarted: "LosingDisk | None" = None) -> None:
        super().__init__()
        self._base = base
        self._lose_before = lose_before
        self._tree = restarted._tree if restarted else _read_tree(base)

    def survivors(self, loss: Loss, into: Path, seed: int = 0) -> Path:
        """What another life finds on this disk: `base` itself, or `into` filled with what survived.

        * `killed`: only the process is gone; everything written is there.
        * `power_cut`: everything since the last fsync is gone: names are those of the folder's
          last fsync, content that was not fsynced is cut in half.
        * `power_cut_reordered`: each change of a name since the folder's last fsync has
          reached the disk or not, by chance (`seed`); content not fsynced is zeros.
        """
        if loss == "killed":
            return self._base
        chance = random.Random(seed) if loss == "power_cut_reordered" else None
        _materialise(self._tree, into, chance)
        return into

    def check_model(self) -> None:
        """Fail if anything under `base` was changed past this disk."""
        assert _tree_bytes(self._tree) == _tree_bytes(_read_tree(self._base))

    def _before(self, kind: str, path: Path) -> None:
        super()._before(kind, path)
        if self._lose_before is not None and len(self.changes) >= self._lose_before:
            raise MachineLost(f"before change {self._lose_before}: {self.changes[self._lose_before - 1]}")

    def _folder(self, path: Path) -> _Folder:
        if not path.is_relative_to(self._base):
            return _Folder()  # not modelled
        node = self._tree
        for name in path.relative_to(self._base).parts:
            child = node.live[name]
            assert isinstance(child, _Folder)
            node = child
        return node

    def _file(self, path: Path) -> _File:
        node = self._folder(path.parent).live.get(path.name, _File())
        assert isinstance(node, _File)
        return node

    def make_folder(self, path: Path) -> None:
        super().make_folder(path)
        self._folder(path.parent).live[path.name] = _Folder()

    def create(self, path: Path) -> FileIO:
        file = super().create(path)
        self._folder(path.parent).live[path.name] = _File()
        return file

    def _appended(self, path: Path, half: memoryview) -> None:
        self._file(path).live += half

    def sync(self, file: FileIO) -> None:
        super().sync(file)
        node = self._file(Path(os.fsdecode(file.name)))
        node.num_durable = len(node.live)

    def sync_file(self, path: Path) -> None:
        super().sync_file(path)
        node = self._file(path)
        node.num_durable = len(node.live)

    def sync_folder(self, path: Path) -> None:
        super().sync_folder(path)
        node = self._folder(path)
        node.durable = dict(node.live)

    def rename(self, old: Path, new: Path) -> None:
        super().rename(old, new)
        self._folder(new.parent).live[new.name] = self._folder(old.parent).live.pop(old.name)

    def link(self, old: Path, new: Path) -> None:
        super().link(old, new)
        self._folder(new.parent).live[new.name] = self._file(old)

    def unlink(self, path: Path) -> None:
        super().unlink(path)
        self._folder(path.parent).live.pop(path.name, None)

    def remove_folder(self, path: Path) -> None:
        super().remove_folder(path)
        self._folder(path.parent).live.pop(path.name, None)


def _read_tree(folder: Path) -> _Folder:
    found = _Folder()
    for path in folder.iterdir():
        if path.is_dir():
            found.live[path.name] = _read_tree(path)
        else:
            data = bytearray(path.read_bytes())
            found.live[path.name] = _File(data, len(data))
    found.durable = dict(found.live)
    return found


def _tree_bytes(folder: _Folder) -> dict[str, object]:
    return {name: node.live if isinstance(node, _File) else _tree_bytes(node) for name, node in folder.live.items()}


def _materialise(folder: _Folder, into: Path, chance: random.Random | None) -> None:
    into.mkdir(exist_ok=True)
    for name in sorted(folder.live.keys() | folder.durable.keys()):
        before, now = folder.durable.get(name), folder.live.get(name)
        node = now if chance is not None and chance.random() < 0.5 else before
        if isinstance(node, _Folder):
            _materialise(node, into / name, chance)
        elif isinstance(node, _File):
            num_lost = len(node.live) - node.num_durable
            rest = bytes(node.live[node.num_durable :])[: num_lost // 2] if chance is None else bytes(num_lost)
            (into / name).write_bytes(bytes(node.live[: node.num_durable]) + rest)
