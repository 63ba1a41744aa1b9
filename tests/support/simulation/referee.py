"""Watches the durable store: what must be true of it at every instant."""

from collections.abc import Callable, Sequence

from dragoman.checkpoint.retention import DAMAGED, existing
from dragoman.store.base import MODEL_FILE
from dragoman.store.record import CheckpointRecord, DropRecord, LeaseRecord, Record
from tests.support.simulation.client import Server, Watch
from tests.support.simulation.training import CHECKPOINT_BYTES, MOMENTS, TOKENIZER, TRUTH


class Violation(BaseException):
    """The protocol broke a promise. Not an Exception, so that no handler can mistake it for an error."""


class Referee(Watch):
    """Checks every change of the durable store.

    Args:
        server: The store.
        keep: Checkpoints that it is to keep.
        machine: Name of the machine whose process has the baton.
        tell: Told of every record.
    """

    def __init__(self, server: Server, keep: int, machine: Callable[[], str], tell: Callable[[object], None]) -> None:
        self._server, self._machine, self._tell = server, machine, tell
        self._bound = _bound(keep)
        self._live: list[CheckpointRecord] = []
        self._num_records = 0
        self._newest_place = (0, 0)
        self.may_go_back = False
        """Whether a session may continue from an older checkpoint, because from the newest it failed twice."""
        self.most_bytes = 0
        """The most that the store ever held."""

    # --- the log ---------------------------------------------------------------------

    def appended(self, before: Sequence[Record], record: Record) -> None:
        last = before[-1] if before else None
        lease = _lease(before)
        if record.seq != len(before) + 1 or record.parent != (last.digest() if last else ""):
            raise Violation(f"record {record.seq} does not continue the log")
        if last and (record.run != last.run or record.epoch < last.epoch):
            raise Violation(f"record {record.seq}: run {record.run} in epoch {record.epoch} behind {last}")
        if isinstance(record, LeaseRecord):
            is_renewal = lease is not None and lease.owner == record.owner
            if lease and (record.epoch == lease.epoch) != is_renewal:
                raise Violation(f"record {record.seq}: a lease in epoch {record.epoch} behind {lease}")
        elif lease is None or (record.owner, record.epoch) != (lease.owner, lease.epoch):
            raise Violation(f"record {record.seq}: {record.owner} has published, and the lease is {lease}")
        if isinstance(record, DropRecord) and record.reason.startswith(DAMAGED):
            self._check_damage(before, record)
        if isinstance(record, CheckpointRecord):
            self._check_checkpoint(before, record)
        self._tell(record)

    def _check_damage(self, before: Sequence[Record], drop: DropRecord) -> None:
        for checkpoint in existing(before):
            if checkpoint.nonce in drop.checkpoints and all(map(self._is_right, *_paths(checkpoint))):
                raise Violation(f"{checkpoint.folder} was dropped as damaged and is whole: {drop.reason}")

    def _check_checkpoint(self, before: Sequence[Record], record: CheckpointRecord) -> None:
        if any(isinstance(each, CheckpointRecord) and each.folder == record.folder for each in before):
            raise Violation(f"{record.folder} has been recorded before")
        good = [each.step for each in existing(before) if each.is_whole and self.is_whole(each)]
        if record.is_whole and not self.may_go_back and record.step < max(good, default=0):
            raise Violation(f"{record.folder} is published behind a good checkpoint of step {max(good)}")

    # --- the bytes -------------------------------------------------------------------

    def changed(self, what: str) -> None:
        records = self._server.records
        new, self._num_records = records[self._num_records :], len(records)
        if new:
            self._live = existing(records)
        for checkpoint in self._live:
            for path, sha256 in zip(*_paths(checkpoint), strict=True):
                if self._is_right(path, sha256):
                    continue
                if not self._server.is_spoilt(path):
                    raise Violation(f"{what}: {path}, which a live record names, is missing or wrong")
                if checkpoint in new and self.was_known(sha256):
                    raise Violation(f"{path}: published again, and its damaged bytes, dropped before, are still there")
        place = self.newest_place()
        if place < self._newest_place:
            raise Violation(f"{what}: the newest whole checkpoint was {self._newest_place} and is {place}")
        self._newest_place = place
        held = self._server.held_bytes()
        self.most_bytes = max(self.most_bytes, held)
        if held > self._bound:
            raise Violation(f"{what}: the store holds {held} bytes, allowed are {self._bound}")

    def newest_place(self) -> tuple[int, int]:
        """Epoch and step of the newest checkpoint that is whole and undamaged."""
        whole = (each for each in self._live if each.is_whole and self.is_whole(each))
        return max((each.place for each in whole), default=(0, 0))

    def is_whole(self, checkpoint: CheckpointRecord) -> bool:
        """Whether every byte of it is right."""
        return all(map(self._is_right, *_paths(checkpoint)))

    def spoil(self, path: str) -> None:
        """Damage a file; what was promised of it is void."""
        self._server.spoil(path)
        self._newest_place = self.newest_place()

    def _is_right(self, path: str, sha256: str) -> bool:
        return self._server.read(path) == TRUTH[sha256]

    def was_known(self, sha256: str) -> bool:
        """Whether damage to these bytes was found, and recorded, before."""
        records = self._server.records
        dropped = {
            nonce
            for record in records
            if isinstance(record, DropRecord) and record.reason.startswith(DAMAGED)
            for nonce in record.checkpoints
        }
        named = (each for each in records if isinstance(each, CheckpointRecord) and each.nonce in dropped)
        return any(entry.sha256 == sha256 for each in named for entry in each.files.values())

    # --- the machines ----------------------------------------------------------------

    def deletes(self, shown: Sequence[Record]) -> None:
        lease = _lease(shown)
        if lease is None or lease.host != self._machine():
            raise Violation(f"{self._machine()} starts a deletion, and has seen the lease of {lease}")

    def superseded(self, machine: str, why: str) -> None:
        """A process on a machine has stopped because another machine has taken over."""
        if f"another machine ({machine}) " in why:
            raise Violation(f"{machine} has superseded itself: {why}")

    def replicated(self, step: int) -> None:
        """A process has said that a step is in the store."""
        if not any(isinstance(each, CheckpointRecord) and each.step >= step for each in self._server.records):
            raise Violation(f"step {step} is said to be in the store, and is not")


def _lease(records: Sequence[Record]) -> LeaseRecord | None:
    return next((record for record in reversed(records) if isinstance(record, LeaseRecord)), None)


def _paths(checkpoint: CheckpointRecord) -> tuple[list[str], list[str]]:
    """Path and sha256 of each file."""
    paths = [f"{checkpoint.folder}/{name}" for name in checkpoint.files]
    return paths, [entry.sha256 for entry in checkpoint.files.values()]


def _bound(keep: int) -> int:
    """At most keep + 1 whole checkpoints and two models, and what is small."""
    model, moments = CHECKPOINT_BYTES[MODEL_FILE], CHECKPOINT_BYTES[MOMENTS]
    return (keep + 1) * (model + moments) + 2 * model + (keep + 4) * CHECKPOINT_BYTES[TOKENIZER]
