"""One schedule: a run on two or three machines, what befalls it, and how it ends."""

import itertools
import math
import random
import shutil
from collections import Counter
from pathlib import Path

from dragoman.checkpoint.replicator import LONGEST_RETRY_SECONDS
from dragoman.checkpoint.retention import best_of, existing
from dragoman.config import RunConfig, from_flat
from dragoman.store.base import CARD, MODEL_FILE
from dragoman.store.record import CheckpointRecord, DropRecord, FinishedRecord, LeaseRecord, TrimRecord
from tests.support.simulation import training
from tests.support.simulation.baton import Baton
from tests.support.simulation.bucket import Bucket
from tests.support.simulation.client import NAME
from tests.support.simulation.events import EVENTS
from tests.support.simulation.faults import Rates
from tests.support.simulation.installed import installed
from tests.support.simulation.machine import Machine, Plan, Scene
from tests.support.simulation.referee import Referee, Violation
from tests.support.simulation.repository import Repository

QUIET_SECONDS = 30_000.0
MOST_POINTS = 200_000
"""More than these, without an event, is no progress."""


def config() -> RunConfig:
    """What the user asks for, in every schedule."""
    options = {"language_pairs": ["en-fr"], "store": NAME, "lease_minutes": 1.0, "drain_minutes": 0.5}
    return from_flat(options)


CONFIG = config()


class Schedule:
    """All that follows from one seed.

    Args:
        seed: Draws everything.
        base: An empty folder for the machines' disks; in memory.
        counts: Counts what happened.
        atomic: Whether the durable store is like the Hub, else like S3.
    """

    def __init__(self, seed: int, base: Path, counts: Counter[str], *, atomic: bool) -> None:
        self.chance = chance = random.Random(seed)
        self.baton = baton = Baton(chance, stay=chance.choice((0.8, 0.95, 0.99)))
        server = Repository(lambda: baton.now) if atomic else Bucket(lambda: baton.now)
        save_steps = chance.choice((1, 1, 2))
        plan = Plan(
            total_steps=save_steps * chance.randint(3, 7),
            save_steps=save_steps,
            step_seconds=chance.choice((3.0, 10.0, 40.0)) / save_steps,
            keep=chance.choice((1, 2, 2, 3)),
            pause_seconds=chance.choice((0.0, 0.0, 30.0)),
        )
        rates = Rates.drawn(chance)
        # A store that shows an old state hides what has to be removed before the next upload.
        referee = Referee(server, plan.keep + (rates.stale > 0), lambda: self.machine.name, baton.tell)
        server.watch = referee
        self.scene = Scene(base, baton, chance, counts, server, referee, CONFIG, plan, rates)
        self.machines = [Machine(self.scene, number) for number in range(chance.choice((2, 2, 3)))]
        self.scene.calm_since = self._calm_since()
        self.counts = counts

    @property
    def machine(self) -> Machine:
        """The machine whose process has the baton."""
        life = self.baton.current
        assert life is not None
        return life.machine

    def run(self) -> None:
        """From the first start to a finished run.

        Raises:
            Violation: A promise was broken.
        """
        with installed(lambda: self.machine, self.baton):
            try:
                self._disturbed()
                self._quiet()
                self._check_end()
            finally:
                self._count()
                for machine in self.machines:
                    machine.kill(*machine.lives)
                    shutil.rmtree(machine.folder, ignore_errors=True)

    # --- parts -----------------------------------------------------------------------

    def _disturbed(self) -> None:
        """Event after event, with the processes going on in between."""
        is_alone = self.chance.random() < 0.1
        self.machines[0].train(alone=is_alone)
        for _ in range(self.chance.randint(4, 16)):
            points = int(self.chance.expovariate(1 / self.chance.choice((10, 60, 200)))) + 1
            self.baton.run(points, self.chance.choice((20.0, 100.0, 600.0)))
            self._event()

    def _event(self) -> None:
        for _ in range(20):
            name, weight, happens = self.chance.choice(EVENTS)
            if self.chance.random() < weight and happens(self.scene, self.machines, self.chance.choice(self.machines)):
                self.counts[f"event: {name}"] += 1
                self.baton.tell(f"EVENT {name}")
                self.scene.calm_since = self._calm_since()
                return

    def _calm_since(self) -> float:
        """When what is wrong now will have passed, if nothing else happens."""
        if self.scene.rates != Rates():
            return math.inf
        refused = [machine.refused_until + LONGEST_RETRY_SECONDS for machine in self.machines if machine.refused_until]
        return max([self.baton.now, *refused, *(life.wake for life in self.baton.lives)])

    def _quiet(self) -> None:
        """No more faults: who lives goes on, and if nobody finishes the run, a new machine does."""
        self.scene.rates, self.scene.failing = Rates(), 0
        for machine in self.machines:
            machine.refused_until = 0.0
        self._settle()
        if not self._is_done():
            self.counts["rescues"] += 1
            rescue = Machine(self.scene, 0, disks=1000)
            self.machines.append(rescue)
            rescue.train(take_over=True)
            self._settle()

    def _settle(self) -> None:
        self.baton.run(MOST_POINTS, QUIET_SECONDS)
        if self.baton.lives:
            raise Violation(f"no end: {self.baton.lives} at {self.baton.now:.0f} s")

    def _is_done(self) -> bool:
        records = self.scene.server.records
        last = records[-1] if records else None
        return isinstance(last, FinishedRecord) and last.outcome == "done"

    def _check_end(self) -> None:
        server, total = self.scene.server, self.scene.plan.total_steps
        if not self._is_done():
            raise Violation(f"nobody has finished the run: {[machine.outcome for machine in self.machines]}")
        live = [each for each in existing(server.records) if each.is_whole]
        newest = live[0]
        if newest.step != total:
            raise Violation(f"the run has ended at step {newest.step}")
        for name, data in training.contents(total).items():
            path = f"{newest.folder}/{name}"
            if server.read(path) != data and not server.is_spoilt(path):
                raise Violation(f"{path} is not what an undisturbed run ends with")
        self._check_root()

    def _check_root(self) -> None:
        server = self.scene.server
        if not isinstance(server, Repository):
            return  # a late copy may still have come, and the next holder of the lease puts it right
        if server.card and server.head.files.get(CARD) != server.card:
            raise Violation("the card that a person has edited is gone")
        best = best_of(existing(server.records))
        assert best is not None
        if server.head.files.get(MODEL_FILE) != best.files[MODEL_FILE].sha256:
            raise Violation(f"the model at the root is not that of the best checkpoint, {best.folder}")

    def _count(self) -> None:
        self.counts["schedules"] += 1
        self.counts["virtual minutes"] += round(self.baton.now / 60)
        records = self.scene.server.records
        self.counts["records"] += len(records)
        kinds = {CheckpointRecord: "checkpoints", DropRecord: "drops", TrimRecord: "trims", FinishedRecord: "ends"}
        for record in records:
            if name := kinds.get(type(record)):
                self.counts[f"records: {name}"] += 1
        leases = [record for record in records if isinstance(record, LeaseRecord)]
        self.counts["records: leases"] += len(leases)
        pairs = itertools.pairwise(leases)
        self.counts["take-overs by another machine"] += sum(one.host != two.host for one, two in pairs)
