"""A run folder on the disk of a simulated machine: real files, in memory, and no fsync."""

from collections.abc import Callable
from io import FileIO
from pathlib import Path

from dragoman.store.disk import Disk
from dragoman.store.local import FolderStore


class PointDisk(Disk):
    """A disk at each change of which another process may go on, or this one die. It has no power cuts."""

    def __init__(self, point: Callable[[], None]) -> None:
        self._point = point

    def make_folder(self, path: Path) -> None:
        self._point()
        super().make_folder(path)

    def create(self, path: Path) -> FileIO:
        self._point()
        return super().create(path)

    def sync(self, file: FileIO) -> None:
        pass

    def sync_file(self, path: Path) -> None:
        pass

    def sync_folder(self, path: Path) -> None:
        pass

    def rename(self, old: Path, new: Path) -> None:
        self._point()
        super().rename(old, new)

    def link(self, old: Path, new: Path) -> None:
        self._point()
        super().link(old, new)

    def unlink(self, path: Path) -> None:
        self._point()
        super().unlink(path)

    def remove_folder(self, path: Path) -> None:
        self._point()
        super().remove_folder(path)


class RunFolder(FolderStore):
    """A run folder whose lock is held by a simulated trainer."""

    def __init__(self, root: Path, disk: PointDisk, is_training: Callable[[], bool]) -> None:
        super().__init__(root, disk)
        self._is_training = is_training

    def locked(self) -> int | None:
        return 1 if self._is_training() else None
