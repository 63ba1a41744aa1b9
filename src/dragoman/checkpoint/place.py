"""A run by any name that a person gives it: its folder, the URL of its store, or USER/REPO on the Hub."""

from pathlib import Path

from dragoman.checkpoint.log import RunLog
from dragoman.checkpoint.run_folder import CONFIG, JOURNAL
from dragoman.errors import InputError, StoreUnavailable
from dragoman.store.address import FILE, HUB, Access, named, open_store
from dragoman.store.local import LOCK

WHERE_RUNS_ARE = "the --output folder of a run, or the URL of its store"
_OF_A_MACHINE = (CONFIG, JOURNAL, LOCK)
"""What only a run folder holds; a durable store in a folder has the rest of it."""


def run_folder_at(place: str) -> Path | None:
    """The run folder that `place` names; None when it may be a store."""
    folder = Path(place.removeprefix(FILE)).expanduser()
    return folder if any((folder / name).exists() for name in _OF_A_MACHINE) else None


def open_run(place: str, access: Access | None = None) -> RunLog:
    """The log of the run that is kept at `place`: a URL, a folder, or USER/REPO on the Hub.

    Args:
        place: As it was typed.
        access: How its store is used.

    Raises:
        InputError: There is no run.
        Damaged: Its log is damaged.
        StoreUnavailable: The store cannot be reached.
    """
    url = named(place)
    guessed = url.startswith(HUB) and not place.startswith(HUB)
    try:
        log = RunLog(open_store(url, access or Access()))
    except StoreUnavailable as error:
        if not guessed:
            raise
        message = f"{place} is no folder here, so it was looked for on the Hub: {error.message}"
        raise StoreUnavailable(message, error.hint, error.retry_after) from error
    if not log.run:
        raise InputError(*_not_there(place, url, guessed))
    return log


def _not_there(place: str, url: str, guessed: bool) -> tuple[str, str]:
    if guessed:
        return f"{place}: there is no folder of that name, and no run in {url}", WHERE_RUNS_ARE
    if url.startswith(HUB):
        return f"{place}: there is no run here", "the name of the repository, and a token (HF_TOKEN) that may read it"
    return f"{place}: there is no run here", WHERE_RUNS_ARE
