"""The story of a run, from the configuration to the published model.

There are no callbacks: to change what happens in training, change this page.
"""

import contextlib
import math
from collections.abc import Callable

import torch

from dragoman.config import RunConfig
from dragoman.errors import Diverged, DragomanError, ExitCode, InputError, RankLost, Superseded
from dragoman.journal import Event, OutOfMemory, RolledBack, SessionEnded, StepSkipped
from dragoman.store.disk import Disk
from dragoman.training import dev, ending, first, fitting, opening, parity, saving, session, short_memory
from dragoman.training.ending import Ending
from dragoman.training.metrics import Metrics
from dragoman.training.optimizer import learning_rate
from dragoman.training.pinning import pinned
from dragoman.training.ranks import lost_ranks
from dragoman.training.session import Session
from dragoman.training.step import Settled, StepResult, train_step
from dragoman.training.stop import Stop
from dragoman.training.time_limit import time_limit


def run(config: RunConfig, echo: Callable[[Event], None] = lambda event: None, disk: Disk | None = None) -> Ending:
    """Train until the last step, the deadline or a signal; continue by itself.

    Args:
        config: The whole configuration.
        echo: Receives every journal event, for display.
        disk: Makes every durable change; the real one when left out.

    Raises:
        InputError: Something the user gave is wrong; nothing was changed.
        Diverged: The loss stayed non-finite after a roll-back.
        Superseded: Another machine took over.
    """
    folder = session.check(config)
    config = pinned(config, folder)
    folder_store = opening.opened_folder(folder, config.save.single_writer, disk)
    with Stop(time_limit(config)) as stop, folder_store as store, first.with_others(config) as ranks:
        opened = session.open_session(config, store, stop, echo, ranks)
        if isinstance(opened, session.Finished):
            first.release(ranks, ExitCode.DONE)
            return ending.was_done(config, opened, folder, stop)
        stop.has_work = True
        if opened.replication:
            opened.replication.start()
        with first.settles_before_leaving(opened):
            try:
                reason = train(opened)
            except BaseException as error:
                _record_failure(opened, error)
                if isinstance(error, Exception) and not isinstance(error, Superseded | RankLost) and opened.replication:
                    # In a container this process is the last one: what it has saved is on its way still.
                    opened.replication.drain(opened.safe_step, ending.patience(config, stop))
                raise
            ended = _end(opened, reason)
        first.release(ranks, ended.exit_code)
        return ending.drained(config, ended, opened.replication, stop)


def train(run: Session) -> str:
    """All remaining steps of a session. Returns why it stopped early; empty when all is done."""
    state, total = run.state, run.plan.total_steps
    metrics = Metrics(run.config.evaluation.log_steps)
    waiting: list[tuple[int, StepResult]] = []
    while state.step < total:
        saving.poll(run)
        _follow_copying(run)
        if reason := run.stop.reason(metrics.step_seconds):
            _settle(run, waiting, metrics)
            return reason
        if state.step in state.pass_over:
            if _settle(run, waiting, metrics):  # nothing may wait when the loop ends with a step that is passed over
                state = run.state
                continue
            run.journal.append(StepSkipped(step=state.step + 1, consecutive=0, passed_over=True))
            state.step += 1
            continue
        rate = learning_rate(run.config.training, state.step, total)
        result = _step_that_fits(run, rate)
        state.step += 1
        waiting.append((state.step, result))
        if not _wants_figures(run, metrics):
            continue
        if _settle(run, waiting, metrics):
            state = run.state
            continue
        if event := metrics.window(state.step, rate, last=state.step == total):
            run.journal.append(event)
        if state.consecutive_bad:
            continue  # nothing new to save, and a roll-back must lead to before the first bad step
        with metrics.paused():
            improved = dev.evaluate_if_due(run)
            saving.save_if_due(run, improved)
    return ""


def _wants_figures(run: Session, metrics: Metrics) -> bool:
    """Whether anybody looks at the figures of the last steps now; on a GPU that means to wait for it."""
    step = run.state.step
    is_last = step == run.plan.total_steps
    is_free = run.arithmetic.device.type == "cpu"
    return is_free or metrics.ends_at(step, is_last) or dev.is_due(run) or bool(saving.reason_to_save(run))


def _settle(run: Session, waiting: list[tuple[int, StepResult]], metrics: Metrics) -> bool:
    """Take account of the steps whose figures are due, in their order; whether the run was rolled back."""
    state = run.state
    for step, result in waiting:
        settled = result.settled()
        if settled.updated:
            metrics.observe(settled)
            state.updates += 1
            state.consecutive_bad = 0
            state.observe(step, settled.nats / settled.target_tokens)
        elif _is_bad(run, step, settled) and _roll_back_if_needed(run, step):
            break
    waiting.clear()
    return run.state is not state


def _step_that_fits(run: Session, rate: float) -> StepResult:
    """The next step; when memory runs out, the same step again with half the microbatch.

    Raises:
        InputError: Not even one pair fits.
    """
    while True:
        # What follows must not stand in the handler: its traceback keeps the tensors alive.
        if run.ranks:
            state = run.state
            run.ranks.order(
                "step", step=state.step, limit=state.microbatch_tokens, rate=rate, twice=run.forward.checkpointing
            )
            run.stop.told = run.ranks.said
        with contextlib.suppress(torch.OutOfMemoryError), lost_ranks():
            return train_step(
                run.forward,
                run.optimizer,
                run.scaler,
                run.feed,
                run.config.training,
                step=run.state.step,
                limit=run.state.microbatch_tokens,
                rate=rate,
                before_update=run.saver.buffers.wait_before_update,
                graphs=run.graphs,
            )
        _need_less_memory(run)


def _need_less_memory(run: Session) -> None:
    """After memory ran out: half the microbatch, or layers computed twice; the step is repeated with the same pairs.

    Raises:
        InputError: Not even one pair fits.
    """
    state = run.state
    limit = short_memory.smaller(run.feed, state.step, state.microbatch_tokens)
    if run.ranks:
        short_memory.note(run.folder, state.step + 1, limit)
        raise RankLost(f"rank 0 ran out of memory at step {state.step + 1}; all begin again with half of it at once")
    run.optimizer.zero_grad(set_to_none=True)
    if run.graphs:
        run.graphs.forget()
    if run.arithmetic.device.type == "cuda":
        torch.cuda.empty_cache()
    if limit:
        state.microbatch_tokens = limit
    elif run.config.training.gradient_checkpointing == "auto" and not run.forward.checkpointing:
        state.checkpointing = True
        run.forward = fitting.checkpointed(run.forward, True)
    else:
        raise InputError(
            f"out of memory at step {state.step + 1} with one pair at a time",
            "a smaller model, a shorter --max-tokens, or a bigger GPU",
        )
    state.out_of_memory.append((state.step + 1, state.microbatch_tokens))
    run.journal.append(OutOfMemory(step=state.step + 1, microbatch_tokens=state.microbatch_tokens))


def _is_bad(run: Session, step: int, result: Settled) -> bool:
    """Record a skipped step; whether it counts as bad.

    A non-finite gradient alone is how the fp16 scaler finds its scale: it counts only
    once the scale has no room left to fall.
    """
    state = run.state
    if math.isfinite(result.nats) and run.scaler.is_enabled() and result.scale > 1:
        return False
    state.bad_steps.append(step - 1)
    state.consecutive_bad += 1
    run.journal.append(StepSkipped(step=step, consecutive=state.consecutive_bad))
    return True


def _roll_back_if_needed(run: Session, step: int) -> bool:
    """After too many bad steps in a row, return to the last checkpoint and pass over them next time.

    Raises:
        Diverged: It happened before.
    """
    state, limit = run.state, run.config.training.max_bad_steps
    if state.consecutive_bad < limit:
        return False
    if state.rolled_back:
        raise Diverged(
            f"the loss is not finite at step {step}, {limit} steps in a row, again after a roll-back",
            "a lower --learning-rate, a longer --warmup-steps, or --precision fp32",
        )
    bad, left = list(state.bad_steps), step
    saving.load_newest(run)
    run.state.rolled_back = True
    run.state.bad_steps = run.state.pass_over = bad
    run.journal.append(RolledBack(from_step=left, to_step=run.state.step, bad_steps=[step + 1 for step in bad]))
    return True


def _end(run: Session, reason: str) -> Ending:
    """Save what is not saved, publish the best model, record how it ended."""
    total = run.plan.total_steps
    done = not reason
    saving.settle(run)
    if run.safe_step < run.state.step:
        saving.save(run, "last" if done else reason)
    if run.safe_step < run.state.step:
        done, reason = False, "the last checkpoint could not be saved"
    if done and run.forward.lora and not run.ranks:
        parity.check_merged(run)
    outcome = "done" if done else "stopped"
    words = reason or "all steps done"
    saving.finish(run, outcome, words)
    limit = run.stop.limit
    run.journal.append(
        SessionEnded(
            outcome=outcome,
            reason=words,
            step=run.state.step,
            safe_step=run.safe_step,
            is_out_of_time=limit is not None and words == limit.reason,
        )
    )
    return Ending(run.folder, outcome, words, run.state.step, total, run.safe_step)


def _follow_copying(run: Session) -> None:
    """Take note of how the copying to the durable store goes.

    Raises:
        Superseded: Another machine has taken over this run.
    """
    if run.replication:
        run.replication.poll()
        run.stop.upload_seconds = run.replication.upload_seconds


def _record_failure(run: Session, error: BaseException) -> None:
    """Write down an exception of our own; being killed leaves no such record."""
    saving.abandon(run)
    if not isinstance(error, Exception):
        return
    words = error.message if isinstance(error, DragomanError) else f"{type(error).__name__}: {error}"
    if isinstance(error, RankLost):
        run.journal.append(SessionEnded(outcome="stopped", reason=words, step=run.state.step, safe_step=run.safe_step))
        return
    if not isinstance(error, Superseded):
        saving.finish(run, "failed", words)
    run.journal.append(SessionEnded(outcome="failed", reason=words, step=run.state.step, safe_step=run.safe_step))
