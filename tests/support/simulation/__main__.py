"""Many schedules in a row, and what befell them.

python -m tests.support.simulation --schedules 20000 --seed 1 --report FILE
python -m tests.support.simulation --story 123

Prints a table of what happened. At the first promise that is broken it ends with 1 and names the seed, whose story
the second form tells.
"""

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

from tests.store.session import scratch
from tests.support.simulation import play
from tests.support.simulation.baton import on_one_core


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schedules", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1, help="the first seed is a million times this")
    parser.add_argument("--report", type=Path, help="write the table to this file, too")
    parser.add_argument("--story", type=int, help="tell one schedule, by its seed, line by line")
    wanted = parser.parse_args()
    counts: Counter[str] = Counter()
    with scratch() as folder, on_one_core(0):
        if wanted.story is not None:
            return tell(wanted.story, folder)
        first, started = wanted.seed * 1_000_000, time.monotonic()
        for seed in range(first, first + wanted.schedules):
            try:
                play(seed, folder, counts)
            except AssertionError as error:
                print(f"{error}\n  try: python -m tests.support.simulation --story {seed}", file=sys.stderr)
                return 1
        seconds = time.monotonic() - started
    report = table(counts, first, seconds)
    print(report)
    if wanted.report:
        wanted.report.write_text(report, "utf-8")
    return 0


def table(counts: Counter[str], first: int, seconds: float) -> str:
    """What happened, in Markdown."""
    lines = [
        f"{counts['schedules']:,} schedules from seed {first:,} on, in {seconds:.0f} s: every other one over a store",
        "like the Hub, the rest over one like S3. No promise was broken.",
        "",
        "| what happened | how often |",
        "| --- | --- |",
        *(f"| {name} | {count:,} |" for name, count in sorted(counts.items())),
    ]
    return "\n".join(lines) + "\n"


def tell(seed: int, folder: Path) -> int:
    """Print the story of a schedule; 1 when a promise is broken in it."""
    story: list[str] = []
    broken = ""
    try:
        play(seed, folder, Counter(), story)
    except AssertionError as error:
        broken = str(error)
    print("\n".join([*story, broken]))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
