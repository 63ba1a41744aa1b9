"""What exists, what may go, and whose bytes may go for ever: pure functions of the records."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dragoman.store.record import CheckpointRecord, DropRecord, Record, TrimRecord

DAMAGED = "damaged: "
"""How the reason of a drop begins when the files are not what was recorded."""


@dataclass(frozen=True)
class Retired:
    """Checkpoints that need not be kept any longer."""

    dropped: list[CheckpointRecord]
    """Nothing of these is wanted."""
    trimmed: list[CheckpointRecord]
    """Of these the model is wanted, and nothing else."""


def existing(records: Iterable[Record]) -> list[CheckpointRecord]:
    """The checkpoints that were recorded and not dropped since, the newest by (epoch, step) first.

    One that was trimmed names only the files of its model.
    """
    found: dict[str, CheckpointRecord] = {}
    for record in records:
        if isinstance(record, CheckpointRecord):
            found[record.nonce] = record
        elif isinstance(record, DropRecord):
            for nonce in record.checkpoints:
                found.pop(nonce, None)
        elif isinstance(record, TrimRecord):
            for nonce in record.checkpoints.keys() & found.keys():
                found[nonce] = found[nonce].without_training()
    return sorted(found.values(), key=lambda kept: (kept.epoch, kept.step, kept.seq), reverse=True)


def retired(kept: Sequence[CheckpointRecord], keep: int) -> Retired:
    """What to drop and to trim, so that the newest `keep` stay whole, and the model of the best one.

    Args:
        kept: What exists, the newest first (`existing`).
        keep: How many stay; at least one does.
    """
    whole = [checkpoint for checkpoint in kept if checkpoint.is_whole]
    stay, best = whole[: max(keep, 1)], best_of(kept)
    old = [checkpoint for checkpoint in kept if checkpoint not in stay]
    return Retired(
        dropped=[checkpoint for checkpoint in old if checkpoint != best],
        trimmed=[checkpoint for checkpoint in old if checkpoint == best and checkpoint.is_whole],
    )


def best_of(kept: Sequence[CheckpointRecord]) -> CheckpointRecord | None:
    """The checkpoint whose model is published: the one that the newest names, else the newest itself."""
    newest = next((checkpoint for checkpoint in kept if checkpoint.is_whole), None)
    if newest is None:
        return next(iter(kept), None)
    return next((checkpoint for checkpoint in kept if checkpoint.nonce == newest.best), newest)


def freeable(records: Sequence[Record]) -> set[str]:
    """Sha256 of every file that nobody names any more and nobody will make again.

    A resumed run makes the same bytes as before, from any checkpoint that is kept. So bytes
    may go for ever only when they are older than each of these, or are not what was
    recorded. Else a deletion that is under way might hit what the next machine publishes.
    """
    kept = {checkpoint.nonce: checkpoint for checkpoint in existing(records)}
    named = {entry.sha256 for checkpoint in kept.values() for entry in checkpoint.files.values()}
    oldest = min((checkpoint.step for checkpoint in kept.values() if checkpoint.is_whole), default=0)
    damaged = {
        nonce
        for record in records
        if isinstance(record, DropRecord) and record.reason.startswith(DAMAGED)
        for nonce in record.checkpoints
    }
    freed: set[str] = set()
    for record in records:
        if isinstance(record, CheckpointRecord) and (record.step < oldest or record.nonce in damaged):
            still = kept[record.nonce].files if record.nonce in kept else {}
            freed |= {entry.sha256 for name, entry in record.files.items() if name not in still}
    return freed - named
