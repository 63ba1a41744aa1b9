"""What a token costs in training: floating point operations, counted from a model's sizes. No torch.

Two for each weight that a token meets, forward, and twice that backward (Kaplan et al. 2020, section 2.1). Attention
multiplies tokens with tokens on top: little for a sentence, but it grows with the square of its length.
"""

from dataclasses import dataclass

from dragoman.model.regime import Regime
from dragoman.model.sizes import Sizes


@dataclass(frozen=True)
class TokenCosts:
    """Operations of a forward and backward pass; a pair of S source and T target tokens costs the sum of all five.

    Whole numbers, so that they add up to the same on every machine.
    """

    source: int
    """Times S: a source token's way through the encoder, and its keys and values for every layer of the decoder."""
    target: int
    """Times T: a target token's way through the decoder, and the output head over all rows."""
    source_source: int
    """Times S²: the encoder's attention."""
    target_source: int
    """Times T S: the decoder's attention to the source."""
    target_target: int
    """Times T²: the decoder's attention to itself, of which a causal mask leaves half."""


def token_costs(sizes: Sizes, regime: Regime) -> TokenCosts:
    """What a model's tokens cost as it is trained.

    Norms, biases, softmax, dropout and the adapters' own small matrices are left out, and so is padding.

    Args:
        sizes: The model.
        regime: How it is trained: rows in use, adapters, layers computed twice.
    """
    width, is_twice = sizes.width, regime.gradient_checkpointing
    trained = 4 if regime.adapter == "lora" else 6  # frozen matrices have no gradient of their own
    scores = 2 * width * (8 if is_twice else 6)  # a query with a key, and the value that it fetches; none is frozen

    def layer(attention: int, inner: int) -> int:
        """Of one layer for one token: its square matrices of attention, and the feed-forward ones."""
        products = attention * width**2 + 2 * width * inner
        # Computed again is what the backward pass needs: all but the last product.
        return trained * products + (2 * (products - width * inner) if is_twice else 0)

    read = (trained + (2 if is_twice else 0)) * 2 * width**2  # keys and values of the decoder, of source tokens
    head = trained * regime.rows(sizes) + 4 * regime.frozen_rows(sizes)
    return TokenCosts(
        source=sizes.encoder_layers * layer(4, sizes.encoder_inner) + sizes.decoder_layers * read,
        target=sizes.decoder_layers * layer(6, sizes.decoder_inner) + head * width,
        source_source=sizes.encoder_layers * scores,
        target_source=sizes.decoder_layers * scores,
        target_target=sizes.decoder_layers * scores // 2,
    )
