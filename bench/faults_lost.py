"""Rows in which the machine vanishes at a chosen instant, and what is left is damaged, or continued otherwise."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from bench.faults_dragoman import Dragoman
from bench.faults_machine import Machine, Process, wait_until
from bench.faults_play import Lab, Outcome, after_first_save, play, take_down
from bench.faults_sides import REPO, SAVE_STEPS, START_SECONDS, STEPS, Recipe, Side, names_there, words_of
from dragoman import journal
from tests.support.hub import Fault, HubStandIn

SECOND = 2 * SAVE_STEPS
"""Step of the second save."""

# --- the machine vanishes --------------------------------------------------------------


def killed_between_commits(lab: Lab, side: Side) -> Outcome:
    """SIGKILL while the second commit of the second save waits; of dragoman's saves each is one commit."""
    fault = Fault("commit", hold=True, skip=1 if isinstance(side, Recipe) else 0)

    def strike(hub: HubStandIn, _: str) -> None:
        after_first_save(hub, lambda: hub.faults.add(fault))

    return play(lab, "killed-between", side, strike, {}, kill=lambda: wait_until(fault.held.is_set, START_SECONDS))


def killed_at_second_save(lab: Lab, side: Side) -> Outcome:
    """SIGKILL as soon as a second save is in the repository; what is left serves several rows."""
    steps: set[str] = set()

    def strike(hub: HubStandIn, _: str) -> None:
        def look() -> None:
            names = names_there(hub)
            steps.update(name for name in names if name.endswith("training/state.json"))
            if "last-checkpoint/trainer_state.json" in names:
                steps.add(str(json.loads(hub.read(REPO, "last-checkpoint/trainer_state.json"))["global_step"]))

        hub.faults.add(Fault("commit", times=None, after_effect=True, act=look))

    return play(
        lab, "killed", side, strike, {}, kill=lambda: wait_until(lambda: len(steps) > 1, START_SECONDS), resumes=False
    )


@contextmanager
def left(lab: Lab, side: Side, row: str) -> Iterator[tuple[HubStandIn, Machine, Outcome]]:
    """What `killed_at_second_save` left in the repository, and an empty machine."""
    killed = lab.killed[side.name]
    outcome = replace(killed, row=row, said=[], remarks=[])
    started = time.monotonic()
    copy = lab.copy(f"killed-{side.name}-hub", f"{row}-{side.name}-hub")
    with lab.hub(copy) as hub, side.machine(lab.folder / f"{row}-{side.name}", hub) as machine:
        yield hub, machine, outcome
        if isinstance(side, Dragoman):
            verdict = side.judge(hub, [machine])
            outcome.torn_at_end = verdict.end.torn
            if verdict.bare or verdict.torn:
                outcome.remarks.append(f"the root was right again after {verdict.wrong_root_seconds:.1f} s")
    assert outcome.resumed is not None
    outcome.said = lab.unusual(side, outcome.resumed.talk)
    outcome.seconds = time.monotonic() - started


def resume_from_repository(lab: Lab, side: Side) -> Outcome:
    """Word by word what the starting document says: `--resume_from_checkpoint USER/REPO`."""
    with left(lab, side, "resume-from-repo") as (hub, machine, outcome):
        if isinstance(side, Dragoman):
            words = {"resume_from_checkpoint": REPO, "output": machine.folder / "run", "drain_minutes": 0.5}
            process = machine.start("resume", ["-m", "dragoman", "train", *words_of(words, "_"), "--take-over"])
            process.ended(START_SECONDS)
            outcome.resumed = side.resumed(machine, hub, process)
        else:
            outcome.resumed = side.resume(machine, hub, resume_from_checkpoint=REPO)
    return outcome


def flipped_bit(lab: Lab, side: Side) -> Outcome:
    """One bit of the newest weights is not what was written; the name, the size and the hash that are shown are."""
    with left(lab, side, "flipped-bit") as (hub, machine, outcome):
        folder = "last-checkpoint" if isinstance(side, Recipe) else f"checkpoint-{outcome.end_step}"
        weights = f"{folder}/model.safetensors"
        hub.damage(REPO, weights, "flip", at=len(hub.read(REPO, weights)) // 2)
        outcome.resumed = side.resume(machine, hub)
    return outcome


def missing_optimizer(lab: Lab, side: Side) -> Outcome:
    """Somebody has deleted the optimizer's file of the newest checkpoint."""
    with left(lab, side, "missing-optimizer") as (hub, machine, outcome):
        ours = f"checkpoint-{outcome.end_step}/training/optimizer.safetensors"
        hub.write(REPO, "last-checkpoint/optimizer.pt" if isinstance(side, Recipe) else ours, None)
        outcome.resumed = side.resume(machine, hub)
    return outcome


def other_batch_size(lab: Lab, side: Side) -> Outcome:
    """The batch is 8 instead of 4 from there on; how many of the 120 pairs are never trained?"""
    with left(lab, side, "batch-4-to-8") as (hub, machine, outcome):
        outcome.resumed = side.resume(machine, hub, batch_size=8)
        if isinstance(side, Recipe):
            before = trained(lab.folder / "killed-recipe/witness.jsonl", outcome.end_step)
            after = trained(machine.folder / "witness.jsonl", STEPS)
            total = len(side.data.read_text("utf-8").splitlines())
            outcome.remarks.append(f"{total - len(before | after)} of {total} pairs never trained")
    return outcome


def trained(witness: Path, until: int) -> set[int]:
    """The pairs that one session of the recipe trained on, up to a step."""
    steps = (event for event in journal.read(witness) if event["event"] == "step" and event["step"] <= until)
    return {pair for event in steps for pair in event["pairs"]}


# --- a kill in the middle of a save, on a machine that stays ----------------------------


def killed_in_save(lab: Lab, side: Side) -> Outcome:
    """SIGKILL while the second save is being written; then the same command again, twice, on the same disk."""
    row, started = "killed-in-save", time.monotonic()
    outcome = Outcome(row, side.name, "killed")
    for attempt in range(5):
        name = f"{row}-{attempt}-{side.name}"
        with lab.hub(f"{name}-hub") as hub, side.machine(lab.folder / name, hub) as machine:
            process = side.start(machine)
            if not kill_in_save(side, machine, process):
                continue
            take_down(lab, side, machine, process, side.judge(hub, [machine]), outcome)
            again(side, hub, machine, outcome)
            break
    else:
        outcome.remarks.append("never hit a save")
    outcome.seconds = time.monotonic() - started
    return outcome


def kill_in_save(side: Side, machine: Machine, process: Process) -> bool:
    """Kill the trainer once its second save has begun; whether it was not finished then."""
    run = machine.folder / "run"

    def is_writing() -> bool:
        if isinstance(side, Recipe):
            return (run / f"checkpoint-{SECOND}/optimizer.pt").exists()
        return len(side.saved(machine)) == 1 and any(run.glob("dragoman/staging/*/*"))

    until = time.monotonic() + START_SECONDS
    while not is_writing() and time.monotonic() < until:
        pass  # a save takes a tenth of a second
    process.popen.kill()
    machine.vanish()
    finished = run / f"checkpoint-{SECOND}" / ("trainer_state.json" if isinstance(side, Recipe) else "training")
    return not finished.exists()


def again(side: Side, hub: HubStandIn, machine: Machine, outcome: Outcome) -> None:
    """The same command twice more."""
    for number in (1, 2):
        if isinstance(side, Recipe):
            (machine.folder / "witness.jsonl").unlink(missing_ok=True)
            found = side.resume(machine, hub, resume_from_checkpoint="True")
        else:
            assert isinstance(side, Dragoman)
            process = side.start(machine, 0.0)
            process.ended(START_SECONDS)
            found = side.resumed(machine, hub, process)
        outcome.remarks.append(f"start {number}: exit {found.exit_code} {found.note}".rstrip())
        outcome.resumed = outcome.resumed or found
