"""The model at the root of a folder: derived from a checkpoint, never restored from.

The small files come first and the weights last, by one rename, so that whoever loads the
folder gets the old model or the new one. A card that a person has edited stays theirs.
"""

from pathlib import Path

from dragoman.store import card
from dragoman.store.base import CARD, MODEL_FILE
from dragoman.store.disk import Disk, digest, part
from dragoman.store.record import CheckpointRecord


def publish(disk: Disk, root: Path, checkpoint: CheckpointRecord, *, linked: bool) -> None:
    """Make the model files in `root` those of a checkpoint below it.

    Args:
        disk: Makes every change.
        root: The folder of the store.
        checkpoint: Whose model it shall be.
        linked: The weights may be a second name of the checkpoint's own file; else they are a copy.

    Raises:
        OSError: The disk failed.
    """
    folder = root / checkpoint.folder
    for name in checkpoint.model_files:
        if name != MODEL_FILE and not _stays(root / name, folder / name, name):
            disk.make_folders((root / name).parent)
            disk.replace(root / name, (folder / name).read_bytes())
    source, target = folder / MODEL_FILE, root / MODEL_FILE
    if not _is_same(target, source, checkpoint, linked):
        if part(target).exists():
            disk.unlink(part(target))
        if linked:
            disk.link(source, part(target))
        else:
            disk.copy(source, part(target))
        disk.rename(part(target), target)
    disk.sync_folder(root)


def _stays(target: Path, source: Path, name: str) -> bool:
    """Whether a small file at the root is right already, or not ours to replace."""
    if not target.exists():
        return False
    found = target.read_bytes()
    return found == source.read_bytes() or (name == CARD and not card.is_ours(found))


def _is_same(target: Path, source: Path, checkpoint: CheckpointRecord, linked: bool) -> bool:
    if not target.exists():
        return False
    return target.samefile(source) if linked else digest(target) == checkpoint.files[MODEL_FILE]
