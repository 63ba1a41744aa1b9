"""What is being uploaded: second names of recorded files, so that retention cannot pull them away."""

import contextlib
import errno
import shutil
from pathlib import Path

from dragoman.errors import Damaged
from dragoman.store.disk import digest
from dragoman.store.local import FolderStore
from dragoman.store.record import CheckpointRecord

OUTBOX = "dragoman/outbox"
_NO_LINK = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV, errno.EMLINK}


class Outbox:
    """The outbox of a run folder; there is one checkpoint in it at a time.

    Nothing in it has to survive the machine, so nothing is fsynced.
    """

    def __init__(self, folder: FolderStore) -> None:
        self._folder = folder
        self._top = folder.root / OUTBOX
        self._proved: set[str] = set()

    def take(self, checkpoint: CheckpointRecord) -> dict[str, Path]:
        """Give the files of a checkpoint a second name here, and prove that they are as recorded.

        Raises:
            FileNotFoundError: The checkpoint has been retired meanwhile.
            Damaged: A file is not what its record says.
            OSError: The disk failed.
        """
        self.clear(all_but=checkpoint.nonce)
        taken = {name: self._top / checkpoint.nonce / name for name in checkpoint.files}
        for name, path in taken.items():
            if not path.exists():
                _link(self._folder.root / checkpoint.folder / name, path)
        if checkpoint.nonce not in self._proved:
            for name, path in taken.items():
                if digest(path) != checkpoint.files[name]:
                    raise Damaged(f"{self._folder.root / checkpoint.folder / name}: its bytes are not those recorded")
            self._proved.add(checkpoint.nonce)
        return taken

    def clear(self, all_but: str = "") -> None:
        """Remove everything, but for one checkpoint."""
        for folder in self._top.glob("*"):
            if folder.name != all_but:
                shutil.rmtree(folder, ignore_errors=True)


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with contextlib.suppress(FileExistsError):
            target.hardlink_to(source)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        part = target.with_name(target.name + ".part")
        shutil.copyfile(source, part)
        part.rename(target)
