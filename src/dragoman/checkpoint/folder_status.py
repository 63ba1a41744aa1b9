"""What a run is doing and what is safe, from its folder alone; never writes, asks no network, needs no torch."""

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dragoman import journal
from dragoman.checkpoint import watchdog
from dragoman.checkpoint.copying import Copying
from dragoman.checkpoint.log import RunLog
from dragoman.checkpoint.run_folder import JOURNAL
from dragoman.checkpoint.sessions import INTERRUPTED, sessions
from dragoman.checkpoint.status_shape import SCHEMA, Degraded, Lease, Local, Preparing, Safe, Status, StoreHeld
from dragoman.store.local import FolderStore
from dragoman.store.record import CheckpointRecord


@dataclass
class _Seen:
    """The newest event of each kind that `status` looks at."""

    started: dict[str, Any] | None = None
    step: dict[str, Any] | None = None
    evaluated: dict[str, Any] | None = None
    failed: dict[str, Any] | None = None
    failing_since: float | None = None
    ended: dict[str, Any] | None = None
    is_prepared: bool = False
    preparing: dict[str, Any] | None = None
    """Since the last corpus was ready or training began."""
    copying: Copying = field(default_factory=Copying)


def folder_status(folder: Path, now: float) -> Status:
    """The state of the run in `folder` at the time `now`, in seconds since 1970.

    For a run with a durable store, `safe` is what that store holds as far as the journal knows.

    Raises:
        Damaged: The log is damaged.
    """
    store = FolderStore(folder)
    log, seen = RunLog(store), _read(folder)
    newest, lease = log.newest, log.lease
    started, step = seen.started or {}, seen.step or {}
    alive = store.locked() is not None
    done_step = max(step.get("step", 0), newest.step if newest else 0) if alive or not newest else newest.step
    per_epoch, total = started.get("steps_per_epoch"), started.get("total_steps")
    step_seconds = _step_seconds(seen)
    running = alive and bool(started) and not _is_later(seen.ended, started) and not seen.preparing
    state = "running" if running else "preparing" if alive else _ending(log, seen)
    copying = seen.copying
    is_left = newest is not None and newest.step > copying.safe_step
    is_missed = (running or (is_left and not alive)) and watchdog.holder(folder) is None
    way_out = "" if running else f"; dragoman replicate {shlex.quote(str(folder))} brings it there"
    return Status(
        schema=SCHEMA,
        run=log.run or None,
        state=state,
        step=done_step,
        preparing=_preparing(seen, now) if state == "preparing" else None,
        total_steps=total,
        epoch=done_step / per_epoch if per_epoch else None,
        loss=step.get("loss"),
        chrf=(seen.evaluated or {}).get("chrf"),
        tokens_per_second=step.get("tokens_per_second"),
        eta_seconds=(total - done_step) * step_seconds if running and total and step_seconds else None,
        safe=_safe_there(copying, log, now) if copying.store else _safe_here(newest, folder, now),
        degraded=_unsaved(seen, now) or copying.degraded(now, is_missed=is_missed, way_out=way_out),
        lease=Lease(
            owner=lease.owner,
            host=lease.host,
            epoch=lease.epoch,
            age_seconds=max(0.0, now - log.records[-1].time),
        )
        if lease
        else None,
        local=Local(step=newest.step, folder=str(folder / newest.folder), age_seconds=max(0.0, now - newest.time))
        if newest
        else None,
        store=StoreHeld(url=copying.store, num_bytes=None, checkpoints=None) if copying.store else None,
        history=sessions(log.records, state if running else INTERRUPTED),
    )


def _read(folder: Path) -> _Seen:
    seen = _Seen()
    for event in journal.read(folder / JOURNAL):
        seen.copying.absorb(event)
        match event.get("kind"):
            case "session_started":
                seen.started, seen.failed, seen.failing_since, seen.preparing = event, None, None, None
            case "step":
                seen.step = event
            case "evaluated":
                seen.evaluated = event
            case "save_failed":
                seen.failed = event
                seen.failing_since = seen.failing_since or event["time"]
            case "saved":
                seen.failed, seen.failing_since = None, None
            case "session_ended":
                seen.ended = event
            case "preparing":
                seen.preparing = event
            case "prepared":
                seen.is_prepared, seen.preparing = True, None
            case _:
                pass
    return seen


def _preparing(seen: _Seen, now: float) -> Preparing | None:
    if not (event := seen.preparing):
        return None
    return Preparing(
        stage=event["stage"],
        rows=event["rows"],
        kept=event["kept"],
        share=event["share"],
        pairs_per_second=event["pairs_per_second"],
        age_seconds=max(0.0, now - event["time"]),
    )


def _step_seconds(seen: _Seen) -> float | None:
    """Seconds per step in the last reported window; windows end at multiples of one length."""
    if not seen.step or not seen.started:
        return None
    done = seen.step["step"] - seen.started["step"]
    elapsed = seen.step["time"] - seen.started["time"]
    return elapsed / done if done > 0 else None


def _is_later(event: dict[str, Any] | None, other: dict[str, Any]) -> bool:
    return event is not None and event["time"] >= other["time"]


def _ending(log: RunLog, seen: _Seen) -> str:
    if log.finished:
        return log.finished.outcome
    if log.lease or seen.started:
        return INTERRUPTED
    return "prepared" if seen.is_prepared else "stopped"


def _safe_here(newest: CheckpointRecord | None, folder: Path, now: float) -> Safe | None:
    if newest is None:
        return None
    return Safe(step=newest.step, store=str(folder), age_seconds=max(0.0, now - newest.time), verified=False)


def _safe_there(copying: Copying, log: RunLog, now: float) -> Safe | None:
    """What the durable store holds; its age is that of the save, if this folder ever held it."""
    if copying.safe_step < 0:
        return None
    saved = [each.time for each in log.records if isinstance(each, CheckpointRecord) and each.step == copying.safe_step]
    since = saved[-1] if saved else copying.safe_time
    return Safe(
        step=copying.safe_step, store=copying.store, age_seconds=max(0.0, now - since), verified=copying.is_proved
    )


def _unsaved(seen: _Seen, now: float) -> Degraded | None:
    if not seen.failed or seen.failing_since is None:
        return None
    return Degraded(reason=seen.failed["reason"], since_seconds=max(0.0, now - seen.failing_since))
