"""What a rank holds beside the tokens: weights, gradients and moments, whole or its part of each layer. No torch.

One rank, and each rank under DDP, holds all of it. Under FSDP2 it is a part of every layer, and the
whole embedding and norms; of the layers two are put together at a time, the one that is computed and the one that is
fetched meanwhile, and with them travels the gradient of one.
"""

from dragoman.model.regime import Regime
from dragoman.model.sizes import Sizes

_FLOAT, _HALF = 4, 2
_POSITIONS = 2 * 1026
"""Rows of the two tables of sinusoids."""
TOGETHER = 2
"""Layers that are whole at a time."""


# --- how many numbers ----------------------------------------------------------------


def trained_parameters(sizes: Sizes, regime: Regime) -> int:
    """How many numbers the optimizers of all ranks change."""
    if regime.adapter == "lora":
        return sum(regime.lora_rank * (rows + columns) for rows, columns in sizes.matrices())
    return regime.rows(sizes) * sizes.width + sizes.layer_parameters


def divided_parameters(sizes: Sizes) -> int:
    """Of which FSDP2 gives every rank a part: all matrices and biases of the layers."""
    return sizes.layer_parameters - sizes.norm_parameters


def _of_layers(sizes: Sizes, regime: Regime) -> int:
    """Numbers of the layers that lie on a rank's device."""
    return 0 if regime.offload else -(-divided_parameters(sizes) // regime.shards)


def trained_here(sizes: Sizes, regime: Regime) -> int:
    """How many numbers the optimizer of one rank changes on its device."""
    if regime.adapter == "lora":
        return trained_parameters(sizes, regime)
    return regime.rows(sizes) * sizes.width + sizes.norm_parameters + _of_layers(sizes, regime)


# --- what is there all the time ------------------------------------------------------


def weights_bytes(sizes: Sizes, regime: Regime) -> int:
    """Weights on the device: the model's, adapters, sampled rows, tables of positions."""
    rows = regime.rows(sizes) + regime.frozen_rows(sizes) + _POSITIONS
    adapters = trained_parameters(sizes, regime) if regime.adapter == "lora" else 0
    return _FLOAT * (rows * sizes.width + sizes.norm_parameters + _of_layers(sizes, regime) + adapters)


def gradient_bytes(sizes: Sizes, regime: Regime) -> int:
    """One float32 number for each that this rank's device trains."""
    return _FLOAT * trained_here(sizes, regime)


def moment_bytes(sizes: Sizes, regime: Regime) -> int:
    """What the optimizer keeps of each number, or, with Adafactor, of each row and column."""
    trained = trained_here(sizes, regime)
    match regime.optimizer:
        case "adamw":
            return 2 * _FLOAT * trained
        case "adamw8bit":  # one byte each, and a float32 scale for every 256 of them
            return 2 * trained + 2 * _FLOAT * trained // 256
        case "adafactor":
            shapes = [(regime.rows(sizes), sizes.width), *sizes.matrices()]
            return _FLOAT * sum(rows + columns for rows, columns in shapes)


def fixed_bytes(sizes: Sizes, regime: Regime) -> int:
    """What a run holds between its steps, and during them: weights, gradients and moments."""
    return weights_bytes(sizes, regime) + gradient_bytes(sizes, regime) + moment_bytes(sizes, regime)


# --- what several ranks add ----------------------------------------------------------


def staying_gradient_bytes(sizes: Sizes, regime: Regime) -> int:
    """Of gradients that are there before the first backward pass of a step: DDP's buckets, with those of the layers."""
    if not regime.buckets:
        return 0
    embedding = 0 if regime.adapter == "lora" else regime.rows(sizes) * sizes.width
    return _FLOAT * (trained_here(sizes, regime) - embedding)


def together_bytes(sizes: Sizes, regime: Regime) -> int:
    """Layers that are put together, in the precision of products."""
    return TOGETHER * sizes.largest_layer * _as_computed(regime) if regime.shards > 1 else 0


def travelling_bytes(sizes: Sizes, regime: Regime) -> int:
    """The gradient of one layer as it is computed, and in float32 as it is given out."""
    if regime.shards == 1 or regime.adapter == "lora":
        return 0
    return sizes.largest_layer * (_as_computed(regime) + _FLOAT)


def lent_bytes(sizes: Sizes, regime: Regime) -> int:
    """All layers, put together for the evaluation, beside the whole embedding; no activation is left then."""
    if regime.shards == 1:
        return 0
    missing = sizes.vocabulary - regime.rows(sizes)
    return divided_parameters(sizes) * _as_computed(regime) + _FLOAT * missing * sizes.width


def _as_computed(regime: Regime) -> int:
    return _HALF if regime.is_half else _FLOAT


# --- in the host's memory --------------------------------------------------------------


def offloaded_bytes(sizes: Sizes, regime: Regime) -> int:
    """A rank's part of the layers in the host's memory: weights, gradients, moments."""
    if not regime.offload:
        return 0
    part = -(-divided_parameters(sizes) // regime.shards)
    return (_FLOAT if regime.adapter == "lora" else 4 * _FLOAT) * part


def saving_bytes(sizes: Sizes, regime: Regime) -> int:
    """Of the host's memory while the first rank saves: a copy of what it trains, and one matrix of all ranks' parts."""
    on_device = trained_parameters(sizes, regime)
    if regime.adapter != "lora" and regime.shards > 1:
        on_device -= divided_parameters(sizes) - -(-divided_parameters(sizes) // regime.shards)
    weights_and_moments = {"adamw": 12, "adamw8bit": 6, "adafactor": 4}[regime.optimizer]
    largest = max(rows * columns for rows, columns in sizes.matrices())
    return weights_and_moments * on_device + (_FLOAT * largest if regime.shards > 1 else 0)
