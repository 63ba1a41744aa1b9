"""Memory, each side alone in a fresh process: a step at the true dimensions of the 600M, and the loss head.

Peaks are the kernel's own count of the process's resident memory (VmHWM); on a GPU those of
torch's allocator. Only one such process lives at a time, and none is started when the machine
has not enough memory left.
"""

import fcntl
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench import speed_ours as ours
from bench import speed_trainer as theirs
from bench.speed_clock import free_bytes
from bench.speed_world import REAL_WIDTH, SCALES
from dragoman.model.vocabulary import REAL_VOCABULARY

NEEDED_BYTES = 15e9
"""Free memory without which the step at true dimensions is not tried: four times the weights in fp32, and room."""
HEAD_NEEDED_BYTES = 7e9
HEAD_TOKENS = 1024


def part_600m(
    device: str, threads: int, *, rounds: int = 1, warmup: int = 1, steps: int = 2, only: tuple[str, ...] = ("",)
) -> dict[str, Any]:
    """The recipe and those of our rungs with equal pairs whose names begin with one of `only`, in turn."""
    scale = SCALES["600m"]
    rungs = [rung for rung in ours.equal_pairs() if rung.name.startswith(only)]
    sides = [theirs.RECIPE, *(rung for rung in rungs if not rung.missing)]
    with tempfile.TemporaryDirectory(prefix="speed-600m-") as temporary:
        folder = Path(temporary) / "text"
        # In a process of its own, so that this one stays small beside its children.
        subprocess.run([sys.executable, __file__, str(folder), scale.name], check=True)
        order = {"part": "600m", "scale": scale.name, "folder": str(folder), "device": device, "threads": threads}
        order |= {"warmup": warmup, "steps": steps}
        found: dict[str, list[dict[str, Any]]] = {side.name: [] for side in sides}
        for _ in range(rounds):
            for side in sides:
                found[side.name].append(_child(order | {"side": side.name}, NEEDED_BYTES))
    return {
        "weights": scale.weights(),
        "rows": scale.rows,
        "steps": steps,
        "sides": found,
        "ratios": _against(found, theirs.RECIPE.name),
        "not_built": {rung.name: rung.missing for rung in rungs if rung.missing},
    }


def part_head(device: str, threads: int, *, rounds: int = 3) -> dict[str, Any]:
    """torch's cross-entropy and ours over NLLB's rows."""
    order = {"part": "head", "tokens": HEAD_TOKENS, "rows": REAL_VOCABULARY, "width": REAL_WIDTH}
    order |= {"device": device, "threads": threads}
    names = ["torch", *ours.loss_heads()]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            found[name].append(_child(order | {"side": name}, HEAD_NEEDED_BYTES))
    return {"tokens": HEAD_TOKENS, "rows": REAL_VOCABULARY, "sides": found}


def _child(order: dict[str, Any], needed: float) -> dict[str, Any]:
    """The answer of one process, or why there is none."""
    with (Path(tempfile.gettempdir()) / "dragoman-speed.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if order["device"] == "cpu" and free_bytes() < needed:
            return {"failure": f"not run: {free_bytes() / 1e9:.1f} GB are free, {needed / 1e9:.0f} are needed"}
        child = Path(__file__).with_name("speed_child.py")
        words = [sys.executable, str(child), json.dumps(order)]
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        return {"failure": f"exit code {done.returncode}"}
    answer = json.loads(done.stdout.splitlines()[-1])
    print(f"{order['part']}  {order['side']:30} {answer}", flush=True)
    return answer


def _against(found: dict[str, list[dict[str, Any]]], base: str) -> dict[str, dict[str, float]]:
    """Median speed and memory of each side, over the baseline's."""
    good = {name: [one for one in rounds if "failure" not in one] for name, rounds in found.items()}
    if not good[base]:
        return {}

    def median(name: str, key: str) -> float:
        return statistics.median(one[key] for one in good[name])

    memory = "gpu_bytes" if any(one["gpu_bytes"] for one in good[base]) else "peak_bytes"
    return {
        name: {
            "speed": round(median(name, "tokens_per_second") / median(base, "tokens_per_second"), 3),
            "memory": round(median(name, memory) / median(base, memory), 3),
        }
        for name in good
        if good[name]
    }


if __name__ == "__main__":
    ours.prepare_corpus(Path(sys.argv[1]), SCALES[sys.argv[2]])
