"""A world of rented machines with a virtual clock: platforms that cut, refuse and charge, and trainers on them.

Log, lease, ledger and supervisor are the real ones, over a real folder. A trainer is only
what a store sees of one: it takes the lease, and makes some steps safe now and then.
"""

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Literal

from dragoman import platforms
from dragoman.checkpoint.lease import take_lease
from dragoman.checkpoint.log import RunLog
from dragoman.errors import InputError, Superseded
from dragoman.launch.choosing import Done, GiveUp, Place, Policy, Seen
from dragoman.launch.job import Handle, Job, Plan, State
from dragoman.launch.ledger import Ledger
from dragoman.launch.supervise import Begin, Look, look
from dragoman.store.disk import Disk, digest
from dragoman.store.local import FolderStore

HOUR = 3600.0
TICK_SECONDS = 1200.0
"""How often a trainer saves; rarely, so that a test is quick."""
LEASE_SECONDS = 3000.0


class QuickDisk(Disk):
    """A disk that is not asked to survive a power cut."""

    def sync(self, file: object) -> None:
        pass

    def sync_file(self, path: Path) -> None:
        pass

    def sync_folder(self, path: Path) -> None:
        pass


class TimedStore(FolderStore):
    """A folder whose clock is that of the world."""

    def __init__(self, root: Path, world: "World") -> None:
        super().__init__(root, QuickDisk())
        self.world = world

    def idle_seconds(self) -> float:
        records = self.records()
        return self.world.now - records[-1].time if records else float("inf")


@dataclass
class Rented:
    """One machine at one platform."""

    handle: Handle
    begun: float
    boot_seconds: float
    max_hours: float
    dies_at: float
    """When it is cut without a word."""
    usd_per_hour: float
    ended: float | None = None
    log: RunLog | None = None
    step: int = 0
    steps_done: float = 0.0


@dataclass
class World:
    """Every machine, and the time.

    Args:
        folder: Where the store is.
        random: Decides cuts and refusals.
        total_steps: Of the run.
        steps_per_hour: What any machine makes.
        mean_hours: Of a session, before it is cut.
        refuses: How often a platform has no machine.
    """

    folder: Path
    random: Random
    total_steps: int = 20_000
    steps_per_hour: float = 1000.0
    mean_hours: float = 4.0
    refuses: float = 0.2
    now: float = 1.8e9
    rented: list[Rented] = field(default_factory=list)
    most_at_work: int = 0
    published: list[tuple[int, int]] = field(default_factory=list)
    """Epoch and step of every checkpoint, in order."""

    def __post_init__(self) -> None:
        self.store().prepare()
        (self.folder / "file").write_bytes(b"state")
        self.entry = digest(self.folder / "file")

    def store(self) -> TimedStore:
        return TimedStore(self.folder / "store", self)

    def log(self) -> RunLog:
        return RunLog(self.store(), now=lambda: self.now)

    # --- platforms -------------------------------------------------------------------

    def begin(self) -> Begin:
        return Begin(self.start, lambda platform: Desk(self, platform))

    def start(self, place: Place, max_hours: float) -> Handle:
        if self.random.random() < self.refuses:
            raise InputError(f"{place.platform.title} has no machine now")
        return self.rent(place.platform.name, max_hours, place.offer.usd_per_hour or 0.0, f"{len(self.rented)}")

    def rent(self, platform: str, max_hours: float, usd_per_hour: float, name: str) -> Handle:
        handle = Handle(platform, name)
        life = self.random.expovariate(1 / (self.mean_hours * HOUR))
        boot = self.random.uniform(60, 1200)
        self.rented.append(Rented(handle, self.now, boot, max_hours, self.now + life, usd_per_hour))
        return handle

    def usd(self) -> float:
        return sum(((one.ended or self.now) - one.begun) / HOUR * one.usd_per_hour for one in self.rented)

    def hours(self) -> float:
        return sum(((one.ended or self.now) - one.begun) / HOUR for one in self.rented)

    # --- time ------------------------------------------------------------------------

    def pass_time(self, seconds: float) -> None:
        """Let machines work, be cut and reach their limits."""
        until = self.now + seconds
        while self.now < until:
            self.now = min(self.now + TICK_SECONDS, until)
            for machine in self.rented:
                if machine.ended is None and not self._goes_on(machine):
                    machine.ended = min(self.now, machine.begun + machine.max_hours * HOUR)
            self.most_at_work = max(self.most_at_work, sum(one.ended is None for one in self.rented))

    def _goes_on(self, machine: Rented) -> bool:
        limit = machine.begun + machine.max_hours * HOUR
        if self.now >= min(limit, machine.dies_at):
            if limit <= machine.dies_at and machine.log:  # its own deadline comes a little before the platform's
                with contextlib.suppress(Superseded):
                    machine.log.finish("stopped", "deadline", step=machine.step)
            return False
        if self.now < machine.begun + machine.boot_seconds:
            return True
        try:
            return self._trains(machine)
        except Superseded:
            return False

    def _trains(self, machine: Rented) -> bool:
        if machine.log is None:
            log = self.log()
            if log.finished and log.finished.outcome == "done":
                return False
            if not log.finished and log.records and log.store.idle_seconds() < LEASE_SECONDS:
                return True  # as a second machine does, it waits until the first is silent
            take_lease(log, machine.handle.platform)
            machine.log, machine.step = log, log.newest.step if log.newest else 0
            return True
        machine.step = min(machine.step + int(self.steps_per_hour * TICK_SECONDS / HOUR), self.total_steps)
        record = machine.log.publish_checkpoint(
            nonce=machine.log.new_nonce(),
            step=machine.step,
            pairs_seen=machine.step,
            files={"training/state.json": (self.folder / "file", self.entry)},
            config="c",
            corpus="d",
        )
        machine.log.retire(1)
        self.published.append(record.place)
        if machine.step >= self.total_steps:
            machine.log.finish("done", "all steps", step=machine.step)
            return False
        return True


@dataclass
class Desk:
    """The client of one platform."""

    world: World
    platform: str

    def check(self, job: Job, plan: Plan) -> None: ...

    def submit(self, job: Job, plan: Plan) -> Handle:
        raise NotImplementedError

    def _found(self, handle: Handle) -> Rented:
        return next(one for one in self.world.rented if one.handle == handle)

    def state(self, handle: Handle) -> State:
        return "running" if self._found(handle).ended is None else "ended"

    def release(self, handle: Handle) -> None:
        if self.platform == "kaggle":
            raise InputError("no program can end a session from elsewhere")
        machine = self._found(handle)
        if machine.ended is None:
            machine.ended = self.world.now


@dataclass
class Supervisor:
    """Someone who looks now and then, and remembers nothing in between."""

    world: World
    policy: Policy

    def look(self, store: FolderStore | None = None) -> Look:
        store = store or self.world.store()
        log = RunLog(store, now=lambda: self.world.now)
        return look(log, Ledger(store), self.policy, self.world.begin(), lambda: self.world.now)

    def until_the_end(self, most_hours: float = 2000.0) -> Done | GiveUp:
        end = self.world.now + most_hours * HOUR
        while self.world.now < end:
            decision = self.look().decision
            if isinstance(decision, Done | GiveUp):
                return decision
            self.world.pass_time(self.world.random.uniform(60, 3600))
        raise AssertionError("no end in sight")


def place(name: str, gpu: str | None = None) -> Place:
    """A platform's machine."""
    platform = platforms.find(name)
    return Place(platform, platform.offer(gpu))


Outcome = Literal["", "done", "stopped", "failed"]


def run_at(step: int, *, idle: float = 1e6, epoch: int = 1, outcome: Outcome = "") -> Seen:
    """What a store says of a run."""
    return Seen(step=step, epoch=epoch, idle_seconds=idle, outcome=outcome)
