"""The run's durable store at the start of a session: looked at, claimed, and brought here.

Which of the two, folder or store, is ahead decides where training continues. A store
that cannot be reached stops nobody who has the run on this disk.
"""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from dragoman import host
from dragoman.checkpoint.lease import OwnNames, Patience, check_same_run, claim, take_lease
from dragoman.checkpoint.log import RunLog
from dragoman.checkpoint.replicate import access, patience, url_of
from dragoman.checkpoint.restore import Report, newest_good, repair_root
from dragoman.checkpoint.run_folder import CORPUS, CORPUS_MANIFEST, compare, corpus_files
from dragoman.checkpoint.stored import stored_settings
from dragoman.config import RunConfig
from dragoman.errors import Damaged, StoreUnavailable, Superseded
from dragoman.journal import Fetching, Journal, Warned
from dragoman.store.address import open_store
from dragoman.store.base import Store
from dragoman.store.local import INBOX, FolderStore
from dragoman.store.record import CheckpointRecord, LeaseRecord

TELL_SECONDS = 5.0
"""How often a download tells how far it is."""


@dataclass
class Durable:
    """The durable store of a run, as this session finds it."""

    url: str
    store: Store
    journal: Journal
    log: RunLog | None
    """The store's log; None when the store cannot be reached."""
    owner: str = ""
    """Name under which this session holds the store's lease; empty when it does not."""
    fetched: "Progress" = field(init=False)

    @property
    def newest(self) -> CheckpointRecord | None:
        """The newest checkpoint that the store records; None when it has none, or cannot be reached."""
        return self.log.newest if self.log else None


class Progress:
    """Counts the bytes of a download and tells the journal now and then."""

    def __init__(self, journal: Journal, clock: Callable[[], float] = time.monotonic) -> None:
        self._journal, self._clock = journal, clock
        self._step, self._of, self._done, self._told = 0, 0, 0, clock()

    def begin(self, checkpoint: CheckpointRecord, names: list[str]) -> None:
        """The files `names` of a checkpoint are fetched from now on."""
        self._step, self._done, self._told = checkpoint.step, 0, self._clock()
        self._of = sum(checkpoint.files[name].size for name in names)

    def arrived(self, num_bytes: int) -> None:
        """Some more bytes are here."""
        self._done += num_bytes
        if self._clock() - self._told >= TELL_SECONDS:
            self._told = self._clock()
            self._journal.append(Fetching(step=self._step, num_bytes=self._done, of_bytes=self._of))


def look(config: RunConfig, folder: Path, log: RunLog, journal: Journal) -> Durable | None:
    """The run's durable store, and what it holds; None when the run has none.

    Raises:
        InputError: It is no store; it holds another run than the folder, or one with other settings.
        StoreUnavailable: It cannot be reached, and the folder holds nothing to go on from.
        Damaged: Its log is damaged, and the folder holds nothing to go on from.
    """
    url = url_of(config, folder)
    if url is None:
        return None
    fetched = Progress(journal)
    store = open_store(url, replace(access(config), progress=fetched.arrived))
    found = Durable(url, store, journal, None)
    found.fetched = fetched
    try:
        found.log = RunLog(store)
        check_same_run(found.log, log.run)
        if found.newest and found.newest.config != config.digest():
            compare(stored_settings(found.log), config, url)
    except (StoreUnavailable, Damaged) as error:
        if log.newest is None:
            store.prepare()  # says it better, where we are refused for good
            raise
        found.log = None
        journal.append(Warned(message=f"{error.message}; training goes on from {folder}"))
    return found


def hold(durable: Durable | None, config: RunConfig, log: RunLog, folder: Path) -> None:
    """Take the lease of the durable store, then that of the folder under the epoch that the store gave.

    Does nothing when this session holds it already.

    Raises:
        InputError: The store refuses us.
        Superseded: Another machine took it in the same moment.
        StoreUnavailable: The store failed.
    """
    if log.holds_lease:
        return
    epoch, run = 0, ""
    if durable and durable.log:
        durable.store.prepare()

        def say(lease: LeaseRecord, left: float) -> None:
            words = f"{lease.host} holds the lease of this run (epoch {lease.epoch})"
            wait = f"waiting until it has been silent for {left:,.0f} s more; --take-over does not wait"
            durable.journal.append(Warned(message=f"{words}: {wait}"))

        lease = _claim(durable.log, log, OwnNames(folder, host.name()), patience(config, say))
        durable.owner, epoch, run = lease.owner, lease.epoch, lease.run
    elif durable:
        epoch = log.epoch  # the store alone gives out new ones
    take_lease(log, host.name(), run=run, epoch=epoch)


def _claim(remote: RunLog, log: RunLog, names: OwnNames, wait: Patience | None) -> LeaseRecord:
    """Take the lease of the store, if need be from a late record of our own earlier life."""
    while True:
        try:
            return claim(remote, names, host.name(), run=log.run, epoch=log.epoch, patience=wait)
        except Superseded:
            if remote.holds_lease or remote.lease is None or remote.lease.owner not in names.known():
                raise


def restore_point(durable: Durable | None, log: RunLog, folder: FolderStore, report: Report) -> CheckpointRecord | None:
    """The checkpoint to continue from, whole and in the folder; brought from the store when that is ahead.

    Raises:
        Damaged: There are checkpoints, and every one is damaged, here and there.
        StoreUnavailable: The store failed.
        Superseded: Another machine took the lease.
    """
    ahead = durable.newest if durable else None
    try:
        good = newest_good(log, report)
    except Damaged:
        if ahead is None:
            raise
        good = None
    if durable is None or durable.log is None or ahead is None:
        return good
    live = {checkpoint.nonce for checkpoint in log.checkpoints}
    if not good or (ahead.nonce not in live and ahead.place > good.place):
        good = _bring(durable, durable.log, log, folder, report, good) or good
    shutil.rmtree(folder.root / INBOX, ignore_errors=True)
    return good


def _bring(
    durable: Durable,
    remote: RunLog,
    log: RunLog,
    folder: FolderStore,
    report: Report,
    good: CheckpointRecord | None,
) -> CheckpointRecord | None:
    """Fetch the newest good checkpoint of the store, and the best model, and record them in the folder.

    None when there is none, or none that is newer than the `good` one of the folder.
    """
    inbox = folder.root / INBOX

    def fetch(checkpoint: CheckpointRecord, names: list[str]) -> None:
        durable.fetched.begin(checkpoint, names)
        durable.store.fetch(checkpoint, names, inbox / checkpoint.nonce)

    def record(checkpoint: CheckpointRecord) -> CheckpointRecord:
        return log.publish_checkpoint(
            nonce=checkpoint.nonce,
            step=checkpoint.step,
            pairs_seen=checkpoint.pairs_seen,
            files={name: (inbox / checkpoint.nonce / name, entry) for name, entry in checkpoint.files.items()},
            config=checkpoint.config,
            corpus=checkpoint.corpus,
            metrics=checkpoint.metrics,
            losses=checkpoint.losses,
            best=checkpoint.best,
        )

    found = newest_good(remote, report, lambda checkpoint: fetch(checkpoint, list(checkpoint.files)))
    repair_root(remote, report, far_away=True)  # it may have borne what was damaged
    if found is None or (good and found.place <= good.place):
        return None  # what was ahead of the folder was damaged
    best = remote.best
    if best and best.nonce != found.nonce and best.nonce not in {kept.nonce for kept in log.kept}:
        try:
            fetch(best, best.model_files)
            record(best.without_training())
        except Damaged as error:
            report(best, error.message)
    return record(found)


def bring_corpus(durable: Durable | None, folder: FolderStore, digest: str) -> None:
    """Bring the prepared data that a checkpoint was trained on, when the store has it and the folder has not.

    Whoever opens it compares every byte with its digest.

    Raises:
        StoreUnavailable: The store failed.
    """
    if durable is None or durable.log is None or corpus_files(folder.root, digest):
        return
    inbox = folder.root / INBOX
    names = durable.store.kept(CORPUS)
    for manifest in (name for name in names if name.endswith(f"/{CORPUS_MANIFEST}")):
        durable.store.bring([manifest], inbox)
        if not corpus_files(inbox, digest):
            continue
        top = manifest.removesuffix(CORPUS_MANIFEST)
        durable.store.bring([name for name in names if name.startswith(top)], inbox)
        folder.disk.make_folders(folder.root / CORPUS)
        folder.disk.rename(inbox / top, folder.root / top)
        folder.disk.sync_folder(folder.root / CORPUS)
        return
