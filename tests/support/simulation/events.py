"""What may befall machines, stores and people in a schedule."""

from collections.abc import Callable, Sequence

from dragoman.checkpoint.log import RunLog
from dragoman.checkpoint.retention import existing
from dragoman.store.base import MODEL_FILE
from tests.support.simulation.machine import Machine, Scene
from tests.support.simulation.training import MOMENTS

Event = Callable[[Scene, Sequence[Machine], Machine], bool]
"""Happens to a machine, if it can; whether it did."""


def train(scene: Scene, machines: Sequence[Machine], machine: Machine) -> bool:
    if machine.trainer:
        return False
    machine.train(take_over=False)
    return True


def resume(scene: Scene, machines: Sequence[Machine], machine: Machine) -> bool:
    if machine.trainer:
        return False
    machine.train(take_over=True)
    return True


def start_offline(scene: Scene, machines: Sequence[Machine], machine: Machine) -> bool:
    if machine.trainer:
        return False
    machine.refused_until = scene.baton.now + scene.chance.choice((5.0, 60.0, 300.0))
    machine.train(take_over=False)
    return True


def replicate(scene: Scene, machines: Sequence[Machine], machine: Machine) -> bool:
    if machine.trainer or machine.copier or not (machine.folder / "dragoman/journal.jsonl").exists():
        return False
    machine.copy(follows=False)
    return True


def kill_trainer(scene: Scene, machines: Sequence[Machine], machine: Machine) -> bool:
    if machine.trainer is None:
        return False
    machine.kill(machine.trainer)
    return True


def kill_copier(scene: Scene, machines: Sequence[Machine], machine: Machine) -> bool:
    if machine.copier is None:
        return False
    machine.kill(machine.copier)
    return True


def kill_all(scene: Scene, machines: Sequence[Machine], machine: Machine) -> bool:
    if not machine.lives:
        return False
    machine.kill(*machine.lives)
    return True


def kill_and_train(scene: Scene, machines: Sequence[Machine], machine: Machine) -> bool:
    killed = kill_all(scene, machines, machine)
    if killed:
        machine.train(take_over=False)
    return killed


def wipe(scene: Scene, machines: Sequence[Machine], machine: Machine) -> bool:
    if not machine.folder.exists():
        return False
    machine.wipe()
    return True


def pause(scene: Scene, machines: Sequence[Machine], machine: Machine) -> bool:
    """The whole machine stands still, and wakes up."""
    if not machine.lives:
        return False
    seconds = scene.chance.choice((20.0, 100.0, 500.0, 5000.0))
    for life in machine.lives:
        life.wake = max(life.wake, scene.baton.now + seconds)
    return True


def stop(scene: Scene, machines: Sequence[Machine], machine: Machine) -> bool:
    if machine.trainer is None or machine.is_told_to_stop:
        return False
    machine.is_told_to_stop = True
    return True


def refuse(scene: Scene, machines: Sequence[Machine], machine: Machine) -> bool:
    """The store refuses one machine, or all, for a while."""
    until = scene.baton.now + scene.chance.choice((10.0, 100.0, 1000.0))
    for each in scene.chance.choice(([machine], machines)):
        each.refused_until = max(each.refused_until, until)
    return True


def edit_card(scene: Scene, machines: Sequence[Machine], machine: Machine) -> bool:
    scene.server.edit_card(f"words of a person at {scene.baton.now}")
    return True


def spoil_store(scene: Scene, machines: Sequence[Machine], machine: Machine) -> bool:
    """A file of a checkpoint in the store is damaged; another checkpoint stays good."""
    whole = [each for each in existing(scene.server.records) if each.is_whole and scene.referee.is_whole(each)]
    if len(whole) < 2:
        return False
    name = scene.chance.choice((MODEL_FILE, MOMENTS))
    hit = scene.chance.choice(whole[:2])
    twins = [each for each in whole if each.files[name] == hit.files[name]]
    if len(twins) == len(whole):
        return False
    scene.referee.spoil(f"{hit.folder}/{name}")
    return True


def spoil_disk(scene: Scene, machines: Sequence[Machine], machine: Machine) -> bool:
    """A file of a checkpoint in a run folder is damaged; another checkpoint there stays good."""
    if machine.lives or not (machine.folder / "dragoman/log").is_dir():
        return False
    whole = [each for each in RunLog(machine.run_folder()).checkpoints if each.nonce not in machine.spoilt]
    if len(whole) < 2:
        return False
    hit = scene.chance.choice(whole[:2])
    path = machine.folder / hit.folder / scene.chance.choice((MODEL_FILE, MOMENTS))
    data = path.read_bytes()
    path.write_bytes(b"rot" + data[3:])  # the same file under all of its names
    machine.spoilt.add(hit.nonce)
    return True


def fail_twice(scene: Scene, machines: Sequence[Machine], machine: Machine) -> bool:
    if scene.failing:
        return False
    scene.failing = 2
    scene.referee.may_go_back = True
    return True


EVENTS: Sequence[tuple[str, float, Event]] = (
    ("train", 1.0, train),
    ("resume", 0.5, resume),
    ("start offline", 0.3, start_offline),
    ("replicate", 0.2, replicate),
    ("kill of the trainer", 0.3, kill_trainer),
    ("kill of the copying", 0.3, kill_copier),
    ("kill of both", 0.3, kill_all),
    ("kill of both and restart", 0.3, kill_and_train),
    ("disk wiped", 0.3, wipe),
    ("pause", 0.4, pause),
    ("stop request", 0.1, stop),
    ("store refuses", 0.3, refuse),
    ("card edited", 0.2, edit_card),
    ("damage in the store", 0.5, spoil_store),
    ("damage on a disk", 0.5, spoil_disk),
    ("two failures to come", 0.2, fail_twice),
)

