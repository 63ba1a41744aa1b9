"""How large a model is: its dimensions, from which its parameters are counted. No torch."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

_FLOAT = 4
STORED_BYTES = 3 * _FLOAT
"""Of one parameter in a checkpoint: weight, two moments."""


@dataclass(frozen=True)
class Sizes:
    """What decides how large a model is."""

    vocabulary: int
    """Rows of the embedding, which source, target and output share."""
    width: int
    """Of a token's vector."""
    encoder_layers: int
    decoder_layers: int
    encoder_inner: int
    """Width inside the encoder's feed-forward layers."""
    decoder_inner: int
    heads: int = 16
    """Of the attention, in both stacks."""

    @property
    def num_parameters(self) -> int:
        """All trained numbers."""
        return self.vocabulary * self.width + self.layer_parameters

    @cached_property
    def layer_parameters(self) -> int:
        """All but the embedding: matrices with their biases, and the norms."""
        return self.norm_parameters + sum(rows * columns + rows for rows, columns in self.matrices())

    @property
    def norm_parameters(self) -> int:
        """Of all norms, those of the layers and the last two."""
        return 2 * self.width * (2 * self.encoder_layers + 3 * self.decoder_layers + 2)

    @property
    def largest_layer(self) -> int:
        """Parameters of one layer without its norms, of the stack whose layers are larger."""
        encoder = 4 * (self.width**2 + self.width) + self._feed_forward(self.encoder_inner)
        decoder = 8 * (self.width**2 + self.width) + self._feed_forward(self.decoder_inner)
        return max(encoder, decoder)

    def _feed_forward(self, inner: int) -> int:
        return 2 * self.width * inner + inner + self.width

    @property
    def weights_bytes(self) -> int:
        """Of the model alone."""
        return self.num_parameters * _FLOAT

    @property
    def checkpoint_bytes(self) -> int:
        """Of a whole checkpoint, when all weights are trained with AdamW."""
        return self.num_parameters * STORED_BYTES

    def matrices(self) -> Iterator[tuple[int, int]]:
        """Outputs and inputs of every linear layer."""
        for layers, inner, attentions in (
            (self.encoder_layers, self.encoder_inner, 1),
            (self.decoder_layers, self.decoder_inner, 2),
        ):
            for _ in range(layers):
                yield from [(self.width, self.width)] * 4 * attentions
                yield inner, self.width
                yield self.width, inner


def of_config(config: Mapping[str, Any]) -> Sizes | None:
    """The sizes of a model by its `config.json`; None when that is not one of M2M100's kind."""
    try:
        return Sizes(
            vocabulary=int(config["vocab_size"]),
            width=int(config["d_model"]),
            encoder_layers=int(config["encoder_layers"]),
            decoder_layers=int(config["decoder_layers"]),
            encoder_inner=int(config["encoder_ffn_dim"]),
            decoder_inner=int(config["decoder_ffn_dim"]),
            heads=int(config.get("encoder_attention_heads", 16)),
        )
    except (KeyError, TypeError, ValueError):
        return None


def of_file(path: Path) -> Sizes | None:
    """The same by its path; None also when there is no such file."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return of_config(content) if isinstance(content, dict) else None


def _nllb(width: int, layers: int, inner: int) -> Sizes:
    return Sizes(256_206, width, layers, layers, inner, inner)


KNOWN = {
    "facebook/nllb-200-distilled-600M": _nllb(1024, 12, 4096),
    "facebook/nllb-200-distilled-1.3B": _nllb(1024, 24, 8192),
    "facebook/nllb-200-1.3B": _nllb(1024, 24, 8192),
    "facebook/nllb-200-3.3B": _nllb(2048, 24, 8192),
}
"""The dense models of NLLB-200, which need not be downloaded to be reckoned with."""
