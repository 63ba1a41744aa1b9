"""Which machines were started from here, a line for each, so that one can be stopped by the name of its run."""

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from dragoman import platforms
from dragoman.launch.job import Handle, Job
from dragoman.store.address import named

STARTED = Path("runs/launched.jsonl")
_WORDS = re.compile(r"([a-z]+):([^/].*)")


def words(handle: Handle) -> str:
    """A machine as `dragoman stop` takes it."""
    return f"{handle.platform}:{handle.id}"


def note(handle: Handle, job: Job, time: float, path: Path = STARTED) -> None:
    """Remember a machine that was started.

    Args:
        handle: Which one.
        job: What for.
        time: Seconds since 1970.
        path: Where such lines are.
    """
    line = {
        "time": time,
        "name": job.name,
        "store": job.store,
        "max_hours": job.max_hours,
        "most_usd": round(job.most_usd, 2),
        **asdict(handle),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")


class Found(NamedTuple):
    """A machine, and the store that it trains into, where that is known here."""

    handle: Handle
    store: str | None


def find(text: str, path: Path = STARTED) -> Found | None:
    """The machine that is meant: PLATFORM:ID, or the newest that was started here for a store or under a name.

    Returns:
        None where nothing of it is known here; the run's store may know more.
    """
    lines = path.read_text("utf-8").splitlines() if path.is_file() else []
    known = [json.loads(line) for line in lines]
    meant = _WORDS.fullmatch(text)
    is_handle = meant is not None and meant[1] in (*platforms.every(), "sky")
    for one in reversed(known):
        handle = Handle(one["platform"], one["id"], one["url"])
        is_named = text in (one["name"], one["id"], one["store"]) or named(text) == one["store"]
        if text == words(handle) or (is_named and not is_handle):
            return Found(handle, one["store"])
    return Found(Handle(meant[1], meant[2]), None) if meant and is_handle else None
