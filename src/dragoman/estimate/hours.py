"""How long a run takes on one machine: steps, and what lies between them.

Training stands still while the dev sample is decoded, and while a save copies the tensors;
with a fast GPU and small steps the former takes as long as the steps.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

from dragoman import host
from dragoman.config import RunConfig
from dragoman.estimate import speed
from dragoman.estimate.measure import Measured
from dragoman.estimate.memory import Way, sizes_of
from dragoman.estimate.span import Span, exactly
from dragoman.estimate.storage import Storage, storage_of
from dragoman.estimate.team import ALONE
from dragoman.estimate.work import Work
from dragoman.model.sizes import Sizes

DECODED_TOKENS = 2048
"""Padded source tokens that are decoded together (`evaluation/decode.py`)."""
LONGEST = 2.0
"""Tokens of the longest sentence of a batch, over those of a mean one."""
COPIED_BYTES = Span(1.7e9, 10e9)
"""Per second, into memory that is fresh or was used before."""
MEASURED_SHARE = Span(0.9, 1.1)
"""Of a measured time, what another measurement of the same would give."""


@dataclass(frozen=True)
class Hours:
    """Time that a run takes on one machine, in seconds, once everything is there."""

    step: Span
    """One step."""
    training: Span
    """All steps."""
    evaluating: Span
    """Decoding and scoring of the dev sample, all times."""
    saving: Span
    """For which training stands still."""
    recipe: Span
    """All pairs as often, trained by the recipe of the starting document: steps alone."""
    storage: Storage
    """What is written meanwhile."""
    is_measured: bool
    """Whether real steps were timed on such a machine."""

    @property
    def total(self) -> Span:
        """From the first step to the last save."""
        return self.training + self.evaluating + self.saving

    def to_json(self) -> dict[str, Any]:
        """What a program may read."""
        names = ("training", "evaluating", "saving", "recipe", "total")
        seconds = {name: _rounded(getattr(self, name)) for name in names}
        return {"step_seconds": _rounded(self.step, 4), "seconds": seconds, "is_measured": self.is_measured}


def hours_of(config: RunConfig, work: Work, way: Way, measured: Measured | None = None) -> Hours:
    """How long a run takes.

    Args:
        config: The run.
        work: What it has to do.
        way: How it is trained, and where.
        measured: What was measured on such a machine.
    """
    sizes = sizes_of(way.model)
    step = _step(config, work, way, sizes)
    recipe = _recipe(work, way, sizes)
    evaluating = _evaluation(config, work, way, sizes)
    if measured:
        timed = MEASURED_SHARE * (work.target_per_step / measured.tokens_per_second)
        recipe, step = recipe * (timed.middle / step.middle), timed
        evaluating = MEASURED_SHARE * measured.evaluation_seconds
    storage = storage_of(config, work, sizes, way.regime, step.middle)
    saving = Span(storage.checkpoint_bytes / COPIED_BYTES.high, storage.checkpoint_bytes / COPIED_BYTES.low)
    if measured:
        saving = exactly(measured.save_seconds)
    return Hours(
        step=step,
        training=step * work.steps,
        evaluating=evaluating * num_evaluations(config, work.steps),
        saving=saving * storage.saves,
        recipe=recipe,
        storage=storage,
        is_measured=measured is not None,
    )


def num_evaluations(config: RunConfig, steps: int) -> int:
    """How often the dev sample is scored: every `--eval-steps`, and after the last step."""
    every = config.evaluation.eval_steps
    return math.ceil(steps / every) if every and config.data.dev_percent else 0


def gain_of_ranks(config: RunConfig, work: Work, way: Way) -> float | None:
    """How many times as fast several ranks do a step as one of them would; None where one could not do it, or is."""
    if way.parallel != "ddp":
        return None
    alone = replace(way, team=ALONE, regime=replace(way.regime, buckets=False))
    sizes = sizes_of(way.model)
    return _step(config, work, alone, sizes).middle / _step(config, work, way, sizes).middle


def _step(config: RunConfig, work: Work, way: Way, sizes: Sizes) -> Span:
    asked = config.training.microbatch_tokens
    whole = work.source_per_step + work.target_per_step
    limit = asked or (way.tokens_alone if way.tokens_alone >= whole / way.team.ranks else way.tokens)
    static, ranks = config.training.static_shapes, way.team.ranks
    step = speed.step_of(work, way.regime, limit, static_shapes=static, ranks=ranks)
    if gpu := way.machine.gpu:
        return speed.step_seconds(sizes, way.regime, gpu, step, way.team)
    return speed.cpu_step_seconds(sizes, way.regime, _num_cores(config), step)


def _recipe(work: Work, way: Way, sizes: Sizes) -> Span:
    regime, step = speed.recipe_regime(way.regime), speed.recipe_step(work.tokens_per_pair)
    num_steps = math.ceil(work.pairs_seen / speed.RECIPE_PAIRS)
    if gpu := way.machine.gpu:
        return speed.step_seconds(sizes, regime, gpu, step) * num_steps
    return speed.cpu_step_seconds(sizes, regime, host.num_cores(), step) * num_steps


def _evaluation(config: RunConfig, work: Work, way: Way, sizes: Sizes) -> Span:
    """One evaluation of a model that translates as long as its references are."""
    settings, longest = config.evaluation, LONGEST * work.tokens_per_pair
    sentences = settings.eval_samples * work.num_directions * settings.num_beams
    if way.machine.gpu is None:
        return speed.cpu_decode_seconds(sizes, _num_cores(config), sentences * longest)
    return speed.decode_seconds(sizes, math.ceil(sentences * work.tokens_per_pair / DECODED_TOKENS), longest)


def _num_cores(config: RunConfig) -> int:
    return config.training.threads or host.num_cores()


def _rounded(span: Span, digits: int = 1) -> list[float]:
    return [round(span.low, digits), round(span.high, digits)]
