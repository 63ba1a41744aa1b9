"""What a run is doing and what is safe, from its folder alone; never writes, needs no torch."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dragoman import journal
from dragoman.checkpoint.log import RunLog
from dragoman.errors import InputError
from dragoman.store.local import FolderStore

SCHEMA = 1


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


def status(folder: Path, now: float | None = None) -> dict[str, Any]:
    """The state of the run in `folder`, as one JSON object.

    `state` is preparing, prepared, running, done, stopped, failed or interrupted (killed, or
    its machine is gone). `epoch` counts passes over the data, `lease.epoch` sessions. Ages are in seconds,
    `loss` in nats per target token; what is not known is null.

    Raises:
        InputError: There is no run in the folder.
        Damaged: The log is damaged.
    """
    if not (folder / "dragoman").is_dir():
        raise InputError(f"{folder}: there is no run here", "the --output folder of a run")
    now = time.time() if now is None else now
    store = FolderStore(folder)
    log, seen = RunLog(store), _read(folder)
    newest, lease = log.newest, log.lease
    started, step = seen.started or {}, seen.step or {}
    alive = store.locked() is not None
    done_step = max(step.get("step", 0), newest.step if newest else 0) if alive or not newest else newest.step
    per_epoch, total = started.get("steps_per_epoch"), started.get("total_steps")
    step_seconds = _step_seconds(seen)
    running = alive and bool(started) and not _is_later(seen.ended, started)
    return {
        "schema": SCHEMA,
        "run": log.run or None,
        "state": "running" if running else "preparing" if alive else _ending(log, seen),
        "step": done_step,
        "total_steps": total,
        "epoch": done_step / per_epoch if per_epoch else None,
        "loss": step.get("loss"),
        "chrf": (seen.evaluated or {}).get("chrf"),
        "tokens_per_second": step.get("tokens_per_second"),
        "eta_seconds": (total - done_step) * step_seconds if running and total and step_seconds else None,
        "safe": {
            "step": newest.step,
            "store": str(folder),
            "age_seconds": max(0.0, now - newest.time),
            "verified": False,
        }
        if newest
        else None,
        "degraded": _degraded(seen, now),
        "lease": {"owner": lease.owner, "host": lease.host, "epoch": lease.epoch, "age_seconds": now - lease.time}
        if lease
        else None,
    }


def _read(folder: Path) -> _Seen:
    seen = _Seen()
    for event in journal.read(folder / "dragoman" / "journal.jsonl"):
        match event.get("kind"):
            case "session_started":
                seen.started, seen.failed, seen.failing_since = event, None, None
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
            case "prepared":
                seen.is_prepared = True
            case _:
                pass
    return seen


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
        return "interrupted"
    return "prepared" if seen.is_prepared else "stopped"


def _degraded(seen: _Seen, now: float) -> dict[str, Any] | None:
    if not seen.failed or seen.failing_since is None:
        return None
    return {"reason": seen.failed["reason"], "since_seconds": max(0.0, now - seen.failing_since)}


def newest_run(runs: Path) -> Path:
    """The run folder below `runs` whose journal was written last.

    Raises:
        InputError: There is none.
    """
    journals = sorted(runs.glob("*/dragoman/journal.jsonl"), key=lambda path: path.stat().st_mtime)
    if not journals:
        raise InputError(f"there is no run below {runs}/", "name the run: its --output folder")
    return journals[-1].parent.parent
