"""The copying process: what `watchdog.keep_alive` and its worker do, in one life."""

from dataclasses import replace
from typing import TYPE_CHECKING

from dragoman import host
from dragoman.checkpoint.lease import OwnNames
from dragoman.checkpoint.replicate import patience
from dragoman.checkpoint.replicator import Replicator, Settings
from dragoman.checkpoint.run_folder import JOURNAL
from dragoman.errors import DragomanError, Superseded
from dragoman.journal import Event, Journal, Replicated, ReplicationFailed, ReplicatorEnded, TransferHung
from tests.support.simulation.faults import SILENT_SECONDS, Hung
from tests.support.simulation.referee import Violation

if TYPE_CHECKING:
    from tests.support.simulation.machine import Machine

EXPECTED = ("FileNotFoundError", "FileExistsError")
"""A disk on which another process works at the same time may answer so."""


class Copier:
    """One copying process, worker after worker.

    Args:
        machine: Where.
        owner: The lease that a trainer took for it.
        follows: A trainer started it; else somebody typed `dragoman replicate`.
    """

    def __init__(self, machine: "Machine", owner: str, follows: bool) -> None:
        self._machine, self._follows = machine, follows
        scene = machine.scene
        settings = Settings(scene.plan.keep, scene.config.store.lease_minutes * 60, owner, follows)
        waits = None if follows else patience(scene.config, lambda lease, left: None)
        self._settings = replace(settings, patience=waits)
        self._journal = Journal(machine.folder / JOURNAL, clock=lambda: scene.baton.now)

    def run(self) -> None:
        """Until all is done, another machine has taken over, or somebody kills it."""
        outcome = None
        while outcome is None:
            try:
                outcome = self._worker()
            except Hung:
                self._journal.append(TransferHung(seconds=SILENT_SECONDS))
        self._journal.append(ReplicatorEnded(outcome=outcome[0], reason=outcome[1]))
        self._machine.scene.counts[f"copying ended: {outcome[0]}"] += 1
        self._machine.scene.baton.tell(f"ended: {outcome}")

    def _worker(self) -> tuple[str, str]:
        """How it ended by itself; raises `Hung` when the watchdog kills it."""
        machine, scene = self._machine, self._machine.scene
        try:
            replicator = Replicator(
                machine.run_folder(),
                machine.store(hangs=True),
                OwnNames(machine.folder, host.name(), machine.disk),
                self._settings,
                self._tell,
                clock=lambda: scene.baton.now,
                chance=scene.chance,
            )
            while (wait := replicator.turn()) is not None:
                scene.baton.sleep(wait)
        except Superseded as error:
            scene.referee.superseded(machine.name, error.message)
            return "superseded", error.message
        except DragomanError as error:
            return "failed", error.message
        return "done", "everything is in the store"

    def _tell(self, event: Event) -> None:
        self._journal.append(event)
        scene = self._machine.scene
        scene.baton.tell(event)
        if isinstance(event, ReplicationFailed):
            scene.counts["failed turns of the copying"] += 1
            kind = event.reason.split(":")[0]
            if kind.endswith("Error") and kind not in EXPECTED:
                raise Violation(f"a bug in the copying process: {event.reason}")
        if isinstance(event, Replicated):
            scene.counts["replicated"] += 1
            scene.referee.replicated(event.step)
