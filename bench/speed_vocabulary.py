"""The active vocabulary against the full one: the loss on held-out pairs, and the mass that leaks out.

Several seeds of the weights on a small real corpus, equal steps. Both models are judged with
all rows. The mass is the probability, averaged over the target positions of the held-out
pairs, of the rows that no text of the run uses: training only active rows may forget to keep
the others down.
"""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from bench import speed_ours as ours
from bench.speed_clock import Pair
from bench.speed_world import Scale

RATE = 1e-3
OPTIONS = {"schedule": "constant", "learning_rate": RATE, "warmup_steps": 0}


def part(scale: Scale, folder: Path, device: torch.device, *, steps: int = 300, seeds: int = 3) -> dict[str, Any]:
    """Dev loss and leaked mass of every seed, with either vocabulary."""
    corpus = ours.corpus_of(folder)
    dev = ours.dev_pairs(corpus)
    used = {token for pair in [*ours.pairs_in_order(corpus), *dev] for side in pair for token in side}
    rungs = {"full": ours.vocabulary("full"), "active": ours.vocabulary("active")}
    found: dict[str, list[dict[str, float]]] = {name: [] for name, rung in rungs.items() if not rung.missing}
    for seed in range(1, seeds + 1):
        for name in found:
            model = scale.model(device, dropout=0.0, seed=seed)
            with ours.trainer_of(rungs[name], scale, corpus, model, device, **OPTIONS) as step:
                for number in range(steps):
                    step(number, RATE)
            full = ours.full_model(model)
            row = {"seed": seed, "dev_nats": ours.dev_nats(full, corpus, device)}
            found[name].append(row | {"mass_outside": mass_outside(full, dev, used, device)})
            print(f"vocabulary  {name:8} {found[name][-1]}", flush=True)
    return {
        "scale": scale.name,
        "steps": steps,
        "used_rows": len(used),
        "rows": scale.rows,
        "runs": found,
        "not_built": {name: rung.missing for name, rung in rungs.items() if rung.missing},
        "mean_dev_nats": {name: statistics.mean(row["dev_nats"] for row in rows) for name, rows in found.items()},
        "largest_mass_outside": {name: max(row["mass_outside"] for row in rows) for name, rows in found.items()},
    }


def mass_outside(model: Any, pairs: Sequence[Pair], used: set[int], device: torch.device) -> float:
    """Mean probability of all rows that are not `used`, over the target positions of `pairs`."""
    outside = torch.ones(model.config.vocab_size, dtype=torch.bool, device=device)
    outside[sorted(used)] = False
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
