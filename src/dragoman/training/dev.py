"""Scoring the fixed dev sample while training: which checkpoint is the best one."""

import time
from typing import TYPE_CHECKING

import numpy as np
import torch

from dragoman.data.corpus import Text
from dragoman.data.loader import Loader
from dragoman.evaluation.report import judge_model
from dragoman.journal import Evaluated
from dragoman.model import nllb
from dragoman.training import saving
from dragoman.training.step import to_device

if TYPE_CHECKING:
    from dragoman.training.session import Session

SHOWN = 2
"""Sample translations per direction that go into the journal."""


def evaluate_if_due(run: "Session") -> bool:
    """Evaluate every `eval_steps` and after the last step; whether the model is the best so far.

    Depends on the step alone, so a resumed run evaluates where an undisturbed one does.
    """
    every, state = run.config.evaluation.eval_steps, run.state
    due = every and (state.step % every == 0 or state.step == run.plan.total_steps)
    rows = dev_rows(run) if due else []
    if not rows:
        return False
    saving.settle(run)  # what is better than the best so far depends on whether that one could be saved
    started = time.monotonic()
    texts = run.corpus.texts("dev")
    pairs = [texts[row] for row in rows]
    judged = judge_model("tuned", run.model, run.inputs.vocabulary, pairs, run.config.evaluation.num_beams)
    improved = judged.mean_chrf > state.best_chrf
    if improved:
        state.best_chrf, state.best_step = judged.mean_chrf, state.step
    run.journal.append(
        Evaluated(
            step=state.step,
            loss=_loss(run, rows),
            chrf=judged.mean_chrf,
            directions=judged.to_json()["directions"],
            samples=_samples(pairs, judged.hypotheses),
            seconds=time.monotonic() - started,
        )
    )
    return improved


def dev_rows(run: "Session") -> list[int]:
    """Rows of the dev split that are scored: the first `eval_samples` of each direction."""
    wanted = run.config.evaluation.eval_samples
    counts = run.corpus.counts("dev")
    rows: list[int] = []
    start = 0
    for count in counts.values():
        rows.extend(range(start, start + min(count, wanted)))
        start += count
    return rows


def _loss(run: "Session", rows: list[int]) -> float:
    """Nats per target token of the dev sample, without smoothing or dropout."""
    loader = Loader(run.corpus, run.plan, "dev")
    ordered = np.array(sorted(rows, key=lambda row: -loader.lengths[row]), dtype=np.int64)
    total, tokens = 0.0, 0
    run.model.eval()
    with torch.inference_mode(), run.arithmetic.autocast():
        for start in range(0, len(ordered), run.state.microbatch):
            part = loader.padded(ordered[start : start + run.state.microbatch])
            total += float(nllb.nats(run.model, to_device(part, run.arithmetic.device), 0.0).plain)
            tokens += part.target_tokens
    run.model.train()
    return total / tokens


def _samples(pairs: list[Text], hypotheses: list[str]) -> list[dict[str, str]]:
    """The first translations of each direction beside their references."""
    shown: dict[str, int] = {}
    samples: list[dict[str, str]] = []
    for pair, hypothesis in zip(pairs, hypotheses, strict=True):
        name = str(pair.direction)
        shown[name] = shown.get(name, 0) + 1
        if shown[name] <= SHOWN:
            sample = {"source": pair.source, "hypothesis": hypothesis, "reference": pair.target}
            samples.append({"direction": name, **sample})
    return samples
