"""`make bench-faults`: the recipe that everybody copies, and dragoman, under every known fault of a store.

Writes bench/faults_DATE.md and, beside it, faults_DATE.json with all that was seen. Exits
with 1 when dragoman lost something silently, tore something, or did not continue exactly.

Usage: python bench/faults.py [--workers 3] [--only KEY ...] [--report NAME]
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

os.environ["HF_HUB_DISABLE_XET"] = "1"  # of this process, which only downloads
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
sys.path.insert(0, str(Path(__file__).parent.parent))

from bench import faults_report as report
from bench.faults_dragoman import PATCHES, Dragoman
from bench.faults_lost import killed_at_second_save
from bench.faults_play import Lab, Outcome, undisturbed
from bench.faults_scenarios import ROWS, Row
from bench.faults_sides import BATCH, PACE_SECONDS, SAVE_STEPS, STEPS, Recipe, Side
from bench.faults_strikes import SAVE_BYTES
from dragoman.model import scratch
from tests.support.runs import make_pairs

PACKAGES = ("transformers", "huggingface_hub", "hf-xet", "accelerate", "torch")
LONG = ("cut", "429", "500-on", "unanswered", "two-trainers", "two-ranks", "rank-")
"""Rows that mostly wait: begun first."""


def make_lab(folder: Path) -> Lab:
    """Data and base model for both sides."""
    data, base = make_pairs(folder / "pairs.tsv", STEPS * BATCH, seed=1), folder / "base"
    base.mkdir()
    rows = [line.split("\t") for line in data.read_text("utf-8").splitlines()]
    scratch.build(base, scratch.texts((row[0], row[1]) for row in rows), scratch.PRESETS["tiny"], seed=1)
    (folder / "two").mkdir()
    two = Lab(folder / "two", Recipe(base, data, ranks=2), Dragoman(base, data, ranks=2))
    return Lab(folder, Recipe(base, data), Dragoman(base, data), two=two)


def learn(lab: Lab, side: Side) -> tuple[Outcome, Outcome]:
    """An undisturbed run, which the others are compared with, and one that is killed, from which some continue."""
    usual = undisturbed(lab, side, "none")
    lab.killed[side.name] = killed_at_second_save(lab, side)
    return usual, lab.killed[side.name]


def play_all(lab: Lab, rows: Sequence[Row], workers: int) -> dict[tuple[str, str], Outcome]:
    """Every row on each of its sides, some at a time."""
    sides: dict[str, Side] = {"recipe": lab.recipe, "dragoman": lab.dragoman}
    outcomes: dict[tuple[str, str], Outcome] = {}
    with ThreadPoolExecutor(workers) as pool:
        needed = sides if any(row.key == "none" for row in rows) else {}
        for name, (usual, _) in zip(needed, pool.map(lambda side: learn(lab, side), needed.values()), strict=True):
            outcomes["none", name] = usual
            tell(usual)
        todo = [(row, name) for row in rows for name in row.sides if row.key != "none"]
        todo.sort(key=lambda it: not it[0].key.startswith(LONG))
        for (row, name), outcome in zip(todo, pool.map(lambda it: safely(it[0], lab, sides[it[1]]), todo), strict=True):
            outcomes[row.key, name] = outcome
            tell(outcome)
    return outcomes


def safely(row: Row, lab: Lab, side: Side) -> Outcome:
    """A row; when the bench itself fails in it, that is its outcome."""
    try:
        return row.play(lab, side)
    except Exception:
        traceback.print_exc()
        return Outcome(row.key, side.name, "the bench failed", remarks=[traceback.format_exc().splitlines()[-1]])


def tell(outcome: Outcome) -> None:
    words = report.in_short(outcome) if outcome.side == "recipe" else report.dragoman_in_short(outcome)
    print(f"{outcome.row:24} {outcome.side:9} {outcome.seconds:4.0f} s  {words}", flush=True)


def bad(outcomes: Sequence[Outcome]) -> list[str]:
    """What dragoman must not do, in words."""
    rules: dict[str, Callable[[Outcome], Any]] = {
        "lost silently": lambda o: o.silent in ("silent", "requests only"),
        "torn": lambda o: o.torn or o.torn_at_end,
        "the step to continue from fell": lambda o: o.falls,
        "hangs": lambda o: "hangs" in o.ended or "failed" in o.ended,
        "another result elsewhere": lambda o: o.row != "batch-4-to-8" and not (o.resumed and o.resumed.exact),
        "not refused": lambda o: o.row == "batch-4-to-8" and not (o.resumed and o.resumed.exit_code == 2),
        "the token lies about": lambda o: o.leaked,
        "not degraded in status": lambda o: o.ended == "exit 75" and not o.status.get("degraded"),
        "status claims too much": lambda o: o.status.get("safe") and o.status["safe"]["step"] > o.end_step,  # type: ignore[index]
        "did not catch up": lambda o: o.caught_up and f"to {STEPS}" not in o.caught_up,
    }
    ours = [outcome for outcome in outcomes if outcome.side == "dragoman"]
    return [f"{outcome.row}: {words}" for outcome in ours for words, is_so in rules.items() if is_so(outcome)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=3, help="rows at a time")
    parser.add_argument("--only", nargs="*", help="only these rows, and `none` where it is needed")
    parser.add_argument("--report", help="write bench/NAME_DATE.md and .json; without --only: faults")
    options = parser.parse_args()
    started, today = time.monotonic(), datetime.date.today().isoformat()
    rows = [row for row in ROWS if not options.only or row.key in options.only]
    if any(row.ranks == 1 and row.key != "none" for row in rows):
        rows = [row for row in ROWS if row in rows or row.key == "none"]
    with tempfile.TemporaryDirectory(prefix="faults-") as temporary:
        outcomes = play_all(make_lab(Path(temporary)), rows, options.workers)
    seconds = time.monotonic() - started
    wrong = bad(list(outcomes.values()))
    print("\n".join(["", f"{seconds:.0f} s", *(f"WRONG: {line}" for line in wrong)]))
    if report_name := options.report or ("" if options.only else "faults"):
        write(f"bench/{report_name}_{today}", today, rows, outcomes, seconds, wrong)
    return int(bool(wrong))


def write(
    place: str,
    today: str,
    rows: Sequence[Row],
    outcomes: dict[tuple[str, str], Outcome],
    seconds: float,
    wrong: Sequence[str],
) -> None:
    """Both files."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    patches = {f"{module}.{name}": value for module, names in PATCHES.items() for name, value in names.items()}
    introduction = report.INTRODUCTION.format(
        parameters="1 million parameters",
        megabytes=f"{SAVE_BYTES / 1e6:.0f}",
        interval=PACE_SECONDS * SAVE_STEPS,
        versions=", ".join(f"{name} {version}" for name, version in found.items()),
        patches=", ".join(f"`{name}` = {value}" for name, value in patches.items()),
        pace=PACE_SECONDS,
    )
    verdict = [f"- {line}" for line in wrong] or ["Nothing that dragoman must not do was seen."]
    head = f"# The recipe and dragoman under faults, {today}, CPU, {os.cpu_count()} cores, {seconds / 60:.0f} minutes"
    text = report.text(rows, outcomes, head, introduction) + "\n".join(["", "## What went wrong", "", *verdict, ""])
    Path(f"{place}.md").write_text(text, encoding="utf-8")
    values = [{name: _without_talk(value) for name, value in asdict(o).items()} for o in outcomes.values()]
    content = {"date": today, "seconds": round(seconds), "versions": found, "patches": patches, "rows": values}
    Path(f"{place}.json").write_text(report.without_places(json.dumps(content, indent=1)) + "\n", encoding="utf-8")


def _without_talk(value: Any) -> Any:
    return {name: item for name, item in value.items() if name != "talk"} if isinstance(value, dict) else value


if __name__ == "__main__":
    sys.exit(main())
