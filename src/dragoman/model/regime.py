"""How a model is trained, as far as memory depends on it: read from the options of a run. No torch."""

from dataclasses import dataclass, replace
from typing import Literal, cast

from dragoman.config import RunConfig
from dragoman.model.sizes import Sizes

Precision = Literal["fp32", "bf16", "fp16", "fp64"]
STATIC_TOKENS = 8192
"""Source and target tokens of a microbatch from which on a GPU is busy, and padding it costs more than it saves."""


@dataclass(frozen=True)
class Regime:
    """How a model is trained, as far as memory depends on it."""

    vocabulary: Literal["full", "active"] = "full"
    active_rows: int = 32_768
    """Rows of the embedding that an active vocabulary trains; known only when the corpus is."""
    negatives: int = 2_048
    """Further, frozen rows that the loss of an active vocabulary looks at."""
    optimizer: Literal["adamw", "adamw8bit", "adafactor"] = "adamw"
    adapter: Literal["none", "lora"] = "none"
    lora_rank: int = 16
    precision: Precision = "fp32"
    """Of products; weights are float32, and autocast makes half copies of them."""
    forward: Literal["packed", "reference"] = "packed"
    """Tokens of the reference forward count with their padding."""
    gradient_checkpointing: bool = False
    """Keep only the input of each layer, and compute the rest again in the backward pass."""
    device: Literal["cpu", "cuda"] = "cuda"
    dropout: bool = True
    """Of layers and attention; its masks are kept."""
    inner_dropout: bool = False
    """Of the feed-forward layers; NLLB has none, but `--dropout` sets it too."""
    accumulates: bool = True
    """Whether a step has several microbatches, so that gradients are there in the forward pass."""
    shards: int = 1
    """Ranks among which every layer is divided (FSDP2)."""
    offload: bool = False
    """Whether a rank's part of the layers lies in the host's memory; with shards."""
    buckets: bool = False
    """Whether the layers' gradients lie in DDP's buckets, which stay from step to step."""
    length: int = 64
    """Tokens of a long sentence; a CPU keeps attention's scores, which grow with it."""

    def on_ranks(self, parallel: Literal["ddp", "fsdp"], ranks: int, *, offload: bool = False) -> "Regime":
        """The same on so many ranks, each of which holds the whole (ddp) or a part of every layer (fsdp)."""
        if ranks == 1:
            return self
        divided = parallel == "fsdp"
        return replace(self, shards=ranks if divided else 1, offload=offload and divided, buckets=not divided)

    @property
    def is_half(self) -> bool:
        """Whether products are computed in half precision."""
        return self.precision in ("bf16", "fp16")

    def rows(self, sizes: Sizes) -> int:
        """Rows of the embedding on the device, without the negatives."""
        return min(sizes.vocabulary, self.active_rows) if self.vocabulary == "active" else sizes.vocabulary

    def frozen_rows(self, sizes: Sizes) -> int:
        """Sampled rows beside them."""
        return min(self.negatives, sizes.vocabulary - self.rows(sizes)) if self.vocabulary == "active" else 0


def regime_of(config: RunConfig, device: Literal["cpu", "cuda"], precision: str) -> Regime:
    """What the options of a run mean for memory.

    `--gradient-checkpointing auto` is off here; `memory.with_checkpointing` decides it.

    Args:
        config: The run.
        device: Where it trains.
        precision: `--precision`, with `auto` resolved.
    """
    training, model = config.training, config.model
    return Regime(
        vocabulary=training.vocabulary,
        optimizer=training.optimizer,
        adapter=model.adapter,
        lora_rank=model.lora_rank,
        forward=training.forward,
        gradient_checkpointing=training.gradient_checkpointing == "on",
        precision=cast(Precision, precision),
        device=device,
        dropout=model.dropout != 0,
        inner_dropout=bool(model.dropout),
        length=min(64, config.data.max_tokens),
    )
