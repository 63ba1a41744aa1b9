"""How much is computed at once: what the memory model says at a run's first start.

The answer is state and travels with the run; only memory that really runs out changes
it later. Which pairs form a step it never touches.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from dragoman import host
from dragoman.config import RunConfig
from dragoman.data.corpus import Corpus
from dragoman.errors import ModelError
from dragoman.model import memory
from dragoman.model.regime import regime_of
from dragoman.model.sizes import of_config
from dragoman.training.forward import Forward
from dragoman.training.optimizer import Arithmetic

if TYPE_CHECKING:
    from transformers import M2M100ForConditionalGeneration


@dataclass(frozen=True)
class Fit:
    """What a step may take."""

    microbatch_tokens: int
    """Most source and target tokens in one forward pass."""
    checkpointing: bool
    """Whether layers are computed a second time instead of being kept."""
    parallel: str = "ddp"
    """How several ranks would hold the model: ddp or fsdp."""
    warning: str = ""
    """What to say when memory is short; empty when it is not."""


def free_bytes(device: torch.device) -> int:
    """Memory that training may take on a device; asked before the model is there."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return host.free_memory_bytes()


def fit(
    config: RunConfig,
    model: "M2M100ForConditionalGeneration",
    arithmetic: Arithmetic,
    corpus: Corpus,
    pairs_per_step: int,
    free: int,
) -> Fit:
    """The largest microbatch that memory holds, but never more than a step can have.

    Args:
        config: The whole configuration; what it names itself is taken as it is.
        model: Its sizes count.
        arithmetic: Device and precision.
        corpus: Its rows are those of an active vocabulary.
        pairs_per_step: Pairs of one step.
        free: From `free_bytes`, before the model was there.
    """
    sizes = of_config(model.config.to_dict())
    if sizes is None:
        raise ModelError("--model: its config.json lacks sizes", "the folder of an NLLB model")
    training, longest = config.training, 2 * config.data.max_tokens
    regime = regime_of(config, "cuda" if arithmetic.device.type == "cuda" else "cpu", arithmetic.precision)
    regime, parallel = memory.on_ranks(
        config, sizes, replace(regime, active_rows=len(corpus.rows)), arithmetic.ranks, free
    )
    if training.gradient_checkpointing == "auto":
        regime = memory.with_checkpointing(sizes, regime, free)
    most = pairs_per_step * longest
    share = min(most, most // arithmetic.ranks + longest)  # shares differ by the costliest pair at most
    alone = memory.microbatch_tokens(sizes, replace(regime, accumulates=False), free)
    tokens = alone if alone >= share else memory.microbatch_tokens(sizes, regime, free)
    tokens = training.microbatch_tokens or min(most, tokens)
    warning = ""
    if tokens < longest:
        needed = memory.peak_bytes(sizes, regime, longest) / 2**30
        warning = f"memory may run out: about {needed:.1f} GiB are needed, {free / 2**30:.1f} GiB are free"
        warning += "; dragoman estimate --memory shows what fits"
    return Fit(max(1, tokens), regime.gradient_checkpointing, parallel, warning)


def checkpointed(forward: Forward, twice: bool) -> Forward:
    """The same forward pass, with its layers computed twice or kept."""
    if not forward.packed:
        if twice:
            forward.model.gradient_checkpointing_enable({"use_reentrant": False})
        else:
            forward.model.gradient_checkpointing_disable()
    return replace(forward, checkpointing=twice)
