"""How long steps take on a machine that nobody measured: a model, with what it does not know as a range.

Three things take time in a forward and backward pass: starting kernels, moving weights, and
products. The first goes on beside the other two, so the longer one counts; the optimizer's
pass over weights and moments comes on top, once a step. Data sheets give peaks; which share
of them is reached nobody says, so a fast and a slow assumption are reckoned with
(`docs/explain/estimate.md`).
"""

import math
from dataclasses import dataclass, replace

from dragoman import platforms
from dragoman.estimate.span import Span
from dragoman.estimate.team import ALONE, Team, Traffic, traffic
from dragoman.estimate.work import Work
from dragoman.gpus import Gpu
from dragoman.model import resident
from dragoman.model.costs import token_costs
from dragoman.model.regime import STATIC_TOKENS, Regime
from dragoman.model.sizes import Sizes

KERNELS_PER_LAYER = 133
"""Started for one layer of a training pass, forward and backward: 3,200 for the 24 layers of the 600M."""
DECODE_KERNELS_PER_LAYER = 40
"""Started for one layer of the decoder to write one token of each sentence of a batch."""
PASS_BYTES = 20
"""Moved for each trained weight in a pass: read in float32, written and read twice as halves, its gradient added."""
UPDATE_BYTES = {"adamw": 32, "adamw8bit": 20, "adafactor": 20}
"""Moved for each trained weight in an update: weight, gradient and moments read and written, the norm read."""
CPU_CORE_FLOPS = Span(25e9, 100e9)
"""Operations per second that training reaches on one core; 97e9 of an AVX-512 core were measured
(`bench/speed_cpu_2026-11-25.md`: 41.6 tokens/s of the 600M)."""
RECIPE_PAIRS, RECIPE_PASSES = 16, 4
"""Of a step in the starting document: 4 pairs, accumulated 4 times."""
RECIPE_PADDING = 0.41
"""Share of its positions without a token (`bench/speed_cpu_2026-11-25.md`)."""


@dataclass(frozen=True)
class Reach:
    """What of a GPU's peaks is reached; no data sheet says."""

    products: float
    """Share of the operations per second."""
    bandwidth: float
    """Share of the bytes per second."""
    launch_seconds: float
    """To start one kernel, from Python."""
    link: float
    """Share of the bytes per second between two ranks."""
    exchange_seconds: float
    """To begin one exchange between ranks."""
    beside: float
    """Share of what could travel beside the computing that does."""
    host_bytes: float
    """Per second, that a rank's share of its machine moves to update what lies in the host's memory."""


SLOW = Reach(0.20, 0.55, 12e-6, link=0.3, exchange_seconds=1e-4, beside=0.0, host_bytes=5e9)
FAST = Reach(0.50, 0.85, 5e-6, link=0.8, exchange_seconds=2e-5, beside=1.0, host_bytes=20e9)
"""Between these two a GPU is assumed to be."""


@dataclass(frozen=True)
class Step:
    """What a rank computes in a step."""

    passes: int
    """Microbatches."""
    source_tokens: float
    """Padding included."""
    target_tokens: float
    graphed: bool = False
    """Whether a GPU repeats it as one graph, and starts no kernels one by one."""


def step_of(work: Work, regime: Regime, microbatch_tokens: int, *, static_shapes: bool = False, ranks: int = 1) -> Step:
    """A rank's share of a step of ours: no padding, as few microbatches as memory allows.

    The reference forward pads like the recipe.

    Args:
        work: What a run has to do.
        regime: How it is trained.
        microbatch_tokens: Most source and target tokens that are computed at once.
        static_shapes: Whether small microbatches become graphs; with several ranks none does.
        ranks: Among how many the step is divided.
    """
    padding = 1 / (1 - RECIPE_PADDING) if regime.forward == "reference" else 1.0
    source, target = work.source_per_step * padding / ranks, work.target_per_step * padding / ranks
    passes = math.ceil((source + target) / max(1, microbatch_tokens))
    graphed = static_shapes and ranks == 1 and (source + target) / passes <= STATIC_TOKENS
    return Step(passes, source, target, graphed)


def recipe_step(tokens_per_pair: float) -> Step:
    """A step of the recipe that the starting document shows."""
    tokens = RECIPE_PAIRS * tokens_per_pair / (1 - RECIPE_PADDING)
    return Step(RECIPE_PASSES, tokens, tokens)


def recipe_regime(regime: Regime) -> Regime:
    """How the recipe trains on the same machine: all rows, every weight, nothing computed twice."""
    way = {"vocabulary": "full", "optimizer": "adamw", "adapter": "none", "forward": "reference"}
    return replace(regime, **way, gradient_checkpointing=False, shards=1, offload=False)


def step_seconds(sizes: Sizes, regime: Regime, gpu: Gpu, step: Step, team: Team = ALONE) -> Span:
    """How long a step takes on a GPU, or on several of them that share it."""
    return Span(*(_step_seconds(sizes, regime, gpu, step, team, reach) for reach in (FAST, SLOW)))


def travel_seconds(sizes: Sizes, regime: Regime, passes: int, team: Team) -> Span:
    """How long what a step exchanges is on its way, if nothing is computed beside it."""
    sent = traffic(sizes, regime, passes, team.ranks)
    return Span(*(sum(_travel(sent, team, reach)) for reach in (FAST, SLOW)))


def cpu_step_seconds(sizes: Sizes, regime: Regime, num_cores: int, step: Step) -> Span:
    """How long a step takes on a CPU that nobody measured."""
    work = flops(sizes, regime, step)
    return Span(work / CPU_CORE_FLOPS.high / num_cores, work / CPU_CORE_FLOPS.low / num_cores)


def flops(sizes: Sizes, regime: Regime, step: Step) -> float:
    """Operations of a step; attention's own products are left out: less than 2 % for sentences of 25 tokens."""
    each = token_costs(sizes, regime)
    return each.source * step.source_tokens + each.target * step.target_tokens


def decode_seconds(sizes: Sizes, num_batches: float, tokens: float) -> Span:
    """How long any GPU decodes: a batch's tokens come one after the other, and starting kernels takes all the time.

    Args:
        sizes: The model.
        num_batches: How many there are.
        tokens: Of the longest sentence of one of them.
    """
    kernels = num_batches * tokens * DECODE_KERNELS_PER_LAYER * sizes.decoder_layers
    # Between two tokens transformers' `generate` does about as much again in Python.
    return Span(2 * kernels * FAST.launch_seconds, 2 * kernels * SLOW.launch_seconds)


def cpu_decode_seconds(sizes: Sizes, num_cores: int, tokens: float) -> Span:
    """How long a CPU decodes so many tokens."""
    weights = sum(rows * columns for rows, columns in sizes.matrices()) + sizes.vocabulary * sizes.width
    work = 2 * tokens * weights
    return Span(work / CPU_CORE_FLOPS.high / num_cores, work / CPU_CORE_FLOPS.low / num_cores)


def _travel(sent: Traffic, team: Team, reach: Reach) -> tuple[float, float]:
    """Seconds beside the computing, and after it."""
    if team.link is None:
        return 0.0, 0.0
    bandwidth = team.link.gb_per_second * 1e9 * reach.link
    return sent.beside / bandwidth + sent.exchanges * reach.exchange_seconds, sent.after / bandwidth


def _offload_seconds(sizes: Sizes, regime: Regime, step: Step, reach: Reach) -> float:
    """To bring layers from the host's memory, give gradients back, and update them there."""
    if not regime.offload:
        return 0.0
    part, is_lora = resident.divided_parameters(sizes) / regime.shards, regime.adapter == "lora"
    times = step.passes * (2 if is_lora else 3)  # fetched for both passes, and the gradient goes back
    brought = times * 4 * part / (platforms.links()["pcie3"].gb_per_second * 1e9 * reach.link)
    return brought + (0 if is_lora else UPDATE_BYTES[regime.optimizer] * part / reach.host_bytes)


def _step_seconds(sizes: Sizes, regime: Regime, gpu: Gpu, step: Step, team: Team, reach: Reach) -> float:
    peak = (gpu.half_tflops if regime.is_half else gpu.float_tflops) * 1e12
    bandwidth = gpu.gb_per_second * 1e9 * reach.bandwidth
    trained = resident.trained_here(sizes, regime)
    met = regime.rows(sizes) * sizes.width + sizes.layer_parameters
    products = flops(sizes, regime, step) / (peak * reach.products)
    weights = step.passes * PASS_BYTES * met / bandwidth
    layers = sizes.encoder_layers + sizes.decoder_layers
    starting = 0.0 if step.graphed else step.passes * KERNELS_PER_LAYER * layers * reach.launch_seconds
    if regime.gradient_checkpointing:
        starting *= 4 / 3
    computing = max(starting, products + weights)
    beside, after = _travel(traffic(sizes, regime, step.passes, team.ranks), team, reach)
    # DDP's gradients travel in the backward pass of the last microbatch, which is two thirds of it.
    covered = computing if regime.shards > 1 else computing * 2 / 3 / step.passes
    travelling = after + beside - min(beside, covered) * reach.beside
    updating = UPDATE_BYTES[regime.optimizer] * trained / bandwidth
    return computing + travelling + updating + _offload_seconds(sizes, regime, step, reach)
