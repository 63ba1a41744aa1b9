"""What a session that begins must not lose, as we know and it cannot."""

from typing import TYPE_CHECKING

from dragoman.checkpoint.log import RunLog
from dragoman.checkpoint.restore import twice_failed
from dragoman.checkpoint.retention import DAMAGED, existing
from dragoman.store.record import CheckpointRecord, DropRecord, LeaseRecord, Record
from tests.support.simulation.client import Server
from tests.support.simulation.referee import Violation

if TYPE_CHECKING:
    from tests.support.simulation.machine import Machine


class Hope:
    """What is there when a session has just taken the lease.

    Args:
        server: The durable store.
        is_reachable: Whether the session can read it.
        log: Of the run folder.
        machine: Where.
    """

    def __init__(self, server: Server, is_reachable: bool, log: RunLog, machine: "Machine") -> None:
        self._server, self._log, self._machine = server, log, machine
        self._is_reachable = is_reachable
        failing = twice_failed(log).keys()
        self._here = [each for each in log.checkpoints if each.nonce not in failing]
        self._records: list[Record] = list(server.records) if is_reachable else []

    def check(self, begun: CheckpointRecord | None) -> None:
        """Compare with what the session continues from; call it before anything is trained."""
        self._check_local_drops()
        step = begun.step if begun else 0
        here = [each for each in self._here if each.nonce not in self._machine.spoilt]
        if here and step < here[0].step and not self._was_taken_over(here[0].epoch):
            raise Violation(f"{self._machine.name} had saved step {here[0].step} and continues from {step}")
        failing = twice_failed(self._log).keys() | _twice_failed(self._records)
        if not self._holds_lease():
            return  # what its successor does, it cannot know
        there = [each for each in existing(self._records) if each.is_whole and each.nonce not in failing]
        there = [each for each in there if self._machine.scene.referee.is_whole(each)]
        if there and step < there[0].step and self._place(begun) < there[0].place:
            raise Violation(f"{self._machine.name} continues from {step}; the store has step {there[0].step}")

    def _holds_lease(self) -> bool:
        leases = [record for record in self._server.records if isinstance(record, LeaseRecord)]
        return bool(leases) and leases[-1].host == self._machine.name

    def _was_taken_over(self, epoch: int) -> bool:
        """Whether another machine ever held the lease in a later epoch."""
        leases = (record for record in self._server.records if isinstance(record, LeaseRecord))
        return any(lease.epoch > epoch and lease.host != self._machine.name for lease in leases)

    def _place(self, begun: CheckpointRecord | None) -> tuple[int, int]:
        if begun is None:
            return 0, 0
        brought = (each for each in self._records if isinstance(each, CheckpointRecord) and each.nonce == begun.nonce)
        return max([begun.place, *(each.place for each in brought)])

    def _check_local_drops(self) -> None:
        for record in self._log.records:
            is_damage = isinstance(record, DropRecord) and record.reason.startswith(DAMAGED)
            if is_damage and (whole := record.checkpoints.keys() - self._machine.spoilt):
                raise Violation(f"{self._machine.name} has dropped {whole} as damaged: {record.reason}")


def _twice_failed(records: list[Record]) -> set[str]:
    class Shown:
        """What `twice_failed` looks at."""

        def __init__(self) -> None:
            self.records = records

    return set(twice_failed(Shown()))  # type: ignore[arg-type]
