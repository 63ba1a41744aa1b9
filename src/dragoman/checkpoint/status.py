"""What a run is doing and what is safe, from its folder or from its durable store."""

import time
from pathlib import Path

from dragoman.checkpoint.folder_status import folder_status
from dragoman.checkpoint.place import open_run, run_folder_at
from dragoman.checkpoint.remote_status import remote_status
from dragoman.checkpoint.status_shape import Status
from dragoman.errors import InputError


def status(place: str | Path, now: float | None = None) -> Status:
    """The state of a run, as one JSON object.

    Args:
        place: Its folder, which alone is read then; or the URL of its store, or USER/REPO on the Hub.
        now: Seconds since 1970.

    Raises:
        InputError: There is no run.
        Damaged: Its log is damaged.
        StoreUnavailable: The store cannot be reached.
    """
    now = time.time() if now is None else now
    folder = run_folder_at(str(place))
    return remote_status(open_run(str(place)), now) if folder is None else folder_status(folder, now)


def newest_run(runs: Path) -> Path:
    """The run folder below `runs` whose journal was written last.

    Raises:
        InputError: There is none.
    """
    journals = sorted(runs.glob("*/dragoman/journal.jsonl"), key=lambda path: path.stat().st_mtime)
    if not journals:
        raise InputError(f"there is no run below {runs}/", "name the run: its --output folder")
    return journals[-1].parent.parent
