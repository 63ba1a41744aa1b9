"""A tiny run that is cut and goes on: what is trained, how it is waited for, and what must be true of its store then.

Where it is cut is told elsewhere: `selftest_here` kills processes of this machine,
`selftest_there` takes machines away.
"""

import itertools
import random
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from dragoman import host
from dragoman.checkpoint.doctor import Check
from dragoman.checkpoint.log import RunLog
from dragoman.config import ENVIRONMENT_PREFIX, RunConfig, from_flat
from dragoman.errors import CheckSaidNo, Damaged, InputError, StoreUnavailable
from dragoman.store.address import HUB, named
from dragoman.store.record import CheckpointRecord

T = TypeVar("T")

LEAST_STEPS = 60
"""Fewer are over before anybody could cut them."""
PARTS = 6
"""The run is saved so many times."""
NUM_PAIRS = 400
SENTENCE = "three one two"
_WORDS = (
    ("zero", "zéro"),
    ("one", "un"),
    ("two", "deux"),
    ("three", "trois"),
    ("four", "quatre"),
    ("five", "cinq"),
    ("six", "six"),
    ("seven", "sept"),
    ("eight", "huit"),
    ("nine", "neuf"),
)
"""The digits, in English and French."""


def write_pairs(path: Path) -> Path:
    """Write the data of the run as TSV: three digits in English, the same in French the other way round."""
    chosen = random.Random(1).sample(list(itertools.product(_WORDS, repeat=3)), NUM_PAIRS)
    rows = [(" ".join(en for en, _ in digits), " ".join(fr for _, fr in reversed(digits))) for digits in chosen]
    path.write_text("".join(f"{source}\t{target}\n" for source, target in rows), encoding="utf-8")
    return path


def tiny_run(data: Path, store: str, steps: int) -> RunConfig:
    """The run: a model of some megabytes, made from nothing.

    Args:
        data: As `write_pairs` wrote it.
        store: URL of a durable store that holds nothing.
        steps: Optimizer steps; a checkpoint is saved `PARTS` times.

    Raises:
        InputError: There are too few steps.
    """
    if steps < LEAST_STEPS:
        raise InputError(f"--steps {steps}: over before it could be cut", f"--steps {LEAST_STEPS} or more")
    options: dict[str, Any] = {
        "language_pairs": ["en-fr"],
        "data": [f"en-fr={data}"],
        "dev_percent": 10,
        "test_percent": 0,
        "model": "scratch:tiny",
        "max_steps": steps,
        "batch_size": 8,
        "gradient_accumulation": 1,
        "learning_rate": 1e-3,
        "save_steps": interval(steps),
        "eval_steps": 0,
        "log_steps": 1,
        "store": store,
        "commits_per_hour": 60,
    }
    return from_flat(options)


def interval(steps: int) -> int:
    """Steps from one save to the next."""
    return steps // PARTS


def fresh_store(beside: str, what: str, now: float) -> str:
    """URL of a store of its own, for one selftest: in a bucket or folder below, on the Hub beside what is named.

    Args:
        beside: A store as a person types it.
        what: What is tried, such as the name of a platform.
        now: Seconds since 1970 (UTC).
    """
    name = f"selftest-{what}-{datetime.fromtimestamp(now, UTC):%Y%m%d-%H%M}"
    url = named(beside).rstrip("/")
    return f"{url}-{name}" if url.startswith(HUB) else f"{url}/dragoman-{name}"


def refuse_used(log: RunLog) -> None:
    """Raise `InputError` if a run is in the store of this log."""
    if log.records:
        raise InputError(f"{log.store}: a run is there already, and is left alone", "the same command in a minute")


# --- waiting -------------------------------------------------------------------------


@dataclass(frozen=True)
class Pace:
    """How something is waited for."""

    look_seconds: float
    """From one look to the next."""
    patience_seconds: float
    """After so long it is given up."""
    clock: Callable[[], float]
    """Seconds, of which only differences count."""
    sleep: Callable[[float], None]


def wait_for(what: str, look: Callable[[], T | None], pace: Pace, reached: Callable[[], str] = lambda: "") -> T:
    """What `look` finds, as soon as it finds something; a store that does not answer is asked again.

    Args:
        what: What is waited for, in words.
        look: Looks once; None when it is not there yet.
        pace: How often and how long.
        reached: How far it has come, in words, for the complaint.

    Raises:
        CheckSaidNo: It did not come in time.
    """
    until = pace.clock() + pace.patience_seconds
    last = ""
    while True:
        try:
            if (found := look()) is not None:
                return found
            last = ""
        except StoreUnavailable as error:
            last = f" (at last: {error.message})"
        if pace.clock() >= until:
            far = f"; {text}" if (text := reached()) else ""
            raise CheckSaidNo(f"{what}: not within {pace.patience_seconds / 60:.0f} min{far}{last}", "dragoman doctor")
        pace.sleep(pace.look_seconds)


def newest(log: RunLog) -> CheckpointRecord | None:
    """The newest checkpoint that is safe in a store, read anew."""
    log.refresh()
    return log.newest


def is_done(log: RunLog) -> bool:
    """Whether the run in a store says that all is done, read anew."""
    log.refresh()
    return log.finished is not None and log.finished.outcome == "done"


def far(log: RunLog) -> str:
    """How far the run in a store has come, as it was read last."""
    return f"safe is step {log.newest.step:,}" if log.newest else "nothing is safe yet"


# --- what must be true ---------------------------------------------------------------


def safe_check(safe: CheckpointRecord, log: RunLog) -> Check:
    """What is safe before the cut."""
    return Check("safe before the cut", "ok", f"step {safe.step:,} is in {log.store}", facts={"step": safe.step})


def aftermath(log: RunLog, before: CheckpointRecord, steps: int) -> Iterator[Check]:
    """What the store must say of a run that was cut and went on to its end.

    Args:
        log: Of the store, read after the end.
        before: The newest that was seen there before the cut.
        steps: Of the whole run.
    """
    finished = log.finished
    assert finished is not None, "wait for the end first"
    known = {record.nonce: record for record in log.records if isinstance(record, CheckpointRecord)}
    origin = known.get(finished.resumed_from)
    is_later = origin is not None and origin.step >= before.step
    where = f"step {origin.step:,}" if origin else "nothing"
    yield Check(
        "went on from what was safe",
        "ok" if is_later else "problem",
        f"the next session began at {where}; safe was step {before.step:,}",
        facts={"resumed_step": origin.step if origin else 0, "epochs": log.epoch},
    )
    is_whole = finished.outcome == "done" and finished.step == steps
    yield Check(
        "all steps",
        "ok" if is_whole else "problem",
        f"{finished.step:,} of {steps:,}: {finished.reason}",
        facts={"steps": finished.step},
    )
    yield _bytes(log)


def _bytes(log: RunLog) -> Check:
    best = log.best
    if best is None:
        return Check("every byte", "problem", f"{log.store} holds no checkpoint")
    try:
        log.store.verify(best)
    except Damaged as error:
        return Check("every byte", "problem", error.message, error.hint)
    found = f"all {len(best.files)} files of step {best.step:,} are as recorded"
    return Check("every byte", "ok", found, facts={"num_bytes": best.num_bytes})


def translation(store: str, folder: Path) -> Check:
    """Download the model from the store and translate with it, by the commands that a person would type.

    Args:
        store: URL of the store.
        folder: An empty one, for the model.
    """
    model = folder / "model"
    for words in (
        ["download", store, "--output", str(model)],
        ["translate", "--model", str(model), "--pair", "en-fr", SENTENCE],
    ):
        done = subprocess.run(command(words), capture_output=True, text=True, env=_environment(), check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            return Check("translates", "problem", f"dragoman {words[0]}: exit code {done.returncode}: {last}")
    said = done.stdout.strip()
    return Check("translates", "ok" if said else "problem", f"{SENTENCE} → {said}", facts={"translation": said})


def command(words: list[str]) -> list[str]:
    """`dragoman WORDS` as this very package runs it."""
    return [sys.executable, "-m", "dragoman", *words]


def started(words: list[str], output: Path) -> "subprocess.Popen[bytes]":
    """Start `dragoman WORDS` in a process group of its own, without the user's options in the environment.

    Args:
        words: The command.
        output: File to which all that it says is added.
    """
    with output.open("ab") as file:
        return subprocess.Popen(
            command(words),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=_environment(),
            start_new_session=True,
        )


def _environment() -> dict[str, str]:
    return host.environment_without(ENVIRONMENT_PREFIX)


def complained(checks: Iterator[Check]) -> Generator[Check]:
    """The same checks; one that cannot be made because something did not come is the last, and a problem."""
    try:
        yield from checks
    except CheckSaidNo as error:
        yield Check("reached the end", "problem", error.message, error.hint)
