"""The speed bench: `Seq2SeqTrainer` as the starting document writes it, as an expert would, and dragoman.

Writes bench/speed_cpu_DATE.md and .json (speed_gpu_DATE for a GPU). A part that is run again
on the same day replaces its earlier result; the other parts of that day's report stay.

Usage: python bench/speed.py [--parts ladder padding 600m head losses vocabulary] [--rounds 5]
       python bench/speed.py --device cuda --model 600m --window 512 --warmup 3 --parts ladder padding 600m head
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # the Trainer would use all
sys.path.insert(0, str(Path(__file__).parent.parent))

import torch

from bench import speed_ladder, speed_losses, speed_memory, speed_report, speed_vocabulary
from bench import speed_ours as ours
from bench.speed_ladder import Lab
from bench.speed_world import SCALES

PARTS = ("ladder", "padding", "losses", "vocabulary", "head", "600m")
PACKAGES = ("torch", "transformers", "accelerate")


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--rounds", type=int, default=5, help="of the ladder")
    parser.add_argument("--sides", nargs="+", metavar="WORDS", help="of ladder, padding, 600m: names that begin so")
    parser.add_argument("--model", choices=SCALES, default="scaled", help="of ladder and padding")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--window", type=int, default=128, help="pairs that each side counts in a round")
    parser.add_argument("--warmup", type=int, default=1, help="steps before them")
    parser.add_argument("--loss-steps", type=int, default=60)
    parser.add_argument("--vocabulary-steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3, help="of the vocabulary part")
    parser.add_argument("--memory-rounds", type=int, default=1, help="of head and 600m, a process each")
    parser.add_argument("--output", type=Path, help="report without ending; left out: bench/speed_DEVICE_DATE")
    return parser.parse_args()


def run_part(name: str, chosen: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """One part of the bench."""
    if name == "head":
        return speed_memory.part_head(chosen.device, chosen.threads, rounds=chosen.memory_rounds)
    if name == "600m":
        only = tuple(chosen.sides or ("",))
        return speed_memory.part_600m(chosen.device, chosen.threads, rounds=chosen.memory_rounds, only=only)
    scale = SCALES[chosen.model if name in ("ladder", "padding") else "tiny"]
    with tempfile.TemporaryDirectory(prefix="speed-") as temporary:
        folder = Path(temporary) / "text"
        ours.prepare_corpus(folder, scale)
        if name == "losses":
            return speed_losses.part(scale, folder, device, steps=chosen.loss_steps)
        if name == "vocabulary":
            return speed_vocabulary.part(scale, folder, device, steps=chosen.vocabulary_steps, seeds=chosen.seeds)
        lab = Lab(folder, scale, device, chosen.rounds, chosen.window, chosen.warmup)
        sides = [
            side
            for side in speed_ladder.all_sides(device)
            if not chosen.sides or side.name.startswith(tuple(chosen.sides))
        ]
        if name == "padding":
            return speed_ladder.padding_part(lab, sides)
        return speed_ladder.part(lab, [side for side in sides if chosen.window % side.pairs_per_step == 0])


def facts(chosen: argparse.Namespace) -> dict[str, Any]:
    """What the figures depend on besides the code."""
    words = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(words, capture_output=True, text=True, cwd=Path(__file__).parent, check=False).stdout
    return {
        "date": datetime.date.today().isoformat(),
        "device": chosen.device,
        "device_name": torch.cuda.get_device_name() if chosen.device == "cuda" else "cpu",
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "threads": chosen.threads,
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "commit": commit.strip() or "unknown",
    }


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    extras = [name for name in ("avx512f", "avx512_bf16", "amx_bf16") if any(f" {name} " in f"{ln} " for ln in lines)]
    return f"{names[0] if names else platform.machine()} ({' '.join(extras)})"


def write(path: Path, parts: dict[str, Any], found: dict[str, Any]) -> None:
    """Both files; parts of an earlier run of the day stay unless they were run again."""
    json_path = path.with_suffix(".json")
    earlier = json.loads(json_path.read_text("utf-8"))["parts"] if json_path.exists() else {}
    results = {"facts": found, "parts": earlier | parts}
    json_path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(speed_report.text(results), encoding="utf-8")


def main() -> None:
    chosen = options()
    # Advice of libraries to their users would drown the figures.
    warnings.filterwarnings("ignore")
    torch.set_num_threads(chosen.threads)
    device = torch.device("cuda", 0) if chosen.device == "cuda" else torch.device("cpu")
    found = facts(chosen)
    kind = "gpu" if chosen.device == "cuda" else "cpu"
    path = chosen.output or Path(__file__).parent / f"speed_{kind}_{found['date']}"
    for name in chosen.parts:
        started = time.monotonic()
        result = run_part(name, chosen, device)
        seconds = round(time.monotonic() - started, 1)
        write(path, {name: result | {"part_seconds": seconds, "commit": found["commit"]}}, found)
        print(f"{name}: {seconds:.0f} s", flush=True)
    print(path.with_suffix(".md").read_text("utf-8"))


if __name__ == "__main__":
    main()
