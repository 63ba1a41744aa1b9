"""How many bytes a model needs, on the disk and while it is trained: arithmetic over its sizes, no torch.

Full fine-tuning with AdamW in float32 holds a weight, its gradient and two moments of
each parameter. The rest, activations, is rough: real ones depend on the lengths of the
sentences, and training makes its microbatches smaller when they do not fit.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_FLOAT = 4
TRAINED_BYTES = 4 * _FLOAT
"""Of one parameter in training: weight, gradient, two moments."""
STORED_BYTES = 3 * _FLOAT
"""Of one parameter in a checkpoint: weight, two moments."""
TOKENS = 64
"""Tokens on each side of a pair that activations are reckoned with; most sentences have fewer."""

_LOGITS_FLOATS = 3
"""Per target token and vocabulary entry: logits, their softmax, their gradient."""
_LAYER_FLOATS = 34
"""Per token, layer and width (Korthikanti et al. 2022, "Reducing Activation Recomputation", section 4)."""


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

    @property
    def num_parameters(self) -> int:
        """All trained numbers."""
        attention = 4 * (self.width * self.width + self.width)
        norm = 2 * self.width
        encoder = attention + self._feed_forward(self.encoder_inner) + 2 * norm
        decoder = 2 * attention + self._feed_forward(self.decoder_inner) + 3 * norm
        layers = self.encoder_layers * encoder + self.decoder_layers * decoder
        return self.vocabulary * self.width + layers + 2 * norm

    @property
    def weights_bytes(self) -> int:
        """Of the model alone."""
        return self.num_parameters * _FLOAT

    @property
    def checkpoint_bytes(self) -> int:
        """Of a whole checkpoint."""
        return self.num_parameters * STORED_BYTES

    def training_bytes(self, pairs: int) -> int:
        """Where it is trained: parameters and what belongs to them, and activations of a microbatch."""
        return self.num_parameters * TRAINED_BYTES + self._activation_bytes(pairs)

    def _activation_bytes(self, pairs: int) -> int:
        layers = self.encoder_layers + self.decoder_layers
        floats = _LOGITS_FLOATS * self.vocabulary + _LAYER_FLOATS * self.width * layers
        return pairs * TOKENS * floats * _FLOAT

    def _feed_forward(self, inner: int) -> int:
        return 2 * self.width * inner + inner + self.width


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
        )
    except (KeyError, TypeError, ValueError):
        return None


def _nllb(width: int, layers: int, inner: int) -> Sizes:
    return Sizes(256_206, width, layers, layers, inner, inner)


KNOWN = {
    "facebook/nllb-200-distilled-600M": _nllb(1024, 12, 4096),
    "facebook/nllb-200-distilled-1.3B": _nllb(1024, 24, 8192),
    "facebook/nllb-200-1.3B": _nllb(1024, 24, 8192),
    "facebook/nllb-200-3.3B": _nllb(2048, 24, 8192),
}
"""The dense models of NLLB-200, which need not be downloaded to be reckoned with."""
