"""Which checkpoint to continue from: the newest whose every byte is what was recorded."""

from collections import Counter
from collections.abc import Callable

from dragoman.checkpoint.log import RunLog
from dragoman.checkpoint.retention import DAMAGED
from dragoman.errors import Damaged
from dragoman.store.base import MODEL_FILE
from dragoman.store.record import CheckpointRecord, FinishedRecord, LeaseRecord

Report = Callable[[CheckpointRecord, str], None]
"""Told of every checkpoint that is passed over, and why; make it loud."""

_FAILURES = 2


def newest_good(
    log: RunLog, report: Report, prove: Callable[[CheckpointRecord], None] | None = None
) -> CheckpointRecord | None:
    """The newest checkpoint that is whole; None when there never was one.

    Damaged ones that it passes over are reported, and dropped when this process holds the
    lease. One from which training twice ended in our own recorded exception comes after
    all others. When every checkpoint is damaged, all are left as they are.

    Args:
        log: The run's log.
        report: Told of every checkpoint that is passed over.
        prove: Raises `Damaged` unless the checkpoint is whole; `log.store.verify` when not
            given. For a store far away, rather one that fetches it.

    Raises:
        Damaged: There are checkpoints, and every one is damaged.
        StoreUnavailable: The store could not be read, which is not damage.
        Superseded: Another machine took the lease.
    """
    checkpoints, failing = log.checkpoints, twice_failed(log)
    damage: dict[str, str] = {}
    for checkpoint in sorted(checkpoints, key=lambda checkpoint: checkpoint.nonce in failing):
        try:
            (prove or log.store.verify)(checkpoint)
        except Damaged as error:
            damage[checkpoint.nonce] = f"{DAMAGED}{error.message}"
            continue
        for newer in checkpoints[: checkpoints.index(checkpoint)]:
            report(newer, damage.get(newer.nonce) or failing[newer.nonce])
        if log.holds_lease:
            for damaged in (each for each in checkpoints if each.nonce in damage):
                log.drop([damaged], damage[damaged.nonce])
        return checkpoint
    if checkpoints:
        for checkpoint in checkpoints:
            report(checkpoint, damage[checkpoint.nonce])
        newest = damage[checkpoints[0].nonce]
        raise Damaged(
            f"{log.store}: every checkpoint is damaged (the newest: {newest}); nothing was removed",
            "copy the files back from another copy of this run, or start anew in another --output",
        )
    return None


def repair_root(log: RunLog, report: Report, *, far_away: bool = False) -> None:
    """Make the model at the root whole and that of the best checkpoint, as a new holder of the lease must.

    A best checkpoint whose model is damaged is reported and dropped; the root then gets
    the newest one's. So call this after `newest_good`.

    Args:
        log: The run's log.
        report: Told of a best checkpoint that is damaged.
        far_away: Do not read the weights: believe what the store says of them.

    Raises:
        StoreUnavailable: The store failed.
        Superseded: Another machine took the lease.
    """
    while best := log.best:
        try:
            if not far_away:
                log.store.verify(best, [MODEL_FILE])
            log.publish_root()
        except Damaged as error:
            report(best, f"{DAMAGED}{error.message}")
            log.drop([best], f"{DAMAGED}{error.message}")
        else:
            return


def twice_failed(log: RunLog) -> dict[str, str]:
    """Nonces of the checkpoints that training cannot get away from, and what happened there.

    These are checkpoints from which two sessions, with no save in or between them, ended
    in our own recorded exception. A session that was killed leaves no record and never counts.
    """
    failing: dict[str, str] = {}
    failures: Counter[str] = Counter()
    saved, session = False, ("", 0)
    for record in log.records:
        if isinstance(record, CheckpointRecord):
            failures.clear()
            saved = True
        elif isinstance(record, LeaseRecord):
            # A lease that its holder repeats, to show that it lives, begins no session.
            saved = saved and session == (record.owner, record.epoch)
            session = (record.owner, record.epoch)
        elif isinstance(record, FinishedRecord):
            if record.outcome == "failed" and record.resumed_from and not saved:
                failures[record.resumed_from] += 1
                if failures[record.resumed_from] >= _FAILURES:
                    failing[record.resumed_from] = f"two sessions that continued from it failed: {record.reason}"
            saved = False
    return failing
