"""dragoman's side: the real command, its journal and its `status`."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.faults_judge import Verdict, judge_dragoman
from bench.faults_machine import ROOT, Machine, Process, wait_until
from bench.faults_sides import (
    BATCH,
    PACE_SECONDS,
    REPO,
    SAVE_STEPS,
    START_SECONDS,
    Pace,
    Resumed,
    Side,
    last_error,
    words_of,
)
from dragoman import journal
from dragoman.checkpoint.log import RunLog
from dragoman.checkpoint.status import status
from dragoman.store.hub import HubStore
from tests.support.hub import HubStandIn

PATCHES: dict[str, dict[str, Any]] = {
    "dragoman.checkpoint.replicator": {"FIRST_RETRY_SECONDS": 0.5, "LONGEST_RETRY_SECONDS": 2.0},
    "dragoman.checkpoint.replicate": {"WAIT_SECONDS": 0.5},
    "dragoman.store.deadline": {"Patience": {"answer_seconds": 3.0, "stall_seconds": 30.0, "transfer_seconds": 30.0}},
}
"""What is shorter in the bench than in life: dragoman would retry after 2 to 120 s, and wait 60 s for an answer."""
PATCH_FOLDER = Path(__file__).parent / "faults_patch"


def patched(pace: Pace = 0.0) -> dict[str, str]:
    """The environment of a dragoman with shorter waits and slower steps."""
    patches = PATCHES | ({"dragoman.training.loop": {"train_step": pace}} if pace else {})
    return {"PYTHONPATH": os.pathsep.join([str(PATCH_FOLDER), str(ROOT / "src")]), "FAULTS_PATCH": json.dumps(patches)}


@dataclass
class Degraded:
    """What `dragoman status` showed while it ran, the oldest first."""

    reasons: list[str] = field(default_factory=list)
    longest_seconds: float = 0.0


class Dragoman(Side):
    """`python -m dragoman`."""

    name = "dragoman"

    def options(self, machine: Machine) -> dict[str, object]:
        """A run like the recipe's."""
        return {
            "language_pairs": "en-fr",
            "data": f"en-fr={self.data}",
            "model": "scratch:tiny",
            "epochs": 1,
            "batch_size": BATCH,
            "gradient_accumulation": 1,
            "learning_rate": "1e-3",
            "dev_percent": 0,
            "test_percent": 0,
            "save_steps": SAVE_STEPS,
            "eval_steps": 0,
            "log_steps": 1,
            "device": "cpu",
            "threads": 1,
            "output": machine.folder / "run",
            "store": f"hf://{REPO}",
            "drain_minutes": 0.25,
        } | self.sharing()

    def sharing(self) -> dict[str, object]:
        """What starts several ranks."""
        return {"devices": self.ranks} if self.ranks > 1 else {}

    def start(self, machine: Machine, pace: Pace = PACE_SECONDS, **options: object) -> Process:
        """Train."""
        machine.environment |= self.environment(pace)
        return machine.start("dragoman", ["-m", "dragoman", "train", *words_of(self.options(machine) | options, "-")])

    def events(self, machine: Machine, *kinds: str) -> list[dict[str, Any]]:
        """What the journal says."""
        path = machine.folder / "run/dragoman/journal.jsonl"
        return [event for event in journal.read(path) if event["kind"] in kinds]

    def saved(self, machine: Machine) -> list[int]:
        return [event["step"] for event in self.events(machine, "saved")]

    def has_begun(self, machine: Machine) -> bool:
        return bool(self.events(machine, "session_started"))

    def trained(self, machine: Machine) -> list[tuple[int, float]]:
        return [(event["step"], event["time"]) for event in self.events(machine, "step")]

    def final(self, folder: Path) -> str:
        path = folder / "run/model.safetensors"
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""

    def has_trained(self, machine: Machine) -> bool:
        return False  # its process ends then

    def judge(self, hub: HubStandIn, machines: Sequence[Machine]) -> Verdict:
        return judge_dragoman(hub, REPO)

    def resume(self, machine: Machine, hub: HubStandIn, **options: object) -> Resumed:
        words = [
            "-m",
            "dragoman",
            "resume",
            f"hf://{REPO}",
            "--output",
            machine.folder / "run",
            "--drain-minutes",
            "0.5",
        ]
        process = machine.start("resume", [*words, *words_of(self.sharing() | options, "-")])
        process.ended(START_SECONDS)
        return self.resumed(machine, hub, process)

    def resumed(self, machine: Machine, hub: HubStandIn, process: Process) -> Resumed:
        """How a resume went."""
        started = self.events(machine, "session_started")
        warned = " · ".join(event["message"] for event in self.events(machine, "warned"))
        if started:
            exact = self.final(machine.folder) == self.weights
            return Resumed(started[-1]["step"], exact, process.exit_code, warned, process.talk)
        if process.exit_code == 0:  # all was done, so that nothing was fetched
            step = self.restore(machine, hub)
            return Resumed(step, self.final(machine.folder) == self.weights, 0, process.talk[-1], process.talk)
        return Resumed(None, False, process.exit_code, last_error(process.talk), process.talk)

    def restore(self, machine: Machine, hub: HubStandIn) -> int:
        """Fetch the newest checkpoint into the machine's run folder; its step."""
        token = machine.environment["HF_TOKEN"]
        log = RunLog(HubStore(REPO, endpoint=hub.url, token=lambda: token))
        assert log.newest is not None
        log.store.fetch(log.newest, log.newest.files, machine.folder / "run")
        return log.newest.step

    def watch(self, machine: Machine, process: Process, seconds: float, seen: Degraded) -> bool:
        """Whether it ended in time; meanwhile look at `status` again and again."""

        def look() -> bool:
            is_over = process.exit_code is not None
            if (machine.folder / "run/dragoman/journal.jsonl").exists():
                note(status(machine.folder / "run"), seen)
            return is_over

        return wait_until(look, seconds)

    def environment(self, pace: Pace) -> Mapping[str, str]:
        return patched(pace)


def note(found: Mapping[str, Any], seen: Degraded) -> None:
    """Take down what a `status` says."""
    if degraded := found["degraded"]:
        if degraded["reason"] not in seen.reasons:
            seen.reasons.append(degraded["reason"])
        seen.longest_seconds = max(seen.longest_seconds, degraded["since_seconds"])
