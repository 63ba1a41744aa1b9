"""Faults that take more than one session, or more than one machine (`bench/ranks.py`)."""

import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any

from bench.faults_machine import wait_until
from bench.ranks_play import SAVE_STEPS, WAIT_SECONDS, Fault, Lab, Outcome, exit_of, judge, marks
from dragoman import journal

ELASTIC: list[tuple[str, dict[str, object], int]] = [
    ("1", {"devices": 1}, 7),
    ("2 ddp", {"devices": 2, "parallel": "ddp"}, 13),
    ("4 fsdp", {"devices": 4, "parallel": "fsdp"}, 19),
    ("4 ddp", {"devices": 4, "parallel": "ddp"}, 25),
    ("1", {"devices": 1}, 0),
]
"""Ranks of each session, and after which step everything gets SIGKILL."""
LONGER = {"max_steps": 30}
PACE = 2.0
"""Seconds after each step of the machine that is to be superseded."""


def elastic(lab: Lab) -> Outcome:
    """1, 2, 4, 4 and 1 ranks in one run, with SIGKILL of all processes between."""
    outcome = Outcome("elastic")
    _clear(lab, "elastic", "elastic-alone")
    alone = _session(lab, "elastic-alone", "elastic-alone", {"devices": 1}, 0, outcome)
    noted = [
        _session(lab, f"elastic-{number}", "elastic", options, killed, outcome)
        for number, (_, options, killed) in enumerate(ELASTIC)
    ]
    judge(lab.folder / "elastic", lab.folder / "elastic-alone", outcome)
    wanted, trained = pairs_of_steps([alone]), pairs_of_steps(noted)
    epoch, times = len(set().union(*wanted.values())), Counter[int]()
    if {step: sorted(pairs) for step, pairs in trained.items()} != {step: sorted(p) for step, p in wanted.items()}:
        outcome.wrong.append("some step had other pairs")
    for step in sorted(trained):
        times.update(trained[step])
        full, rest = divmod(times.total(), epoch)
        if sum(count == full + 1 for count in times.values()) != rest or max(times.values()) > full + 1:
            outcome.wrong.append(f"up to step {step + 1} some pair came twice in an epoch")
    full, rest = divmod(times.total(), epoch)
    sessions = " → ".join(name for name, _, _ in ELASTIC)
    outcome.remarks.append(
        f"ranks {sessions}; {len(trained)} steps, {full} whole epochs of {epoch} pairs and {rest} pairs more: "
        "the same pairs in every step as one process, so every pair once in an epoch"
    )
    return outcome


def _session(lab: Lab, name: str, run: str, options: dict[str, object], killed: int, outcome: Outcome) -> Path:
    """One session, killed after a step or left to its end; the folder with its marks."""
    faults: list[Fault] = [{"at": "after", "step": killed, "do": "SIGKILL", "victim": "all"}] if killed else []
    with lab.machine(name, faults, pairs=True) as machine:
        process = machine.start("said", lab.words(lab.folder / run, **LONGER, **options))
        code = exit_of(process)
        if code != (-9 if killed else 0):
            outcome.wrong.append(f"exit code {code}: {process.talk[-3:]}")
        outcome.codes.append(code)
        if not wait_until(lambda: not machine.alive(), 10):
            outcome.wrong.append("a process was left alive")
    return machine.folder


def pairs_of_steps(folders: list[Path]) -> dict[int, list[int]]:
    """The pairs of each step, over all ranks, as they were computed the last time that all computed it."""
    lives: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for folder in folders:
        for each in marks(folder):
            if each["kind"] == "pairs":
                lives.setdefault((each["step"], each["life"]), []).append(each)
    return {
        step: [pair for each in ranks for pair in each["pairs"]]
        for (step, _), ranks in lives.items()
        if len(ranks) == ranks[0]["ranks"]
    }


def superseded(lab: Lab) -> Outcome:
    """Another machine takes the run over; every rank of the first one ends with 3."""
    outcome = Outcome("superseded", bound=60)
    _clear(lab, "superseded-1", "superseded-2", "superseded-store")
    told: dict[str, object] = {"store": f"file://{lab.folder / 'superseded-store'}", "devices": 2}
    one, two = lab.folder / "superseded-1", lab.folder / "superseded-2"
    with lab.machine("superseded-1", (), pace=PACE) as first, lab.machine("superseded-2", ()) as second:
        process = first.start("said", lab.words(one, **told))
        store = lab.folder / "superseded-store"
        assert wait_until(lambda: list(store.glob(f"**/checkpoint-{SAVE_STEPS}")), WAIT_SECONDS), process.talk
        other = second.start("said", lab.words(two, **told, take_over=True))
        assert wait_until(lambda: _has_begun(two), WAIT_SECONDS), other.talk
        taken = time.monotonic()
        ended = wait_until(lambda: process.exit_code is not None and not first.alive(), WAIT_SECONDS)
        outcome.seconds = time.monotonic() - taken
        outcome.codes = [process.exit_code if ended and process.exit_code is not None else -1, exit_of(other)]
    if outcome.codes != [3, 0]:
        outcome.wrong.append(f"exit codes {outcome.codes}: {process.talk[-3:]} {other.talk[-3:]}")
    if outcome.seconds > outcome.bound:
        outcome.wrong.append("too late")
    judge(two, lab.folder / "undisturbed", outcome)
    return outcome


def _has_begun(run: Path) -> bool:
    return any(event["kind"] == "session_started" for event in _events(run))


def _clear(lab: Lab, *names: str) -> None:
    """What an earlier call has left."""
    for name in names:
        shutil.rmtree(lab.folder / name, ignore_errors=True)


def _events(run: Path) -> list[dict[str, Any]]:
    file = run / "dragoman/journal.jsonl"
    return list(journal.read(file)) if file.exists() else []
