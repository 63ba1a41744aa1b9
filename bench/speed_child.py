"""One side of a measurement of memory, alone in a fresh process; prints one JSON object on its last line.

Usage: python bench/speed_child.py '{"part": "600m" | "head", "side": NAME, …}'
"""

import json
import sys
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch

from bench import speed_head
from bench import speed_ours as ours
from bench import speed_trainer as theirs
from bench.speed_clock import peak_bytes, resident_bytes
from bench.speed_trainer import TrainerSide
from bench.speed_world import SCALES


def one_step(order: dict[str, Any]) -> dict[str, Any]:
    """A few steps of 16 pairs at the true dimensions; seconds and the peak of the whole process."""
    device, scale = torch.device(order["device"]), SCALES[order["scale"]]
    folder, warmup, steps = Path(order["folder"]), order["warmup"], order["steps"]
    before = resident_bytes()
    side = next(side for side in (theirs.RECIPE, *ours.equal_pairs()) if side.name == order["side"])
    model, corpus = scale.model(device), ours.corpus_of(folder)
    first, num = warmup * side.pairs_per_step, steps * side.pairs_per_step
    if isinstance(side, TrainerSide):
        pairs = ours.pairs_in_order(corpus, first + num)
        where = {"first_pair": first, "num_pairs": num, "warmup": warmup}
        clock = theirs.run(side, pairs, folder / "base", model, device, **where)
    else:
        clock = ours.run(side, scale, corpus, device, model=model, first_pair=first, num_pairs=num, warmup=warmup)
    return clock.to_json() | {"steps": steps, "imports_bytes": before, "peak_bytes": peak_bytes()}


def head(order: dict[str, Any]) -> dict[str, Any]:
    """The loss head alone."""
    device = torch.device(order["device"])
    return speed_head.measure(order["side"], order["tokens"], order["rows"], order["width"], device)


def main() -> None:
    order = json.loads(sys.argv[1])
    warnings.filterwarnings("ignore")
    torch.set_num_threads(order.get("threads", 1))
    answer = {"600m": one_step, "head": head}[order["part"]](order)
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
