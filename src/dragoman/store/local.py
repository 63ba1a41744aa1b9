"""A store in a folder: the run folder itself, another disk, or a mount.

Four steps make a checkpoint: its files are fsynced, they are renamed into its folder,
the folders that hold their names are fsynced, and only then the record gets its name,
by `link`, which fails if another record has it.
"""

import contextlib
import errno
import math
import os
import re
from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from pathlib import Path

from dragoman.errors import Damaged, StoreUnavailable
from dragoman.store import lock, probe, root
from dragoman.store.base import MODEL_FILE
from dragoman.store.disk import PART, Disk, digest, part
from dragoman.store.folder_log import FolderLog
from dragoman.store.record import LOG, TRAINING, CheckpointRecord, DropRecord, FileEntry, Record, TrimRecord

STAGING = "dragoman/staging"
INBOX = "dragoman/inbox"
"""Where files from another store arrive; a download that was cut goes on there."""
LOCK = "dragoman/lock"

_CHECKPOINT = re.compile(r"checkpoint-\d+(-[0-9a-f]+)?")
_DAMAGE = {
    errno.ENOENT: "missing",
    errno.ENOTDIR: "missing",
    errno.EISDIR: "missing, a folder is in its place",
    errno.EIO: "the disk cannot read it",
}


class FolderStore:
    """The store in the folder `root`.

    Args:
        root: Its folder; made by `prepare`.
        disk: Makes every change.
        single_writer: The user's word that nobody else ever writes here, for file systems
            without `link`.
    """

    def __init__(self, root: Path, disk: Disk | None = None, *, single_writer: bool = False) -> None:
        self.root = root
        self.disk = disk or Disk()
        self._single_writer = single_writer
        self._log = FolderLog(self.disk, root, single_writer=single_writer)

    def __str__(self) -> str:
        return str(self.root)

    # --- before a session ------------------------------------------------------------

    def prepare(self) -> None:
        """Make the folder, and prove that this file system can keep a store's promise.

        Raises:
            InputError: It cannot be written, has no `link`, or holds checkpoints that are not ours.
            StoreUnavailable: The disk failed, for instance because it is full.
        """
        with self._failing_as("cannot be prepared"), probe.refusing(self.root):
            for name in (LOG, STAGING):
                self.disk.make_folders(self.root / name)
            # Also where nothing is new: who made these folders may have been killed before the fsync.
            for folder in (self.root / "dragoman", self.root):
                self.disk.sync_folder(folder)
            for folder in self.root.absolute().parents:
                with contextlib.suppress(OSError):  # not ours, so perhaps not readable either
                    self.disk.sync_folder(folder)
            if not self._single_writer:
                probe.link(self.disk, self.root / "dragoman")
        probe.refuse_strangers(self.root, self._checkpoint_folders())

    def lock(self, wait_seconds: float = 1.0) -> contextlib.AbstractContextManager[None]:
        """Keep every other trainer on this machine out of this (prepared) folder, for a `with` block.

        The kernel frees it when this process dies, however it dies.

        Raises:
            InputError: Another process holds it; names its process id.
        """
        return lock.hold(self.root / LOCK, wait_seconds)

    def locked(self) -> int | None:
        """Process id of the trainer that is alive in this folder; None when there is none."""
        return lock.holder(self.root / LOCK)

    # --- a save ----------------------------------------------------------------------

    def staging(self, nonce: str) -> Path:
        """An empty folder in which to write the files of the checkpoint `nonce` before it is published."""
        folder = self.root / STAGING / nonce
        with self._failing_as("cannot stage a checkpoint"):
            self._remove_tree(folder)
            self.disk.make_folders(folder)
        return folder

    def publish(
        self, records: Sequence[Record], files: Mapping[str, Path], root: CheckpointRecord | None = None
    ) -> None:
        """See `Store`. Files in staging or inbox are moved, all others copied; they are fsynced either way."""
        for record in records:
            self._publish(record, files if record is records[0] else {})
        if root:
            self.publish_root(root)

    def _publish(self, record: Record, files: Mapping[str, Path]) -> None:
        with self._failing_as(f"{record.kind} record {record.seq} is not safe"):
            if not self._log.has(record):
                if isinstance(record, CheckpointRecord):
                    self._place_files(record, files)
                self._log.add(record)
            self._log.sync()
        # It is published: what fails from here on is debris, and `held` finds it.
        with contextlib.suppress(OSError):
            self._log.forget(record)
            if isinstance(record, CheckpointRecord):
                for place in (STAGING, INBOX):
                    self._remove_tree(self.root / place / record.nonce)

    def publish_root(self, checkpoint: CheckpointRecord) -> None:
        """See `Store`. The root's model is the checkpoint's own file under a second name, or a copy."""
        with self._failing_as(f"the model of step {checkpoint.step} is not published"):
            root.publish(self.disk, self.root, checkpoint, linked=not self._single_writer)

    def keep(self, files: Mapping[str, Path]) -> None:
        """See `Store`."""
        with self._failing_as("files of the run cannot be kept"):
            for name, source in files.items():
                target = self.root / name
                if not target.exists() or target.stat().st_size != source.stat().st_size:
                    self._copy(source, target)

    def claim(self, name: str, data: bytes) -> bytes:
        """See `Store`."""
        with self._failing_as(f"{name} cannot be claimed"):
            return self._log.claim(name, data)

    # --- reading ---------------------------------------------------------------------

    def records(self, after: int = 0) -> list[Record]:
        """See `Store`."""
        with self._failing_as("its log cannot be read"):
            return self._log.records(after)

    def verify(self, checkpoint: CheckpointRecord, names: Iterable[str] | None = None) -> None:
        """See `Store`. Reads every byte."""
        for name in checkpoint.files if names is None else names:
            path = self.root / checkpoint.folder / name
            with self._failing_as(f"{path} cannot be read"):
                try:
                    problem = _difference(digest(path), checkpoint.files[name])
                except OSError as error:
                    if error.errno not in _DAMAGE:
                        raise
                    problem = _DAMAGE[error.errno]
            if problem:
                raise Damaged(f"{path}: {problem}")

    def fetch(self, checkpoint: CheckpointRecord, names: Iterable[str], into: Path) -> None:
        """See `Store`."""
        for name in names:
            source, target, entry = self.root / checkpoint.folder / name, into / name, checkpoint.files[name]
            with self._failing_as(f"{source} cannot be fetched"):
                if target.is_file() and digest(target) == entry:
                    continue
                if not source.is_file():
                    raise Damaged(f"{source}: missing")
                if problem := _difference(self._copy(source, target, entry), entry):
                    raise Damaged(f"{source}: {problem}")

    def kept(self, prefix: str) -> list[str]:
        """See `Store`."""
        with self._failing_as("cannot be listed"):
            found = (path for path in _tree(self.root / prefix) if path.is_file() and not path.name.endswith(PART))
            return sorted(path.relative_to(self.root).as_posix() for path in found)

    def bring(self, names: Iterable[str], into: Path) -> None:
        """See `Store`."""
        with self._failing_as("files of the run cannot be brought"):
            for name in names:
                self._copy(self.root / name, into / name)

    def idle_seconds(self) -> float:
        """See `Store`. Both times are given by the disk that the folder is on."""
        with self._failing_as("the time cannot be asked"):
            records = [path.stat().st_mtime for path in (self.root / LOG).glob("*.json")]
            return max(0.0, probe.now(self.disk, self.root / "dragoman") - max(records)) if records else math.inf

    def num_bytes(self) -> int:
        """See `Store`. A file with two names counts once; what belongs to this machine does not count."""
        with self._failing_as("cannot be measured"):
            tops = [*self._checkpoint_folders(), self.root / LOG, self.root / MODEL_FILE]
            found = [path for top in tops if top.exists() for path in _tree(top) if path.is_file()]
            return sum({(stat.st_dev, stat.st_ino): stat.st_size for stat in map(Path.stat, found)}.values())

    def pause_seconds(self) -> float:
        """See `Store`. A disk takes all that is written."""
        return 0.0

    # --- removing --------------------------------------------------------------------

    def remove(self, gone: DropRecord | TrimRecord, freed: Collection[str] = ()) -> None:
        """See `Store`."""
        with self._failing_as("dropped checkpoints cannot be removed"):
            for name in gone.checkpoints.values():
                folder = self.root / name
                self._remove_tree(folder / TRAINING if isinstance(gone, TrimRecord) else folder)
                if isinstance(gone, TrimRecord) and folder.is_dir():
                    self.disk.sync_folder(folder)
            self.disk.sync_folder(self.root)

    def held(self) -> list[str]:
        """See `Store`."""
        with self._failing_as("cannot be listed"):
            tops = [*self._checkpoint_folders(), *(self.root / STAGING).iterdir()]
            found = [path for top in tops for path in _tree(top)]
            for folder in (self.root, self.root / "dragoman", self.root / LOG):
                found += [path for path in folder.iterdir() if path.name.endswith(PART)]
            return [path.relative_to(self.root).as_posix() for path in found]

    def discard(self, paths: Iterable[str]) -> None:
        """See `Store`."""
        with self._failing_as("debris cannot be removed"):
            self._remove([self.root / path for path in paths])

    # --- parts -----------------------------------------------------------------------

    def _place_files(self, record: CheckpointRecord, files: Mapping[str, Path]) -> None:
        if files.keys() != record.files.keys():
            raise ValueError(f"files {sorted(files)} are not those of the record, {sorted(record.files)}")
        folder, ours = self.root / record.folder, [self.root / place for place in (STAGING, INBOX)]
        for name, source in files.items():
            target = folder / name
            self.disk.make_folders(target.parent)
            if not any(source.is_relative_to(place) for place in ours):
                if problem := _difference(self._copy(source, target, record.files[name]), record.files[name]):
                    raise Damaged(f"{source}: {problem}")
            elif source.exists() or not target.exists():  # else an earlier attempt has moved it
                self.disk.sync_file(source)
                self.disk.rename(source, target)
            if target.stat().st_size != record.files[name].size:
                raise ValueError(f"{source} does not have the size that its record says")
        for touched in sorted({parent for name in files for parent in (folder / name).parents}, reverse=True):
            if touched.is_relative_to(self.root):
                self.disk.sync_folder(touched)

    def _copy(self, source: Path, target: Path, wanted: FileEntry | None = None) -> FileEntry:
        """Copy a file; it gets its name only when it is whole, and what was `wanted`."""
        self.disk.make_folders(target.parent)
        entry = self.disk.copy(source, part(target))
        if wanted in (None, entry):
            self.disk.rename(part(target), target)
        else:
            self.disk.unlink(part(target))
        self.disk.sync_folder(target.parent)
        return entry

    def _checkpoint_folders(self) -> list[Path]:
        return [path for path in self.root.iterdir() if _CHECKPOINT.fullmatch(path.name)]

    def _remove_tree(self, top: Path) -> None:
        if os.path.lexists(top):
            self._remove(_tree(top))

    def _remove(self, paths: Iterable[Path]) -> None:
        for path in sorted(paths, reverse=True):  # what is in a folder before the folder
            try:
                if path.is_dir() and not path.is_symlink():
                    self.disk.remove_folder(path)
                else:
                    self.disk.unlink(path)
            except OSError as error:
                # Gone already, or (NFS) a folder keeps a file that somebody still has open: next time.
                if error.errno not in (errno.ENOENT, errno.ENOTEMPTY):
                    raise

    @contextlib.contextmanager
    def _failing_as(self, what: str) -> Generator[None]:
        """Say what a failure of the disk means; the `OSError` stays as the cause."""
        try:
            yield
        except OSError as error:
            raise StoreUnavailable(f"{self.root}: {what}: {error.strerror or error}") from error


def _tree(top: Path) -> list[Path]:
    """`top` and everything below it; links are not followed."""
    if top.is_symlink() or not top.is_dir():
        return [top]
    return [top, *(path for child in top.iterdir() for path in _tree(child))]


def _difference(found: FileEntry, recorded: FileEntry) -> str:
    """How the bytes found differ from those recorded; empty when they do not."""
    if found.size != recorded.size:
        return f"{found.size} bytes, recorded {recorded.size}"
    return "" if found == recorded else "its bytes are not those that were recorded"
