"""Two machines train the same run into the same repository."""

import threading
import time

from bench.faults_dragoman import Dragoman
from bench.faults_machine import Machine, Process, wait_until
from bench.faults_play import Lab, Outcome, after_first_save, note_verdict
from bench.faults_sides import SAVE_STEPS, START_SECONDS, Recipe, Side, names_there
from tests.support.hub import HubStandIn

ROW = "two-trainers"


def two_trainers(lab: Lab, side: Side) -> Outcome:
    """The same command, on a second machine at the same time."""
    return _two(lab, side, ROW, {"seed": 2} if isinstance(side, Recipe) else {})


def take_over(lab: Lab, side: Side) -> Outcome:
    """A second machine takes the run over as soon as the first save is there."""
    return _two(lab, side, f"{ROW}-take-over", {"take_over": True})


def first_is_lost(lab: Lab, side: Side) -> Outcome:
    """Both begin at once; as soon as a second save is there, the machine that made it vanishes."""
    return _two(lab, side, f"{ROW}-first-lost", {}, loses=True)


def _two(lab: Lab, side: Side, row: str, second: dict[str, object], loses: bool = False) -> Outcome:
    """The recipe's second trainer has another seed, so that one can see whose bytes are where."""
    started, outcome, name = time.monotonic(), Outcome(row, side.name), f"{row}-{side.name}"
    short = {"lease_minutes": 0.25} if isinstance(side, Dragoman) else {}
    with (
        lab.hub(f"{name}-hub") as hub,
        side.machine(lab.folder / f"{name}-1", hub) as one,
        side.machine(lab.folder / f"{name}-2", hub) as two,
    ):
        there = threading.Event()
        after_first_save(hub, there.set)
        processes = [side.start(one, **short)]
        if "take_over" in second and not there.wait(START_SECONDS):
            outcome.remarks.append("no first save")
        processes.append(side.start(two, **short, **second))
        machines = [one, two]
        if loses:
            wait_until(lambda: f"checkpoint-{2 * SAVE_STEPS}/training/state.json" in names_there(hub), START_SECONDS)
            _lose(side, machines)
        wait_until(lambda: all(_is_over(side, *pair) for pair in zip(machines, processes, strict=True)), START_SECONDS)
        ends = [_ending(side, *pair) for pair in zip(machines, processes, strict=True)]
        _take_down(lab, side, hub, machines, processes, outcome)
        outcome.ended = " and ".join(ends)
        for machine in machines:
            machine.vanish()
        with side.machine(lab.folder / f"{name}-resumed", hub) as fresh:
            outcome.resumed = side.resume(fresh, hub)
    outcome.seconds = time.monotonic() - started
    return outcome


def _lose(side: Side, machines: list[Machine]) -> None:
    """The machine that has saved vanishes."""
    max(machines, key=lambda machine: len(side.saved(machine))).vanish()


def _is_over(side: Side, machine: Machine, process: Process) -> bool:
    return process.exit_code is not None or side.has_trained(machine)


def _ending(side: Side, machine: Machine, process: Process) -> str:
    if side.has_trained(machine):
        return "exit 0"
    return "hangs" if process.exit_code is None else f"exit {process.exit_code}"


def _take_down(
    lab: Lab, side: Side, hub: HubStandIn, machines: list[Machine], processes: list[Process], outcome: Outcome
) -> None:
    verdict = side.judge(hub, machines)
    outcome.made = [step for machine in machines for step in side.saved(machine)]
    note_verdict(verdict, outcome)
    outcome.last_line = processes[-1].talk[-1]
    for number, process in enumerate(processes, 1):
        outcome.said += [f"{number}: {line}" for line in lab.unusual(side, process.talk)]
    if isinstance(side, Recipe):
        whose = [f"step {step} of trainer {trainer + 1}" for trainer, step in verdict.end.whole]
        outcome.remarks.append(f"at the end the repository holds {' and '.join(whose) or 'nothing whole'}")
        outcome.silent = "" if outcome.said else "silent"
