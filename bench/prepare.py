"""Preparing pairs: how fast against the recipe, how much memory, and how soon a session finds its place.

Speed: a million real lines, both sides in turns, pairs per CPU second. Memory: the
resident memory of all processes of `dragoman prepare` together (each shared page counted
once: PSS), sampled while it prepares corpora of growing size. Place: opening the largest
one at random steps.

Usage: python -m bench.prepare [--pairs 1000000] [--rounds 3] [--sizes 250000 1000000 4000000 10000000]
"""

import argparse
import datetime
import itertools
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench import prepare_text
from bench.prepare_sides import BASE
from dragoman.model import scratch

FOLDER = Path(__file__).parent
PIECES = 32_000
SAMPLE_SECONDS = 0.5
RUN = "run"
"""In the bench's folder: what `dragoman prepare` makes."""


def measured(*arguments: object) -> dict[str, Any]:
    """One side in a process of its own; what it prints."""
    return watched([str(FOLDER / "prepare_sides.py"), *map(str, arguments)])[0]


def watched(arguments: list[str]) -> tuple[dict[str, Any], dict[str, float]]:
    """Run Python; the JSON that it prints, and what it took: seconds, and memory of it and its children."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    samples: list[float] = []
    while process.poll() is None:
        samples.append(megabytes(process.pid))
        time.sleep(SAMPLE_SECONDS)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    assert process.stdout is not None
    answer = json.loads(process.stdout.read().splitlines()[-1])
    return answer, {
        "peak_megabytes": max(samples),
        "median_megabytes": statistics.median(samples),
        "wall": wall,
        "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
    }


def megabytes(pid: int) -> float:
    """Resident memory of a process and all below it, each shared page counted once."""
    total = 0.0
    for one in (pid, *children(pid)):
        try:
            rollup = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in rollup if line.startswith("Pss:")) / 1e3
    return total


def children(pid: int) -> list[int]:
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            below = [int(child) for child in path.read_text().split()]
        except OSError:
            continue
        for child in below:
            found += [child, *children(child)]
    return found


def speed(folder: Path, base: list[tuple[str, str]], num_pairs: int, rounds: int) -> dict[str, Any]:
    """All sides in turns."""
    name = prepare_text.write(folder, base, num_pairs, jsonl=True)
    runs: dict[str, list[dict[str, Any]]] = {}
    for number in range(rounds):
        # Two processes only once: what they cost is the same work and their start.
        for side, processes in (("ours", 1), ("recipe", 1), *((("ours", 2), ("recipe", 2)) if number == 0 else ())):
            run = measured(side, folder, name, processes)
            runs.setdefault(f"{side}, {processes}", []).append(run)
            print(f"round {number} {side} {processes}: {run['cpu']:.1f} s CPU, {run['wall']:.1f} s", flush=True)
    digests = {run["digest"] for side, found in runs.items() if side.startswith("ours") for run in found}
    assert len(digests) == 1, "the number of processes shows"
    return {"pairs": num_pairs, "runs": runs}


def memory(folder: Path, base: list[tuple[str, str]], sizes: list[int]) -> list[dict[str, Any]]:
    """The real command with two processes at each size; the last run stays."""
    found: list[dict[str, Any]] = []
    for num_pairs in sizes:
        name = prepare_text.write(folder, base, num_pairs, jsonl=False)
        shutil.rmtree(folder / RUN, ignore_errors=True)
        words = ["--language-pairs", "en-fr", "--data", f"en-fr={folder / name}.tsv", "--model", str(folder / BASE)]
        words += ["--output", str(folder / RUN), "--prepare-processes", "2", "--json"]
        taken = watched(["-m", "dragoman", "prepare", *words])[1]
        found.append({"pairs": num_pairs, **taken})
        print({key: found[-1][key] for key in ("pairs", "wall", "cpu", "peak_megabytes")}, flush=True)
        (folder / f"{name}.tsv").unlink()
    return found


def places(folder: Path, count: int = 5) -> list[dict[str, Any]]:
    """The corpus that `memory` left, opened at random steps and the first."""
    (corpus,) = (folder / RUN / "dragoman/corpus").iterdir()
    where = corpus.relative_to(folder)
    steps = measured("opened", folder, where, 0)["steps"]
    chooser = random.Random(1)
    chosen = [0, *(chooser.randrange(steps) for _ in range(count))]
    return [measured("opened", folder, where, step) for step in chosen]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs="+", default=[250_000, 1_000_000, 4_000_000, 10_000_000])
    options = parser.parse_args()
    before = os.getloadavg()
    with tempfile.TemporaryDirectory(prefix="dragoman-bench-") as name:
        folder = Path(name)
        base = prepare_text.lines()
        (folder / BASE).mkdir()
        scratch.build(folder / BASE, scratch.texts(base), replace(scratch.PRESETS["tiny"], pieces=PIECES), seed=1)
        found: dict[str, Any] = {
            "date": datetime.date.today().isoformat(),
            "cores": len(os.sched_getaffinity(0)),
            "pieces": PIECES,
            "base_lines": len(base),
            "characters_per_pair": sum(len(a) + len(b) for a, b in base) / len(base),
            "speed": speed(folder, base, options.pairs, options.rounds),
            "memory": memory(folder, base, options.sizes),
            "places": places(folder),
            "load_before": before,
        }
    found["load_after"] = os.getloadavg()
    result = FOLDER / f"prepare_cpu_{found['date']}"
    result.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    result.with_suffix(".md").write_text(report(found))


def report(found: dict[str, Any]) -> str:
    """The result as Markdown."""
    loads = ", ".join(f"{found[when][0]:.1f}" for when in ("load_before", "load_after"))
    lines = [
        f"# Preparing pairs, {found['date']}, CPU, {found['cores']} cores",
        "",
        f"Made by `make bench-prepare`: {found['base_lines']:,} lines of gettext catalogues, English to French, "
        f"{found['characters_per_pair']:.0f} characters a pair, repeated with numbers behind them until they are "
        "enough; every fifth pair has a word that no other has. A scratch tokenizer with "
        f"{found['pieces']:,} pieces on all sides. Load average before and after: {loads}; where that is above 0, "
        "others worked on the same cores.",
        "",
        *_speed(found["speed"]["runs"], found["speed"]["pairs"]),
        "",
        "## Memory",
        "",
        *_memory(found["memory"]),
        "",
        "## Finding the place of a session",
        "",
        *_places(found["places"]),
    ]
    return "\n".join(lines) + "\n"


def _speed(runs: dict[str, Any], pairs: int) -> list[str]:
    lines = [
        f"## Speed: {pairs:,} pairs, both sides in turns",
        "",
        "Ours reads TSV, cleans, filters, drops duplicates and leaks, splits, tokenises and writes the corpus. The "
        "recipe is `load_dataset` of JSONL and `map(batched=True)` as in transformers' `run_translation`; it does none "
        "of the cleaning. Medians; in brackets every round.",
        "",
        "| side | processes | pairs per CPU second | CPU seconds | wall seconds |",
        "|---|---|---|---|---|",
    ]
    for side, rows in sorted(runs.items()):
        columns = [_values([pairs / row["cpu"] for row in rows], ".0f")]
        columns += [_values([row[key] for row in rows], ".1f") for key in ("cpu", "wall")]
        lines.append(f"| {side.replace(', ', ' | ')} | {' | '.join(columns)} |")
    maps = [pairs / row["stages"]["map"]["cpu"] for row in runs["recipe, 1"]]
    lines.append(f"| recipe, `map` alone | 1 | {_values(maps, '.0f')} | | |")
    rates = {side: statistics.median(pairs / row["cpu"] for row in rows) for side, rows in runs.items()}
    lines += [
        "",
        "Pairs per CPU second, ours against the recipe: "
        f"{rates['ours, 1'] / rates['recipe, 1']:.1f} times with one process each, "
        f"{rates['ours, 2'] / rates['recipe, 2']:.1f} times with two; against its `map` alone "
        f"{rates['ours, 1'] / statistics.median(maps):.1f} times (one process).",
        "",
        "Stages of ours with one process, CPU microseconds per pair (medians):",
        "",
    ]
    for stage in runs["ours, 1"][0]["stages"]:
        cost = statistics.median(row["stages"][stage]["cpu"] for row in runs["ours, 1"])
        lines.append(f"* {stage}: {1e6 * cost / pairs:.1f}")
    return lines


def _memory(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "`dragoman prepare` with two processes beside the one that reads; memory of all three together (PSS), sampled "
        "twice a second. Seconds are those of the whole command.",
        "",
        "| pairs | peak MB | median MB | wall s | CPU s |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        columns = (f"{row[key]:,.0f}" for key in ("pairs", "peak_megabytes", "median_megabytes", "wall", "cpu"))
        lines.append(f"| {' | '.join(columns)} |")
    for first, last in itertools.pairwise(rows):
        slope = (last["peak_megabytes"] - first["peak_megabytes"]) * 1e6 / (last["pairs"] - first["pairs"])
        lines += ["", f"Slope of the peak from {first['pairs']:,} to {last['pairs']:,}: {slope:.1f} bytes per pair."]
    return lines


def _places(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        f"Opening the corpus of {rows[0]['pairs']:,} pairs and taking the batch of a step ({rows[0]['steps']:,} "
        "steps), each in a new process, imports not counted:",
        "",
        "| step | seconds | memory grown by, MB |",
        "|---|---|---|",
    ]
    return lines + [f"| {row['step']:,} | {row['seconds']:.4f} | {row['grown_megabytes']:.1f} |" for row in rows]


def _values(values: list[float], form: str) -> str:
    return f"{statistics.median(values):,{form}} ({', '.join(f'{value:,{form}}' for value in values)})"


if __name__ == "__main__":
    main()
