"""How many bytes training needs, and how many tokens fit: arithmetic over a model's sizes, no torch.

Three things need memory. What is there all the time: weights, gradients, moments (`resident.py`). What
grows with the tokens of a microbatch: the tensors that the forward pass keeps for the
backward pass. And what comes and goes: a chunk of logits, gradients as large as the
embedding. The last two peak at four places of a step, and the largest of those counts.

The count follows the code, tensor by tensor; `bench/memory.py` compares it with what is
really allocated, and `docs/explain/memory.md` tells it in words.
"""

from dataclasses import dataclass, replace
from typing import Literal

from dragoman.config import RunConfig
from dragoman.model.regime import Regime
from dragoman.model.resident import (
    gradient_bytes,
    lent_bytes,
    moment_bytes,
    staying_gradient_bytes,
    together_bytes,
    travelling_bytes,
    weights_bytes,
)
from dragoman.model.sizes import Sizes

GIB = 1 << 30
SAFETY_SHARE = 0.1
"""Of the memory that is left alone: fragments, and what the count does not know."""
CONTEXT_BYTES = 600 << 20
"""Of a GPU, taken by CUDA itself before the first tensor."""
PROCESS_BYTES = GIB
"""Of a machine, taken by Python, torch and its libraries."""
CHUNK_BYTES = 256 << 20
"""Logits that the loss holds at a time, in float32; smaller chunks read the whole embedding too often."""
PRODUCT_ROWS = 1 << 15
"""Rows of the embedding whose gradient in half precision is added to the float32 one at a time."""
TARGET_SHARE = 0.5
"""Of the tokens of a microbatch."""
ROOMY_TOKENS = 2048
"""A microbatch of so many tokens keeps the matrix products busy: below it, checkpointing layers may pay."""

_FLOAT, _HALF = 4, 2
_GRID = 1.15
"""Places per token inside attention, where the packed forward pads sentences of like length."""


# --- what grows with the tokens ------------------------------------------------------


@dataclass(frozen=True)
class _Token:
    """Bytes that the forward pass keeps for one token: of a layer, and outside of all layers."""

    encoder: float
    """An encoder layer, per source token."""
    decoder: float
    """A decoder layer, per target token."""
    read: float
    """A decoder layer, per source token that it attends to: keys and values."""
    source_ends: float
    """Beside the layers, per source token."""
    target_ends: float


def _token(sizes: Sizes, regime: Regime) -> _Token:
    """Count the tensors that autograd keeps, in the order of the code of a pre-norm layer.

    The residual stream is float32, and so are norms; products take and give `half`. Under
    autocast each of them makes its own copy of its input, which a norm had given in float32.
    """
    width, half = sizes.width, _HALF if regime.is_half else _FLOAT
    copies = (lambda count: count * _HALF) if regime.is_half else lambda count: _FLOAT  # of one norm's output
    on_cpu = regime.device == "cpu"
    mask = (half if on_cpu else 1) if regime.dropout else 0  # a GPU's mask is of bytes
    grid = _GRID if regime.forward == "packed" else 1.0
    # A CPU has no kernel for attention with dropout: it computes it in float32 and keeps scores, mask and result.
    plain = on_cpu and regime.dropout
    asked = grid * (_FLOAT if plain else half)
    scores = 3 * _FLOAT * sizes.heads * regime.length if plain else _FLOAT * sizes.heads
    kernel_result = 0 if plain or regime.forward == "reference" else grid * half

    def attention(inputs: int, projections: int) -> float:
        """Residual, norm's output, query (key, value), result, its row for the last product, mask."""
        kept = _FLOAT + copies(inputs) + projections * asked + kernel_result + half + mask
        return width * kept + scores

    def feed_forward(inner: int) -> float:
        """Residual, norm's output, what ReLU gives, mask."""
        more = (mask + half) * inner if regime.inner_dropout else 0
        if regime.adapter == "lora" and regime.is_half:  # takes ReLU's output in a copy of its own
            more += half * inner
        return width * (_FLOAT + copies(1) + mask) + half * inner + more

    ends = 2 * _FLOAT + ((_FLOAT if on_cpu else 1) if regime.dropout else 0)  # last norm, and the mask of the first
    return _Token(
        encoder=attention(3, 3) + feed_forward(sizes.encoder_inner),
        decoder=attention(3, 3) + attention(1, 1) + feed_forward(sizes.decoder_inner),
        read=width * (2 * asked + (copies(2) if regime.is_half else 0)),
        source_ends=width * ends,
        target_ends=width * (ends + half + _FLOAT),  # the loss holds them in half, and their gradient
    )


def activation_bytes(sizes: Sizes, regime: Regime, tokens: int) -> int:
    """What the forward pass of a microbatch keeps for its backward pass."""
    token, target = _token(sizes, regime), TARGET_SHARE * tokens
    source = tokens - target
    if regime.gradient_checkpointing:
        kept = _FLOAT * sizes.width * (sizes.encoder_layers * source + sizes.decoder_layers * target)
    else:
        kept = sizes.encoder_layers * token.encoder * source
        kept += sizes.decoder_layers * (token.decoder * target + token.read * source)
    return int(kept + token.source_ends * source + token.target_ends * target)


def token_bytes(sizes: Sizes, regime: Regime) -> int:
    """The same per token, source or target."""
    return activation_bytes(sizes, regime, 1 << 20) >> 20


# --- the peak ----------------------------------------------------------------------


def peak_bytes(sizes: Sizes, regime: Regime, tokens: int) -> int:
    """The most that a step needs at any time.

    Args:
        sizes: The model.
        regime: How it is trained.
        tokens: Source and target tokens of the largest microbatch, half of them target tokens.
    """
    held = weights_bytes(sizes, regime) + moment_bytes(sizes, regime)
    gradients = gradient_bytes(sizes, regime)
    # In a microbatch that is not the last of its step DDP's gradients are there besides the buckets.
    there = (gradients if regime.accumulates else 0) + staying_gradient_bytes(sizes, regime)
    forward = activation_bytes(sizes, regime, tokens) + there
    # Parts travel in half precision, so a layer that is put together needs no other copy.
    halves = _HALF * sizes.layer_parameters if regime.is_half and regime.shards == 1 else 0
    forward += halves + together_bytes(sizes, regime)
    backward = _layer_backward_bytes(sizes, regime, tokens) + _head_gradient_bytes(sizes, regime)
    return held + max(
        forward + _head_bytes(sizes, regime, tokens),
        forward + backward + travelling_bytes(sizes, regime),
        gradients + _tied_bytes(sizes, regime),
        gradients + _update_bytes(sizes, regime),
        lent_bytes(sizes, regime),
    )


def _head_gradient_bytes(sizes: Sizes, regime: Regime) -> int:
    """A gradient of the whole embedding."""
    return 0 if regime.adapter == "lora" else _FLOAT * regime.rows(sizes) * sizes.width


def _tied_bytes(sizes: Sizes, regime: Regime) -> int:
    """Of the embedding's two gradients, output and look-up, while they are added; no activation is left then.

    The packed forward keeps no second one, but adds that of each microbatch to that of the step.
    """
    if regime.forward == "packed":
        return _head_gradient_bytes(sizes, regime) if regime.accumulates else 0
    return 2 * _head_gradient_bytes(sizes, regime)


def _head_bytes(sizes: Sizes, regime: Regime, tokens: int) -> int:
    """Of the loss: half copy and gradient of the embedding, logits with what is computed from them."""
    rows = regime.rows(sizes) + regime.frozen_rows(sizes)
    logits = min(CHUNK_BYTES, int(TARGET_SHARE * tokens) * rows * _FLOAT)
    gradient, copy, product = _head_gradient_bytes(sizes, regime), 0, 0
    if regime.is_half:
        copy = _HALF * rows * sizes.width
        # A GPU multiplies into float32; a CPU into half precision, and then makes that float32.
        product = min(gradient, _FLOAT * PRODUCT_ROWS * sizes.width)
        product = product if regime.device == "cuda" else product * 3 // 2
        logits = logits * 3 // 2
    return copy + gradient + product + logits


def _layer_backward_bytes(sizes: Sizes, regime: Regime, tokens: int) -> int:
    """Of the layer whose gradient is computed: gradients inside, and with checkpointing what it keeps again."""
    token, half = _token(sizes, regime), _HALF if regime.is_half else _FLOAT
    inner = max(sizes.encoder_inner, sizes.decoder_inner)
    target = TARGET_SHARE * tokens
    inside = (2 * half * inner + 3 * _FLOAT * sizes.width) * target
    if regime.gradient_checkpointing:
        inside += max(token.encoder * (tokens - target), token.decoder * target + token.read * (tokens - target))
    return int(inside)


def _update_bytes(sizes: Sizes, regime: Regime) -> int:
    """Of the optimizer while it changes the largest matrix; the fused AdamW needs nothing."""
    if regime.optimizer == "adamw" or regime.adapter == "lora":
        return 0
    return 2 * _head_gradient_bytes(sizes, regime)


# --- what fits -----------------------------------------------------------------------


def microbatch_tokens(sizes: Sizes, regime: Regime, free_bytes: int) -> int:
    """Largest number of source and target tokens in one forward and backward pass; 0 when not one fits.

    Args:
        sizes: The model.
        regime: How it is trained.
        free_bytes: What is free before the weights are there, and after CUDA has started.
    """
    room = int(free_bytes * (1 - SAFETY_SHARE))
    low, high = 0, 1 << 24
    while low < high:  # the largest that fits; `peak_bytes` never falls
        middle = (low + high + 1) // 2
        low, high = (middle, high) if peak_bytes(sizes, regime, middle) <= room else (low, middle - 1)
    return low


def with_checkpointing(sizes: Sizes, regime: Regime, free_bytes: int) -> Regime:
    """The same regime; layers are checkpointed where fewer than `ROOMY_TOKENS` fit without, and more with."""
    off, on = (replace(regime, gradient_checkpointing=choice) for choice in (False, True))
    fits_off = microbatch_tokens(sizes, off, free_bytes)
    return on if fits_off < ROOMY_TOKENS and microbatch_tokens(sizes, on, free_bytes) > fits_off else off


def on_ranks(
    config: RunConfig, sizes: Sizes, regime: Regime, ranks: int, free: int
) -> tuple[Regime, Literal["ddp", "fsdp"]]:
    """How several ranks hold the model: as asked, else each the whole where the longest pair fits beside it.

    Args:
        config: The options.
        sizes: The model.
        regime: How it is trained by one rank.
        ranks: How many there are.
        free: Bytes of each.
    """
    whole, chosen = regime.on_ranks("ddp", ranks), config.ranks.parallel
    if chosen == "auto":
        least = whole
        if config.training.gradient_checkpointing == "auto":
            least = replace(whole, gradient_checkpointing=True)
        fits = microbatch_tokens(sizes, least, free) >= 2 * config.data.max_tokens
        chosen = "ddp" if fits or ranks == 1 else "fsdp"
    if regime.optimizer != "adamw":  # it looks at whole matrices, of which nobody may hold some rows
        chosen = "ddp"
    return regime.on_ranks(chosen, ranks, offload=config.ranks.offload), chosen
