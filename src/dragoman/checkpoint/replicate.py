"""`dragoman replicate`: one process that keeps a durable store like the run folder."""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from dragoman import host
from dragoman.checkpoint import watchdog
from dragoman.checkpoint.lease import OwnNames, Patience
from dragoman.checkpoint.replicator import Replicator, Settings
from dragoman.checkpoint.run_folder import JOURNAL, corpus_files
from dragoman.checkpoint.watchdog import Ended
from dragoman.config import RunConfig
from dragoman.errors import InputError
from dragoman.journal import Event, Journal
from dragoman.store.address import FILE, Access, normal, open_store
from dragoman.store.local import FolderStore
from dragoman.store.record import LeaseRecord

WAIT_SECONDS, SAY_SECONDS = 5.0, 60.0
"""How often a machine that waits for another one's silence looks, and says so."""


def access(config: RunConfig) -> Access:
    """How the store of a run is used."""
    cap = config.store.upload_megabytes
    return Access(
        single_writer=config.save.single_writer,
        public=config.store.public,
        commits_per_hour=config.store.commits_per_hour,
        bytes_per_second=cap * 1e6 if cap else None,
    )


def url_of(config: RunConfig, folder: Path) -> str | None:
    """The durable store of a run in `folder`, as a URL; None when it has none.

    Raises:
        InputError: It is no store, or the run folder itself.
    """
    if config.store.url is None:
        return None
    url = normal(config.store.url)
    if url == f"{FILE}{folder.expanduser().absolute()}":
        raise InputError(f"--store {config.store.url}: this is the run folder itself", "a folder on another disk")
    return url


def patience(config: RunConfig, say: Callable[[LeaseRecord, float], None]) -> Patience | None:
    """How this session waits for another machine's silence; not at all with `--take-over`."""
    if config.store.take_over:
        return None

    said = -math.inf

    def wait(lease: LeaseRecord, left: float) -> None:
        nonlocal said
        if time.monotonic() - said >= SAY_SECONDS:
            said = time.monotonic()
            say(lease, left)
        time.sleep(min(left, WAIT_SECONDS))

    return Patience(config.store.lease_minutes * 60, wait)


def replicate(
    folder: Path,
    config: RunConfig,
    *,
    owner: str = "",
    follows: bool = False,
    say: Callable[[LeaseRecord, float], None] = lambda lease, left: None,
    echo: Callable[[Event], None] = lambda event: None,
) -> Ended:
    """Copy a run to its durable store until all is there and nobody trains.

    Args:
        folder: The run folder.
        config: Its configuration, with a store.
        owner: The lease that a trainer has taken for us.
        follows: A trainer started this.
        say: Told whose lease is waited for, and how long.
        echo: Receives every event, besides the journal.

    Raises:
        InputError: There is no store, or another replicator works for this folder.
    """
    url = url_of(config, folder)
    if url is None:
        raise InputError(f"{folder}: the run has no durable store", "--store hf://USER/REPO")
    journal = Journal(folder / JOURNAL, echo)

    def make(beat: Callable[[], None]) -> Replicator:
        def tell(event: Event) -> None:
            journal.append(event)
            beat()

        settings = Settings(
            keep=config.save.keep,
            lease_seconds=config.store.lease_minutes * 60,
            owner=owner,
            follows=follows,
            patience=None if follows else patience(config, say),
            needs=lambda checkpoint: corpus_files(folder, checkpoint.corpus) if config.store.keeps_data else {},
        )
        store = open_store(url, replace(access(config), beat=beat))
        return Replicator(FolderStore(folder), store, OwnNames(folder, host.name()), settings, tell)

    return watchdog.keep_alive(folder, make, journal)
