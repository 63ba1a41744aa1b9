"""Holds `dragoman estimate --measure` against real runs on this machine: time, steps, saves, bytes.

For each model: forty steps are timed by `--measure`, then a run several times as long is
trained, with evaluations and saves, then the steps are timed once more. What the estimate
says of the whole session, from loaded model to last save, is compared with the journal's
clock. All of it runs as child processes, as a user would.

Usage: python bench/estimate.py [--output FILE.md] [--scale 1.0]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from dragoman import host
from dragoman.data.sources import open_sources
from dragoman.journal import read
from dragoman.languages import parse_pair
from dragoman.model import scratch

DATA = "gettext:django,wagtail"
PAIRS = ("en-fr", "en-de")
LIMIT = 0.20


@dataclass(frozen=True)
class Case:
    """One model, and how long it is trained."""

    name: str
    steps: int
    options: dict[str, Any]
    width: int = 0
    """Of a model with random weights that is built for this; 0: `name` is one that dragoman builds."""


CASES = (
    Case("scratch:tiny", 500, {}),
    Case("scratch:small", 300, {}),
    Case("scratch:small, 64 pairs a step", 200, {"batch_size": 64, "gradient_accumulation": 1}),
    Case("random, width 512, 4 + 4 layers", 150, {}, width=512),
)


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--output", type=Path)
    arguments.add_argument("--scale", type=float, default=1.0, help="Of the steps of the real runs.")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-estimate-") as temporary:
        found = [played(case, Path(temporary) / str(number), given.scale) for number, case in enumerate(CASES)]
    page = "\n".join(report(found)) + "\n"
    print(page)
    if given.output:
        given.output.write_text(page, "utf-8")


def played(case: Case, folder: Path, scale: float) -> dict[str, Any]:
    """Estimate, train, estimate again."""
    folder.mkdir(parents=True)
    steps = max(60, int(case.steps * scale))
    options = {
        "language_pairs": list(PAIRS),
        "data": [DATA],
        "model": built(folder, case.width) if case.width else case.name.partition(",")[0],
        "max_steps": steps,
        "eval_steps": steps // 2,
        "save_steps": steps // 2,
        "eval_samples": 20,
        "threads": 1,
        "device": "cpu",
        "learning_rate": 5e-4,
        "output": str(folder / "run"),
    }
    file = folder / "run.yaml"
    file.write_text(json.dumps(options | case.options), "utf-8")
    dragoman("prepare", file)
    before = estimated(file)
    dragoman("train", file)
    after = estimated(file, "--resume", "auto")
    return {"case": case.name, "before": before, "after": after, "real": real(folder / "run")}


def built(folder: Path, width: int) -> str:
    """A model with random weights whose tokenizer knows the text."""
    pairs = [
        pair
        for name in PAIRS
        for source in open_sources([DATA], parse_pair(name), on_bad_rows="fail")
        for pair in source.pairs()
    ]
    (folder / "model").mkdir()
    sizes = scratch.Preset(width=width, layers=4, heads=8, pieces=8000)
    scratch.build(folder / "model", scratch.texts((pair.source, pair.target) for pair in pairs), sizes, seed=1)
    return str(folder / "model")


def dragoman(verb: str, file: Path, *words: str) -> str:
    """What a command prints."""
    command = [sys.executable, "-m", "dragoman", verb, "-c", str(file), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr}")
    return done.stdout


def estimated(file: Path, *words: str) -> dict[str, Any]:
    """What the estimate says of the whole run after some steps of it."""
    found = json.loads(dragoman("estimate", file, "--gpu", "cpu", "--measure", "--json", *words))
    low, high = found["here"]["seconds"]["total"]
    storage = found["here"]["storage"]
    return {
        "seconds": (low * high) ** 0.5,
        "tokens_per_second": found["measured"]["tokens_per_second"],
        "steps": found["work"]["steps"],
        "target_tokens": found["work"]["target_tokens"],
        "saves": storage["saves"],
        "bytes": storage["checkpoint_bytes"],
    }


def real(folder: Path) -> dict[str, Any]:
    """What the journal says of the run."""
    by_kind: dict[str, list[dict[str, Any]]] = {}
    for event in read(folder / "dragoman/journal.jsonl"):
        by_kind.setdefault(event["kind"], []).append(event)
    steps = by_kind["step"]
    tokens, seconds = sum(it["target_tokens"] for it in steps), sum(it["seconds"] for it in steps)
    return {
        "seconds": by_kind["session_ended"][-1]["time"] - by_kind["session_started"][0]["time"],
        "tokens_per_second": tokens / seconds,
        "steps": steps[-1]["step"],
        "target_tokens": tokens,
        "saves": len(by_kind["saved"]),
        "bytes": max(it["num_bytes"] for it in by_kind["saved"]),
    }


def report(found: list[dict[str, Any]]) -> list[str]:
    """The page of results."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    lines = [
        f"# Estimates against real runs, {date.today()}, CPU, 1 thread",
        "",
        f"Made by `python bench/estimate.py`. {host.num_cores()} cores, {os.getloadavg()[2]:.1f} processes waiting for",
        f"them in the mean of the last 15 minutes; commit {commit}. Text: {DATA}, {' and '.join(PAIRS)}.",
        "",
        "`--measure` times 30 steps before the run and again after it. *Session*: from the loaded model to the last",
        f"save, two evaluations and all saves included. Aimed at: within {LIMIT:.0%}.",
        "",
        "| model | session, s | estimated before | error | estimated after | error | mean of both | reached |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for it in found:
        seconds, both = it["real"]["seconds"], [it[when]["seconds"] for when in ("before", "after")]
        errors = [value / seconds - 1 for value in (*both, sum(both) / 2)]
        reached = "yes" if all(abs(error) <= LIMIT for error in errors[:2]) else "no"
        cells = [
            it["case"],
            f"{seconds:.1f}",
            f"{both[0]:.1f}",
            f"{errors[0]:+.1%}",
            f"{both[1]:.1f}",
            f"{errors[1]:+.1%}",
        ]
        lines.append("| " + " | ".join([*cells, f"{errors[2]:+.1%}", reached]) + " |")
    lines += [
        "",
        "| model | | steps | target tokens | tokens/s | saves | bytes of a checkpoint |",
        "|---|---|---|---|---|---|---|",
    ]
    for it in found:
        for name, when in (("estimated", "before"), ("real", "real")):
            row = it[when]
            figures = [f"{row[key]:,.0f}" for key in ("steps", "target_tokens", "tokens_per_second", "saves", "bytes")]
            lines.append("| " + " | ".join([it["case"], name, *figures]) + " |")
    return [
        *lines,
        "",
        "## Not measured",
        "",
        "- A GPU: what is said of one is modelled (`docs/explain/estimate.md`).",
        "- Runs of hours, in which a machine may grow warm or busy.",
        "- Models with NLLB's weights. An untrained model writes translations as long as it may, so its first",
        "  evaluation takes longer than those of one that has learned.",
    ]


if __name__ == "__main__":
    main()
