"""A machine: a disk that may be wiped, a trainer, and a process that copies to the durable store."""

import random
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from dragoman.config import RunConfig
from dragoman.store.base import Store
from tests.support.simulation.baton import Baton, Life
from tests.support.simulation.bucket import Bucket, BucketClient
from tests.support.simulation.copier import Copier
from tests.support.simulation.faults import Rates, Wire
from tests.support.simulation.folder import PointDisk, RunFolder
from tests.support.simulation.referee import Referee
from tests.support.simulation.repository import Repository
from tests.support.simulation.repository_client import RepositoryClient
from tests.support.simulation.trainer import Trainer


@dataclass(frozen=True)
class Plan:
    """What the run of one schedule is like."""

    total_steps: int
    save_steps: int
    step_seconds: float
    keep: int
    pause_seconds: float
    """Between two publishes that are not urgent."""


@dataclass
class Scene:
    """What all machines of one schedule share."""

    base: Path
    """Where their disks are."""
    baton: Baton
    chance: random.Random
    counts: Counter[str]
    server: Repository | Bucket
    """The durable store."""
    referee: Referee
    config: RunConfig
    """What the user asks for."""
    plan: Plan
    rates: Rates
    """Faults of requests, at present."""
    calm_since: float = 0.0
    """When the last event happened; infinite where requests fail."""
    failing: int = 0
    """So many sessions end in their own exception before they save."""


@dataclass(eq=False)
class Machine:
    """One machine."""

    scene: Scene
    number: int
    disks: int = 0
    """How many disks it has had before this one."""
    refused_until: float = 0.0
    """The store refuses this machine until then."""
    is_told_to_stop: bool = False
    """The trainer has got a signal."""
    outcome: str = ""
    """How the last session ended."""
    spoilt: set[str] = field(default_factory=set[str])
    """Nonces of the checkpoints on this disk that we have damaged."""
    saves: list[tuple[float, int]] = field(default_factory=list[tuple[float, int]])
    """When which step was saved on this disk."""

    _trainer: Life | None = None
    _copier: Life | None = None

    def __post_init__(self) -> None:
        self.disk = PointDisk(self.scene.baton.point)

    @property
    def name(self) -> str:
        """Its host name; with a new disk comes a new one."""
        return f"{'abc'[self.number]}{self.disks or ''}"

    @property
    def folder(self) -> Path:
        return self.scene.base / self.name

    @property
    def trainer(self) -> Life | None:
        """The process that trains, while it lives."""
        return None if self._trainer is None or self._trainer.has_ended else self._trainer

    @property
    def copier(self) -> Life | None:
        """The process that copies, while it lives."""
        return None if self._copier is None or self._copier.has_ended else self._copier

    @property
    def lives(self) -> list[Life]:
        return [life for life in (self.trainer, self.copier) if life]

    def run_folder(self) -> RunFolder:
        """The run folder, for one more process."""
        return RunFolder(self.folder, self.disk, lambda: self.trainer is not None)

    def store(self, *, hangs: bool = False) -> Store:
        """The durable store, for one more process."""
        scene = self.scene

        def is_refused() -> bool:
            return scene.baton.now < self.refused_until

        wire = Wire(scene.baton, scene.chance, lambda: scene.rates, scene.counts, hangs, is_refused)
        pause = scene.plan.pause_seconds
        if isinstance(scene.server, Repository):
            return RepositoryClient(scene.server, wire, self.disk, pause)
        return BucketClient(scene.server, wire, self.disk, pause, self.name)

    def train(self, *, take_over: bool = False, alone: bool = False) -> None:
        """Somebody types `dragoman train`, or `dragoman resume`, which takes over; perhaps without `--store`."""
        self.is_told_to_stop = False
        self._trainer = Life(f"trainer of {self.name}", self, Trainer(self, take_over, alone).run)
        self.scene.baton.start(self._trainer)

    def copy(self, owner: str = "", *, follows: bool) -> None:
        """A process that copies begins."""
        assert self.copier is None
        self._copier = Life(f"copier of {self.name}", self, Copier(self, owner, follows).run)
        self.scene.baton.start(self._copier)

    def kill(self, *lives: Life) -> None:
        """Kill processes; the disk stays."""
        for life in lives:
            self.scene.baton.kill(life)

    def wipe(self) -> None:
        """The machine vanishes with all that was on it; an empty one takes its place."""
        self.kill(*self.lives)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.disks += 1
        self.spoilt.clear()
        self.saves.clear()
