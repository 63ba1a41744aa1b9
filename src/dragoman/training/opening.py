"""The door of a run: options and folder, before any model is thought of.

Preparing data goes through it as training does, and needs no tensors; so nothing here does.
"""

import contextlib
from collections.abc import Generator
from pathlib import Path

from dragoman import journal
from dragoman.checkpoint.replicate import url_of
from dragoman.checkpoint.run_folder import CONFIG, JOURNAL, run_folder
from dragoman.config import RunConfig
from dragoman.data import planning
from dragoman.data.filters import langid
from dragoman.errors import InputError
from dragoman.store.disk import Disk
from dragoman.store.local import FolderStore
from dragoman.training import inputs


def check(config: RunConfig) -> Path:
    """Look at what can be judged of data and places without touching either; returns the run folder.

    Raises:
        InputError: Languages or store are wrong, or a package is missing.
    """
    folder = run_folder(config)
    planning.weights_of(config, inputs.directions_of(config))
    if config.data.langid:
        langid.check()
    url = url_of(config, folder)
    exists = (folder / CONFIG).exists()
    if config.save.resume == "must" and not exists and url is None:
        raise InputError(f"--resume must: there is no run in {folder}", "the --output of the run, or --resume auto")
    if config.save.resume == "never" and exists:
        raise InputError(f"--resume never: {folder} holds a run", "another --output, or --resume auto to continue it")
    return folder


@contextlib.contextmanager
def opened_folder(folder: Path, single_writer: bool, disk: Disk | None = None) -> Generator[FolderStore]:
    """The store of a run folder, made and locked; a new folder in which nothing came to be goes again.

    Args:
        folder: The run folder.
        single_writer: `--single-writer`.
        disk: Makes every durable change; the real one when left out.

    Raises:
        InputError: It cannot be written, or another process trains in it.
    """
    is_new = not folder.exists()
    store = FolderStore(folder, disk, single_writer=single_writer)
    store.prepare()
    with store.lock():
        try:
            yield store
        finally:
            if is_new:
                _take_away(folder)


def _take_away(folder: Path) -> None:
    """Remove a run folder in which nothing is."""
    ours = folder / "dragoman"
    names = {path.name for path in ours.iterdir()}
    nothing_came = all(event.get("kind") == "preparing" for event in journal.read(folder / JOURNAL))
    if names <= {"lock", "log", "staging", "journal.jsonl"} and nothing_came:
        with contextlib.suppress(OSError):  # a folder that is not empty stays
            for name in names & {"log", "staging"}:
                (ours / name).rmdir()
            for name in names - {"log", "staging"}:
                (ours / name).unlink()
            ours.rmdir()
            folder.rmdir()
