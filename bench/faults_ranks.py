"""Two ranks train one run on one machine: what they compute, and what becomes of it when one of them is lost.

The recipe's are started by torchrun, dragoman's by itself. Each rank of the recipe has
half the pairs of a step, so that a step has as many as before.
"""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from bench.faults_dragoman import Dragoman
from bench.faults_machine import Machine, Process, wait_until
from bench.faults_play import Lab, Outcome, after_dragoman, take_down, undisturbed
from bench.faults_sides import START_SECONDS, STEPS, Recipe, Resumed, Side, last_error
from dragoman import journal

UNDISTURBED = "two-ranks"
STRUCK_AFTER = 13
"""Steps, between the saves of 10 and 15."""

# --- what two ranks compute ------------------------------------------------------------


@dataclass(frozen=True)
class Figures:
    """What a run without dropout reported, and what it ended with."""

    losses: list[float]
    """Of each step, as reported."""
    norm: float
    """The gradient's of the first step, before clipping: there all runs have the same weights."""
    weights: dict[str, np.ndarray[Any, Any]]

    def times(self, one: "Figures") -> str:
        """How much greater loss and gradient of the first step are than another run's."""
        return f"×{self.losses[0] / one.losses[0]:.2f} and ×{self.norm / one.norm:.2f}"

    def step_one(self, one: "Figures") -> str:
        """The first step of two ranks beside that of one."""
        losses, norms = (f"{a:.4g} → {b:.4g}" for a, b in ((one.losses[0], self.losses[0]), (one.norm, self.norm)))
        return f"step 1: loss {losses}, gradient norm {norms}: {self.times(one)}"

    def apart(self, one: "Figures") -> float:
        """The greatest difference between two weights; `k_proj.bias` has no gradient but rounding."""
        names = [name for name in self.weights if not name.endswith("k_proj.bias")]
        return max(float(np.abs(self.weights[name] - one.weights[name]).max()) for name in names)

    def losses_apart(self, one: "Figures") -> float:
        """The greatest relative difference between the losses of a step."""
        return max(abs(a / b - 1) for a, b in zip(self.losses, one.losses, strict=True))


def two_ranks(lab: Lab, side: Side) -> Outcome:
    """Undisturbed, with what differs from one rank at the same pairs per step."""
    two = of_two(lab)
    started, outcome = time.monotonic(), replace(undisturbed(two, _side(two, side), UNDISTURBED))
    outcome.remarks = _of_recipe(lab) if isinstance(side, Recipe) else _of_dragoman(lab)
    outcome.seconds += time.monotonic() - started
    return outcome


def _of_recipe(lab: Lab) -> list[str]:
    base = lab.folder / "base-without-dropout"
    shutil.copytree(lab.recipe.base, base)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {name: 0.0 for name in config if "dropout" in name}))
    shared: dict[str, object] = {"base": base, "logging_steps": 1, "final_push": None}
    two = of_two(lab)
    one = figures(lab, lab.recipe, "one", **shared)
    both = figures(two, two.recipe, "both", **shared)
    added = figures(lab, lab.recipe, "added", batch_size=2, gradient_accumulation_steps=2, **shared)
    all_ = figures(two, two.recipe, "all", batch_size=1, gradient_accumulation_steps=2, **shared)
    return [
        both.step_one(one),
        f"one rank, accumulation 2: {added.times(one)}; two, accumulation 2: {all_.times(one)}",
        f"weights at the end up to {both.apart(one):.1e} apart without dropout",
    ]


def _of_dragoman(lab: Lab) -> list[str]:
    two, shared, fp64 = of_two(lab), {"dropout": 0}, {"dropout": 0, "precision": "fp64"}
    one, both = figures(lab, lab.dragoman, "one", **shared), figures(two, two.dragoman, "both", **shared)
    exact_one, exact = figures(lab, lab.dragoman, "one-64", **fp64), figures(two, two.dragoman, "both-64", **fp64)
    added = figures(two, two.dragoman, "added", **shared, batch_size=2, gradient_accumulation=2)
    return [
        both.step_one(one),
        f"two ranks, accumulation 2: {added.times(one)}",
        f"without dropout all {STEPS} losses within {both.losses_apart(one):.0e}, weights at the end up to "
        f"{both.apart(one):.1e} apart; in float64 {exact.losses_apart(exact_one):.0e} and {exact.apart(exact_one):.0e}",
    ]


def figures(lab: Lab, side: Side, name: str, **options: object) -> Figures:
    """One run, not held back."""
    name = f"figures-{name}-{side.name}"
    with lab.hub(f"{name}-hub") as hub, side.machine(lab.folder / name, hub) as machine:
        process = side.start(machine, 0.0, **options)
        if not process.ended(START_SECONDS) or process.exit_code:
            raise RuntimeError(f"{name}: exit {process.exit_code}: {last_error(process.talk)}")
        run = machine.folder / "run"
        path = machine.folder / "witness.jsonl" if isinstance(side, Recipe) else run / "dragoman/journal.jsonl"
        steps = [event for event in journal.read(path) if event.get("event", event.get("kind")) in ("log", "step")]
        steps = [event for event in steps if "loss" in event]
        weights = load_file(run / f"checkpoint-{STEPS}/model.safetensors")
    return Figures([event["loss"] for event in steps], steps[0]["gradient_norm"], weights)


# --- one is lost, all are to end --------------------------------------------------------


def killed(lab: Lab, side: Side) -> Outcome:
    """SIGKILL of rank 1; whoever started the ranks may start them again once, on the same machine."""
    options: dict[str, object] = {"max_restarts": 1}
    if isinstance(side, Recipe):
        options |= {"resume_from_checkpoint": "newest", "final_push": None}
    return _struck(lab, side, "rank-killed", options, kill_rank_one, _went_on)


def told_to_end(lab: Lab, side: Side) -> Outcome:
    """SIGTERM to whoever started the ranks, as a platform does before it takes a machine; then another machine."""
    return _struck(lab, side, "rank-sigterm", {"final_push": None} if isinstance(side, Recipe) else {}, _sigterm, _left)


def told_to_end_jit(lab: Lab, side: Side) -> Outcome:
    """The same when the recipe asks for a checkpoint at SIGTERM."""
    options = {"final_push": None, "enable_jit_checkpoint": True}
    outcome = _struck(lab, side, "rank-sigterm-jit", options, _sigterm, _left)
    # Trainer calls nobody at such a save, so the witness cannot say which bytes belong to it.
    outcome.torn, outcome.torn_at_end = [], ""
    outcome.remarks.append("whether the repository is torn is not known here")
    return outcome


def killed_apart(lab: Lab, side: Side) -> Outcome:
    """One killed, when torchrun's ranks do not meet in the store of its own, which remembers the first start."""
    options = {"max_restarts": 1, "resume_from_checkpoint": "newest", "final_push": None}
    environment = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    return _struck(lab, side, "rank-killed-apart", options, kill_rank_one, _went_on, environment)


def kill_rank_one(machine: Machine, process: Process) -> None:
    """SIGKILL to the process of the second rank, which starts no others."""
    ranks = [pid for pid in machine.alive() if b"RANK=1" in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")]
    os.kill(min(ranks), signal.SIGKILL)


def _sigterm(machine: Machine, process: Process) -> None:
    process.popen.send_signal(signal.SIGTERM)


@dataclass(frozen=True)
class Struck:
    """A run that was struck, once it has ended."""

    side: Side
    machine: Machine
    process: Process
    at: int
    """Steps done then."""
    time: float
    """Seconds since 1970."""
    ended_after: float
    """Seconds from then to the launcher's end."""


def _struck(
    lab: Lab,
    side: Side,
    row: str,
    options: Mapping[str, Any],
    strike: Callable[[Machine, Process], None],
    note: Callable[[Struck, Outcome], None],
    environment: Mapping[str, str] | None = None,
) -> Outcome:
    """Train, strike between two saves, wait for the end, continue elsewhere unless it went on by itself."""
    two = of_two(lab)
    side = _side(two, side)
    undisturbed(two, side, UNDISTURBED)
    started, outcome, name = time.monotonic(), Outcome(row, side.name), f"{row}-{side.name}"
    with two.hub(f"{name}-hub") as hub:
        with side.machine(two.folder / name, hub) as machine:
            machine.environment |= environment or {}
            process = side.start(machine, **options)

            def is_there() -> bool:
                done = side.trained(machine)
                return process.exit_code is not None or bool(done and done[-1][0] >= STRUCK_AFTER)

            wait_until(is_there, START_SECONDS)
            at, when = side.trained(machine)[-1][0], time.time()
            strike(machine, process)
            process.ended(START_SECONDS)
            outcome.ended = "hangs" if process.exit_code is None else f"exit {process.exit_code}"
            struck = Struck(side, machine, process, at, when, time.time() - when)
            take_down(two, side, machine, process, side.judge(hub, [machine]), outcome)
            if isinstance(side, Dragoman):
                after_dragoman(side, machine, process, outcome)
            note(struck, outcome)
        if outcome.resumed is None:
            with side.machine(two.folder / f"{name}-resumed", hub) as fresh:
                outcome.resumed = side.resume(fresh, hub)
    outcome.seconds = time.monotonic() - started
    return outcome


def _went_on(struck: Struck, outcome: Outcome) -> None:
    """Whether, when and from where it went on by itself."""
    side, after = struck.side, [it for it in struck.side.trained(struck.machine) if it[1] > struck.time]
    later = next((number for number, it in enumerate(after) if it[0] <= struck.at), None)  # a step that is done again
    words = f"rank 1 killed after step {struck.at}: "
    if later is None:
        outcome.remarks.append(words + f"did not go on; ended after {struck.ended_after:.1f} s")
        outcome.resumed = Resumed(None, False, struck.process.exit_code, last_error(struck.process.talk))
        return
    step, moment = after[later]
    exact = side.final(struck.machine.folder) == side.weights
    outcome.resumed = Resumed(step - 1, exact and outcome.ended == "exit 0", struck.process.exit_code)
    lost = max(struck.at, *(it[0] for it in after[: later + 1])) - step + 1
    outcome.remarks.append(f"{words}{lost} steps lost, trained again after {moment - struck.time:.1f} s")


def _left(struck: Struck, outcome: Outcome) -> None:
    """What was saved after the signal."""
    done, saved = struck.side.trained(struck.machine)[-1][0], max(outcome.made, default=0)
    outcome.ended += f", {struck.ended_after:.1f} s after SIGTERM"
    outcome.remarks.append(f"SIGTERM after step {struck.at}, trained to {done}; newest save on the disk {saved}")


def of_two(lab: Lab) -> Lab:
    """The same with two ranks."""
    assert lab.two is not None
    return lab.two


def _side(lab: Lab, like: Side) -> Side:
    return lab.recipe if isinstance(like, Recipe) else lab.dragoman
