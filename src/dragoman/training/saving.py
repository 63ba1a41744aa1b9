"""When and how a session's work becomes durable, and how it comes back.

A save that fails is loud and harmless: training goes on, `degraded`, and tries again
a minute later. What counts as safe is only what a record in the store says.
"""

import time
from typing import TYPE_CHECKING, Literal

from dragoman.checkpoint.restore import Report, newest_good, repair_root
from dragoman.errors import ConfigMismatch, StoreUnavailable
from dragoman.journal import Journal, Saved, SaveFailed, Warned
from dragoman.model import nllb
from dragoman.store.base import CARD
from dragoman.store.card import seal
from dragoman.store.record import CheckpointRecord
from dragoman.training import card, state
from dragoman.training.state import TrainState

if TYPE_CHECKING:
    from dragoman.training.session import Session

RETRY_SECONDS = 60.0


def save_if_due(run: "Session", improved: bool) -> None:
    """Save when there is a reason, or the model is the best so far."""
    if reason := "best" if improved else reason_to_save(run):
        save(run, reason)


def reason_to_save(run: "Session") -> str:
    """Why the present step is to be saved: steps or minutes say so, or a failed save wants another try."""
    settings, now = run.config.save, time.monotonic()
    if run.state.step % settings.save_steps == 0:
        return f"every {settings.save_steps} steps"
    if run.failed_time is not None:
        return "again" if now - run.failed_time >= RETRY_SECONDS else ""
    if run.state.step - run.safe_step >= settings.save_steps:
        return "overdue"  # its step was not finite
    if now - run.safe_time >= settings.save_minutes * 60:
        return f"every {settings.save_minutes:g} minutes"
    return ""


def save(run: "Session", reason: str) -> bool:
    """Make the present step durable; whether it worked."""
    started = time.monotonic()
    try:
        if run.failed_time is not None:
            run.log.clean()
        record = _publish(run)
        run.safe_step, run.safe_time, run.failed_time = run.state.step, time.monotonic(), None
        run.best = record.best
        run.log.publish_root()
        run.log.retire(run.config.save.keep)
    except (OSError, StoreUnavailable) as error:
        run.failed_time = time.monotonic()
        _forget_unsaved_best(run)
        why = error.message if isinstance(error, StoreUnavailable) else f"{error.strerror or error}"
        run.journal.append(SaveFailed(step=run.state.step, reason=why, last_safe_step=run.safe_step))
        return False
    seconds = time.monotonic() - started
    run.stop.save_seconds = seconds
    run.journal.append(
        Saved(
            step=run.state.step,
            folder=record.folder,
            num_bytes=record.num_bytes,
            seconds=seconds,
            reason=reason,
        )
    )
    return True


def _publish(run: "Session") -> CheckpointRecord:
    nonce = run.log.new_nonce()
    staged = run.store.staging(nonce)
    run.state.scaler, run.state.computed_with = run.scaler.state_dict(), run.arithmetic.facts()
    small = run.small_files | {CARD: _card(run)}
    files = state.write(run.store.disk, staged, run.forward, run.optimizer, run.state, small, run.config)
    is_best = run.state.best_step == run.state.step or run.config.evaluation.eval_steps == 0
    best_chrf = {"chrf": run.state.best_chrf} if run.state.best_chrf >= 0 else {}
    return run.log.publish_checkpoint(
        nonce=nonce,
        step=run.state.step,
        pairs_seen=run.plan.pairs_seen(run.state.step),
        files={name: (staged / name, entry) for name, entry in files.items()},
        config=run.config.digest(),
        corpus=run.corpus.digest,
        metrics=best_chrf,
        losses=run.state.losses,
        best=nonce if is_best else run.best,
    )


def _card(run: "Session") -> bytes:
    pairs = run.corpus.counts("train")
    step, total = run.state.step, run.plan.total_steps
    chrf = run.state.best_chrf if run.state.best_chrf >= 0 else None
    return seal(card.text(run.config, run.corpus.directions, pairs, step=step, total_steps=total, chrf=chrf))


def reporter(journal: Journal) -> Report:
    """Makes every checkpoint that is passed over a warning."""

    def report(checkpoint: CheckpointRecord, why: str) -> None:
        journal.append(Warned(message=f"{checkpoint.folder} is not used: {why}"))

    return report


def load_newest(run: "Session") -> None:
    """Put the newest good checkpoint into the session, or the base model when there is none.

    Raises:
        Damaged: There are checkpoints, but every one is damaged.
    """
    load(run, newest_good(run.log, reporter(run.journal)))


def load(run: "Session", checkpoint: CheckpointRecord | None) -> None:
    """Put a checkpoint that is whole into the session; the base model when there is none.

    Raises:
        ConfigMismatch: The checkpoint was made from other data.
    """
    if checkpoint is None:
        _load_base(run)
        return
    if checkpoint.corpus != run.corpus.digest:
        raise ConfigMismatch(
            f"--data: the files in {run.folder}'s run have changed since {checkpoint.folder} was saved",
            "put the original files back, or start a new run with another --output and --model this folder",
        )
    run.state = state.restore(run.folder / checkpoint.folder, run.forward, run.optimizer)
    run.scaler.load_state_dict(run.state.scaler)
    if changes := run.arithmetic.changes_since(run.state.computed_with):
        run.journal.append(Warned(message=f"the resume is not bit-identical, the machine differs: {changes}"))
    repair_root(run.log, reporter(run.journal))
    is_live = any(kept.nonce == checkpoint.best for kept in run.log.kept)
    run.resumed_from, run.best = checkpoint.nonce, checkpoint.best if is_live else ""
    run.safe_step, run.safe_time = run.state.step, time.monotonic()


def _forget_unsaved_best(run: "Session") -> None:
    """A best model that was never saved must not keep a later, worse one from being published."""
    if run.state.best_step == run.state.step:
        newest = run.log.newest
        run.state.best_chrf, run.state.best_step = newest.metrics.get("chrf", -1.0) if newest else -1.0, 0


def _load_base(run: "Session") -> None:
    if run.state.step == 0:
        return
    fresh = nllb.load(run.inputs.base, run.config.model.dropout)
    state.load_weights(run.forward, dict(nllb.weights(fresh)))
    run.optimizer.state.clear()
    run.state = TrainState(run.state.microbatch_tokens, out_of_memory=run.state.out_of_memory)


def finish(run: "Session", outcome: Literal["done", "stopped", "failed"], reason: str) -> None:
    """Record how the session ended; a store that refuses even this is reported."""
    try:
        run.log.finish(outcome, reason, step=run.state.step, resumed_from=run.resumed_from)
    except (OSError, StoreUnavailable) as error:
        run.journal.append(SaveFailed(step=run.state.step, reason=str(error), last_safe_step=run.safe_step))
