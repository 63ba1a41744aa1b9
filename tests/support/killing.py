"""Real `dragoman train` processes, killed with SIGKILL at seeded instants, until one is let through.

The instants are drawn uniformly over the life of a process: some fall into the imports,
the restore and the first step, most into steps and saves. Real time is the point here, so
this file sleeps; nothing that is asserted depends on how long. With a save at every step or
two, many hit a save; which ones did is seen from what the dead process left behind.
"""

import random
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dragoman import journal
from dragoman.checkpoint.log import RunLog
from dragoman.store.local import STAGING, FolderStore

STARTUP_SECONDS = 30.0
"""A session that does not begin within this is not killed but waited for."""


@dataclass
class Kills:
    """What the killing of one run met."""

    instants: list[float] = field(default_factory=list)
    """Seconds of each kill: after the start of the process when negative, else after its first step began."""
    during_saves: int = 0
    """Processes that left a staged checkpoint or an unfinished write."""
    steps: list[int] = field(default_factory=list)
    """Newest recorded step after each kill."""


def command(words: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "dragoman", *words]


def kill_repeatedly(words: Sequence[str], run: Path, kills: int, seed: int, longest: float) -> Kills:
    """Start `dragoman WORDS` and kill it, `kills` times; each time at another instant.

    Args:
        words: The command.
        run: Its run folder.
        kills: How often.
        seed: Draws the instants.
        longest: Latest instant after the first step began, in seconds.
    """
    chooser, met = random.Random(seed), Kills()
    for _ in range(kills):
        # One in five dies while it starts: in imports, restore, or before its first save.
        early = chooser.random() < 0.2
        instant = chooser.uniform(0.5, 4.0) if early else chooser.uniform(0.0, longest)
        _kill_once(words, run, instant, early)
        met.instants.append(-instant if early else instant)
        met.during_saves += _has_debris(run)
        newest = RunLog(FolderStore(run)).newest
        met.steps.append(newest.step if newest else 0)
    return met


def _kill_once(words: Sequence[str], run: Path, instant: float, early: bool) -> None:
    sessions = _sessions(run)
    process = subprocess.Popen(command(words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + (instant if early else STARTUP_SECONDS)
    while time.monotonic() < deadline and process.poll() is None and (early or _sessions(run) == sessions):
        time.sleep(0.005)
    if not early:
        end = time.monotonic() + instant
        while time.monotonic() < end and process.poll() is None:
            time.sleep(0.001)
    assert process.poll() is None, f"the run ended before it could be killed (exit code {process.returncode})"
    process.kill()
    process.wait()


def _sessions(run: Path) -> int:
    """How many sessions ever began to train."""
    return sum(event["kind"] == "session_started" for event in journal.read(run / "dragoman/journal.jsonl"))


def _has_debris(run: Path) -> bool:
    """Whether something under the store's own names belongs to no record."""
    store = FolderStore(run)
    if not (run / STAGING).is_dir():
        return False  # killed before it had made its folder
    named = {checkpoint.folder for checkpoint in RunLog(store).checkpoints}
    return any(path.split("/")[0] not in named for path in store.held())
