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
from types import MethodType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from dragoman.model.layout import FIRST_POSITION, Layout, Side

if TYPE_CHECKING:
    from transformers import M2M100ForConditionalGeneration


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
    run: Any = getattr(model, OWN, None) or (lambda *inputs: _hidden(model, *inputs))
    return run(looked_up, num_source, where, checkpointing)


OWN = "without_padding"
"""Name under which a module that FSDP2 divides has our forward pass as a method, around which it brings weights."""


def as_forward(module: Any) -> None:
    """Let FSDP2 treat our pass over this model, or over one of its layers, as it treats transformers' forward."""
    from torch.distributed.fsdp import register_fsdp_forward_method

    compute = _hidden if hasattr(module, "lm_head") else _layer
    setattr(module, OWN, MethodType(compute, module))
    register_fsdp_forward_method(module, OWN)


def _hidden(model: Any, looked_up: LookUp, num_source: int, where: Layout, checkpointing: bool) -> Tensor:
    encoder, decoder = model.model.encoder, model.model.decoder
    embedded = looked_up.rows_ND * looked_up.scale
    read, written = embedded[:num_source], embedded[num_source:]
    state_ND = _start(encoder, read, where.source_positions_N, where.source)
    for layer in encoder.layers:
        state_ND = _run(layer, checkpointing, state_ND, where)
    source_ND = encoder.layer_norm(state_ND)
    state_ND = _start(decoder, written, where.target_positions_N, where.target)
    for layer in decoder.layers:
        state_ND = _run(layer, checkpointing, state_ND, source_ND, where)
    return decoder.layer_norm(state_ND)


def _run(layer: Any, checkpointing: bool, *inputs: Any) -> Tensor:
    own: Any = getattr(layer, OWN, None)
    return own(checkpointing, *inputs) if own else _layer(layer, checkpointing, *inputs)


def _layer(layer: Any, checkpointing: bool, *inputs: Any) -> Tensor:
    compute = _decoder_layer if hasattr(layer, "encoder_attn") else _encoder_layer
    if checkpointing and torch.is_grad_enabled():
        again: Any = checkpoint(compute, layer, *inputs, use_reentrant=False)
        return again
    return compute(layer, *inputs)


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
        tokens = _Pad.apply(tokens, side.place_N, side.places, side.spare)
    return tokens.view(side.num_sentences, side.length, heads, -1).transpose(1, 2)


def _in_a_row(found_BHLD: Tensor, side: Side) -> Tensor:
    """Back to (N, D), without the padding."""
    grid = found_BHLD.transpose(1, 2).reshape(side.places, -1)
    return grid if side.place_N is None else _Unpad.apply(grid, side.place_N, side.spare)


class _Pad(torch.autograd.Function):
    """Rows to distinct places of a larger grid of zeros; the gradient only has to be picked up there.

    Rows with a place behind the grid are left out, and get a gradient of zero.
    """

    @staticmethod
    def forward(ctx: Any, row_ND: Tensor, place_N: Tensor, size: int, spare: int) -> Tensor:
        ctx.save_for_backward(place_N)
        ctx.spare = spare
        return _laid_out(row_ND, place_N, size, spare)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (place_N,) = ctx.saved_tensors
        return _picked_up(gradients[0], place_N, ctx.spare), None, None, None


class _Unpad(torch.autograd.Function):
    """The rows at distinct places of a grid, zeros for those behind it: the reverse of `_Pad`."""

    @staticmethod
    def forward(ctx: Any, grid: Tensor, place_N: Tensor, spare: int) -> Tensor:
        ctx.save_for_backward(place_N)
        ctx.size, ctx.spare = len(grid), spare
        return _picked_up(grid, place_N, spare)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (place_N,) = ctx.saved_tensors
        return _laid_out(gradients[0], place_N, ctx.size, ctx.spare), None, None


def _laid_out(row_ND: Tensor, place_N: Tensor, size: int, spare: int) -> Tensor:
    return row_ND.new_zeros(size + spare, row_ND.shape[1]).index_copy_(0, place_N, row_ND)[:size]


def _picked_up(grid: Tensor, place_N: Tensor, spare: int) -> Tensor:
    return (functional.pad(grid, (0, 0, 0, spare)) if spare else grid).index_select(0, place_N)
