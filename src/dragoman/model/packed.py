"""The forward pass without padding, over transformers' own M2M100 modules.

All sentences of a microbatch stand in one row of tokens, so every matrix product,
norm and dropout touches real tokens only. Attention alone needs sentences side by
side: they are padded there, in groups of like length, and laid back into the row.
The modules are called one by one, so adapters that wrap a linear layer just work;
`nllb.hidden` is the plain forward that this one must equal.

Shape letters: N tokens of a row, B sentences, L their padded length, H heads, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

if TYPE_CHECKING:
    from transformers import M2M100ForConditionalGeneration

SPREAD = 0.6
"""A group of sentences holds none shorter than this share of its longest, on either side."""
FIRST_POSITION = 2
"""M2M100 counts positions from the padding index plus one."""


class Side(NamedTuple):
    """One group of sentences, source or target: where its tokens stand in the row and in the padded grid."""

    start: int
    end: int
    num_sentences: int
    length: int
    place_N: Tensor | None
    """Where each token goes in the grid of B x L; None when nothing is padded."""
    mask_B11L: Tensor | None
    """True at tokens; None when nothing is padded."""


@dataclass(frozen=True)
class Layout:
    """Where everything stands: made once for a microbatch, used by every layer."""

    source: list[Side]
    target: list[Side]
    source_positions_N: Tensor
    target_positions_N: Tensor


def layout(
    source_lengths_B: NDArray[np.int64],
    target_lengths_B: NDArray[np.int64],
    device: torch.device,
    spread: float = SPREAD,
) -> Layout:
    """Group the sentences of a batch, whose pairs are sorted by length, and number their tokens.

    Args:
        source_lengths_B: Tokens of each source.
        target_lengths_B: Tokens of each target, of the same pairs.
        device: Where the index tensors are wanted.
        spread: Shortest sentence of a group as a share of its longest; 0 makes one group.
    """
    cuts = _cuts(source_lengths_B, target_lengths_B, spread)
    return Layout(
        _sides(source_lengths_B, cuts, device),
        _sides(target_lengths_B, cuts, device),
        on(_positions(source_lengths_B) + FIRST_POSITION, device),
        on(_positions(target_lengths_B) + FIRST_POSITION, device),
    )


def on(array: NDArray[Any], device: torch.device) -> Tensor:
    """An array as a tensor on the device; a GPU is not waited for."""
    tensor = torch.from_numpy(array)
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor


@dataclass(frozen=True)
class LookUp:
    """Rows of the embedding as they were looked up, cut off from the embedding itself.

    Its gradient would be a matrix as large as the embedding with zeros almost everywhere,
    made and added for nothing: on the 600M in float32 a gigabyte each time.
    """

    ids_N: Tensor
    rows_ND: Tensor
    scale: float

    def add_gradient(self, weight: torch.nn.Parameter) -> None:
        """After the backward pass: add to the embedding's gradient what these rows got."""
        if self.rows_ND.grad is None:
            return
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
        weight.grad.index_add_(0, self.ids_N, self.rows_ND.grad)


def look_up(model: "M2M100ForConditionalGeneration", ids_N: Tensor) -> LookUp:
    """Rows of the embedding for these tokens, source and target at once."""
    shared: Any = model.model.shared
    rows_ND = torch.nn.functional.embedding(ids_N, shared.weight.detach())
    wants = shared.weight.requires_grad and torch.is_grad_enabled()
    return LookUp(ids_N, rows_ND.requires_grad_(wants), float(shared.embed_scale))


def hidden(
    model: "M2M100ForConditionalGeneration",
    looked_up: LookUp,
    num_source: int,
    where: Layout,
    *,
    checkpointing: bool = False,
) -> Tensor:
    """The decoder's last hidden states of all target tokens, shape (N, D).

    Args:
        model: Its parameters; dropout follows its training mode.
        looked_up: Rows of the source tokens, sentence after sentence, then of the decoder's input in the same order.
        num_source: How many of them are source tokens.
        where: The batch's layout.
        checkpointing: Keep only the input of each layer, and compute the rest again in the backward pass.
    """
    encoder, decoder = model.model.encoder, model.model.decoder
    embedded = looked_up.rows_ND * looked_up.scale
    read, written = embedded[:num_source], embedded[num_source:]
    state_ND = _start(encoder, read, where.source_positions_N, where.source)
    for layer in encoder.layers:
        state_ND = _run(checkpointing, _encoder_layer, layer, state_ND, where)
    source_ND = encoder.layer_norm(state_ND)
    state_ND = _start(decoder, written, where.target_positions_N, where.target)
    for layer in decoder.layers:
        state_ND = _run(checkpointing, _decoder_layer, layer, state_ND, source_ND, where)
    return decoder.layer_norm(state_ND)


def _run(checkpointing: bool, layer: Any, *inputs: Any) -> Tensor:
    if checkpointing and torch.is_grad_enabled():
        again: Any = checkpoint(layer, *inputs, use_reentrant=False)
        return again
    return layer(*inputs)


def _start(stack: Any, embedded_ND: Tensor, positions_N: Tensor, sides: Sequence[Side]) -> Tensor:
    """Embeddings plus positions, as the encoder and the decoder begin."""
    table = stack.embed_positions
    needed = FIRST_POSITION + max(side.length for side in sides)
    if needed > len(table.weights):  # grows with the first longer sentence, as in transformers
        table.make_weights(needed, table.embedding_dim, table.padding_idx)
    state_ND = embedded_ND + table.weights.index_select(0, positions_N)
    return functional.dropout(state_ND, p=stack.dropout, training=stack.training)


def _encoder_layer(layer: Any, state_ND: Tensor, where: Layout) -> Tensor:
    normed = layer.self_attn_layer_norm(state_ND)
    attended = _attention(layer.self_attn, normed, normed, where.source, where.source, causal=False)
    state_ND = state_ND + functional.dropout(attended, p=layer.dropout, training=layer.training)
    return _feed_forward(layer, state_ND)


def _decoder_layer(layer: Any, state_ND: Tensor, source_ND: Tensor, where: Layout) -> Tensor:
    normed = layer.self_attn_layer_norm(state_ND)
    attended = _attention(layer.self_attn, normed, normed, where.target, where.target, causal=True)
    state_ND = state_ND + functional.dropout(attended, p=layer.dropout, training=layer.training)
    normed = layer.encoder_attn_layer_norm(state_ND)
    attended = _attention(layer.encoder_attn, normed, source_ND, where.target, where.source, causal=False)
    state_ND = state_ND + functional.dropout(attended, p=layer.dropout, training=layer.training)
    return _feed_forward(layer, state_ND)


def _feed_forward(layer: Any, state_ND: Tensor) -> Tensor:
    inner = layer.activation_fn(layer.fc1(layer.final_layer_norm(state_ND)))
    inner = functional.dropout(inner, p=layer.activation_dropout, training=layer.training)
    return state_ND + functional.dropout(layer.fc2(inner), p=layer.dropout, training=layer.training)


def _attention(
    module: Any, asking_ND: Tensor, asked_ND: Tensor, queries: Sequence[Side], keys: Sequence[Side], *, causal: bool
) -> Tensor:
    """Multi-head attention of every group; projections over the whole row."""
    query_ND, key_ND, value_ND = module.q_proj(asking_ND), module.k_proj(asked_ND), module.v_proj(asked_ND)
    heads = module.num_heads
    parts: list[Tensor] = []
    for query, key in zip(queries, keys, strict=True):
        # Behind a causal mask no token sees the padding, which follows it.
        mask = None if causal else key.mask_B11L
        found_BHLD = functional.scaled_dot_product_attention(
            _side_by_side(query_ND, query, heads),
            _side_by_side(key_ND, key, heads),
            _side_by_side(value_ND, key, heads),
            attn_mask=mask,
            dropout_p=module.dropout if module.training else 0.0,
            is_causal=causal,
            scale=module.scaling,
        )
        parts.append(_in_a_row(found_BHLD, query))
    return module.out_proj(torch.cat(parts) if len(parts) > 1 else parts[0])


def _side_by_side(row_ND: Tensor, side: Side, heads: int) -> Tensor:
    """The group's tokens as (B, H, L, D / H), padded with zeros."""
    tokens = row_ND[side.start : side.end]
    if side.place_N is not None:
        tokens = _Pad.apply(tokens, side.place_N, side.num_sentences * side.length)
    return tokens.view(side.num_sentences, side.length, heads, -1).transpose(1, 2)


def _in_a_row(found_BHLD: Tensor, side: Side) -> Tensor:
    """Back to (N, D), without the padding."""
    grid = found_BHLD.transpose(1, 2).reshape(side.num_sentences * side.length, -1)
    return grid if side.place_N is None else _Unpad.apply(grid, side.place_N)


class _Pad(torch.autograd.Function):
    """Rows to distinct places of a larger grid of zeros; the gradient only has to be picked up there."""

    @staticmethod
    def forward(ctx: Any, row_ND: Tensor, place_N: Tensor, size: int) -> Tensor:
        ctx.save_for_backward(place_N)
        return row_ND.new_zeros(size, row_ND.shape[1]).index_copy_(0, place_N, row_ND)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (place_N,) = ctx.saved_tensors
        return gradients[0].index_select(0, place_N), None, None


class _Unpad(torch.autograd.Function):
    """The rows at distinct places of a grid: the reverse of `_Pad`."""

    @staticmethod
    def forward(ctx: Any, grid: Tensor, place_N: Tensor) -> Tensor:
        ctx.save_for_backward(place_N)
        ctx.size = len(grid)
        return grid.index_select(0, place_N)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (place_N,) = ctx.saved_tensors
        gradient = gradients[0]
        return gradient.new_zeros(ctx.size, gradient.shape[1]).index_copy_(0, place_N, gradient), None


def _cuts(source_B: NDArray[np.int64], target_B: NDArray[np.int64], spread: float) -> list[tuple[int, int]]:
    """Ranges of sentences that are padded together, in order."""
    cuts: list[tuple[int, int]] = []
    start = 0
    most = least = np.array([source_B[0], target_B[0]])
    for index, lengths in enumerate(np.stack((source_B, target_B), axis=1)):
        wider, narrower = np.maximum(most, lengths), np.minimum(least, lengths)
        if (narrower < spread * wider).any():
            cuts.append((start, index))
            start, wider, narrower = index, lengths, lengths
        most, least = wider, narrower
    return [*cuts, (start, len(source_B))]


def _sides(lengths_B: NDArray[np.int64], cuts: Sequence[tuple[int, int]], device: torch.device) -> list[Side]:
    ends = np.cumsum(lengths_B)
    sides: list[Side] = []
    for first, last in cuts:
        lengths = lengths_B[first:last]
        start, longest = int(ends[first] - lengths_B[first]), int(lengths.max())
        place = mask = None
        if (lengths != longest).any():
            sentence = np.repeat(np.arange(last - first), lengths)
            place = on(sentence * longest + _positions(lengths), device)
            mask = on((np.arange(longest)[None] < lengths[:, None])[:, None, None], device)
        sides.append(Side(start, int(ends[last - 1]), last - first, longest, place, mask))
    return sides


def _positions(lengths_B: NDArray[np.int64]) -> NDArray[np.int64]:
    """0, 1, 2 … within each sentence."""
    starts = np.cumsum(lengths_B) - lengths_B
    return np.arange(int(lengths_B.sum())) - np.repeat(starts, lengths_B)
