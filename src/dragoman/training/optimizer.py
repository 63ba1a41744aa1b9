"""The optimizer, its learning rate as a pure function of the step, and the arithmetic of a device."""

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dragoman.config import TrainingConfig
from dragoman.errors import InputError

COUNT = "step"
"""Under this key every optimizer counts its updates of a parameter."""
SMALL_RATE = 3e-4
"""Peak learning rates below this leave a model almost as it was under Adafactor, whose steps are shares of a weight."""


def warmup_steps(training: TrainingConfig, total_steps: int) -> int:
    """Steps of linear warm-up: as configured, else 6 % of all, at most 500."""
    if training.warmup_steps is not None:
        return training.warmup_steps
    return min(500, math.ceil(0.06 * total_steps))


def learning_rate(training: TrainingConfig, step: int, total_steps: int) -> float:
    """Learning rate of `step` (counted from 0): warm-up, then the schedule.

    linear and cosine end at zero after `total_steps`; inverse-sqrt falls with
    sqrt(warm-up / step) (Vaswani et al. 2017, section 5.3) from the end of the warm-up.
    """
    warmup, peak = warmup_steps(training, total_steps), training.learning_rate
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / max(1, total_steps - warmup)
    match training.schedule:
        case "constant":
            return peak
        case "linear":
            return peak * max(0.0, 1 - done)
        case "cosine":
            return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
        case "inverse-sqrt":
            return peak * math.sqrt(max(1, warmup) / (step + 1)) if step >= warmup else peak


def build(named: Iterable[tuple[str, torch.nn.Parameter]], training: TrainingConfig) -> torch.optim.Optimizer:
    """The optimizer of the parameters that are trained; only matrices decay.

    adamw is torch's, fused. adamw8bit is that of bitsandbytes: both moments in 8 bits, in
    blocks of 256 (Dettmers et al. 2022). adafactor is torch's: a second moment of rows and
    columns, no first one; the learning rate is multiplied by the root mean square of the
    weights, at least 1e-3 (Shazeer and Stern 2018, section 8), and is never above 1/sqrt(step).

    Raises:
        InputError: A package is missing.
    """
    parameters = [parameter for _, parameter in named if parameter.requires_grad]
    matrices, vectors = [p for p in parameters if p.ndim >= 2], [p for p in parameters if p.ndim < 2]
    decaying = ((matrices, training.weight_decay), (vectors, 0.0))
    groups = [{"params": some, "weight_decay": decay} for some, decay in decaying if some]
    rate = training.learning_rate
    match training.optimizer:
        case "adamw":
            return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.999), eps=1e-8, fused=True)
        case "adafactor":
            return torch.optim.Adafactor(groups, lr=rate)
        case "adamw8bit":
            return _bitsandbytes().optim.AdamW8bit(groups, lr=rate, betas=(0.9, 0.999), eps=1e-8)


def check(training: TrainingConfig) -> None:
    """Look whether the optimizer is installed.

    Raises:
        InputError: It is not.
    """
    if training.optimizer == "adamw8bit":
        _bitsandbytes()


def _bitsandbytes() -> Any:
    # It reports a missing package of kernels that only inference uses.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    try:
        import bitsandbytes
    except ImportError as error:
        message = f"--optimizer adamw8bit needs bitsandbytes ({error})"
        raise InputError(message, "pip install 'dragoman[8bit]'") from None
    return bitsandbytes


def advice(training: TrainingConfig) -> str:
    """What to say about the learning rate; empty when there is nothing."""
    if training.optimizer != "adafactor" or training.learning_rate >= SMALL_RATE:
        return ""
    rate = f"--learning-rate {training.learning_rate:g}"
    return f"{rate}: Adafactor changes a weight by this share of its size at each step; 1e-3 is usual, 5e-5 AdamW's"


def moments(
    optimizer: torch.optim.Optimizer, named: Iterable[tuple[str, torch.nn.Parameter]]
) -> Iterator[tuple[str, Tensor]]:
    """All that the optimizer remembers of every parameter but the count of updates; nothing before the first one.

    As `exp_avg.NAME` and `exp_avg_sq.NAME` of AdamW, and with the keys of the others.
    """
    for name, parameter in named:
        for key, value in optimizer.state.get(parameter, {}).items():
            if key != COUNT:
                yield f"{key}.{name}", value


def restore_moments(
    optimizer: torch.optim.Optimizer,
    named: Iterable[tuple[str, torch.nn.Parameter]],
    stored: Mapping[str, Tensor],
    updates: int,
    mine: Callable[[str, Tensor], Tensor] = lambda name, whole: whole,
) -> None:
    """Put stored moments back.

    Args:
        optimizer: Takes them.
        named: What it changes.
        stored: By what they are and the name of the weight.
        updates: Optimizer updates that made them.
        mine: What this process holds of a whole one, by the name of its weight.
    """
    optimizer.state.clear()
    if updates == 0:
        return
    by_name = dict(named)
    for full, tensor in stored.items():
        key, _, name = full.partition(".")
        part = mine(name, tensor)
        if name not in by_name:  # a rank may hold no row of it
            continue
        parameter = by_name[name]
        state = optimizer.state[parameter]
        if not state:
            state[COUNT] = _count(optimizer, parameter, updates)
        state[key] = part.to(parameter.device, copy=True)


def _count(optimizer: torch.optim.Optimizer, parameter: Tensor, updates: int) -> Tensor | int:
    """The number of updates as the optimizer keeps it beside a parameter."""
    if isinstance(optimizer, torch.optim.AdamW):  # the fused one
        return torch.tensor(float(updates), dtype=torch.float32, device=parameter.device)
    if isinstance(optimizer, torch.optim.Adafactor):
        return torch.tensor(float(updates), dtype=torch.float32)
    return updates


@dataclass(frozen=True)
class Arithmetic:
    """Device and precision of the forward pass; weights and moments are float32, or float64 with fp64."""

    device: torch.device
    precision: str
    ranks: int = 1
    """Over how many the gradients are added, which rounds them in another way."""

    @property
    def half(self) -> torch.dtype | None:
        """In what products are computed, where that is less than the weights have."""
        return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.precision)

    @property
    def weights(self) -> torch.dtype:
        """Of weights and moments."""
        return torch.float64 if self.precision == "fp64" else torch.float32

    def facts(self) -> dict[str, str]:
        """What the bits of a result depend on besides the inputs."""
        on_cuda = self.device.type == "cuda"
        return {
            "device": torch.cuda.get_device_name(self.device) if on_cuda else "cpu",
            "precision": self.precision,
            "threads": "" if on_cuda else str(torch.get_num_threads()),
            "torch": torch.__version__,
        } | ({"ranks": str(self.ranks)} if self.ranks > 1 else {})

    def changes_since(self, then: dict[str, str]) -> str:
        """How the facts of an earlier session differ, in words; empty when they do not."""
        now, before = {"ranks": "1", **self.facts()}, {"ranks": "1", **then}
        return ", ".join(f"{name} {was} → {now[name]}" for name, was in before.items() if was != now[name])

    def autocast(self) -> AbstractContextManager[object]:
        """The context for forward passes."""
        if self.half is None:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.half)

    def scaler(self) -> torch.amp.GradScaler:
        """The gradient scaler that fp16 needs; switched off for other precisions."""
        return torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")


def choose_arithmetic(device: str, precision: str) -> Arithmetic:
    """Resolve `auto`: bf16 needs compute capability 8.0, fp16 7.0.

    `torch.cuda.is_bf16_supported()` is not asked: it says yes on a T4, which emulates it.

    Raises:
        InputError: There is no such device, or it cannot compute so.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch sees no GPU", "--device cpu, or nvidia-smi to look for one")
    kind = device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    if kind == "cpu":
        if precision == "fp16":
            raise InputError("--precision fp16: needs a GPU", "--precision fp32 or bf16 on a CPU")
        return Arithmetic(torch.device("cpu"), "fp32" if precision == "auto" else precision)
    capability = torch.cuda.get_device_capability()
    if precision == "bf16" and capability < (8, 0):
        name = torch.cuda.get_device_name()
        raise InputError(f"--precision bf16: {name} only emulates it", "--precision fp16")
    best = "bf16" if capability >= (8, 0) else "fp16" if capability >= (7, 0) else "fp32"
    return Arithmetic(torch.device("cuda", torch.cuda.current_device()), best if precision == "auto" else precision)
