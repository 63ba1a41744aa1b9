"""What the speed bench measures: real tokens, positions, seconds.

On a CPU the clock is the CPU time of this process, which other programs on the machine
disturb least; on a GPU it is the wall time between two synchronisations.
"""

import resource
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch


class Pair(NamedTuple):
    """A pair as the model sees it: language code, pieces, `</s>` on both sides."""

    source_ids: list[int]
    label_ids: list[int]


@dataclass(frozen=True)
class Counts:
    """Tokens that are real, and positions that were computed."""

    source_tokens: int = 0
    source_positions: int = 0
    target_tokens: int = 0
    target_positions: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(mine + its for mine, its in zip(self.values(), other.values(), strict=True)))

    def values(self) -> tuple[int, int, int, int]:
        """All four."""
        return self.source_tokens, self.source_positions, self.target_tokens, self.target_positions

    @property
    def padding(self) -> float:
        """Share of target positions that hold no token."""
        return 1 - self.target_tokens / self.target_positions if self.target_positions else 0.0

    @property
    def source_padding(self) -> float:
        """Share of source positions that hold no token."""
        return 1 - self.source_tokens / self.source_positions if self.source_positions else 0.0


@dataclass
class Clock:
    """Seconds of the counted steps of one side in one round."""

    device: torch.device
    counts: Counts = field(default_factory=Counts)
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0
    gpu_bytes: int = 0
    """Peak of the device's memory; 0 on a CPU."""

    def __post_init__(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()

    def start(self) -> None:
        """After the steps that warm up."""
        self._synchronise()
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def stop(self) -> None:
        """After the last step."""
        self._synchronise()
        self.cpu_seconds = time.process_time() - self._cpu
        self.wall_seconds = time.perf_counter() - self._wall
        if self.device.type == "cuda":
            self.gpu_bytes = torch.cuda.max_memory_allocated()

    @property
    def tokens_per_second(self) -> float:
        """Real target tokens per CPU-second; per second of wall time on a GPU."""
        seconds = self.cpu_seconds if self.device.type == "cpu" else self.wall_seconds
        return self.counts.target_tokens / seconds

    def to_json(self) -> dict[str, Any]:
        """Everything, with the speed."""
        return {
            **asdict(self.counts),
            "cpu_seconds": round(self.cpu_seconds, 4),
            "wall_seconds": round(self.wall_seconds, 4),
            "tokens_per_second": round(self.tokens_per_second, 2),
            "gpu_bytes": self.gpu_bytes,
        }

    def _synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def peak_bytes() -> int:
    """The most memory that this process ever held, without what its parent held before exec."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return _status_bytes("VmHWM")


def resident_bytes() -> int:
    """What this process holds now."""
    return _status_bytes("VmRSS")


def reset_peak() -> None:
    """Forget earlier peaks."""
    Path("/proc/self/clear_refs").write_text("5")


def free_bytes() -> int:
    """What the machine can give to a new process."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))


def _status_bytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))
