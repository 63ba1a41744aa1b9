"""Copies what a run folder holds to the run's durable store, newest first.

The trainer commits to the run folder and never waits for a network. This reads the
folder's log, hard-links what it will upload, and publishes it under the lease of the
durable store. A checkpoint that was overtaken before its upload began is skipped; one
that has begun is finished. Every failure is written to the journal and tried again:
only another machine's lease ends it.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dragoman import host, journal
from dragoman.checkpoint.lease import OwnNames, Patience, await_silence, check_same_run, claim
from dragoman.checkpoint.log import RunLog
from dragoman.checkpoint.outbox import Outbox
from dragoman.checkpoint.restore import repair_root
from dragoman.errors import Damaged, DragomanError, InputError, StoreUnavailable, Superseded
from dragoman.store.base import Store
from dragoman.store.local import FolderStore
from dragoman.store.record import CheckpointRecord, FinishedRecord, LeaseRecord

POLL_SECONDS = 1.0
"""How often the folder is looked at when there is nothing to do."""
FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 2.0, 120.0
NOTHING_SAFE = -1


@dataclass(frozen=True)
class Settings:
    """What the replicator is told."""

    keep: int
    """Checkpoints to keep in the store, besides the model of the best one."""
    lease_seconds: float
    """The lease is repeated when a third of this passed without a record."""
    owner: str = ""
    """Name under which the trainer has taken the store's lease for us; a new one is taken when empty."""
    follows: bool = False
    """Whether it works beside a trainer: then a lease that a stranger took since is never taken back, and only that
    ends it."""
    patience: Patience | None = None
    """Waits for another machine's silence; None takes the lease at once."""
    needs: Callable[[CheckpointRecord], dict[str, Path]] = lambda checkpoint: {}
    """Files that a checkpoint needs besides its own (the prepared data), by their path in the store."""


@dataclass
class Replicator:
    """One process life of the copying; call `turn` again and again.

    Args:
        folder: The run folder, of which only the log and recorded files are read.
        store: The durable store.
        names: Under which this folder took the store's lease before.
        settings: What it is told.
        echo: Takes events: the journal of the run folder.
        clock: Seconds, for intervals only.
        chance: Spreads the retries of many machines.
    """

    folder: FolderStore
    store: Store
    names: OwnNames
    settings: Settings
    echo: Callable[[journal.Event], None]
    clock: Callable[[], float] = time.monotonic
    chance: random.Random = field(default_factory=random.Random)
    uploading: CheckpointRecord | None = field(init=False, default=None)
    """The checkpoint whose upload has begun."""
    _remote: RunLog | None = field(init=False, default=None)
    _attempts: int = field(init=False, default=0)
    _began: float = field(init=False, default=0.0)
    _last_record: float = field(init=False, default=0.0)
    _passed_over: set[str] = field(init=False, default_factory=set[str])
    _said: set[str] = field(init=False, default_factory=set[str])
    _needed: set[str] = field(init=False, default_factory=set[str])

    def __post_init__(self) -> None:
        self._local = RunLog(self.folder)
        self._outbox = Outbox(self.folder)

    @property
    def safe_step(self) -> int:
        """Newest step that the store is known to hold; -1 when none is."""
        newest = self._remote.newest if self._remote else None
        return newest.step if newest else NOTHING_SAFE

    def turn(self) -> float | None:
        """Do the next thing, whatever goes wrong.

        Returns:
            Seconds to wait before the next turn; None when all is done and nobody trains.

        Raises:
            Superseded: Another machine has taken over this run.
            InputError: The store refuses us, holds another run, or is ahead of this folder; only when alone.
        """
        try:
            wait = self._next_thing()
        except Superseded:
            raise
        except InputError as error:
            if not self.settings.follows or self.folder.locked() is None:
                raise  # nobody trains, so nobody would ever put it right
            return self._failed(error)
        except Exception as error:
            return self._failed(error)
        if self._attempts:
            self.echo(journal.ReplicationRecovered(safe_step=self.safe_step, attempts=self._attempts))
        self._attempts = 0
        return wait

    def _next_thing(self) -> float | None:
        self._local.refresh()
        try:
            return self._turn(self._leased())
        except Superseded:
            if self._remote is None:
                raise
            if not self._is_ours(self._remote):
                raise self._remote.superseded() from None  # whoever has it by now, not who had it then
            return 0.0  # the next turn adopts it, and may lose it in the same way to the trainer's next one

    def _turn(self, remote: RunLog) -> float | None:
        finished = self._local.finished
        # Where saves come faster than uploads end, there is always a newer one: the best model must not wait for none.
        # At the end the last checkpoint goes first.
        choices = (self._next, self._missing_best) if finished else (self._missing_best, self._next)
        todo = choices[0](remote) or choices[1](remote)
        # Where a record is due anyway, the checkpoint is it: else the signs of life could use up what the store takes.
        if todo and (finished or self._due_seconds <= 0 or self.store.pause_seconds() <= 0):
            self._refuse_to_go_back(remote, todo)  # again: the lease may have been waited for, or be the trainer's
            self._upload(remote, todo)
            return 0.0
        # A run is not done in the store before its last step is there: what is damaged here never gets there.
        is_there = finished and (finished.outcome != "done" or self.safe_step >= finished.step)
        if finished and is_there and not _is_mirror(remote.finished, finished):
            remote.finish(finished.outcome, finished.reason, step=finished.step, resumed_from=finished.resumed_from)
            self._last_record = self.clock()
        if not todo and (finished or self.folder.locked() is None):
            before = len(self._local.records)
            self._local.refresh()
            return None if len(self._local.records) == before else 0.0
        return self._idle(remote)

    # --- the lease -------------------------------------------------------------------

    def _leased(self) -> RunLog:
        """The store's log, with the lease in our hands."""
        if self._remote is None:
            self._remote = RunLog(self.store)
            self._remote.owner = self.settings.owner or self._remote.owner
        remote = self._remote
        if not remote.holds_lease and not self._adopt(remote):
            self._refuse_what_is_not_ours(remote)
            self.store.prepare()
            await_silence(remote, self.names, self.settings.patience)
            if not self._adopt(remote):  # else a trainer of this folder took it meanwhile, and is not to lose it
                claim(remote, self.names, host.name(), run=self._local.run, epoch=self._local.epoch)
                self._hold(remote)
        elif not self._last_record:
            self._hold(remote)
        return remote

    def _adopt(self, remote: RunLog) -> bool:
        """Go on under a lease that a trainer of this folder has taken since, whoever started us."""
        if not self._is_ours(remote) or remote.lease is None:
            return False
        remote.owner = remote.lease.owner
        self._hold(remote)
        return True

    def _is_ours(self, remote: RunLog) -> bool:
        """Whether this folder took the lease that the store holds now."""
        remote.refresh()
        # Not only the last of our names: the next trainer may have written its own down and not have the lease yet.
        return remote.lease is not None and remote.lease.owner in self.names.known()

    def _hold(self, remote: RunLog) -> None:
        """We have the lease, newly: what nobody names goes, and the others are told."""
        self._last_record = self.clock()
        remote.clean(coming=self._local.newest)
        repair_root(remote, self._report, far_away=True)
        told: dict[str, Any] = {
            "store": str(self.store),
            "pid": host.process_id(),
            "owner": remote.owner,
            "epoch": remote.epoch,
        }
        self.echo(journal.ReplicatorStarted(**told, safe_step=self.safe_step))

    def _report(self, checkpoint: CheckpointRecord, why: str) -> None:
        self.echo(journal.Warned(message=f"{self.store}: {checkpoint.folder} is dropped: {why}"))

    def _refuse_what_is_not_ours(self, remote: RunLog) -> None:
        """What the folder holds must be a continuation of what the store holds."""
        check_same_run(remote, self._local.run)
        lease = remote.lease
        is_strange = lease is not None and lease.owner not in self.names.known()
        if self.settings.follows and is_strange and remote.epoch > self._local.epoch:
            raise remote.superseded()
        self._refuse_to_go_back(remote, self._local.newest)

    def _refuse_to_go_back(self, remote: RunLog, mine: CheckpointRecord | None) -> None:
        """A store that is ahead of the folder stays so: its trainer may be fetching that just now."""
        newest = remote.newest
        known = {record.nonce for record in self._local.records}
        if newest and newest.nonce not in known and (mine is None or newest.place > mine.place):
            raise InputError(
                f"{self.store}: holds step {newest.step:,}, which {self.folder} has never seen",
                f"dragoman resume {self.store} continues from there",
            )

    @property
    def _due_seconds(self) -> float:
        """How long until the others must see again that we live."""
        return self._last_record + self.settings.lease_seconds / 3 - self.clock()

    def _idle(self, remote: RunLog) -> float:
        """Nothing to do: show the others that we live, when it is time."""
        if (due := self._due_seconds) > 0:
            return min(POLL_SECONDS, due)
        remote.append(LeaseRecord, host=host.name())
        self._last_record = self.clock()
        return POLL_SECONDS

    # --- what to upload --------------------------------------------------------------

    def _next(self, remote: RunLog) -> CheckpointRecord | None:
        """The newest checkpoint of the folder, if the store has never had it."""
        recorded = {record.nonce for record in remote.records}
        if self.uploading and self.uploading.nonce in recorded:
            self._arrived(self.uploading)  # and its answer was lost
        newest = next((each for each in self._local.checkpoints if each.nonce not in self._passed_over), None)
        return newest if newest and newest.nonce not in recorded else None

    def _missing_best(self, remote: RunLog) -> CheckpointRecord | None:
        """The model that the store's newest checkpoint names as the best, if the store has never had it."""
        best = self._local.best
        if best is None or best.nonce in self._passed_over or remote.newest is None or remote.newest.best != best.nonce:
            return None
        return None if best.nonce in {record.nonce for record in remote.records} else best.without_training()

    def _upload(self, remote: RunLog, checkpoint: CheckpointRecord) -> None:
        self.uploading, self._began = checkpoint, self.clock()
        self._say_skipped(remote, checkpoint)
        try:
            files = self._outbox.take(checkpoint)
        except FileNotFoundError:
            self.uploading = None
            return  # retired since we looked: there is a newer one
        except Damaged:
            self._passed_over.add(checkpoint.nonce)
            raise
        told: dict[str, Any] = {"step": checkpoint.step, "num_bytes": checkpoint.num_bytes, "store": str(self.store)}
        self.echo(journal.UploadStarted(**told))
        remote.clean(coming=checkpoint)
        remote.retire(self.settings.keep)  # is still to be done where the answer to the last checkpoint was lost
        if checkpoint.corpus not in self._needed and (needed := self.settings.needs(checkpoint)):
            self.store.keep(needed)
            self._needed.add(checkpoint.corpus)
        remote.publish_checkpoint(
            nonce=checkpoint.nonce,
            step=checkpoint.step,
            pairs_seen=checkpoint.pairs_seen,
            files={name: (path, checkpoint.files[name]) for name, path in files.items()},
            config=checkpoint.config,
            corpus=checkpoint.corpus,
            metrics=checkpoint.metrics,
            losses=checkpoint.losses,
            best=checkpoint.best,
            keep=self.settings.keep,
        )
        self._arrived(checkpoint)

    def _arrived(self, checkpoint: CheckpointRecord) -> None:
        self.uploading = None
        self._last_record = self.clock()
        self._outbox.clear()
        told: dict[str, Any] = {"step": checkpoint.step, "num_bytes": checkpoint.num_bytes, "store": str(self.store)}
        self.echo(journal.Replicated(**told, seconds=self.clock() - self._began))

    def _say_skipped(self, remote: RunLog, checkpoint: CheckpointRecord) -> None:
        """Name the checkpoints between the last that the store has and the one that goes there now."""
        recorded = {record.nonce for record in remote.records}
        skipped: list[CheckpointRecord] = []
        for record in self._local.records:
            if record.nonce in recorded:
                skipped.clear()
            elif isinstance(record, CheckpointRecord) and record.place < checkpoint.place:
                skipped.append(record)
        steps = [record.step for record in skipped if record.nonce not in self._said]
        self._said |= {record.nonce for record in skipped}
        if steps:
            self.echo(journal.UploadSkipped(steps=steps, newer_step=checkpoint.step))

    # --- failing ---------------------------------------------------------------------

    def _failed(self, error: Exception) -> float:
        """Say what went wrong; returns when to try again."""
        self._attempts += 1
        backoff = min(FIRST_RETRY_SECONDS * 2 ** (self._attempts - 1), LONGEST_RETRY_SECONDS)
        asked = error.retry_after if isinstance(error, StoreUnavailable) else 0.0
        wait = max(backoff * self.chance.uniform(0.5, 1.0), asked)
        words = str(error) if isinstance(error, DragomanError) else f"{type(error).__name__}: {error}"
        told: dict[str, Any] = {
            "reason": " ".join(words.split()),
            "attempts": self._attempts,
            "retry_seconds": round(wait, 1),
            "safe_step": self.safe_step,
            "age_seconds": round(self._age(), 1),
        }
        self.echo(journal.ReplicationFailed(**told))
        return wait

    def _age(self) -> float:
        """How long ago the newest step in the store was saved, by the clocks of the machines; 0 without one."""
        newest = self._remote.newest if self._remote else None
        return max(0.0, time.time() - newest.time) if newest else 0.0


def _is_mirror(theirs: FinishedRecord | None, ours: FinishedRecord) -> bool:
    """Whether the store's log ends as the folder's does."""
    return theirs is not None and (theirs.outcome, theirs.reason, theirs.step) == (ours.outcome, ours.reason, ours.step)
