"""What a durable store says of its run: who trains it, what is safe there, how old it is.

Asks nobody but the store, from any machine. Ages are by the store's own clock: the store
says how long ago the last record appeared, and the records say how far they are apart.
"""

import math
from dataclasses import dataclass

from dragoman.checkpoint.log import RunLog
from dragoman.checkpoint.sessions import INTERRUPTED, sessions
from dragoman.checkpoint.status_shape import SCHEMA, Held, Lease, Safe, Status, StoreHeld
from dragoman.config import StoreConfig
from dragoman.errors import StoreUnavailable
from dragoman.store.address import FILE
from dragoman.store.record import Record

LEASE_SECONDS = StoreConfig().lease_minutes * 60
"""A holder of the lease that was silent for longer is not taken to be at work."""


@dataclass(frozen=True)
class Ages:
    """How old records are."""

    idle_seconds: float
    """Since the last one appeared, by the store's clock."""
    last_time: float
    """When it was written, by its owner's clock."""

    def of(self, record: Record) -> float:
        """Seconds since a record was written."""
        return max(0.0, self.idle_seconds + self.last_time - record.time)


def remote_status(log: RunLog, now: float, lease_seconds: float = LEASE_SECONDS) -> Status:
    """The state of the run in a store.

    Args:
        log: Of the store, with a run in it.
        now: This machine's clock, for a store that does not tell its time to us.
        lease_seconds: Silence after which nobody is taken to be at work.

    Raises:
        StoreUnavailable: The store failed.
    """
    url, newest, lease = url_of(log), log.newest, log.lease
    ages = ages_of(log, now)
    at_work = "running" if ages.idle_seconds < lease_seconds else INTERRUPTED
    state = log.finished.outcome if log.finished else at_work
    return Status(
        schema=SCHEMA,
        run=log.run,
        state=state,
        step=max((each.step for each in (newest, log.finished) if each), default=0),
        preparing=None,
        total_steps=None,
        epoch=None,
        loss=_finite(newest.losses[-1][1]) if newest and newest.losses else None,
        chrf=_finite(newest.metrics.get("chrf")) if newest else None,
        tokens_per_second=None,
        eta_seconds=None,
        safe=Safe(step=newest.step, store=url, age_seconds=ages.of(newest), verified=True) if newest else None,
        degraded=None,
        lease=Lease(owner=lease.owner, host=lease.host, epoch=lease.epoch, age_seconds=ages.idle_seconds)
        if lease
        else None,
        local=None,
        store=StoreHeld(url=url, num_bytes=_num_bytes(log), checkpoints=_held(log, ages)),
        history=sessions(log.records, state),
    )


def url_of(log: RunLog) -> str:
    """The URL of a log's store, as a person would type it again."""
    text = str(log.store)
    return text if "://" in text else f"{FILE}{text}"


def ages_of(log: RunLog, now: float) -> Ages:
    """How old the records of a log are.

    Args:
        log: Of the store, with a run in it.
        now: This machine's clock. Some stores tell their time only to who may write.
    """
    last_time = log.records[-1].time
    try:
        idle = log.store.idle_seconds()
    except StoreUnavailable:
        idle = max(0.0, now - last_time)
    return Ages(idle if math.isfinite(idle) else max(0.0, now - last_time), last_time)


def _num_bytes(log: RunLog) -> int | None:
    try:
        return log.store.num_bytes()
    except StoreUnavailable:  # a token that may only read is not told
        return None


def _held(log: RunLog, ages: Ages) -> list[Held]:
    best = log.best.nonce if log.best else ""
    return [
        Held(
            step=kept.step,
            folder=kept.folder,
            num_bytes=kept.num_bytes,
            age_seconds=ages.of(kept),
            best=kept.nonce == best,
            whole=kept.is_whole,
        )
        for kept in log.kept
    ]


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
