"""Scoring the fixed dev sample while training: which checkpoint is the best one."""

import time
from typing import TYPE_CHECKING

import numpy as np
import torch

from dragoman.data.corpus import Text
from dragoman.data.loader import Loader
from dragoman.evaluation.report import judge_model
from dragoman.journal import Evaluated, Warned
from dragoman.model.active import outside_mass
from dragoman.model.loss import head_nats
from dragoman.training import first, saving
from dragoman.training.forward import Forward

if TYPE_CHECKING:
    from dragoman.training.session import Session

MOST_OUTSIDE = 0.01
"""Share of the probability outside the trained rows from which on training them alone is not the same any more."""
SHOWN = 2
"""Sample translations per direction that go into the journal."""


def evaluate_if_due(run: "Session") -> bool:
    """Evaluate every `eval_steps` and after the last step; whether the model is the best so far.

    Depends on the step alone, so a resumed run evaluates where an undisturbed one does.
    """
    rows = dev_rows(run) if is_due(run) else []
    if not rows:
        return False
    saving.settle(run)  # what is better than the best so far depends on whether that one could be saved
    started, state = time.monotonic(), run.state
    texts = run.corpus.texts("dev")
    pairs = [texts[row] for row in rows]
    with first.whole(run) as forward:
        judged = judge_model("tuned", forward.model, run.inputs.vocabulary, pairs, run.config.evaluation.num_beams)
        loader = Loader(run.corpus, run.plan, "dev")
        nats, outside = loss(forward, loader, rows, state.microbatch_tokens)
    if outside > MOST_OUTSIDE:
        share = f"{outside:.1%} of the probability goes to rows of the embedding that are not trained"
        run.journal.append(Warned(message=f"--vocabulary active: {share}; --vocabulary full trains them all"))
    improved = judged.mean_chrf > state.best_chrf
    if improved:
        state.best_chrf, state.best_step = judged.mean_chrf, state.step
        state.best_scores = judged.to_json()["directions"]
    run.journal.append(
        Evaluated(
            step=state.step,
            loss=nats,
            outside=outside,
            chrf=judged.mean_chrf,
            directions=judged.to_json()["directions"],
            samples=_samples(pairs, judged.hypotheses),
            seconds=time.monotonic() - started,
        )
    )
    return improved


def is_due(run: "Session") -> bool:
    """Whether the present step is one at which the model is scored."""
    every, step = run.config.evaluation.eval_steps, run.state.step
    return bool(every) and (step % every == 0 or step == run.plan.total_steps)


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


def loss(forward: Forward, loader: Loader, rows: list[int], limit: int) -> tuple[float, float]:
    """Nats per target token of some pairs over the whole vocabulary, without smoothing or dropout.

    Args:
        forward: Its model holds the whole embedding.
        loader: Of the pairs, which it gives as token ids.
        rows: Which pairs of the loader's split.
        limit: Largest number of source and target tokens in one forward pass.

    Returns:
        The loss, and the share of the probability that untrained rows of the embedding get.
    """
    forward, model = forward.plain(), forward.model
    ordered = loader.sorted(np.array(rows, dtype=np.int64))
    total, outside = 0.0, 0.0
    model.eval()
    with torch.inference_mode(), forward.arithmetic.autocast():
        for part in loader.microbatches(ordered, limit, padded=not forward.packed):
            hidden_ND, labels_N = forward.hidden(loader.packed(ordered[part]))
            total += float(head_nats(hidden_ND, model.lm_head.weight, labels_N, 0.0).plain)
            if forward.active:
                outside += float(outside_mass(hidden_ND, model.lm_head.weight, forward.active.rows_A))
    model.train()
    tokens = loader.target_tokens(ordered)
    return total / tokens, outside / tokens


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
