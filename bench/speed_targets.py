"""What the speed bench aims at, and the best of ours that counts for each aim."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

OURS = "dragoman"
EQUAL_PAIRS = 16
TFLOPS = {"H200": 989, "H100": 989, "A100": 312, "L4": 121, "T4": 65}
"""Dense half-precision peaks, from the vendor's data sheets."""


@dataclass(frozen=True)
class Target:
    """One aim: a ratio or a share, and whether less is better."""

    what: str
    reach: float
    stretch: float
    least: bool = False
    percent: bool = False

    def row(self, found: dict[str, float]) -> list[str]:
        """Its line in the report; `found` holds a figure for each of our settings."""
        row = [self.what, f"{'≤' if self.least else '≥'} {self._words(self.reach)}", self._words(self.stretch)]
        if not found:
            return [*row, "not measured", "", ""]
        best = (min if self.least else max)(found, key=found.__getitem__)
        is_reached = found[best] <= self.reach if self.least else found[best] >= self.reach
        return [*row, self._words(found[best]), best, "yes" if is_reached else "no"]

    def _words(self, value: float) -> str:
        return f"{value:.1%}" if self.percent else f"{value:.2f}x"


def rows(facts: dict[str, Any], parts: dict[str, dict[str, Any]]) -> list[list[str]]:
    """All aims that the device of the run has."""
    sides = {row["name"]: row for row in parts.get("ladder", {}).get("sides", [])}
    equal = [row for name, row in sides.items() if name.startswith(OURS) and row["pairs_per_step"] == EQUAL_PAIRS]
    free = [row for name, row in sides.items() if name.startswith(OURS) and row not in equal]
    own = _cpu if facts["device"] == "cpu" else _gpu
    found = own(facts, sides, equal, free)
    true_size = parts.get("600m", {}).get("ratios", {})
    found += [
        Target("a step at the true 600M dimensions, fp32, over the recipe", 2.8, 3.5).row(_of(true_size, "speed")),
        Target("peak memory of it", 0.55, 0.45, least=True).row(_of(true_size, "memory")),
        Target("memory of the loss head, over torch's", 0.15, 0.1, least=True).row(_heads(parts)),
        Target("padding", 0.01, 0.0, least=True, percent=True).row(
            _of(parts.get("padding", {}).get("sides", {}), "target")
        ),
    ]
    return found


def _cpu(facts: dict[str, Any], sides: dict[str, Any], equal: list[Any], free: list[Any]) -> list[list[str]]:
    in_fp32 = [row for row in equal if row["precision"] == "fp32"]
    return [
        Target("same pairs per step, fp32, over the recipe", 2.8, 3.5).row(_ratios(in_fp32)),
        Target('the same, over `padding="max_length"` 128', 8, 12).row(_over(sides, in_fp32, "recipe max_length")),
        Target("bf16 and larger token batches, over the recipe", 6, 8).row(_ratios(free)),
    ]


def _gpu(facts: dict[str, Any], sides: dict[str, Any], equal: list[Any], free: list[Any]) -> list[list[str]]:
    peak = next((value for name, value in TFLOPS.items() if name in facts["device_name"]), None)
    used = {row["name"]: _utilization(row, peak) for row in free if peak and row["rounds"]}
    return [
        Target("16 pairs per step, over the recipe (aim set for an H200)", 8, 12).row(_ratios(equal)),
        Target("free batch, over the recipe (aim set for an H200)", 25, 35).row(_ratios(free)),
        Target("MFU on real tokens, whole vocabulary", 0.4, 0.5, percent=True).row(used),
    ]


def _utilization(row: dict[str, Any], peak: float) -> float:
    """Share of the device's peak that real tokens need."""
    flops, seconds = (sum(one[key] for one in row["rounds"]) for key in ("model_flops", "wall_seconds"))
    return flops / seconds / (peak * 1e12)


def _of(found: dict[str, Any], key: str) -> dict[str, float]:
    return {name: value[key] for name, value in found.items() if name.startswith(OURS)}


def _ratios(some: Sequence[dict[str, Any]]) -> dict[str, float]:
    return {row["name"]: row["ratio"] for row in some if row.get("ratio")}


def _over(sides: dict[str, Any], some: Sequence[dict[str, Any]], base: str) -> dict[str, float]:
    """Medians over rounds of the ratio to another side than the recipe."""
    theirs = [one["tokens_per_second"] for one in sides[base]["rounds"]] if base in sides else []
    return {
        row["name"]: statistics.median(
            one["tokens_per_second"] / its for one, its in zip(row["rounds"], theirs, strict=True)
        )
        for row in some
        if theirs and len(row["rounds"]) == len(theirs)
    }


def _heads(parts: dict[str, dict[str, Any]]) -> dict[str, float]:
    sides = parts.get("head", {}).get("sides", {})
    peaks = {name: median(rounds, "extra_bytes") for name, rounds in sides.items()}
    base = peaks.get("torch")
    return {name: peak / base for name, peak in peaks.items() if base and peak and name.startswith(OURS)}


def median(rounds: Sequence[dict[str, Any]], key: str) -> float | None:
    """Over the rounds that were run; None when none was."""
    values = [one[key] for one in rounds if "failure" not in one]
    return statistics.median(values) if values else None
