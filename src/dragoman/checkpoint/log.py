"""The run's log: what exists, in order.

A checkpoint exists when its record does. Everything else about durability follows
from that sentence: files are durable before the record, removed after a drop record,
and a folder without a record is debris that nobody reads.
"""

import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from dragoman.errors import Damaged, StoreUnavailable, Superseded
from dragoman.store.base import NumberTaken, Store
from dragoman.store.record import (
    COPY_BACK,
    CheckpointRecord,
    DropRecord,
    FileEntry,
    FinishedRecord,
    LeaseRecord,
    Record,
    record_name,
)

R = TypeVar("R", LeaseRecord, CheckpointRecord, DropRecord, FinishedRecord)


def random_nonce() -> str:
    """Sixteen hexadecimal digits that nobody else has."""
    return secrets.token_hex(8)


class RunLog:
    """The log of one run in one store, read when this is made, for one thread.

    Reading needs nothing. Everything that changes the store needs the lease
    (`lease.take_lease`), and raises `Superseded` when another machine has taken it since,
    or `StoreUnavailable` when the store failed. After the latter the record may exist or
    not: simply go on, the next call reads the log first and finds out.

    Args:
        store: Where the run is.
        now: The clock, in seconds since 1970.
        new_nonce: Makes the names of records, runs and owners.

    Raises:
        Damaged: A record is missing or not as it was written; names the file.
        StoreUnavailable: The store cannot be read.
    """

    def __init__(
        self,
        store: Store,
        *,
        now: Callable[[], float] = time.time,
        new_nonce: Callable[[], str] = random_nonce,
    ) -> None:
        self.store = store
        """Where the run is."""
        self.new_nonce = new_nonce
        """Makes the name of a checkpoint before it is written."""
        self.owner = new_nonce()
        """Names this life of this process in every record that it appends."""
        self._now = now
        self._records: list[Record] = []
        self._absorb(store.records())

    # --- what exists -----------------------------------------------------------------

    @property
    def records(self) -> Sequence[Record]:
        """All records, in order, as last read."""
        return tuple(self._records)

    @property
    def run(self) -> str:
        """Name of the run; empty before the first lease."""
        return self._records[0].run if self._records else ""

    @property
    def lease(self) -> LeaseRecord | None:
        """The newest lease: whoever holds it may append."""
        return next((record for record in reversed(self._records) if isinstance(record, LeaseRecord)), None)

    @property
    def epoch(self) -> int:
        """Epoch of the newest lease; 0 before the first."""
        return self.lease.epoch if self.lease else 0

    @property
    def holds_lease(self) -> bool:
        """Whether this process held the lease when the log was last read."""
        return self.lease is not None and self.lease.owner == self.owner

    @property
    def checkpoints(self) -> list[CheckpointRecord]:
        """Those not dropped; the newest, by epoch and then step, first."""
        dropped = {nonce for record in self._records if isinstance(record, DropRecord) for nonce in record.checkpoints}
        live = [r for r in self._records if isinstance(r, CheckpointRecord) and r.nonce not in dropped]
        return sorted(live, key=lambda checkpoint: (checkpoint.epoch, checkpoint.step, checkpoint.seq), reverse=True)

    @property
    def newest(self) -> CheckpointRecord | None:
        """The checkpoint to continue from, if it is not damaged."""
        return next(iter(self.checkpoints), None)

    @property
    def best(self) -> CheckpointRecord | None:
        """The checkpoint whose model is published: the one that the newest names, else the newest itself."""
        live = self.checkpoints
        return next((checkpoint for checkpoint in live if checkpoint.nonce == live[0].best), self.newest)

    @property
    def finished(self) -> FinishedRecord | None:
        """How the last session ended; None while it runs, and when it was killed."""
        last = self._records[-1] if self._records else None
        return last if isinstance(last, FinishedRecord) else None

    # --- what the holder of the lease does -------------------------------------------

    def publish_checkpoint(
        self,
        *,
        nonce: str,
        step: int,
        pairs_seen: int,
        files: Mapping[str, tuple[Path, FileEntry]],
        config: str,
        corpus: str,
        metrics: Mapping[str, float] | None = None,
        losses: Iterable[tuple[int, float]] = (),
        best: str = "",
    ) -> CheckpointRecord:
        """Make a checkpoint exist. When this returns, it survives whatever happens to this machine's power.

        When it fails, call `clean` before the next save, to give its space back.

        Args:
            nonce: From `new_nonce`; in a folder store also the name of its staging folder.
            step: Optimizer updates done.
            pairs_seen: Sentence pairs trained on.
            files: Where each file lies now, and what its bytes are, by its name in the checkpoint.
            config: Digest of the run's configuration.
            corpus: Digest of the run's corpus.
            metrics: What was measured at this step.
            losses: The last steps and their losses, in nats per target token.
            best: Nonce of the checkpoint whose model is the published one; may be its own.

        Returns:
            The record, with the folder that the checkpoint is in.
        """
        return self.append(
            CheckpointRecord,
            {name: path for name, (path, _) in files.items()},
            nonce=nonce,
            files={name: entry for name, (_, entry) in files.items()},
            step=step,
            pairs_seen=pairs_seen,
            config=config,
            corpus=corpus,
            metrics=dict(metrics or {}),
            losses=tuple(losses),
            best=best,
        )

    def publish_root(self) -> None:
        """Make the model at the root that of the best checkpoint."""
        self._require_lease()
        if self.best:
            self.store.publish_root(self.best)

    def drop(self, checkpoints: Iterable[CheckpointRecord], reason: str) -> None:
        """Make checkpoints exist no more, then remove their files. What is left of them, `clean` removes."""
        folders = {checkpoint.nonce: checkpoint.folder for checkpoint in checkpoints}
        if folders:
            self.store.remove(self.append(DropRecord, checkpoints=folders, reason=reason))

    def finish(
        self, outcome: Literal["done", "stopped", "failed"], reason: str, *, step: int, resumed_from: str = ""
    ) -> FinishedRecord:
        """Record that this session ended by itself, and why; see `FinishedRecord`."""
        return self.append(FinishedRecord, outcome=outcome, reason=reason, step=step, resumed_from=resumed_from)

    def clean(self) -> None:
        """Remove what no live record names under `checkpoint-*`, and writes that never ended; nothing else.

        Not while a checkpoint is being written.
        """
        # First look, then read the log. Whatever another machine wrote before the look, its lease is older
        # still: then the log says that we are superseded, and what it wrote is left alone.
        held = self.store.held()
        self._require_lease()
        named = {f"{checkpoint.folder}/{name}" for checkpoint in self.checkpoints for name in checkpoint.files}
        named |= {parent.as_posix() for name in named for parent in Path(name).parents}
        self.store.discard(path for path in held if path not in named)

    def refresh(self) -> None:
        """Read what was appended since; `Superseded` when we held the lease and it is another's now."""
        held = self.holds_lease
        self._absorb(self.store.records(after=len(self._records)))
        if held and not self.holds_lease:
            raise self.superseded()

    def append(self, kind: type[R], paths: Mapping[str, Path] | None = None, *, nonce: str = "", **fields: Any) -> R:
        """Publish the next record of the log; the methods above and `take_lease` say this in words.

        Args:
            kind: Which record.
            paths: Its files, as for `Store.publish`.
            nonce: Its name; a new one when not given.
            fields: Its fields that are not in every record; for a lease also `epoch` and `run`.
        """
        fields = {"epoch": self.epoch, "run": self.run, "nonce": nonce or self.new_nonce()} | fields
        known = self.lease
        while True:
            self.refresh()
            if not self.holds_lease and not (kind is LeaseRecord and self.lease == known):
                raise self.superseded()
            late = next((record for record in self._records if record.nonce == fields["nonce"]), None)
            if isinstance(late, kind):
                self.store.publish(late, paths or {})  # visible; this makes it durable too
                return late
            if kind is CheckpointRecord:
                fields["folder"] = self._folder(fields["step"], fields["nonce"])
            parent = self._records[-1].digest() if self._records else ""
            record = kind(seq=len(self._records) + 1, parent=parent, owner=self.owner, time=self._now(), **fields)
            try:
                self.store.publish(record, paths or {})
            except NumberTaken as taken:
                if not self.store.records(after=len(self._records)):
                    raise StoreUnavailable(f"{self.store}: record {record.seq} exists but is not shown") from taken
                continue  # the log says whose it is
            self._records.append(record)
            return record

    def superseded(self) -> Superseded:
        """The error for whoever needs the lease and does not hold it."""
        assert self.lease is not None, "take the lease first"
        return Superseded(
            f"{self.store}: another machine ({self.lease.host}) has taken over this run, in epoch {self.lease.epoch}; "
            "this one publishes nothing more",
            "let that one go on, or take the run back with dragoman resume",
        )

    # --- parts -----------------------------------------------------------------------

    def _require_lease(self) -> None:
        self.refresh()
        if not self.holds_lease:
            raise self.superseded()

    def _absorb(self, records: Iterable[Record]) -> None:
        for record in records:
            last = self._records[-1] if self._records else None
            follows = record.seq == len(self._records) + 1 and record.parent == (last.digest() if last else "")
            if not follows or (last and record.run != last.run):
                raise Damaged(f"{self.store}: {record_name(record.seq)} does not continue what is before it", COPY_BACK)
            self._records.append(record)

    def _folder(self, step: int, nonce: str) -> str:
        """A folder that no record ever named, so that nobody can write over what somebody recorded."""
        recorded = {record.folder for record in self._records if isinstance(record, CheckpointRecord)}
        plain, short, full = f"checkpoint-{step}", f"checkpoint-{step}-{nonce[:6]}", f"checkpoint-{step}-{nonce}"
        first_epoch = self._records[0].epoch if self._records else self.epoch
        choices = [plain, short, full] if self.epoch == first_epoch else [short, full]
        return next(name for name in choices if name not in recorded)
