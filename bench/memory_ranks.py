"""What a rank really takes against what the memory model says, on a CPU: 1, 2 and 4 ranks over gloo, DDP and FSDP2.

As `bench/memory.py`, but every rank is a process: each counts torch's allocations in its third step, and the largest
of them is compared with the model. Ranks compute the same lengths, so none has more to hold than another.

    python bench/memory_ranks.py
"""

import argparse
import datetime
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from bench import memory as whole
from dragoman import host
from dragoman.host import Rank
from dragoman.model.held import fixed_bytes
from dragoman.model.memory import peak_bytes
from dragoman.model.regime import Regime
from dragoman.model.sizes import Sizes

FOLDER = Path(__file__).parent
WIDTH, LAYERS, ROWS = 512, 4, 8_192
SECONDS = 240.0
"""A point may take on a busy machine; those that were measured before are not measured again."""


@dataclass(frozen=True)
class Point:
    """One measurement."""

    parallel: Literal["ddp", "fsdp"]
    ranks: int
    tokens: int
    precision: Literal["fp32", "bf16"]
    checkpointing: bool

    def sizes(self) -> Sizes:
        return Sizes(ROWS, WIDTH, LAYERS, LAYERS, 4 * WIDTH, 4 * WIDTH, WIDTH // 64)

    def regime(self) -> Regime:
        alone = Regime(
            precision=self.precision, gradient_checkpointing=self.checkpointing, device="cpu", length=whole.LENGTH
        )
        return alone.on_ranks(self.parallel, self.ranks)


def points() -> list[Point]:
    alone = Point("ddp", 1, 512, "fp32", False)
    half = [Point("fsdp", ranks, 512, "bf16", False) for ranks in (2, 4)]
    single = [Point(parallel, ranks, 512, "fp32", False) for ranks in (2, 4) for parallel in ("fsdp", "ddp")]
    return [alone, *single, *half, Point("fsdp", 2, 2048, "fp32", True)]


# --- one rank, in its own process ------------------------------------------------------------


def measure(point: Point) -> dict[str, int]:
    """What this rank allocates at the peak of its second step, and what it holds between steps."""
    import torch
    import torch.distributed as dist
    from torch.profiler import ProfilerActivity, profile

    torch.set_num_threads(1)
    torch.manual_seed(1)
    forward = _forward(point)
    optimizer = torch.optim.AdamW([part for _, part in forward.trained()], lr=1e-4, fused=True)
    for _ in range(2):  # DDP puts its buckets together anew in the second one
        _step(forward, optimizer, point)
    held = _held(forward, optimizer, point)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        _step(forward, optimizer, point)
    kineto: Any = profiled.profiler
    events = [e for e in kineto.kineto_results.events() if e.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    peak = max(itertools.accumulate(event.nbytes() for event in events))
    if point.ranks > 1:
        dist.barrier()
    return {"counted": held + peak, "held": held}


def _forward(point: Point) -> Any:
    import torch
    import torch.distributed as dist

    from dragoman.model.ddp import Whole
    from dragoman.model.fsdp import Parts
    from dragoman.model.pieces import Peers
    from dragoman.training.forward import Forward
    from dragoman.training.optimizer import Arithmetic

    place = host.rank()
    model: Any = whole.model_of(whole.Point("packed", WIDTH, LAYERS, ROWS, point.tokens, point.precision, False))
    arithmetic = Arithmetic(torch.device("cpu"), point.precision, ranks=point.ranks)
    parallel: Any = None
    if place and point.ranks > 1:
        dist.init_process_group("gloo")
        saving: Any = dist.new_group(backend="gloo")
        peers = Peers(place.number, place.count, torch.device("cpu"), saving)
        if point.parallel == "fsdp":
            parallel = Parts(model, peers, arithmetic.half, offload=False)
        else:
            parallel = Whole(model, peers, list(model.model.shared.parameters()))
    return Forward(model, arithmetic, True, 0.1, parallel=parallel, checkpointing=point.checkpointing)


def _step(forward: Any, optimizer: Any, point: Point) -> None:
    from dragoman.training.step import clipped, forget_gradients

    forget_gradients(forward, optimizer)
    batches = [whole.batch_of(point.tokens, ROWS, seed) for seed in (1, 2)]
    for number, batch in enumerate(batches):
        forward.backward(batch, None, lambda objective: objective / point.tokens, is_last=number == 1)
    if forward.parallel:
        forward.parallel.add_gradients()
    clipped(forward, 1.0)
    optimizer.step()
    forget_gradients(forward, optimizer)


def _held(forward: Any, optimizer: Any, point: Point) -> int:
    """Weights, moments and buckets, which are there before the step that is counted."""
    trained = forward.trained()
    held = sum(part.nbytes for _, part in trained) + sum(part.nbytes for part in forward.model.buffers())
    held += sum(t.nbytes for state in optimizer.state.values() for t in state.values())
    if point.ranks > 1 and point.parallel == "ddp":  # whose memory torch shows nobody
        held += sum(part.nbytes for name, part in trained if "shared" not in name)
    return held


# --- all of them ----------------------------------------------------------------------------


def run(point: Point) -> dict[str, Any]:
    """Measure a point in new processes, and compare the largest of them with the model."""
    words = [sys.executable, str(Path(__file__)), "--point", json.dumps(asdict(point))]
    port, started = host.free_port(), []
    for number in range(point.ranks):
        place = Rank(number, point.ranks, number, point.ranks)
        environment = host.environment_of_rank(place, "127.0.0.1", port, "lo")
        started.append(subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment))
    try:
        found = [json.loads(process.communicate(timeout=SECONDS)[0].splitlines()[-1]) for process in started]
    finally:
        for process in started:
            process.kill()
    return judged(point, max(each["counted"] for each in found))


def judged(point: Point, counted: int) -> dict[str, Any]:
    """What was measured, beside the model."""
    model, fixed = peak_bytes(point.sizes(), point.regime(), point.tokens), fixed_bytes(point.sizes(), point.regime())
    return asdict(point) | {"counted": counted, "model": model, "fixed": fixed, "error": model / counted - 1}


def report(rows: list[dict[str, Any]], today: str) -> Iterator[str]:
    """The page."""
    yield f"# Peak memory of a rank against the model, {today}, CPU\n"
    yield "Made by `bench/memory_ranks.py`: gloo, one thread for each rank, sentences of 32 tokens, AdamW, two"
    yield f"microbatches a step, dropout 0.1; random model, width {WIDTH}, {LAYERS} + {LAYERS} layers, {ROWS:,} rows."
    yield "Counted: torch's own allocations at their peak, in the rank that has most. Fixed: weights, gradients and"
    yield "moments by the model. Error: model / counted - 1.\n"
    yield "| | ranks | tokens | precision | checkpointing | fixed MB | model MB | counted MB | error |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for row in rows:
        sizes = [f"{row[key] / 1e6:,.0f}" for key in ("fixed", "model", "counted")]
        how = row["parallel"] if row["ranks"] > 1 else "alone"
        marks = [row["precision"], "on" if row["checkpointing"] else "off"]
        shown = [how, str(row["ranks"]), str(row["tokens"]), *marks, *sizes, f"{row['error']:+.1%}"]
        yield f"| {' | '.join(shown)} |"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--point")
    words = parser.parse_args()
    if words.point:
        found = measure(Point(**json.loads(words.point)))
        print(json.dumps(found), flush=True)
        os._exit(0)  # the profiler's and gloo's threads may outlive what they served
    today = datetime.date.today().isoformat()
    kept = FOLDER / f"memory_ranks_cpu_{today}.json"
    rows: list[dict[str, Any]] = json.loads(kept.read_text("utf-8")) if kept.exists() else []
    rows = [judged(Point(**{name: row[name] for name in Point.__dataclass_fields__}), row["counted"]) for row in rows]
    done = [Point(**{name: row[name] for name in Point.__dataclass_fields__}) for row in rows]
    for point in points():
        if point not in done:
            rows.append(run(point))
            kept.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
            print(point, f"{rows[-1]['error']:+.1%}", file=sys.stderr, flush=True)
    text = "\n".join(report(rows, today)) + "\n"
    print(text)
    (FOLDER / f"memory_ranks_cpu_{today}.md").write_text(text, "utf-8")


if __name__ == "__main__":
    main()
