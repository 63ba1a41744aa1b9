"""What a step really takes against what the memory model says, on a CPU.

Every point is a process of its own: a model of random weights, AdamW, steps of two
microbatches of equal lengths (so that nothing is padded). In the second step torch's
profiler gives every allocation and release of its allocator; their running sum, on top of what was
held before, is the peak. The growth of the resident memory is written beside it: it
holds what libraries take for themselves, and what the allocator does not give back.
"""

import argparse
import datetime
import itertools
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dragoman.model.held import fixed_bytes
from dragoman.model.memory import GIB, peak_bytes
from dragoman.model.regime import Regime
from dragoman.model.sizes import Sizes

LENGTH = 32
FOLDER = Path(__file__).parent
MOST_ROWS_TOKENS = 65_536 * 1024
"""Of the loss, beyond which a single shape is enough."""


@dataclass(frozen=True)
class Point:
    """One measurement."""

    forward: str
    width: int
    layers: int
    vocabulary: int
    tokens: int
    precision: str
    checkpointing: bool
    dropout: bool = True

    def sizes(self) -> Sizes:
        inner, heads = 4 * self.width, self.width // 64
        return Sizes(self.vocabulary, self.width, self.layers, self.layers, inner, inner, heads)

    def regime(self) -> Regime:
        return Regime(
            precision=self.precision,  # pyright: ignore[reportArgumentType]
            forward=self.forward,  # pyright: ignore[reportArgumentType]
            gradient_checkpointing=self.checkpointing,
            device="cpu",
            dropout=self.dropout,
            length=LENGTH,
        )


def points(forward: str) -> list[Point]:
    """Every combination that ends within a minute; of the reference forward, one shape."""
    shapes = [(256, 2), (256, 4), (512, 2), (512, 4)] if forward == "packed" else [(512, 2)]
    found = [
        Point(forward, width, layers, rows, tokens, precision, checkpointing)
        for (width, layers), rows, tokens, precision, checkpointing in itertools.product(
            shapes, (8_192, 65_536), (256, 1024, 4096), ("fp32", "bf16"), (False, True)
        )
        if not (rows * tokens > MOST_ROWS_TOKENS and (width, layers) != (256, 4))
    ]
    return [*found, *(Point(forward, 256, 4, 8_192, 4096, half, False, dropout=False) for half in ("fp32", "bf16"))]


# --- one point, in its own process --------------------------------------------------------


def measure(point: Point) -> dict[str, int]:
    import torch
    from torch.profiler import ProfilerActivity, profile

    torch.set_num_threads(1)
    torch.manual_seed(1)
    before = _resident()
    model = model_of(point)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    _step(model, optimizer, point)
    optimizer.zero_grad(set_to_none=True)
    held = sum(t.nbytes for t in (*model.parameters(), *model.buffers()))
    held += sum(t.nbytes for state in optimizer.state.values() for t in state.values())
    Path("/proc/self/clear_refs").write_text("5")
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        _step(model, optimizer, point)
    resident = _resident("VmHWM") - before
    events = [e for e in profiled.profiler.kineto_results.events() if e.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    peak = max(itertools.accumulate(event.nbytes() for event in events))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {"counted": held + peak, "resident": resident, "held": held, "parameters": parameters}


def model_of(point: Point) -> Any:
    from transformers import M2M100Config, M2M100ForConditionalGeneration

    sizes, dropout = point.sizes(), 0.1 if point.dropout else 0.0
    config = M2M100Config(
        vocab_size=sizes.vocabulary,
        d_model=sizes.width,
        encoder_layers=sizes.encoder_layers,
        decoder_layers=sizes.decoder_layers,
        encoder_ffn_dim=sizes.encoder_inner,
        decoder_ffn_dim=sizes.decoder_inner,
        encoder_attention_heads=sizes.heads,
        decoder_attention_heads=sizes.heads,
        encoder_layerdrop=0.0,
        decoder_layerdrop=0.0,
        dropout=dropout,
        attention_dropout=dropout,
        activation_dropout=0.0,
    )
    model = M2M100ForConditionalGeneration(config).train()
    if point.checkpointing and point.forward == "reference":
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model


def _step(model: Any, optimizer: Any, point: Point) -> None:
    import torch

    from dragoman.training.forward import Forward
    from dragoman.training.optimizer import Arithmetic

    arithmetic = Arithmetic(torch.device("cpu"), point.precision)
    forward = Forward(model, arithmetic, point.forward == "packed", 0.1, checkpointing=point.checkpointing)
    tokens = point.tokens // 2 // LENGTH * LENGTH
    for seed in (1, 2):
        forward.backward(batch_of(point.tokens, point.vocabulary, seed), None, lambda objective: objective / tokens)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def batch_of(tokens: int, rows: int, seed: int) -> Any:
    """A microbatch of sentences of one length, half of its tokens target tokens."""
    import numpy as np

    from dragoman.data.loader import PackedBatch

    lengths = np.full(tokens // 2 // LENGTH, LENGTH)
    source_N, target_N = np.random.default_rng(seed).integers(4, rows, size=(2, int(lengths.sum())))
    return PackedBatch(source_N, np.roll(target_N, 1), target_N, lengths, lengths, pad=1)


def _resident(name: str = "VmRSS") -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


# --- all of them ----------------------------------------------------------------------------


def run(point: Point) -> dict[str, Any]:
    """Measure a point in a new process, and compare it with the model."""
    # With a fixed threshold, what is freed goes back to the system at once.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    words = [sys.executable, str(Path(__file__)), "--point", json.dumps(asdict(point))]
    done = subprocess.run(words, check=True, capture_output=True, text=True, env=environment)
    return judged(point, json.loads(done.stdout.splitlines()[-1]))


def judged(point: Point, found: dict[str, int]) -> dict[str, Any]:
    """What was measured, beside the model."""
    model, fixed = peak_bytes(point.sizes(), point.regime(), point.tokens), fixed_bytes(point.sizes(), point.regime())
    error = model / found["counted"] - 1
    beyond = (model - fixed) / (found["counted"] - fixed) - 1
    return asdict(point) | found | {"model": model, "fixed": fixed, "error": error, "error_beyond_fixed": beyond}


def again(path: Path) -> list[dict[str, Any]]:
    """Measurements that were made before, beside the model as it is now."""
    rows = json.loads(path.read_text("utf-8"))
    names = ("counted", "resident", "held", "parameters")
    return [
        judged(Point(**{name: row[name] for name in Point.__dataclass_fields__}), {name: row[name] for name in names})
        for row in rows
    ]


def report(rows: list[dict[str, Any]], today: str) -> Iterator[str]:
    """The page."""
    errors = [row["error"] for row in rows]
    beyond = [row["error_beyond_fixed"] for row in rows]
    yield f"# Peak memory of a step against the model, {today}, CPU\n"
    yield f"Made by `bench/memory.py`: {len(rows)} processes, one thread, sentences of {LENGTH} tokens, AdamW, two"
    yield "microbatches a step, dropout 0.1 unless marked. Counted: torch's own allocations at their peak. Resident:"
    yield "growth of the process. Error: model / counted − 1, of the whole, and of what is beyond weights, gradients"
    yield "and moments.\n"
    yield "| error | lowest | median | highest |\n|---|---|---|---|"
    for name, values in (("of the whole", errors), ("beyond the fixed part", beyond)):
        yield f"| {name} | {min(values):+.1%} | {statistics.median(values):+.1%} | {max(values):+.1%} |"
    yield "\n| forward | width | layers | rows | tokens | precision | checkpointing | model MB | counted MB | "
    yield "resident MB | error | beyond |\n|---|---|---|---|---|---|---|---|---|---|---|---|"
    for row in rows:
        precision = row["precision"] + ("" if row["dropout"] else ", no dropout")
        names = [row[key] for key in ("forward", "width", "layers", "vocabulary", "tokens")]
        sizes = [f"{row[key] / 1e6:,.0f}" for key in ("model", "counted", "resident")]
        marks = [precision, "on" if row["checkpointing"] else "off", *sizes]
        shown = [*map(str, names), *marks, f"{row['error']:+.1%}", f"{row['error_beyond_fixed']:+.1%}"]
        yield f"| {' | '.join(shown)} |"


def points_of(forwards: list[str]) -> list[Point]:
    return [point for forward in forwards for point in points(forward)]


def measure_all(chosen: list[Point]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for point in chosen:
        if peak_bytes(point.sizes(), point.regime(), point.tokens) < 4 * GIB:
            rows.append(run(point))
            row = rows[-1]
            print(*asdict(point).values(), f"{row['error']:+.1%} {row['error_beyond_fixed']:+.1%}", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--point")
    parser.add_argument("--every", type=int, default=1, help="measure only every Nth point, and write nothing")
    parser.add_argument("--forward", nargs="+", default=["packed", "reference"])
    parser.add_argument("--again", type=Path, help="measure nothing: compare this JSON file with the model as it is")
    words = parser.parse_args()
    if words.point:
        print(json.dumps(measure(Point(**json.loads(words.point)))))
        return
    rows = again(words.again) if words.again else measure_all(points_of(words.forward)[:: words.every])
    today = datetime.date.today().isoformat()
    text = "\n".join(report(rows, today)).replace("| \nresident", "| resident") + "\n"
    print(text)
    if words.every == 1:
        (FOLDER / f"memory_cpu_{today}.md").write_text(text, "utf-8")
        (FOLDER / f"memory_cpu_{today}.json").write_text(json.dumps(rows, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
