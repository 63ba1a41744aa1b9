"""Plays one fault to a run with several ranks, and judges what became of it (`bench/ranks.py`)."""

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.faults_machine import ROOT, Machine, Process, wait_until
from dragoman import journal
from dragoman.checkpoint.log import RunLog
from dragoman.store.local import FolderStore
from tests.support.runs import train_args

STEPS, SAVE_STEPS, BEGIN = 16, 4, 4
"""Of every run, between two saves, and the step of the checkpoint that the runs of the grid begin from."""
OPTIONS: dict[str, object] = {
    "max_steps": STEPS,
    "save_steps": SAVE_STEPS,
    "eval_steps": 10,
    "precision": "fp64",
    "dropout": 0,
    "threads": 1,
    "max_bad_steps": 2,
}
ALIKE = 1e-10
"""Largest relative difference to an undisturbed run."""
WAIT_SECONDS = 900.0
"""After this a run hangs."""
Fault = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """A fault, to whom, and what is to come of it."""

    name: str
    faults: tuple[Fault, ...]
    devices: int = 3
    parallel: str = "ddp"
    bound: float = 45.0
    """Seconds from the fault to the next start, or to the end."""
    code: int = 0
    """How the session is to end."""
    restarts: int = 1
    """How many starts are to follow the first one; -1: any number."""
    pace: float = 0.0
    pause: float = 1.0
    options: Mapping[str, object] = field(default_factory=dict[str, object])
    begins: bool = False
    """Whether the run begins from nothing, instead of from a checkpoint."""
    like: str = "undisturbed"
    """The run that it is compared with."""


@dataclass
class Outcome:
    """What came of a row."""

    name: str
    seconds: float | None = None
    """From the fault to the next start, or to when nothing was left alive."""
    bound: float = 0.0
    codes: list[int] = field(default_factory=list[int])
    """Of every session."""
    restarts: int = 0
    lost_steps: int = 0
    difference: float | None = None
    """Largest relative difference of a weight or loss."""
    each: list[tuple[str, float, int]] = field(default_factory=list[tuple[str, float, int]])
    """Of each fault: its moment, the seconds until the next start, and how many steps were done then."""
    wrong: list[str] = field(default_factory=list[str])
    remarks: list[str] = field(default_factory=list[str])
    took: float = 0.0

    @property
    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class Lab:
    """A folder with data, a run that nobody disturbs, and one that has begun."""

    folder: Path

    def words(self, output: Path, **options: object) -> list[str]:
        return ["-m", "dragoman", *train_args(self.folder, **(OPTIONS | {"output": output} | options))]

    def prepare(self) -> None:
        """The runs to compare with, of one process each; done once."""
        bad = {"at": "", "do": "nan", "steps": [9, 10]}
        self._alone("undisturbed")
        self._alone("not-finite", bad)
        self._alone("begun", {"at": "after", "do": "SIGTERM", "step": BEGIN})

    def _alone(self, name: str, *faults: Fault) -> None:
        if (self.folder / name).exists():
            return
        with self.machine(name, faults) as machine:
            process = machine.start("said", self.words(self.folder / name))
            assert process.ended(WAIT_SECONDS), process.talk
            assert process.exit_code in (0, 75), process.talk

    def machine(self, name: str, faults: Sequence[Fault], **told: object) -> Machine:
        folder = self.folder / f"{name}-machine"
        shutil.rmtree(folder, ignore_errors=True)
        patch = {"folder": str(folder), "faults": list(faults), **told}
        path = f"{ROOT / 'bench/ranks_patch'}:{ROOT / 'src'}:{ROOT}"
        return Machine(folder, {"RANKS_PATCH": json.dumps(patch), "PYTHONPATH": path})

    def run_of(self, row: Row) -> Path:
        """The folder of a row's run, with a checkpoint in it, or with data and base model alone."""
        run = self.folder / row.name
        shutil.rmtree(run, ignore_errors=True)
        if row.begins:
            for part in ("dragoman/corpus", "dragoman/base"):
                shutil.copytree(self.folder / "undisturbed" / part, run / part)
        else:
            shutil.copytree(self.folder / "begun", run)
        return run


def play(lab: Lab, row: Row) -> Outcome:
    """One session with the fault; another one without, where the first one was to end."""
    started, run, outcome = time.monotonic(), lab.run_of(row), Outcome(row.name, bound=row.bound)
    told: dict[str, object] = {"devices": row.devices, "parallel": row.parallel, **row.options}
    with lab.machine(row.name, row.faults, pace=row.pace, pause=row.pause) as machine:
        process = machine.start("said", lab.words(run, **told))
        ended = wait_until(lambda: process.exit_code is not None and not machine.alive(), WAIT_SECONDS)
        end = time.time()
        outcome.codes.append(process.exit_code if process.exit_code is not None else -1)
        if not ended:
            outcome.wrong.append(f"hangs: {len(machine.alive())} processes after {WAIT_SECONDS:.0f} s")
        _look_at_marks(machine.folder, row, outcome, end)
        if outcome.codes[0] != row.code:
            outcome.wrong.append(f"exit code {outcome.codes[0]}, not {row.code}: {process.talk[-3:]}")
    if outcome.codes[0] != 0:
        with lab.machine(f"{row.name}-again", ()) as machine:
            again = machine.start("said", lab.words(run, devices=2))
            assert again.ended(WAIT_SECONDS), again.talk
            outcome.codes.append(again.exit_code or 0)
        shutil.rmtree(machine.folder)
    judge(run, lab.folder / row.like, outcome)
    outcome.took = time.monotonic() - started
    return outcome


def marks(folder: Path) -> list[dict[str, Any]]:
    """What the processes of a machine noted, in the order of time."""
    file = folder / "marks.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def _look_at_marks(folder: Path, row: Row, outcome: Outcome, end: float) -> None:
    found = marks(folder)
    lives = list(dict.fromkeys(each["life"] for each in found if each["kind"] == "began"))
    outcome.restarts = len(lives) - 1
    struck = [each for each in found if each["kind"] == "fault"]
    if len(struck) < sum(bool(fault["at"]) for fault in row.faults):
        outcome.wrong.append(f"{len(struck)} faults happened")
    for one in struck:
        later = [each["time"] for each in found if each["kind"] == "began" and each["time"] > one["time"]]
        seconds = min(later, default=end) - one["time"]
        outcome.each.append((row.faults[one["number"]]["at"], seconds, one["step"]))
        outcome.seconds = max(seconds, outcome.seconds or 0.0)
    if outcome.seconds and outcome.seconds > row.bound:
        outcome.wrong.append(f"{outcome.seconds:.0f} s, and {row.bound:.0f} s were allowed")
    if row.restarts >= 0 and outcome.restarts != row.restarts:
        outcome.wrong.append(f"{outcome.restarts} restarts, not {row.restarts}")


def judge(run: Path, like: Path, outcome: Outcome) -> None:
    """Compare the end of a run with that of another one, and count what it computed twice."""
    reached, most, limits = 0, 0, list[int]()
    for event in journal.read(run / "dragoman/journal.jsonl"):
        if event["kind"] == "session_started":
            most = max(most, reached - event["step"])
            reached = event["step"]
        elif event["kind"] == "step":
            reached = event["step"]
        elif event["kind"] == "out_of_memory":
            limits.append(event["microbatch_tokens"])
        elif event["kind"] == "rolled_back":
            outcome.remarks.append(f"rolled back from step {event['from_step']} to {event['to_step']}")
    if limits:
        outcome.remarks.append(f"recorded as out of memory: microbatches of {', then '.join(map(str, limits))} tokens")
    outcome.lost_steps = most
    outcome.difference = gap = difference(run, like)
    if outcome.lost_steps >= 2 * SAVE_STEPS:
        outcome.wrong.append(f"{outcome.lost_steps} steps lost, an interval has {SAVE_STEPS}")
    if not gap <= ALIKE:
        outcome.wrong.append(f"another end than that of an undisturbed run: {gap:.1e}")


def difference(run: Path, like: Path) -> float:
    """Largest relative difference of losses and weights in the newest checkpoints; infinite when steps differ.

    The bias of keys is left out: softmax does not see it, its true gradient is zero, and Adam
    makes steps of full size out of the rounding noise that is left of it.
    """
    import torch
    from safetensors.torch import load_file

    ours, theirs = (RunLog(FolderStore(folder)).newest for folder in (run, like))
    if ours is None or theirs is None or (ours.step, ours.pairs_seen) != (theirs.step, theirs.pairs_seen):
        return float("inf")
    if [step for step, _ in ours.losses] != [step for step, _ in theirs.losses]:
        return float("inf")
    most = max(abs(a - b) / abs(b) for (_, a), (_, b) in zip(ours.losses, theirs.losses, strict=True))
    mine, other = (load_file(folder / at.folder / "model.safetensors") for folder, at in ((run, ours), (like, theirs)))
    for name, weight in other.items():
        if not name.endswith("k_proj.bias"):
            gap = torch.linalg.vector_norm(mine[name] - weight) / torch.linalg.vector_norm(weight).clamp(min=1e-30)
            most = max(most, float(gap))
    return most


def exit_of(process: Process) -> int:
    """Its exit code, once it has ended."""
    assert process.ended(WAIT_SECONDS), process.talk
    return process.exit_code if process.exit_code is not None else -1
