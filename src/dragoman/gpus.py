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

    @property
    def memory_bytes(self) -> int:
        """The same in bytes."""
        return int(self.gib * 2**30)

    @property
    def precision(self) -> Literal["fp32", "bf16", "fp16"]:
        """What `--precision auto` means on it."""
        return "bf16" if self.capability >= (8, 0) else "fp16"


GPUS = {
    "t4": Gpu("Tesla T4", 14.56, (7, 5)),
    "l4": Gpu("L4", 22.0, (8, 9)),
    "a10": Gpu("A10", 21.9, (8, 6)),
    "a10g": Gpu("A10G", 21.9, (8, 6)),
    "rtx4090": Gpu("RTX 4090", 23.5, (8, 9)),
    "a100-40": Gpu("A100 40 GB", 39.3, (8, 0)),
    "a100-80": Gpu("A100 80 GB", 79.1, (8, 0)),
    "h100-80": Gpu("H100 80 GB", 79.1, (9, 0)),
    "h200-141": Gpu("H200 141 GB", 139.7, (9, 0)),
    "p100": Gpu("Tesla P100", 15.9, (6, 0)),
}
"""By the name that `--gpu` takes."""


def usable() -> list[str]:
    """The names of those on which torch runs."""
    return [name for name, gpu in GPUS.items() if gpu.capability >= OLDEST]


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
