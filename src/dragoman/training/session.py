"""Opening a session: everything that must be true before the first step.

The order matters. What the user gave is checked before anything is written; the stored
configuration is compared before data is read; the lease is taken before anything that
another session may see is changed.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from dragoman import host
from dragoman.checkpoint.log import RunLog
from dragoman.checkpoint.run_folder import CONFIG, JOURNAL, compare, stored_config
from dragoman.config import RunConfig
from dragoman.data import planning
from dragoman.data.batch_plan import BatchPlan
from dragoman.data.corpus import Corpus
from dragoman.data.loader import Loader
from dragoman.errors import InputError
from dragoman.journal import Event, Journal, SessionStarted, TimeLimited, Warned
from dragoman.model import adapters
from dragoman.store.disk import Disk
from dragoman.store.local import FolderStore
from dragoman.store.record import CheckpointRecord
from dragoman.training import crew, first, inputs, opening, optimizer, saving, short_memory, trainee
from dragoman.training import durable as durable_store
from dragoman.training.about import About
from dragoman.training.durable import Durable
from dragoman.training.feed import Feed
from dragoman.training.fitting import Fit
from dragoman.training.forward import Forward
from dragoman.training.graphs import Graphs
from dragoman.training.inputs import Inputs
from dragoman.training.optimizer import Arithmetic, choose_arithmetic
from dragoman.training.ranks import Ranks
from dragoman.training.replication import Replication
from dragoman.training.saver import Saver
from dragoman.training.state import TrainState
from dragoman.training.stop import Stop
from dragoman.training.time_limit import platform_of

if TYPE_CHECKING:
    from transformers import M2M100ForConditionalGeneration


@dataclass
class Session:
    """One process life of a run, ready to train."""

    config: RunConfig
    folder: Path
    store: FolderStore
    log: RunLog
    journal: Journal
    stop: Stop
    inputs: Inputs
    plan: BatchPlan
    loader: Loader
    forward: Forward
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    small_files: dict[str, bytes]
    about: About
    state: TrainState
    feed: Feed
    ranks: Ranks | None = None
    """The other processes of this session; None when it is the only one."""
    graphs: Graphs | None = None
    """None without static shapes."""
    replication: Replication | None = None
    """The copying to the durable store; None when the run has none."""
    resumed_from: str = ""
    """Nonce of the checkpoint that this session started from."""
    best: str = ""
    """Nonce of the checkpoint whose model is published."""
    safe_step: int = 0
    """The newest step that is durable."""
    safe_time: float = field(default_factory=time.monotonic)
    """The instant of that step, or when the session began."""
    counted_time: float = field(default_factory=time.monotonic)
    """Up to when the state's `seconds` count."""
    failed_time: float | None = None
    """When a save failed that has not been made good since."""
    saver: Saver = field(default_factory=Saver)
    """Writes checkpoints beside the training."""

    @property
    def model(self) -> "M2M100ForConditionalGeneration":
        """The model in training."""
        return self.forward.model

    @property
    def arithmetic(self) -> Arithmetic:
        """Device and precision."""
        return self.forward.arithmetic

    @property
    def corpus(self) -> Corpus:
        """The prepared pairs."""
        return self.inputs.corpus


@dataclass(frozen=True)
class Finished:
    """The run has nothing left to train."""

    step: int
    is_here: bool
    """Whether its end is in the run folder; else it is in the durable store alone."""
    replication: Replication | None
    """Brings what is missing to the durable store; None when the run has none."""


def check(config: RunConfig) -> Path:
    """Look at everything that can be judged without touching data or disk; returns the run folder.

    Raises:
        InputError: Languages, device, precision or store are wrong, or a package is missing.
    """
    folder = opening.check(config)
    platform_of(config.machine)
    choose_arithmetic(config.training.device, config.training.precision)
    trainee.check(config)
    crew.check(config)
    adapters.check(config.model)
    optimizer.check(config.training)
    return folder


def open_session(
    config: RunConfig,
    store: FolderStore,
    stop: Stop,
    echo: Callable[[Event], None],
    ranks: Ranks | None = None,
) -> Session | Finished:
    """Prepare or find everything, take the lease, restore the newest good checkpoint.

    Raises:
        InputError: Configuration, data or model are wrong, or do not fit the run in the folder.
        Damaged: Every checkpoint is damaged.
    """
    folder = store.root
    compare(stored_config(folder), config, folder)
    host.be_gentle()
    arithmetic = trainee.set_up_torch(config, ranks.place.count if ranks else 1)
    journal = Journal(folder / JOURNAL, echo)
    log = RunLog(store)
    durable = durable_store.look(config, folder, log, journal)
    if done := _finished(log, durable, folder, journal):
        return done
    begun: CheckpointRecord | None = None
    if _has_begun(config, log, durable):
        durable_store.hold(durable, config, log, folder)
        begun = durable_store.restore_point(durable, log, store, saving.reporter(journal))
    else:
        inputs.check(config)
    if begun:
        durable_store.bring_corpus(durable, store, begun.corpus)
    made = inputs.obtain(config, folder, journal, store.disk, begun)
    plan = planning.plan_of(config, made.corpus)
    ready = trainee.load(config, arithmetic, made, plan, journal, ranks)
    durable_store.hold(durable, config, log, folder)
    if begun is None and durable and durable.newest:
        # Another machine began this very run while we waited for the lease: what it has done is not done again.
        return open_session(config, store, stop, echo, ranks)
    loader = Loader(made.corpus, plan, active=ready.forward.active is not None)
    run = Session(
        config=config,
        folder=folder,
        store=store,
        log=log,
        journal=journal,
        stop=stop,
        inputs=made,
        plan=plan,
        loader=loader,
        forward=ready.forward,
        optimizer=optimizer.build(ready.forward.trained(), config.training),
        scaler=arithmetic.scaler(),
        small_files=ready.small_files,
        about=ready.about,
        state=TrainState(ready.fit.microbatch_tokens, ready.fit.checkpointing),
        feed=trainee.feed_of(ready.forward, config, loader),
        ranks=ranks,
        graphs=trainee.graphs_of(ready.forward, config, lambda words: journal.append(Warned(message=words))),
        replication=Replication(folder, durable.url, durable.owner, journal) if durable else None,
    )
    _warn(run, ready.fit, begins=begun is None)
    log.clean()
    saving.load(run, begun)
    # Not before: a checkpoint of other data is refused, and then nothing of the run may have changed.
    _write_root(run, store.disk)
    run.forward = trainee.as_stored(run.forward, config, run.state)
    short_memory.take_note(run)
    _announce(run, begun)
    return run


def _warn(run: Session, fit: Fit, *, begins: bool) -> None:
    """Say what may become a disappointment: learning rate, steps too small for so many GPUs, memory."""
    words = [optimizer.advice(run.config.training), fit.warning if begins else ""]
    if run.ranks and run.arithmetic.device.type == "cuda":
        words.append(first.advice(run.feed, run.forward.trained_bytes))
    for each in filter(None, words):
        run.journal.append(Warned(message=each))


def _finished(log: RunLog, durable: Durable | None, folder: Path, journal: Journal) -> Finished | None:
    """Whether all is done, here or in the store."""
    if log.finished and log.finished.outcome == "done":
        copying = Replication(folder, durable.url, "", journal) if durable else None
        return Finished(log.finished.step, True, copying)
    end = durable.log.finished if durable and durable.log else None
    if durable and end and end.outcome == "done":
        return Finished(end.step, False, Replication(folder, durable.url, "", journal, safe_step=end.step))
    return None


def _has_begun(config: RunConfig, log: RunLog, durable: Durable | None) -> bool:
    """Whether there is a checkpoint to go on from, here or in the store.

    Raises:
        InputError: `--resume` says otherwise.
    """
    begun = log.newest or (durable.newest if durable else None)
    if config.save.resume == "must" and not log.lease and not begun:
        where = durable.url if durable else log.store
        raise InputError(f"--resume must: there is no run in {where}", "the store of a run, or --resume auto")
    if config.save.resume == "never" and durable and durable.newest:
        raise InputError(f"--resume never: {durable.url} holds a run", "another --store, or --resume auto")
    return begun is not None


def _write_root(run: Session, disk: Disk) -> None:
    """The small files that make the run folder itself loadable, and the run's configuration."""
    for name, content in run.small_files.items():
        disk.replace(run.folder / name, content)
    write_config(run.folder, run.config, disk)


def write_config(folder: Path, config: RunConfig, disk: Disk) -> None:
    """Store the run's settings in its folder, where the copying finds them too."""
    disk.replace(folder / CONFIG, config.to_yaml(stored=True).encode())


def _announce(run: Session, restored: CheckpointRecord | None) -> None:
    run.journal.append(
        SessionStarted(
            run=run.log.run,
            epoch=run.log.epoch,
            owner=run.log.owner,
            step=run.state.step,
            total_steps=run.plan.total_steps,
            steps_per_epoch=run.plan.pairs_per_epoch / run.plan.pairs_per_step,
            device=str(run.arithmetic.device),
            precision=run.arithmetic.precision,
            threads=torch.get_num_threads(),
            host=host.name(),
            pid=host.process_id(),
            resumed_from=restored.folder if restored else "",
            store=run.replication.url if run.replication else "",
            pairs_per_step=run.plan.pairs_per_step,
            microbatch_tokens=run.state.microbatch_tokens,
            rows=run.forward.rows,
            ranks=run.ranks.place.count if run.ranks else 1,
            parallel=run.forward.parallel.name if run.forward.parallel else "",
        )
    )
    if run.stop.limit and run.stop.until:
        run.journal.append(TimeLimited(until=round(run.stop.until, 3), reason=run.stop.limit.reason))
