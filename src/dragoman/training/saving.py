"""When and how a session's work becomes durable, and how it comes back.

A save that fails is loud and harmless: training goes on, `degraded`, and tries again
a minute later. What counts as safe is only what a record in the store says.

A save is written beside the training (`saver.py`), from a copy (`snapshot.py`). What
became of it is taken over here, in the trainer's thread, between two steps.
"""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from torch import Tensor

from dragoman import host
from dragoman.checkpoint.restore import Report, newest_good, repair_root
from dragoman.errors import ConfigMismatch, StoreUnavailable
from dragoman.journal import Journal, Saved, SaveFailed, Warned
from dragoman.model import nllb
from dragoman.store.record import CheckpointRecord
from dragoman.training import snapshot, state
from dragoman.training.saver import Attempt
from dragoman.training.snapshot import Snapshot
from dragoman.training.state import Tensors, TrainState
from dragoman.training.tensor_file import Stored

if TYPE_CHECKING:
    from dragoman.training.session import Session

RETRY_SECONDS = 60.0


def save_if_due(run: "Session", improved: bool) -> None:
    """Begin a save when steps or minutes say so, when the model is the best so far, or a failed one wants another try.

    Which steps are saved does not depend on how long a save takes: where one is due while
    another is under way, training waits for that one first.
    """
    if reason := reason_to_save(run, improved):
        begin(run, reason)


def reason_to_save(run: "Session", improved: bool = False) -> str:
    """Why to save now; empty when nothing is due."""
    settings, step, now = run.config.save, run.state.step, time.monotonic()
    under_way = run.saver.attempt.snapshot if run.saver.attempt else None
    last_step, last_time = (under_way.step, under_way.time) if under_way else (run.safe_step, run.safe_time)
    if improved:
        return "best"
    if step % settings.save_steps == 0:
        return f"every {settings.save_steps} steps"
    if run.failed_time is not None and not under_way:
        return "again" if now - run.failed_time >= RETRY_SECONDS else ""
    if step - last_step >= settings.save_steps:
        return "overdue"  # its step was not finite
    if now - last_time >= settings.save_minutes * 60:
        return f"every {settings.save_minutes:g} minutes"
    return ""


def begin(run: "Session", reason: str) -> None:
    """Take a snapshot of the present step, which is then made durable; one that is under way is waited for first.

    Raises:
        Exception: What ended the save before, as `poll`.
    """
    settle(run)
    started = time.monotonic()
    live = state.tensors(run.forward, run.optimizer)
    copied = _copied(run, live)
    if copied is None:
        save(run, reason)
        return
    attempt = _attempt(run, reason, snapshot.take(run, *copied))
    run.saver.begin(attempt, run.log, run.store, beside=True)
    attempt.waited_seconds += time.monotonic() - started


def save(run: "Session", reason: str) -> bool:
    """Make the present step durable while training waits, so without a copy; whether it worked.

    Raises:
        Exception: As `poll`.
    """
    settle(run)
    _tell_ranks(run, copies=False)
    attempt = _attempt(run, reason, snapshot.take(run, state.tensors(run.forward, run.optimizer)))
    run.saver.begin(attempt, run.log, run.store, beside=False)
    settle(run)
    return attempt.failure is None


def _attempt(run: "Session", reason: str, taken: Snapshot) -> Attempt:
    run.stop.is_saving = True
    return Attempt(taken, reason, cleans=run.failed_time is not None, gathers=_is_divided(run))


def _copied(run: "Session", live: Tensors) -> tuple[Tensors, Callable[[], None]] | None:
    """A copy of the tensors; None when they are to be streamed, which the first save decides for the whole session."""
    saver, wanted = run.saver, run.config.save.snapshot
    if saver.copies is None:
        is_roomy = snapshot.has_room(snapshot.num_bytes(live), _free_bytes(run))
        saver.copies = wanted == "copy" or (wanted == "auto" and is_roomy)
        if wanted == "auto" and not is_roomy:
            _tell_that_it_streams(run, live)
    if not saver.copies:
        return None
    try:
        copied = saver.buffers.copy(live)
    except MemoryError:
        saver.copies = False
        _tell_that_it_streams(run, live)
        return None
    _tell_ranks(run, copies=True)
    return copied


def _tell_ranks(run: "Session", *, copies: bool) -> None:
    """Have the other ranks send what only they hold, when the model is divided among them.

    Raises:
        RankLost: One is gone.
    """
    if run.ranks and _is_divided(run):
        run.ranks.order("save", copies=copies)


def _is_divided(run: "Session") -> bool:
    """Whether other ranks hold parts of the model that this one does not."""
    return bool(run.forward.parallel and run.forward.parallel.is_divided)


def _tell_that_it_streams(run: "Session", live: Tensors) -> None:
    needed, free = snapshot.num_bytes(live) / 1e9, _free_bytes(run) / 1e9
    why = f"a copy of the tensors takes {needed:.1f} GB of memory, and {free:.1f} GB are free"
    run.journal.append(Warned(message=f"training stands still while it saves: {why}"))


def _free_bytes(run: "Session") -> int:
    """Memory for a copy; between two steps on a CPU, what the next step takes looks free and is not."""
    given_back = host.given_back_bytes() if run.arithmetic.device.type == "cpu" else 0
    return max(0, host.free_memory_bytes() - given_back)


def poll(run: "Session") -> None:
    """Take over what a save has become that has ended; costs nothing otherwise.

    Raises:
        Superseded: Another machine has taken over this run.
        Damaged: The run's log is damaged.
    """
    _take_over(run, run.saver.finished(wait=False))


def settle(run: "Session") -> None:
    """The same, after waiting for a save that is under way; then log and store are free for use.

    Raises:
        Exception: As `poll`.
    """
    _take_over(run, run.saver.finished(wait=True))


def abandon(run: "Session") -> None:
    """Wait for a save that is under way, when the session ends by an error: that one counts, not the save's."""
    if attempt := run.saver.finished(wait=True):
        attempt.fatal = None
        _take_over(run, attempt)


def _take_over(run: "Session", attempt: Attempt | None) -> None:
    """Put what became of a save into the session and its journal."""
    if attempt is None:
        return
    run.stop.is_saving = False
    if attempt.record:
        run.safe_step, run.safe_time, run.failed_time = attempt.snapshot.step, attempt.snapshot.time, None
        run.best = attempt.record.best
    if attempt.fatal:
        raise attempt.fatal
    if attempt.failure:
        _failed(run, attempt.snapshot.step, attempt.failure)
    elif attempt.record:
        _succeeded(run, attempt, attempt.record)


def _succeeded(run: "Session", attempt: Attempt, record: CheckpointRecord) -> None:
    run.stop.save_seconds = attempt.seconds
    run.journal.append(
        Saved(
            step=record.step,
            folder=record.folder,
            num_bytes=record.num_bytes,
            seconds=attempt.seconds,
            reason=attempt.reason,
            waited_seconds=attempt.waited_seconds,
        )
    )


def _failed(run: "Session", step: int, error: OSError | StoreUnavailable) -> None:
    run.failed_time = time.monotonic()
    _forget_unsaved_best(run, step)
    why = error.message if isinstance(error, StoreUnavailable) else f"{error.strerror or error}"
    run.journal.append(SaveFailed(step=step, reason=why, last_safe_step=run.safe_step))


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
    settle(run)
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
    run.state = _restore(run, run.folder / checkpoint.folder)
    run.scaler.load_state_dict(run.state.scaler)
    if changes := run.arithmetic.changes_since(run.state.computed_with):
        run.journal.append(Warned(message=f"the resume is not bit-identical, the machine differs: {changes}"))
    repair_root(run.log, reporter(run.journal))
    is_live = any(kept.nonce == checkpoint.best for kept in run.log.kept)
    if checkpoint.best and not is_live:
        _say_that_the_best_is_lost(run)
    run.resumed_from, run.best = checkpoint.nonce, checkpoint.best if is_live else ""
    run.safe_step, run.safe_time = run.state.step, time.monotonic()


def _restore(run: "Session", folder: Path) -> TrainState:
    """Put a checkpoint into the model, wherever its parts are.

    Raises:
        Damaged: The files do not belong to this model.
        RankLost: Another rank is gone.
    """
    found, ranks = state.read(folder), run.ranks
    if ranks:
        ranks.order("restore", updates=found.updates)
        ranks.tell(json.dumps(found.scaler))

    def opened(name: str) -> Mapping[str, Tensor]:
        stored = Stored(folder / name)
        return ranks.shared(stored) if ranks else stored

    state.restore(run.forward, run.optimizer, found.updates, opened)
    return found


def _say_that_the_best_is_lost(run: "Session") -> None:
    """The next evaluation finds the best model anew: nobody has the old one any more."""
    words = (
        f"the best model so far, of step {run.state.best_step}, was lost with its machine before it was in the store"
    )
    run.journal.append(Warned(message=f"{words}; the newest one is published until the next evaluation"))
    run.state.best_chrf, run.state.best_step, run.state.best_scores = -1.0, 0, {}


def _forget_unsaved_best(run: "Session", step: int) -> None:
    """A best model that was never saved must not keep a later, worse one from being published."""
    if run.state.best_step == step:
        newest = run.log.newest
        run.state.best_chrf, run.state.best_step = newest.metrics.get("chrf", -1.0) if newest else -1.0, 0
        run.state.best_scores = {}


def _load_base(run: "Session") -> None:
    if run.state.step == 0:
        return
    fresh = dict(nllb.weights(nllb.load(run.inputs.base, run.config.model.dropout)))
    if run.ranks:
        run.ranks.order("base")
    state.restart(run.forward, run.optimizer, run.ranks.shared(fresh) if run.ranks else fresh)
    run.state = TrainState(run.state.microbatch_tokens, run.state.checkpointing, out_of_memory=run.state.out_of_memory)


def finish(run: "Session", outcome: Literal["done", "stopped", "failed"], reason: str) -> None:
    """Record how the session ended; a store that refuses even this is reported."""
    settle(run)
    try:
        run.log.finish(outcome, reason, step=run.state.step, resumed_from=run.resumed_from)
    except (OSError, StoreUnavailable) as error:
        run.journal.append(SaveFailed(step=run.state.step, reason=str(error), last_safe_step=run.safe_step))
