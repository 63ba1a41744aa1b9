"""The sessions of a run: a pure function of the records in its log."""

from collections.abc import Iterable

from dragoman.checkpoint.status_shape import Session
from dragoman.store.record import CheckpointRecord, FinishedRecord, LeaseRecord, Record

INTERRUPTED = "interrupted"
"""The outcome of a session that left no word: killed, or its machine is gone."""


def sessions(records: Iterable[Record], state: str) -> list[Session]:
    """All sessions, the newest first.

    Args:
        records: Of the log, in order. A lease that its holder repeats begins no session.
        state: How the newest one stands, if it left no word.
    """
    found: list[Session] = []
    known = ("", 0)
    for record in records:
        if isinstance(record, LeaseRecord) and (record.owner, record.epoch) != known:
            known = (record.owner, record.epoch)
            found.append(
                Session(
                    epoch=record.epoch,
                    host=record.host,
                    first_time=record.time,
                    last_time=record.time,
                    outcome=INTERRUPTED,
                    step=None,
                )
            )
        if found:
            _absorb(found[-1], record)
    if found and found[-1]["outcome"] == INTERRUPTED:
        found[-1]["outcome"] = state
    return found[::-1]


def _absorb(session: Session, record: Record) -> None:
    session["last_time"] = record.time
    if isinstance(record, CheckpointRecord | FinishedRecord):
        session["step"] = max(record.step, session["step"] or 0)
    if isinstance(record, FinishedRecord):
        session["outcome"] = record.outcome
