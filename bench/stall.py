"""What a save costs the training: `--snapshot copy` and `stream` against blocks of steps without a save.

Real sessions of a random model with some 70 million parameters on the CPU: one on all cores
but one, as training on a GPU leaves cores to a writer, and one on all. Their steps come in
blocks; each round has one block of every way, in another order. A block begins with its
save and ends, after a fixed number of steps, when that save has ended. So what a
block takes longer than the one without a save, in the same round, is all that the save
cost: the copy, and the steps that were slowed down while the writer worked.

Then, apart from training: how much slower do pure Python and small torch operations run
while a thread hashes and writes, and while a process does.

Prints a report and writes it to bench/, with all figures as JSON beside it.

Usage: python bench/stall.py [--rounds 9] [--steps 12] [--nice]
"""

import argparse
import datetime
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch

from dragoman import journal
from dragoman.config import from_flat
from dragoman.model import scratch, sizes
from dragoman.store.disk import Disk
from dragoman.training import loop, saving, snapshot, tensor_file
from dragoman.training.saver import Attempt
from dragoman.training.session import Session
from tests.support.runs import make_pairs

SAVE_SECONDS = 600.0
"""One save per ten minutes, the default of --save-minutes."""
MODEL = scratch.Preset(width=768, layers=4, heads=12, pieces=2000)
LARGE = "facebook/nllb-200-distilled-600M"
WAYS = ("none", "copy", "stream")
NICE = "copy, writer at nice 10"


@dataclass
class Blocks:
    """Stands in for `saving.save_if_due`: decides which block saves how, and takes the time."""

    ways: list[str]
    steps: int
    rounds: int
    threads: int
    seconds: dict[str, list[float]] = field(default_factory=dict)
    at_save: dict[str, list[float]] = field(default_factory=dict)
    """From the call of the save until training goes on."""
    own: dict[str, list[float]] = field(default_factory=dict)
    """CPU time of the trainer's thread in the same stretch, in seconds."""
    saved_bytes: int = 0
    first_copy: float = 0.0
    copies: list[float] = field(default_factory=list)
    """Of the copy alone, once its memory was used before."""
    _order: list[str] = field(default_factory=list)
    _way: str = ""
    _began: float = 0.0

    @property
    def num_steps(self) -> int:
        return self.steps * (len(self.ways) * (self.rounds + 1) + 1) + 1

    def after_step(self, run: Session, improved: bool) -> None:
        if run.state.step % self.steps:
            return
        saving.settle(run)
        if self._way:
            self.seconds.setdefault(self._way, []).append(time.perf_counter() - self._began)
        if not self._order:
            self._order = random.Random(run.state.step).sample(self.ways, len(self.ways))
            print(f"step {run.state.step}/{self.num_steps}", file=sys.stderr)
        self._way, self._began, own = self._order.pop(), time.perf_counter(), time.thread_time()
        self._save(run)
        self.at_save.setdefault(self._way, []).append(time.perf_counter() - self._began)
        self.own.setdefault(self._way, []).append(time.thread_time() - own)

    def _save(self, run: Session) -> None:
        if self._way == "none":
            return
        run.saver.copies = self._way != "stream"
        Attempt.make = NICELY if self._way == NICE else PLAINLY  # type: ignore[method-assign]
        saving.begin(run, "bench")

    def extra(self, way: str) -> list[float]:
        """What each block took longer than the one without a save in its round; the first round warms up."""
        return [a - b for a, b in zip(self.seconds[way][1:], self.seconds["none"][1:], strict=True)]


COPY = snapshot.HostBuffers.copy
PLAINLY = Attempt.make


def NICELY(self: Attempt, *where: Any) -> None:  # noqa: N802
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
    PLAINLY(self, *where)


def measure(blocks: Blocks, folder: Path) -> None:
    """Run the session."""
    scratch.PRESETS["bench"] = MODEL
    data = folder / "pairs.tsv"
    make_pairs(data, n=400, seed=1)
    options = {"language_pairs": ["en-fr"], "data": [f"en-fr={data}"], "model": "scratch:bench", "device": "cpu"}
    options |= {"max_steps": blocks.num_steps, "batch_size": 4, "gradient_accumulation": 1, "keep": 1}
    options |= {"eval_steps": 0, "save_steps": 10**6, "log_steps": 10**6}
    options |= {"threads": blocks.threads, "output": str(folder / f"run-{blocks.threads}")}
    made: list[float] = []

    def timed(self: snapshot.HostBuffers, live: Any) -> Any:
        started = time.perf_counter()
        result = COPY(self, live)
        made.append(time.perf_counter() - started)
        blocks.saved_bytes = snapshot.num_bytes(live)
        return result

    saving.save_if_due = blocks.after_step
    snapshot.HostBuffers.copy = timed  # type: ignore[method-assign]
    loop.run(from_flat(options), lambda event: print(event, file=sys.stderr) if _matters(event) else None)
    blocks.first_copy, blocks.copies = made[0], made[1:]


def _matters(event: journal.Event) -> bool:
    return isinstance(event, journal.Warned | journal.SaveFailed)


# --- does the writer hold the interpreter? ---------------------------------------


def python_work() -> None:
    total = 0
    for number in range(400_000):
        total += number & 7


SMALL = torch.randn(96, 96)


def torch_work() -> None:
    for _ in range(400):
        torch.mm(SMALL, SMALL)


def write_forever(folder: Path, ended: Callable[[], bool]) -> None:
    """Hash and write 200 MB again and again, with tensors of all sizes, as a save does."""
    made = {f"{i}": torch.randn(1024, 1024) for i in range(48)} | {f"b{i}": torch.randn(1024) for i in range(400)}
    while not ended():
        Disk().write(folder / "w.safetensors", tensor_file.chunks(made, {}))


def interpreter(folder: Path, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Seconds of a piece of work, alone, beside a writing thread, and beside a writing process; interleaved."""
    torch.set_num_threads(1)
    found: dict[str, dict[str, list[float]]] = {}
    for number in range(rounds):
        ways = {"alone": _alone, "thread": _thread, "process": _process}
        for beside in random.Random(number).sample(list(ways), len(ways)):
            stop = ways[beside](folder)
            time.sleep(2.0 if beside == "process" else 0.3)  # until it writes
            for name, work in {"Python": python_work, "torch": torch_work}.items():
                for _ in range(15):
                    started = time.perf_counter()
                    work()
                    found.setdefault(name, {}).setdefault(beside, []).append(time.perf_counter() - started)
            stop()
    return found


def _alone(folder: Path) -> Callable[[], object]:
    return lambda: None


def _thread(folder: Path) -> Callable[[], object]:
    ended = threading.Event()
    thread = threading.Thread(target=write_forever, args=(folder, ended.is_set))
    thread.start()
    return lambda: (ended.set(), thread.join())


def _process(folder: Path) -> Callable[[], object]:
    child = subprocess.Popen([sys.executable, __file__, "--write", str(folder)])
    return lambda: (child.kill(), child.wait())


# --- the report ------------------------------------------------------------------


def spread(values: list[float]) -> tuple[float, float, float]:
    """Median and the middle half."""
    low, _, high = statistics.quantiles(values, n=4)
    return statistics.median(values), low, high


def report(sessions: list[Blocks], slower: dict[str, dict[str, list[float]]], loads: list[float], today: str) -> str:
    some = sessions[0]
    size = some.saved_bytes / 1e9
    lines = [f"# What a save costs training, {today}, CPU, {os.cpu_count()} cores", ""]
    lines += [
        f"Made by `make bench`: sessions of a random model with {some.saved_bytes / 12e6:.0f}M parameters "
        f"({size:.2f} GB of tensors in a checkpoint), {some.rounds} rounds of interleaved blocks of {some.steps} "
        f"steps. Load average before it and after it: {loads[0]:.1f}, {loads[1]:.1f}; where that is above 1 at the "
        "start, others worked on the same cores, and the writer had none for itself.",
        "",
        "The cost of a save is what its block took longer than the block without one in the same round: median "
        "(middle half). Shares are of ten minutes, one save of `--save-minutes 10`.",
        "",
        "| threads | a step | way | training stands still | share | its CPU time then | cost of a save | share |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for blocks in sessions:
        lines += [_row(blocks, way) for way in blocks.ways if way != "none"]
    speed = size / statistics.median([seconds for blocks in sessions for seconds in blocks.copies])
    large = sizes.KNOWN[LARGE].checkpoint_bytes / 1e9
    lines += [
        "",
        f"The copy alone runs at {speed:.1f} GB/s; the first of a session, into fresh memory, at "
        f"{size / statistics.median(blocks.first_copy for blocks in sessions):.1f} GB/s.",
        "",
        f"Calculated, not measured: the {large:.1f} GB of the 600M model at that speed are {large / speed:.1f} s, "
        f"{large / speed / SAVE_SECONDS:.2%} of ten minutes; on a GPU the copy runs beside the next step.",
        "",
        "Does the writer hold the interpreter? Median time of work on one thread beside a writer, against alone:",
        "",
        "| work | beside a thread | beside a process |",
        "|---|---|---|",
    ]
    for name, ways in slower.items():
        alone = statistics.median(ways["alone"])
        ratios = [f"{statistics.median(ways[way]) / alone:.2f}x" for way in ("thread", "process")]
        lines.append(f"| {name} | {' | '.join(ratios)} |")
    return "\n".join(lines) + "\n"


def _row(blocks: Blocks, way: str) -> str:
    step = statistics.median(blocks.seconds["none"][1:]) / blocks.steps
    still, own = statistics.median(blocks.at_save[way][1:]), statistics.median(blocks.own[way][1:])
    median, low, high = spread(blocks.extra(way))
    cost = f"{median:.2f} s ({low:.2f} to {high:.2f})"
    share = f"{median / SAVE_SECONDS:.2%}"
    stands = f"{still:.2f} s | {still / SAVE_SECONDS:.2%} | {own:.2f} s"
    return f"| {blocks.threads} | {step:.2f} s | {way} | {stands} | {cost} | {share} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=12, help="steps in a block: more than a save lasts")
    parser.add_argument("--nice", action="store_true", help="also with the writer's thread at nice 10")
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--name", default="stall_cpu")
    chosen = parser.parse_args()
    if chosen.write:
        write_forever(chosen.write, lambda: False)
    ways, cores = [*WAYS, NICE] if chosen.nice else list(WAYS), os.cpu_count() or 1
    sessions = [Blocks(ways, chosen.steps, chosen.rounds, threads) for threads in (max(1, cores - 1), cores)]
    loads = [os.getloadavg()[0]]
    with tempfile.TemporaryDirectory(dir=".") as folder:
        for blocks in sessions:
            measure(blocks, Path(folder))
        slower = interpreter(Path(folder), chosen.rounds)
    today = datetime.date.today().isoformat()
    loads.append(os.getloadavg()[0])
    made = report(sessions, slower, loads, today)
    kept = ("threads", "steps", "saved_bytes", "seconds", "at_save", "own", "first_copy", "copies")
    figures = {"sessions": [{name: getattr(blocks, name) for name in kept} for blocks in sessions]}
    figures |= {"interpreter": slower, "loads": loads}
    Path(f"bench/{chosen.name}_{today}.md").write_text(made, encoding="utf-8")
    Path(f"bench/{chosen.name}_{today}.json").write_text(json.dumps(figures) + "\n", encoding="utf-8")
    print(made)


if __name__ == "__main__":
    main()
