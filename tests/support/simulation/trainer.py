"""A training session as `training/session.py`, `loop.py` and `saving.py` tell it, without a model.

Those import torch; their order of events is repeated here line by line. A save is made while
the trainer waits: beside training, its changes come in the same order, and alone. What has no torch
(`durable.py`, `replication.py` and all below) is the real thing.
"""

from typing import TYPE_CHECKING

from dragoman.checkpoint.log import RunLog
from dragoman.checkpoint.restore import repair_root
from dragoman.checkpoint.run_folder import JOURNAL
from dragoman.errors import Damaged, InputError, StoreUnavailable, Superseded
from dragoman.journal import Journal
from dragoman.store.record import CheckpointRecord
from dragoman.training import durable as durable_store
from dragoman.training.durable import Durable
from dragoman.training.replication import Replication
from tests.support.simulation import training
from tests.support.simulation.hope import Hope
from tests.support.simulation.referee import Violation

if TYPE_CHECKING:
    from tests.support.simulation.machine import Machine


class OwnFailure(Exception):
    """Our own exception in training, such as a `ValueError`."""


class Trainer:
    """One session.

    Args:
        machine: Where.
        take_over: It does not wait for another machine's silence.
        alone: It is not told of the durable store.
    """

    def __init__(self, machine: "Machine", take_over: bool, alone: bool) -> None:
        self._machine, self._scene, self._plan = machine, machine.scene, machine.scene.plan
        store = self._scene.config.store.model_copy(update={"take_over": take_over})
        store = store.model_copy(update={"store": None}) if alone else store
        self._config = self._scene.config.model_copy(update={"store": store})
        self._store = machine.run_folder()
        self._step = self._safe_step = self._begun_step = 0
        self._best = self._resumed_from = ""
        self._save_failed = False

    def run(self) -> None:
        """From the start to however it ends."""
        machine = self._machine
        machine.outcome = "killed"
        try:
            machine.outcome = self._session()
        except Superseded as error:
            self._scene.referee.superseded(machine.name, error.message)
            machine.outcome = "superseded"
        except (StoreUnavailable, Damaged, InputError, OwnFailure) as error:
            machine.outcome = type(error).__name__
        finally:
            self._scene.counts[f"session ended: {machine.outcome}"] += 1
            self._scene.baton.tell(f"ended: {machine.outcome}")

    # --- session.py ------------------------------------------------------------------

    def _session(self) -> str:
        folder, config = self._machine.folder, self._config
        self._store.prepare()
        journal = Journal(folder / JOURNAL, clock=lambda: self._scene.baton.now)
        log = self._log = RunLog(self._store)
        durable = durable_store.look(config, folder, log, journal)
        if (ended := self._finished(log, durable, journal)) is not None:
            return ended
        begun: CheckpointRecord | None = None
        if log.newest or (durable and durable.newest):
            begun = self._restored(durable, log)
        durable_store.hold(durable, config, log, folder)
        if begun is None and durable and durable.newest:
            return self._session()  # another machine has begun the run while this one waited for the lease
        log.clean()
        self._load(begun)
        copying = self._replication(durable.url, durable.owner, journal) if durable else None
        if copying:
            copying.start()
        try:
            reason = self._train(copying)
        except Exception as error:
            if not isinstance(error, Superseded):
                self._finish("failed", f"{type(error).__name__}: {error}")
                if copying:
                    copying.drain(self._safe_step, self._config.store.drain_minutes * 60)
            raise
        return self._drained(copying, self._end(reason))

    def _replication(self, url: str, owner: str, journal: Journal) -> Replication:
        return Replication(self._machine.folder, url, owner, journal, clock=lambda: self._scene.baton.now)

    def _restored(self, durable: Durable | None, log: RunLog) -> CheckpointRecord | None:
        durable_store.hold(durable, self._config, log, self._machine.folder)
        hope = Hope(self._scene.server, durable is not None and durable.log is not None, log, self._machine)
        begun = durable_store.restore_point(durable, log, self._store, self._passed_over)
        self._scene.baton.tell(f"continues from {begun and (begun.step, begun.nonce[:6])}")
        hope.check(begun)
        return begun

    def _finished(self, log: RunLog, durable: Durable | None, journal: Journal) -> str | None:
        """How a session ends that has nothing to train; None when there is something."""
        if log.finished and log.finished.outcome == "done":
            self._step = log.finished.step
            copying = self._replication(durable.url, "", journal) if durable else None
            if copying:
                copying.start()
            return self._drained(copying, "was done")
        end = durable.log.finished if durable and durable.log else None
        return "was done" if end and end.outcome == "done" else None

    def _passed_over(self, checkpoint: CheckpointRecord, why: str) -> None:
        self._scene.counts[f"passed over: {why.split(':')[0]}"] += 1

    # --- saving.py -------------------------------------------------------------------

    def _load(self, begun: CheckpointRecord | None) -> None:
        if begun is None:
            return
        if not training.is_exact(self._machine.folder / begun.folder, begun):
            raise Violation(f"{begun.folder} is not what an undisturbed run has after step {begun.step}")
        self._step = self._safe_step = self._begun_step = begun.step
        repair_root(self._log, self._passed_over)
        is_live = any(kept.nonce == begun.best for kept in self._log.kept)
        self._resumed_from, self._best = begun.nonce, begun.best if is_live else ""

    def _save(self) -> None:
        log, disk = self._log, self._store.disk
        try:
            if self._save_failed:
                log.clean()
            nonce = log.new_nonce()
            staged = self._store.staging(nonce)
            for name, data in training.contents(self._step).items():
                disk.make_folders((staged / name).parent)
                disk.write(staged / name, [data])
            record = log.publish_checkpoint(
                nonce=nonce,
                step=self._step,
                pairs_seen=self._step,
                files={name: (staged / name, entry) for name, entry in training.entries(self._step).items()},
                config=self._config.digest(),
                corpus="d",
                best=nonce if training.is_best(self._step) else self._best,
            )
            self._safe_step, self._save_failed, self._best = self._step, False, record.best
            self._scene.counts["saves"] += 1
            self._machine.saves.append((self._scene.baton.now, self._step))
            self._scene.baton.tell(f"saved step {record.step} in {record.folder}, {record.nonce[:6]}")
            log.publish_root()
            log.retire(self._plan.keep)
        except (OSError, StoreUnavailable):
            self._save_failed = True
            self._scene.counts["failed saves"] += 1

    def _finish(self, outcome: str, reason: str) -> None:
        try:
            self._log.finish(outcome, reason, step=self._step, resumed_from=self._resumed_from)  # type: ignore[arg-type]
        except (OSError, StoreUnavailable):
            self._scene.counts["failed saves"] += 1

    # --- loop.py ---------------------------------------------------------------------

    def _train(self, copying: Replication | None) -> str:
        plan, scene = self._plan, self._scene
        while self._step < plan.total_steps:
            if copying:
                copying.poll()
            if self._machine.is_told_to_stop:
                return "a stop request"
            scene.baton.sleep(plan.step_seconds)
            if scene.failing and self._safe_step == self._begun_step:
                scene.failing -= 1
                raise OwnFailure("the loss is not a number")
            self._step += 1
            if self._step % plan.save_steps == 0:
                self._save()
        return ""

    def _end(self, reason: str) -> str:
        if self._safe_step < self._step:
            self._save()
        done = not reason and self._safe_step == self._step
        self._finish("done" if done else "stopped", reason or "all steps done")
        return "done" if done else "stopped"

    def _drained(self, copying: Replication | None, outcome: str) -> str:
        if copying is None:
            return outcome
        is_safe = copying.drain(self._step, self._config.store.drain_minutes * 60)
        return f"{outcome}, {'safe' if is_safe else 'not safe yet'}"
