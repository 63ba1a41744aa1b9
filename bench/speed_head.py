"""The loss head alone: what it holds at its peak besides its inputs, the rows and their gradients.

Counted twice: from inside, tensor by tensor, where a gradient can be told from what is only
in the way; and from outside, as all the memory that comes on top, gradients included.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench import speed_ours as ours
from bench.speed_clock import peak_bytes, reset_peak, resident_bytes

LossHead = Callable[[Tensor, Tensor, Tensor], Tensor]


class Holdings(TorchDispatchMode):
    """Follows, operation by operation, which storages live; a kernel's own scratch memory is not seen."""

    def __init__(self) -> None:
        super().__init__()
        self._alive: dict[int, tuple[StorageWeakRef, int, int]] = {}
        self._held: list[dict[int, int]] = []
        self._ignored: set[int] = set()
        self._born = 0

    def ignore(self, *tensors: Tensor) -> None:
        """Do not count these: what was there before, and what is to stay."""
        self._ignored.update(self._serial(tensor) for tensor in tensors)

    def peak(self) -> int:
        """The most bytes that lived at once, without those ignored."""
        sums = (sum(size for serial, size in held.items() if serial not in self._ignored) for held in self._held)
        return max(sums, default=0)

    def _serial(self, tensor: Tensor) -> int:
        """The number of a tensor's storage in the order of birth; addresses are used again, numbers are not."""
        storage = tensor.untyped_storage()
        if storage._cdata not in self._alive:
            self._born += 1
            self._alive[storage._cdata] = (StorageWeakRef(storage), self._born, storage.nbytes())
        return self._alive[storage._cdata][1]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self._alive = {key: entry for key, entry in self._alive.items() if not entry[0].expired()}
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._serial(tensor)
        self._held.append({serial: size for _, serial, size in self._alive.values()})
        return out


def loss_heads() -> dict[str, LossHead]:
    """The head of transformers' forward, and ours."""

    def transformers(hidden_ND: Tensor, weight_VD: Tensor, labels_N: Tensor) -> Tensor:
        logits_NV = torch.nn.functional.linear(hidden_ND, weight_VD)
        return torch.nn.CrossEntropyLoss()(logits_NV, labels_N) * len(labels_N)

    return {"torch": transformers, **ours.loss_heads()}


def measure(name: str, tokens: int, rows: int, width: int, device: torch.device) -> dict[str, Any]:
    """Forward and backward of one head: once for memory from outside and for time, once for memory from inside."""
    torch.manual_seed(1)
    hidden_ND = torch.randn(tokens, width, device=device).requires_grad_()
    weight_VD = (torch.randn(rows, width, device=device) * 0.02).requires_grad_()
    labels_N = torch.randint(rows, (tokens,), device=device)
    summed = loss_heads()[name]
    # Libraries take memory of their own at their first call.
    summed(hidden_ND[:8].detach().requires_grad_(), weight_VD[:64].detach().requires_grad_(), labels_N[:8] % 64)
    before = _reset(device)
    started = _now(device)
    nats = summed(hidden_ND, weight_VD, labels_N)
    nats.backward()
    seconds, on_top = _now(device) - started, _peak(device) - before
    hidden_ND.grad = weight_VD.grad = None
    holdings = Holdings()
    holdings.ignore(hidden_ND, weight_VD, labels_N)
    with holdings:
        summed(hidden_ND, weight_VD, labels_N).backward()
    assert hidden_ND.grad is not None
    assert weight_VD.grad is not None
    holdings.ignore(hidden_ND.grad, weight_VD.grad)
    answer = {"nats": float(nats.detach()), "seconds": seconds}
    return answer | {"extra_bytes": holdings.peak(), "with_gradients_bytes": on_top}


def _now(device: torch.device) -> float:
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def _reset(device: torch.device) -> int:
    """Forget the peak; what is held now."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    reset_peak()
    return resident_bytes()


def _peak(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated() if device.type == "cuda" else peak_bytes()
