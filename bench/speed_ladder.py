"""All sides by turns, in one process: real target tokens per CPU-second, and the share of padding.

Each side starts every round from the same random weights. In a round every side counts the
same pairs (those that sort by length draw their own from all), after steps that warm up on
the pairs before them. So what disturbs the machine meets all sides alike.
"""

import gc
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from bench import speed_ours as ours
from bench import speed_trainer as theirs
from bench.speed_clock import Clock
from bench.speed_ours import Rung
from bench.speed_trainer import TrainerSide
from bench.speed_world import Scale

Side = TrainerSide | Rung
BASELINE = "recipe"


@dataclass(frozen=True)
class Lab:
    """Where and what is measured."""

    folder: Path
    """Holds tokenizer and corpus, made by `speed_ours.prepare_corpus`."""
    scale: Scale
    device: torch.device
    rounds: int = 5
    window: int = 128
    """Pairs that each side counts in a round; a multiple of every side's pairs per step."""
    warmup: int = 1
    """Steps before them."""


@dataclass
class Rounds:
    """One side in all rounds."""

    side: Side
    scale: Scale
    clocks: list[Clock] = field(default_factory=list[Clock])
    failure: str = ""

    def to_json(self) -> dict[str, Any]:
        """The side and all its raw values."""
        return {
            "name": self.side.name,
            "pairs_per_step": self.side.pairs_per_step,
            "precision": self.side.precision,
            "failure": self.failure,
            "rounds": [clock.to_json() | {"model_flops": self._flops(clock)} for clock in self.clocks],
        }

    def _flops(self, clock: Clock) -> float:
        return self.scale.flops(clock.counts.source_tokens, clock.counts.target_tokens)


def all_sides(device: torch.device) -> list[Side]:
    """The sides of a device: fp32 at equal pairs on a CPU, the precision of the starting document on a GPU."""
    if device.type == "cpu":
        return [*theirs.sides("bf16", (64, 128)), *ours.ladder("bf16", (64, 128))]
    half = "bf16" if torch.cuda.get_device_capability() >= (8, 0) else "fp16"
    larger = (64, 128, 256, 512)
    graphs = ours.Rung(f"dragoman active {half} 16, graphs", ours.ACTIVE | {"precision": half, "static_shapes": True})
    return [*theirs.sides(half, larger, recipe_precision="fp16"), *ours.ladder(half, larger), graphs]


def part(lab: Lab, sides: Sequence[Side]) -> dict[str, Any]:
    """Play all rounds; the result as JSON."""
    corpus = ours.corpus_of(lab.folder)
    missing = {side.name: side.missing for side in sides if isinstance(side, Rung) and side.missing}
    results = {side.name: Rounds(side, lab.scale) for side in sides if side.name not in missing}
    for number in range(lab.rounds):
        for result in results.values():
            if not result.failure:
                _play(lab, result, number)
    rows = [result.to_json() for result in results.values()]
    _add_ratios(rows)
    return {
        "window": lab.window,
        "warmup": lab.warmup,
        "rounds": lab.rounds,
        "scale": facts(lab.scale, corpus),
        "sides": rows,
        "not_built": missing,
    }


def _play(lab: Lab, result: Rounds, number: int) -> None:
    """One side in one round; running out of a GPU's memory ends the side, not the bench."""
    try:
        clock = play(lab, result.side, number)
    except torch.OutOfMemoryError as error:
        result.failure = f"out of memory: {str(error).splitlines()[0]}"
        return
    result.clocks.append(clock)
    print(f"round {number + 1}  {result.side.name:36} {clock.tokens_per_second:9.1f} tokens/s", flush=True)


def play(lab: Lab, side: Side, number: int) -> Clock:
    """One side in round `number`."""
    gc.collect()
    if lab.device.type == "cuda":
        torch.cuda.empty_cache()
    corpus = ours.corpus_of(lab.folder)
    lead = lab.window * max(1, lab.warmup)
    first = number * (lead + lab.window) + lead
    model = lab.scale.model(lab.device)
    where = {"first_pair": first, "num_pairs": lab.window, "warmup": lab.warmup}
    if isinstance(side, Rung):
        return ours.run(side, lab.scale, corpus, lab.device, model=model, **where)
    pairs = ours.pairs_in_order(corpus, None if side.by_length else first + lab.window)
    return theirs.run(side, pairs, lab.folder / "base", model, lab.device, **where, seed=number + 1)


def _add_ratios(rows: Sequence[dict[str, Any]]) -> None:
    """To each side its median speed, and the median over rounds of its ratio to the recipe in the same round."""
    base = next((row for row in rows if row["name"] == BASELINE), None)
    for row in rows:
        speeds = [each["tokens_per_second"] for each in row["rounds"]]
        row["median"] = statistics.median(speeds) if speeds else None
        if base and speeds and len(speeds) == len(base["rounds"]):
            pairs = zip(speeds, base["rounds"], strict=True)
            row["ratios"] = [round(mine / its["tokens_per_second"], 3) for mine, its in pairs]
            row["ratio"] = statistics.median(row["ratios"])


def padding_part(lab: Lab, sides: Sequence[Side]) -> dict[str, Any]:
    """The share of padding of every side over one pass over the text, without training."""
    corpus = ours.corpus_of(lab.folder)
    pairs = ours.pairs_in_order(corpus)
    found: dict[str, Any] = {}
    for side in sides:
        if isinstance(side, TrainerSide):
            counts = theirs.positions(side, pairs, lab.folder / "base")
        elif side.missing:
            continue
        else:
            counts = ours.positions(side, lab.scale, corpus, range(len(pairs) // side.pairs_per_step))
        found[side.name] = {"target": round(counts.padding, 4), "source": round(counts.source_padding, 4)}
    return {"pairs": len(pairs), "sides": found}


def facts(scale: Scale, corpus: Any) -> dict[str, Any]:
    """The model's sizes and the text's, as the report tells them."""
    pairs = ours.pairs_in_order(corpus)
    used = {token for pair in pairs for side in pair for token in side}
    return {
        "name": scale.name,
        "width": scale.width,
        "layers": scale.layers,
        "rows": scale.rows,
        "used_rows": len(used),
        "active_rows": len(ours.active_rows(corpus)),
        "weights": scale.weights(),
        "vocabulary_share": round(scale.vocabulary_share(), 4),
        "pairs": len(pairs),
        "mean_source_tokens": round(sum(len(pair.source_ids) for pair in pairs) / len(pairs), 2),
        "mean_target_tokens": round(sum(len(pair.label_ids) for pair in pairs) / len(pairs), 2),
        "languages": list(scale.languages),
    }
