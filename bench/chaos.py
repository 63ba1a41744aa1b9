"""`make chaos`: long, seeded proofs that resume is exact; writes a report to bench/.

1. For accumulation 1, 2 and 4: twenty SIGKILLs of real processes, some while they save,
   then the weights of the run against those of one that was never disturbed.
2. A whole session loses its machine before every single change of the disk, in two models
   (process killed, power cut), and goes on from what is left to the same weights.

Usage: python bench/chaos.py [--kills 20]
"""

import argparse
import datetime
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.support.killing import command, kill_repeatedly
from tests.support.lost_machine import LosingDisk, Loss, MachineLost
from tests.support.runs import train_args
from tests.support.sessions import Lab, final, trained

STEPS = 200


def kills(accumulation: int, count: int, folder: Path) -> str:
    """One row of the first table."""
    options = {
        "language_pairs": ["en-fr", "fr-en"],
        "max_steps": STEPS,
        "batch_size": 8 // accumulation,
        "gradient_accumulation": accumulation,
        "dropout": 0.2,
        "save_steps": 1,
        "eval_steps": 50,
        "threads": 1,
    }
    started = time.monotonic()
    whole = train_args(folder, **options)
    subprocess.run(command(whole), check=True, capture_output=True)
    words = train_args(folder, **options, output=folder / "killed")
    met = kill_repeatedly(words, folder / "killed", count, seed=accumulation, longest=0.6)
    subprocess.run(command(words), check=True, capture_output=True)
    same = final(folder / "killed") == final(folder / "run") and trained(folder / "killed") == trained(folder / "run")
    at = ", ".join(map(str, met.steps))
    seconds = time.monotonic() - started
    verdict = "identical" if same else "**DIFFERENT**"
    return f"| {accumulation} | {count} | {met.during_saves} | {at} | {verdict} | {seconds:.0f} |"


def lost_machines(loss: Loss, folder: Path) -> str:
    """One row of the second table."""
    lab = Lab(folder, {"eval_steps": 0, "max_steps": 2, "save_steps": 1})
    started = time.monotonic()
    lab.train("plain")
    counting = LosingDisk(lab.prepared("counted", like="plain"))
    lab.train("counted", counting)
    points = range(1, len(counting.changes) + 1)
    wrong: list[int] = []
    for k in points:
        name = f"lost-{k}"
        disk = LosingDisk(lab.prepared(name, like="plain"), lose_before=k)
        try:
            lab.train(name, disk)
        except MachineLost:
            left = disk.survivors(loss, folder / f"{name}-left")
            lab.train(left.name)
            if trained(left) != trained(folder / "plain") or final(left) != final(folder / "plain"):
                wrong.append(k)
    verdict = "identical" if not wrong else f"**DIFFERENT after {wrong}**"
    return f"| {loss.replace('_', ' ')} | {len(points)} | {verdict} | {time.monotonic() - started:.0f} |"


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    count = parser.parse_args().kills
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    today = datetime.date.today().isoformat()
    lines = [
        f"# Chaos, {today}, CPU, {os.cpu_count()} cores",
        "",
        "Made by `make chaos`; two proofs at a time, dropout 0.2, seeded.",
        "",
    ]
    lines += [
        f"## SIGKILL of real processes, {STEPS} steps, a save at every step",
        "",
        "Weights published and weights, moments and losses of the last checkpoint, against an undisturbed run.",
        "",
        "| accumulation | kills | of these in a save | newest safe step after each | result | seconds |",
        "|---|---|---|---|---|---|",
    ]
    losses: list[Loss] = ["killed", "power_cut"]
    with tempfile.TemporaryDirectory() as temporary, ProcessPoolExecutor(max_workers=2) as workers:
        killed = [workers.submit(kills, n, count, made(Path(temporary) / f"kills-{n}")) for n in (1, 2, 4)]
        lost = [workers.submit(lost_machines, loss, made(Path(temporary) / loss)) for loss in losses]
        lines += [row.result() for row in killed]
        lines += [
            "",
            "## The machine is lost before every single change of a session with two saves",
            "",
            "| model | points | result | seconds |",
            "|---|---|---|---|",
        ]
        lines += [row.result() for row in lost]
    report = "\n".join(lines) + "\n"
    Path(f"bench/chaos_cpu_{today}.md").write_text(report, encoding="utf-8")
    print(report)
    return int("DIFFERENT" in report)


if __name__ == "__main__":
    sys.exit(main())
