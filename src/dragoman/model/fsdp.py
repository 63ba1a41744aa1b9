"""Every rank holds some rows of each layer: FSDP2 (Zhao et al. 2023, "PyTorch FSDP").

A layer is put together where it is computed, and its gradient is given out again. The
optimizer of a rank changes its rows as plain tensors, which lie where FSDP2 keeps them.
The embedding, norms and adapters are whole on every rank: beside the layers they are
small, or, as the embedding, needed whole in every microbatch.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dragoman.model import nllb, packed
from dragoman.model.parallel import Made, Named, add
from dragoman.model.pieces import Peers, Pieces, rows_of

if TYPE_CHECKING:
    from transformers import M2M100ForConditionalGeneration


class Parts:
    """FSDP2: a layer is put together where it is computed, and its gradient is given out again."""

    is_divided, name = True, "fsdp"

    def __init__(
        self, model: "M2M100ForConditionalGeneration", peers: Peers, half: torch.dtype | None, *, offload: bool
    ) -> None:
        """Give every rank its part of each layer, and move the rest to the device.

        Args:
            model: In the host's memory; the weights of rank 0 count.
            peers: The ranks.
            half: In which layers travel and are computed; None: as they are kept.
            offload: Keep the parts in the host's memory.
        """
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, OffloadPolicy, fully_shard

        self.peers, self._model, self._plain = peers, model, _without_weights(model)
        whole = [part for name, part in model.named_parameters() if not _is_cut(name)]
        options: Any = {
            "mesh": init_device_mesh(peers.device.type, (peers.count,)),
            "ignored_params": set(whole),
            "offload_policy": CPUOffloadPolicy() if offload else OffloadPolicy(),
            # Inputs stay as they are: the residual stream is float32.
            "mp_policy": MixedPrecisionPolicy(
                param_dtype=half, reduce_dtype=torch.float32 if half else None, cast_forward_inputs=False
            ),
        }
        self._layers: list[Any] = [*model.model.encoder.layers, *model.model.decoder.layers]
        self._names = {name for name, _ in model.named_parameters() if _is_cut(name)}
        self._shapes = {nllb.saved_name(name): part.shape for name, part in model.named_parameters() if _is_cut(name)}
        for layer in self._layers:
            peers.make_equal(layer)
            fully_shard(layer, **options)
            packed.as_forward(layer)
        peers.make_equal(model, leave=self._names)
        root: Any = fully_shard(model, **options)
        packed.as_forward(root)
        for part in (root, *self._layers):
            part.set_gradient_divide_factor(1.0)
            part.set_force_sum_reduction_for_comms(True)  # FSDP2 would multiply by one on the way, which gloo cannot
        self._mirrors = {
            name: nn.Parameter(_local(part), requires_grad=part.requires_grad)
            for name, part in model.named_parameters()
            if name in self._names
        }

    def trained(self) -> Named:
        """Rows of what is divided, and what is whole."""
        named = self._model.named_parameters()
        # A rank may hold no row at all of a short vector.
        return [
            (name, self._mirrors.get(name, part))
            for name, part in named
            if part.requires_grad and not (name in self._mirrors and self._mirrors[name].numel() == 0)
        ]

    @contextmanager
    def taking_part(self, is_last: bool) -> Iterator[None]:
        """Every microbatch alike."""
        yield

    def computed(self, compute: Callable[[], Made]) -> Made:
        """FSDP2 has put itself around the layers."""
        return compute()

    def add_gradients(self) -> None:
        """Of what is whole; those of the layers are here already, and go to the rows that the optimizer changes."""
        named = [(name, part) for name, part in self._model.named_parameters() if part.requires_grad]
        add([part for name, part in named if name not in self._names])
        for name, part in named:
            if name in self._mirrors:
                self._mirrors[name].grad = _local(part.grad) if part.grad is not None else None

    def share_overflow(self) -> None:
        """Have the gradient scaler of every rank find what is not finite in the rows of one."""
        gradients = [part.grad for _, part in self.trained() if part.grad is not None]
        is_bad = torch.stack([(~torch.isfinite(gradient)).any() for gradient in gradients]).any().float()
        dist.all_reduce(is_bad, dist.ReduceOp.MAX)
        gradients[0].add_(torch.where(is_bad > 0, torch.inf, 0.0))

    def add(self, numbers: Tensor) -> None:
        """In place."""
        dist.all_reduce(numbers)

    def forget_gradients(self) -> None:
        """Of parameters and of their rows."""
        for parameter in (*self._model.parameters(), *self._mirrors.values()):
            parameter.grad = None

    def clip(self, norm: float) -> Tensor:
        """Squares of the parts are added over the ranks; those of what is whole count once."""
        device = self.peers.device
        parts, whole = torch.zeros(2, dtype=torch.float64, device=device).unbind()
        gradients = [(name, part.grad) for name, part in self.trained() if part.grad is not None]
        for name, gradient in gradients:
            square = torch.linalg.vector_norm(gradient, dtype=torch.float64).square().to(device)
            (parts if name in self._mirrors else whole).add_(square)
        dist.all_reduce(parts)
        total = (parts + whole).sqrt()
        factor = (norm / (total + 1e-6)).clamp(max=1.0)
        for _, gradient in gradients:
            gradient.mul_(factor.to(gradient.device, gradient.dtype))
        return total

    @contextmanager
    def whole(self) -> Iterator["M2M100ForConditionalGeneration"]:
        """A second set of modules around the weights of all ranks."""
        # Not the model itself: FSDP2 would take note of each forward pass, on this rank alone.
        for layer in self._layers:
            layer.unshard()
        try:
            _fill(self._plain, self._model)
            yield self._plain
        finally:
            _fill(self._plain, None)
            for layer in self._layers:
                layer.reshard()

    def saved(self, name: str, tensor: Tensor) -> Tensor | Pieces:
        """Rows that the first rank gathers, or the tensor itself."""
        if name not in self._shapes:
            return tensor
        return Pieces(_local(tensor), self._shapes[name], self.peers)

    def mine(self, name: str, whole: Tensor) -> Tensor:
        """The rows of this rank."""
        if name not in self._shapes:
            return whole
        start, stop = rows_of(len(whole), self.peers.number, self.peers.count)
        return whole[start:stop]

    def mine_of(self, weight: Tensor) -> Tensor:
        """Its rows, where they lie."""
        return _local(weight)


def _without_weights(model: "M2M100ForConditionalGeneration") -> "M2M100ForConditionalGeneration":
    """A copy of the model's modules that holds nothing."""
    held = (*model.parameters(), *model.buffers())
    return copy.deepcopy(model, {id(part): torch.empty(0, device="meta") for part in held})


def _fill(empty: nn.Module, model: nn.Module | None) -> None:
    """Let the modules of one model hold the tensors of another; nothing when there is no other."""
    others = [None] * sum(1 for _ in empty.modules()) if model is None else list(model.modules())
    for part, other in zip(empty.modules(), others, strict=True):
        for mine, theirs in ((part._parameters, "_parameters"), (part._buffers, "_buffers")):
            for name in mine:
                mine[name] = getattr(other, theirs)[name] if other is not None else None


def _is_cut(name: str) -> bool:
    """Whether FSDP2 divides a parameter: those of the layers, without adapters, and without norms.

    Norms are computed in float32 whatever the precision, and FSDP2 would bring their weights in halves.
    """
    return ".layers." in name and ".lora_" not in name and "layer_norm" not in name


def _local(tensor: Any) -> Tensor:
    """The rows that this rank holds, where they lie."""
    return (tensor.to_local() if hasattr(tensor, "to_local") else tensor).detach()
