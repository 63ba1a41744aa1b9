"""What may befall machines, stores and people in a schedule."""

from collections.abc import Callable, Sequence

from dragoman.checkpoint.log import RunLog
from dragoman.checkpoint.retention import existing
from dragoman.store.base import MODEL_FILE
from dragoman.store.record import LeaseRecord
from tests.support.simulation.faults import Hung
from tests.support.simulation.machine import Machine, Scene
from tests.support.simulation.referee import Violation
from tests.support.simulation.training import MOMENTS

TWO_UPLOADS_SECONDS = 80.0
"""The longest that two uploads take, when nothing is wrong."""

Event = Callable[[Scene, Sequence[Machine], Machine], bool]
"""Happens to a machine, if it can; whether it did."""


def train(scene: Scene, machines: Sequence[Machine], machine: Machine) -> bool:
    if machine.trainer:
        return False
    machine.train()
    return True


def resume(scene: Scene, machines: Sequence[Machine], machine: Machine) -> bool:
    if machine.trainer:
        return False
    machine.train(take_over=True)
    return True


def start_offline(scene: Scene, machines: Sequence[Machine], machine: Machine) -> bool:
    if machine.trainer or not machine.folder.exists():
        return False
    machine.refused_until = scene.baton.now + scene.chance.choice((5.0, 60.0, 300.0))
    machine.train()
    return True


def train_alone(scene: Scene, machines: Sequence[Machine], machine: Machine) -> bool:
    """Without `--store`, as long as no other machine has the run."""
    hosts = {record.host for record in scene.server.records if isinstance(record, LeaseRecord)}
    others = [each for each in machines if each is not machine and (each.lives or each.folder.exists())]
    if machine.trainer or others or hosts - {machine.name}:
        return False
    machine.train(alone=True)
    scene.referee.may_go_back = True  # from here on there may be two branches, and no epoch tells which is newer
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


def kill_worker(scene: Scene, machines: Sequence[Machine], machine: Machine) -> bool:
    """The watchdog kills the process that copies, because a newer checkpoint is urgent."""
    if machine.copier is None:
        return False
    machine.copier.sent = Hung()
    machine.copier.wake = scene.baton.now
    return True


def kill_all(scene: Scene, machines: Sequence[Machine], machine: Machine) -> bool:
    if not machine.lives:
        return False
    machine.kill(*machine.lives)
    return True


def kill_and_train(scene: Scene, machines: Sequence[Machine], machine: Machine) -> bool:
    killed = kill_all(scene, machines, machine)
    if killed:
        machine.train()
    return killed


def wipe(scene: Scene, machines: Sequence[Machine], machine: Machine) -> bool:
    if not machine.folder.exists():
        return False
    check_lost_work(scene, machine)
    machine.wipe()
    return True


def check_lost_work(scene: Scene, machine: Machine) -> None:
    """When nothing was wrong for a while, all but the last saves are in the store."""
    settled = scene.baton.now - TWO_UPLOADS_SECONDS - scene.plan.pause_seconds
    if machine.copier and settled > scene.calm_since:
        safe = max((each.step for each in existing(scene.server.records) if each.is_whole), default=0)
        due = max((step for when, step in machine.saves if when < settled), default=0)
        scene.counts["disks lost in calm times"] += 1
        if safe < due:
            raise Violation(f"{machine.name} is lost with step {due}, and the store has step {safe}")


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
    """A file of a checkpoint in the store is damaged; one of those that are kept stays good."""
    kept = [each for each in existing(scene.server.records) if each.is_whole][: scene.plan.keep]
    whole = [each for each in kept if scene.referee.is_whole(each)]
    if len(whole) < 2:
        return False
    name = scene.chance.choice((MODEL_FILE, MOMENTS))
    hit = scene.chance.choice(whole)
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
    ("train", 0.8, train),
    ("resume", 0.5, resume),
    ("start offline", 0.4, start_offline),
    ("train without the store", 0.4, train_alone),
    ("replicate", 0.3, replicate),
    ("kill of the trainer", 0.3, kill_trainer),
    ("kill of the copying", 0.3, kill_copier),
    ("kill of a worker", 0.3, kill_worker),
    ("kill of both", 0.3, kill_all),
    ("kill of both and restart", 0.3, kill_and_train),
    ("disk wiped", 0.3, wipe),
    ("pause", 0.4, pause),
    ("stop request", 0.1, stop),
    ("store refuses", 0.15, refuse),
    ("card edited", 0.2, edit_card),
    ("damage in the store", 1.0, spoil_store),
    ("damage on a disk", 1.0, spoil_disk),
    ("two failures to come", 0.2, fail_twice),
)
