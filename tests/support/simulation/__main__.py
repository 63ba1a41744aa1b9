"""Many schedules in a row, and what befell them.

python -m tests.support.simulation --schedules 20000 --seed 1 --report FILE

Prints a table of what happened, and ends with 1 at the first promise that was broken, with its seed.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.support.simulation import run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schedules", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--report", type=Path)
    wanted = parser.parse_args()
    started = time.monotonic()
    counts: Counter[str] = Counter()
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        first = wanted.seed * 1_000_000
        for seed in range(first, first + wanted.schedules):
            try:
                run(seed, Path(folder), counts)
            except Exception as error:
                print(f"seed {seed}: {type(error).__name__}: {error}", file=sys.stderr)
                return 1
    seconds = time.monotonic() - started
    lines = [
        f"{counts['schedules']:,} schedules from seed {first:,} in {seconds:.0f} s, every other one over a store like the",
        "Hub, the rest over one like S3; no promise was broken.",
        "",
        "| what happened | how often |",
        "| --- | --- |",
        *(f"| {name} | {count:,} |" for name, count in sorted(counts.items())),
    ]
    report = "\n".join(lines) + "\n"
    print(report)
    if wanted.report:
        wanted.report.write_text(report, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
