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

from dragoman.checkpoint.retention import best_of, existing, freeable, retired
from dragoman.errors import Damaged, StoreUnavailable, Superseded
from dragoman.store.base import NumberTaken, Store, unnamed
from dragoman.store.record import (
    COPY_BACK,
    CheckpointRecord,
    DropRecord,
    FileEntry,
    FinishedRecord,
    LeaseRecord,
    Record,
    TrimRecord,
    record_name,
)

R = TypeVar("R", LeaseRecord, CheckpointRecord, DropRecord, TrimRecord, FinishedRecord)


RETENTION = "retention"
"""The reason of a record that retires checkpoints because newer ones exist."""


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
        self._emptied: set[str] = set()
        self._has_appended = False
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
    def kept(self) -> list[CheckpointRecord]:
        """All that exist, the newest by epoch and then step first; of some only the model (`is_whole`)."""
        return existing(self._records)

    @property
    def checkpoints(self) -> list[CheckpointRecord]:
        """Those from which training can continue; the newest, by epoch and then step, first."""
        return [checkpoint for checkpoint in self.kept if checkpoint.is_whole]

    @property
    def newest(self) -> CheckpointRecord | None:
        """The checkpoint to continue from, if it is not damaged."""
        return next(iter(self.checkpoints), None)

    @property
    def best(self) -> CheckpointRecord | None:
        """The checkpoint whose model is published: the one that the newest names, else the newest itself."""
        return best_of(self.kept)

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
        keep: int | None = None,
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
            keep: In the same step, if the store can, publish the root and retire all but that many.

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
            keep=keep,
        )

    def publish_root(self) -> None:
        """Make the model at the root that of the best checkpoint."""
        self._require_lease()
        if self.best:
            self.store.publish_root(self.best)

    def drop(self, checkpoints: Iterable[CheckpointRecord], reason: str) -> None:
        """Make checkpoints exist no more, then remove their files. What is left of them, `clean` removes."""
        folders = _folders(checkpoints)
        if folders:
            self._remove(self.append(DropRecord, checkpoints=folders, reason=reason))

    def retire(self, keep: int) -> None:
        """Drop or trim what is neither among the newest `keep` nor the best; see `retention.retired`."""
        old = retired(self.kept, keep)
        self.drop(old.dropped, RETENTION)
        if folders := _folders(old.trimmed):
            self._remove(self.append(TrimRecord, checkpoints=folders, reason=RETENTION))

    def finish(
        self, outcome: Literal["done", "stopped", "failed"], reason: str, *, step: int, resumed_from: str = ""
    ) -> FinishedRecord:
        """Record that this session ended by itself, and why; see `FinishedRecord`."""
        return self.append(FinishedRecord, outcome=outcome, reason=reason, step=step, resumed_from=resumed_from)

    def clean(self, coming: CheckpointRecord | None = None) -> None:
        """Remove what no live record names under `checkpoint-*`, and writes that never ended; nothing else.

        Not while a checkpoint is being written.

        Args:
            coming: What will be published next: what was sent of it before stays, and need not be sent again.
        """
        # First look, then read the log. Whatever another machine wrote before the look, its lease is older
        # still: then the log says that we are superseded, and what it wrote is left alone.
        held = self.store.held()
        self._require_lease()
        named = {f"{checkpoint.folder}/{name}" for checkpoint in self.kept for name in checkpoint.files}
        useful = [record for record in self._records if isinstance(record, CheckpointRecord)]
        if coming:
            useful.append(coming)
            folder = self._folder(coming.step, coming.nonce)
            named |= {f"{folder}/{name}" for name in coming.files}
        # Also what is coming may have the bytes of one that was damaged: then they must go before they are sent again.
        bytes_of_use = {entry.sha256 for record in useful for entry in record.files.values()} - freeable(self._records)
        named |= {parent.as_posix() for name in named for parent in Path(name).parents}
        named |= {unnamed(sha256) for sha256 in bytes_of_use}
        unwanted = [path for path in held if path not in named]
        if unwanted and self.lease and not self._has_appended:
            # A record of a former life under this lease may still be on its way, and name this very debris. Ours takes
            # its number first; then what is debris is looked at again.
            self.append(LeaseRecord, host=self.lease.host)
            self.clean(coming)
            return
        # A removal whose answer is lost may still happen, later: nothing is put where it would hit.
        self._emptied |= {path.split("/")[0] for path in unwanted}
        self.store.discard(unwanted)

    def refresh(self) -> None:
        """Read what was appended since; `Superseded` when we held the lease and it is another's now."""
        held = self.holds_lease
        self._absorb(self.store.records(after=len(self._records)))
        if held and not self.holds_lease:
            raise self.superseded()

    def append(
        self,
        kind: type[R],
        paths: Mapping[str, Path] | None = None,
        *,
        nonce: str = "",
        keep: int | None = None,
        **fields: Any,
    ) -> R:
        """Publish the next record of the log; the methods above and `take_lease` say this in words.

        Args:
            kind: Which record.
            paths: Its files, as for `Store.publish`.
            nonce: Its name; a new one when not given.
            keep: For a checkpoint: publish with it what `retire` would, and the root.
            fields: Its fields that are not in every record; for a lease also `epoch` and `run`.
        """
        fields = {"epoch": self.epoch, "run": self.run, "nonce": nonce or self.new_nonce()} | fields
        known = self.lease
        while True:
            self.refresh()
            if not self.holds_lease and not (kind is LeaseRecord and self.lease == known):
                raise self.superseded()
            late = self._late(fields["nonce"])
            if isinstance(late, kind):
                self.store.publish([late], paths or {})  # visible; this makes it durable too
                return late
            if kind is CheckpointRecord:
                fields["folder"] = self._folder(fields["step"], fields["nonce"])
            record = self._next(self._records, kind, fields)
            records = [record] if keep is None else [record, *self._retiring(record, keep)]
            root = None if keep is None else best_of(existing([*self._records, *records]))
            try:
                self.store.publish(records, paths or {}, root)
            except NumberTaken as taken:
                if not self.store.records(after=len(self._records)):
                    raise StoreUnavailable(f"{self.store}: record {record.seq} exists but is not shown") from taken
                continue  # the log says whose it is
            self._records += records
            self._has_appended = True
            for gone in records[1:]:
                self._remove(gone)
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

    def _next(self, before: Sequence[Record], kind: type[R], fields: Mapping[str, Any]) -> R:
        """The record that follows `before`."""
        parent = before[-1].digest() if before else ""
        return kind(seq=len(before) + 1, parent=parent, owner=self.owner, time=self._now(), **fields)

    def _retiring(self, checkpoint: Record, keep: int) -> list[Record]:
        """The records behind a new checkpoint that retire older ones."""
        records = [*self._records, checkpoint]
        old = retired(existing(records), keep)
        fields = {"epoch": self.epoch, "run": self.run, "reason": RETENTION}
        if dropped := _folders(old.dropped):
            more = {"nonce": self.new_nonce(), "checkpoints": dropped}
            records.append(self._next(records, DropRecord, fields | more))
        if trimmed := _folders(old.trimmed):
            more = {"nonce": self.new_nonce(), "checkpoints": trimmed}
            records.append(self._next(records, TrimRecord, fields | more))
        return records[len(self._records) + 1 :]

    def _late(self, nonce: str) -> Record | None:
        """Our own record of that name, whose answer was lost; not one that was dropped since."""
        dropped = {name for record in self._records if isinstance(record, DropRecord) for name in record.checkpoints}
        ours = (record for record in self._records if record.nonce == nonce and record.owner == self.owner)
        return next((record for record in ours if nonce not in dropped), None)

    def _remove(self, gone: Record) -> None:
        if isinstance(gone, DropRecord | TrimRecord):
            self.store.remove(gone, freeable(self._records))

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
        used = {record.folder for record in self._records if isinstance(record, CheckpointRecord)} | self._emptied
        plain, short, full = f"checkpoint-{step}", f"checkpoint-{step}-{nonce[:6]}", f"checkpoint-{step}-{nonce}"
        first_epoch = self._records[0].epoch if self._records else self.epoch
        choices = [plain, short, full] if self.epoch == first_epoch else [short, full]
        return next((name for name in choices if name not in used), f"checkpoint-{step}-{self.new_nonce()}")


def _folders(checkpoints: Iterable[CheckpointRecord]) -> dict[str, str]:
    return {checkpoint.nonce: checkpoint.folder for checkpoint in checkpoints}
