"""The active vocabulary against the full one: the loss on held-out pairs, and the mass that leaks out.

Several seeds of the weights on a small real corpus. A base model learns with all rows first:
what is tuned in earnest knows already which rows the text does not need. Both vocabularies
then go on from it for equal steps, and are judged over all rows. The mass is the probability,
averaged over the target positions of the held-out pairs, of the rows that the active
vocabulary does not train: nobody may keep them down.
"""

import copy
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bench import speed_ours as ours
from bench.speed_clock import Pair
from bench.speed_world import Scale

RATE = 1e-3
OPTIONS = {"schedule": "constant", "learning_rate": RATE, "warmup_steps": 0}


@dataclass(frozen=True)
class Trial:
    """The text and the device of all seeds."""

    scale: Scale
    folder: Path
    device: torch.device

    def train(self, vocabulary: str, model: Any, steps: range) -> dict[str, float]:
        """Train the model in place; what it is worth afterwards."""
        corpus = ours.corpus_of(self.folder)
        rung = ours.vocabulary(vocabulary)
        with ours.training_of(rung, self.scale, corpus, model, self.device, **OPTIONS) as training:
            for number in steps:
                training.step(number, RATE)
            nats = training.dev_nats()
            with training.whole() as whole:
                outside = mass_outside(whole, ours.dev_pairs(corpus), ours.active_rows(corpus), self.device)
        return {"dev_nats": nats, "mass_outside": outside}


def part(
    scale: Scale, folder: Path, device: torch.device, *, base_steps: int = 600, steps: int = 300, seeds: int = 3
) -> dict[str, Any]:
    """Dev loss and leaked mass of every seed: of the base, and after tuning it with either vocabulary."""
    trial = Trial(scale, folder, device)
    corpus = ours.corpus_of(folder)
    found: dict[str, list[dict[str, float]]] = {"base": [], "full": [], "active": []}
    for seed in range(1, seeds + 1):
        base = scale.model(device, dropout=0.0, seed=seed)
        found["base"].append({"seed": seed, **trial.train("full", base, range(base_steps))})
        for name in ("full", "active"):
            model = copy.deepcopy(base)
            model.tie_weights()
            row = trial.train(name, model, range(base_steps, base_steps + steps))
            found[name].append({"seed": seed, **row})
        print(f"vocabulary  seed {seed}  { ({name: rows[-1] for name, rows in found.items()}) }", flush=True)
    return {
        "scale": scale.name,
        "base_steps": base_steps,
        "steps": steps,
        "trained_rows": len(ours.active_rows(corpus)),
        "rows": scale.rows,
        "runs": found,
        "mean_dev_nats": {name: statistics.mean(row["dev_nats"] for row in rows) for name, rows in found.items()},
        "largest_mass_outside": {name: max(row["mass_outside"] for row in rows) for name, rows in found.items()},
    }


def mass_outside(model: Any, pairs: Sequence[Pair], rows: Sequence[int], device: torch.device) -> float:
    """Mean probability of all but these rows, over the target positions of `pairs`."""
    outside = torch.ones(model.config.vocab_size, dtype=torch.bool, device=device)
    outside[list(rows)] = False
    total, positions = 0.0, 0
    model.eval()
    with torch.inference_mode():
        for pair in pairs:
            source = torch.tensor([pair.source_ids], device=device)
            decoder = torch.tensor([[pair.label_ids[-1], *pair.label_ids[:-1]]], device=device)
            logits_NV = model(input_ids=source, decoder_input_ids=decoder, use_cache=False).logits[0].float()
            total += float(logits_NV.softmax(-1)[:, outside].sum())
            positions += len(logits_NV)
    model.train()
    return total / positions
