"""GPUs that people rent or are lent: how much memory torch finds on each, and what it can compute."""

import difflib
from dataclasses import dataclass
from typing import Literal

from dragoman.errors import InputError

OLDEST = (7, 0)
"""Compute capability below which today's torch has no kernels."""
CPU = "cpu"
"""What `--gpu` calls training without one."""


@dataclass(frozen=True)
class Gpu:
    """One model of GPU."""

    name: str
    gib: float
    """All memory that CUDA reports, which is less than the label says; the least that was seen."""
    capability: tuple[int, int]
    half_tflops: float
    """Most that its matrix units do in bf16 or fp16 without sparsity, in 10^12 operations per second."""
    float_tflops: float
    """The same in float32, without TF32."""
    gb_per_second: float
    """Of its memory."""

    @property
    def memory_bytes(self) -> int:
        """The same in bytes."""
        return int(self.gib * 2**30)

    @property
    def precision(self) -> Literal["fp32", "bf16", "fp16"]:
        """What `--precision auto` means on it."""
        return "bf16" if self.capability >= (8, 0) else "fp16"


GPUS = {
    "t4": Gpu("Tesla T4", 14.56, (7, 5), 65, 8.1, 320),
    "l4": Gpu("L4", 22.0, (8, 9), 121, 30.3, 300),
    "a10": Gpu("A10", 21.9, (8, 6), 125, 31.2, 600),
    "a10g": Gpu("A10G", 21.9, (8, 6), 70, 31.5, 600),
    "rtx4090": Gpu("RTX 4090", 23.5, (8, 9), 165, 82.6, 1008),
    "a100-40": Gpu("A100 40 GB", 39.3, (8, 0), 312, 19.5, 1555),
    "a100-80": Gpu("A100 80 GB", 79.1, (8, 0), 312, 19.5, 1935),
    "h100-80": Gpu("H100 80 GB", 79.1, (9, 0), 989, 67, 3350),
    "h200-141": Gpu("H200 141 GB", 139.7, (9, 0), 989, 67, 4800),
    "p100": Gpu("Tesla P100", 15.9, (6, 0), 18.7, 9.3, 732),
}
"""By the name that `--gpu` takes; speeds as the makers' data sheets give them (H100 and H200: SXM, A100-80: PCIe)."""


def usable() -> list[str]:
    """The names of those on which torch runs."""
    return [name for name, gpu in GPUS.items() if gpu.capability >= OLDEST]


def named(words: str) -> str:
    """The name that `--gpu` takes for what a driver calls a GPU, such as `NVIDIA A100-SXM4-80GB`; else the driver's."""
    plain = words.upper().replace("-", " ").split()
    for name in sorted(GPUS, key=len, reverse=True):
        model, _, size = name.upper().partition("-")
        parts = ["RTX", model.removeprefix("RTX")] if model.startswith("RTX") else [model]
        # `80GB`; and an H100 or H200 that names no size, as some drivers do, has the only one that is known.
        others = [key for key in GPUS if key.startswith(f"{model.lower()}-")]
        is_size = not size or f"{size}GB" in plain or (len(others) == 1 and not any("GB" in part for part in plain))
        if all(part in plain for part in parts) and is_size:
            return name
    return words


def find(name: str) -> Gpu:
    """The GPU of this name.

    Raises:
        InputError: It is not known, or torch does not run on it.
    """
    word = name.lower().replace("_", "-").removeprefix("nvidia-").removeprefix("tesla-")
    known = ", ".join([*usable(), CPU])
    if word not in GPUS:
        near = difflib.get_close_matches(word, [*usable(), CPU], n=1, cutoff=0.5)
        # `a100` is a part of two names: the sizes are what was left out.
        longer = [key for key in GPUS if key.startswith(word)]
        meant = " or ".join(longer or near)
        raise InputError(f"--gpu: {name} is not known", f"did you mean {meant}? ({known})" if meant else known)
    gpu = GPUS[word]
    if gpu.capability < OLDEST:
        major, minor = gpu.capability
        why = f"its compute capability is {major}.{minor}, and today's torch begins at {OLDEST[0]}.{OLDEST[1]}"
        raise InputError(f"--gpu: torch does not run on a {gpu.name}: {why}", known)
    return gpu
