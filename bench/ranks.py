"""`make ranks`: faults of every kind to runs with several ranks, and what each run comes to.

Real processes over gloo, in float64 without dropout, so that "the same weights" can be
asked for to ten digits. Every row is one `dragoman train` of 16 steps with a save at every
fourth; a hook in one of its ranks brings the fault at a chosen moment
(`ranks_patch/sitecustomize.py`).

Usage: python -m bench.ranks [--rows NAME …] [--keep FOLDER] [--report FILE]
"""

import argparse
import datetime
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench import ranks_hosts, ranks_stories
from bench.ranks_play import Lab, Outcome, Row, play
from bench.ranks_report import report

KILL = "SIGKILL"


def grid() -> list[Row]:
    """One of three ranks is killed, at one moment after the other."""
    rows: list[Row] = []
    for parallel in ("ddp", "fsdp"):
        for rank in range(3):
            mine = {"rank": rank, "do": KILL}
            # The first rank alone knows when it writes and evaluates.
            of_first = {"victim": rank, "do": KILL}
            save = {"at": "gather", "nth": 20, **mine} if parallel == "fsdp" else {"at": "write", **of_first}
            faults = (
                {"at": "assemble", "nth": 12, **mine},
                {"at": "between", "step": 5, **mine},
                {"at": "restore", "nth": 20, **mine},
                {"step": 8, **save},
                {"at": "reduce", "step": 9, "nth": 2, **mine},
                {"at": "evaluate", "step": 10, **of_first},
                {"at": "between", "step": 15, **mine},
            )
            options = {"max_restarts": len(faults)}
            rows.append(
                Row(
                    f"{parallel}-{rank}",
                    faults,
                    parallel=parallel,
                    begins=True,
                    restarts=len(faults),
                    options=options,
                    pause=0.0,
                )
            )
    return rows


def others() -> list[Row]:
    """Faults of other kinds."""
    after = {"at": "between", "step": 9}
    few = {"at": "", "do": "memory", "step": 9, "tokens": 30}
    rows: list[Row] = []
    for rank in (0, 1):
        stopped = {**after, "rank": rank, "do": "SIGSTOP"}
        connecting = {"at": "connect", "nth": 2, "rank": rank, "do": KILL}
        rows += [
            Row(f"sigkill-connecting-{rank}", (connecting,)),
            # A first rank that is silent may be in the middle of a save: it gets more time.
            Row(f"sigstop-{rank}", (stopped,), bound=60 if rank else 120),
            Row(f"sigstop-{rank}-no-restarts", (stopped,), bound=120, code=75, restarts=0, options={"max_restarts": 0}),
            Row(f"sigterm-{rank}", ({**after, "rank": rank, "do": "SIGTERM"},), code=75, restarts=0, bound=20),
            Row(f"memory-{rank}", ({**few, "rank": rank},), devices=2, restarts=-1),
            Row(f"memory-{rank}-fsdp", ({**few, "rank": rank},), devices=2, parallel="fsdp", restarts=-1),
            Row(
                f"not-finite-{rank}",
                ({"at": "", "do": "nan", "steps": [9, 10], "rank": rank},),
                restarts=0,
                like="not-finite",
            ),
        ]
    to_launcher = {**after, "victim": "launcher"}
    starting = {"at": "start", "rank": 1, "do": KILL, "victim": "launcher"}
    rows += [
        Row("sigterm-launcher", ({**to_launcher, "do": "SIGTERM"},), code=75, restarts=0, bound=20),
        Row("sigkill-launcher", ({**to_launcher, "do": KILL},), code=-9, restarts=0, bound=20),
        Row("sigkill-launcher-at-start", (starting,), code=-9, restarts=0, bound=30),
        Row("no-restarts", ({**after, "rank": 1, "do": KILL},), code=75, restarts=0, options={"max_restarts": 0}),
        Row("deadline", (), code=75, restarts=0, pace=8.0, options={"max_hours": 45 / 3600}),
    ]
    return rows


Story = Callable[[Lab], Outcome]
STORIES: dict[str, Story] = {
    "elastic": ranks_stories.elastic,
    "superseded": ranks_stories.superseded,
    "two-hosts": ranks_hosts.two_hosts,
    "two-hosts-cut": ranks_hosts.cut_off,
    "two-hosts-cut-for-a-while": ranks_hosts.cut_for_a_while,
}


def work() -> dict[str, Story]:
    """Every row, by its name."""

    def playing(row: Row) -> Story:
        return lambda lab: play(lab, row)

    return {row.name: playing(row) for row in (*grid(), *others())} | STORIES


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    all_ = work()
    parser.add_argument("--rows", nargs="+", choices=all_, default=list(all_), metavar="NAME")
    parser.add_argument("--keep", type=Path, help="a folder that keeps runs and results, for later calls too")
    parser.add_argument("--report", type=Path, default=Path(f"bench/ranks_cpu_{datetime.date.today()}.md"))
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dragoman-ranks-") as temporary:
        lab = Lab(wanted.keep or Path(temporary))
        lab.folder.mkdir(parents=True, exist_ok=True)
        lab.prepare()
        kept = lab.folder / "results.json"
        found = {
            name: Outcome(**told) for name, told in (json.loads(kept.read_text()) if kept.exists() else {}).items()
        }
        for name in wanted.rows:
            started = time.monotonic()
            found[name] = all_[name](lab)
            found[name].took = time.monotonic() - started
            print(f"{name}: {found[name]}", file=sys.stderr, flush=True)
            kept.write_text(json.dumps({name: each.as_json for name, each in found.items()}, indent=1))
    text = report([found[name] for name in all_ if name in found])
    wanted.report.write_text(text, "utf-8")
    print(text)
    return int(any(each.wrong for each in found.values()))


if __name__ == "__main__":
    sys.exit(main())
