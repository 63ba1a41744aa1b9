"""`make chaos`: long, seeded proofs that resume is exact; writes a report to bench/.

1. For accumulation 1, 2 and 4: twenty SIGKILLs of real processes, some while they save,
   then the weights of the run against those of one that was never disturbed.
2. A whole session loses its machine before every single change of the disk, in two models
   (process killed, power cut), and goes on from what is left to the same weights.
3. Runs with a durable store (a stand-in for the Hub, a folder) lose trainer, replicator, both,
   or the whole machine with its disk, 200 times and more, and end with the same weights.
4. Two and three machines in a simulation with a virtual clock: 20,000 schedules of pauses, lost
   answers, late commits and stale reads.

Usage: python bench/chaos.py [--kills 20] [--storm-kills 210] [--schedules 20000] [--parts storms …]
"""

import argparse
import datetime
import json
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


STORMS = (("hub", 0.4, False), ("hub", 0.35, False), ("file", 0.15, False), ("hub", 0.1, True))
"""Store, share of the kills, whether each session is the real command instead of a fork."""


def storm(number: int, kills: int, folder: Path) -> str:
    """One row of the third table."""
    store, share, is_real = STORMS[number]
    words = [sys.executable, "-m", "tests.support.storm", "--store", store, "--seed", str(number + 1)]
    words += ["--kills", str(max(1, round(kills * share))), "--folder", str(folder)] + ["--real"] * is_real
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1) or not done.stdout.strip():
        return f"| {store} | | | | **DIFFERENT: {done.stderr.strip().splitlines()[-1]}** | |"
    met = json.loads(done.stdout)
    by = ", ".join(f"{victim} {count}" for victim, count in sorted(met["by_victim"].items()))
    how = "real command" if is_real else "forked"
    verdict = "identical" if met["alike"] else "**DIFFERENT**"
    return f"| {store}, {how} | {met['kills']} | {by} | {met['runs']} | {verdict} | {met['seconds']:.0f} |"


def simulation(schedules: int, folder: Path) -> str:
    """The report of the simulation."""
    report = folder / "report.md"
    words = [sys.executable, "-m", "tests.support.simulation", "--schedules", str(schedules), "--seed", "1"]
    done = subprocess.run([*words, "--report", str(report)], capture_output=True, text=True, check=False)
    if done.returncode:
        return f"**DIFFERENT**: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return report.read_text("utf-8")


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


KILLS = f"""## SIGKILL of real processes, {STEPS} steps, a save at every step

Weights published and weights, moments and losses of the last checkpoint, against an undisturbed run.

| accumulation | kills | of these in a save | newest safe step after each | result | seconds |
|---|---|---|---|---|---|"""
LOST = """## The machine is lost before every single change of a session with two saves

| model | points | result | seconds |
|---|---|---|---|"""
STORMY = """## Trainer, replicator or machine killed beside a durable store

SIGKILL at seeded instants; *disk*: trainer and replicator killed and the run folder wiped. Compared with an undisturbed
run: published weights, and weights, moments, losses and pairs seen of the last checkpoint, in folder and store.

| store, sessions | kills | of whom | runs | result | seconds |
|---|---|---|---|---|---|"""
SIMULATED = "## Two and three machines, simulated\n"
PARTS = ("kills", "storms", "simulation", "lost")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--storm-kills", type=int, default=210)
    parser.add_argument("--schedules", type=int, default=20_000)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    wanted = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    today = datetime.date.today().isoformat()
    losses: list[Loss] = ["killed", "power_cut"]
    with tempfile.TemporaryDirectory() as temporary, ProcessPoolExecutor(max_workers=2) as workers:
        top = Path(temporary)
        work = {
            "kills": (KILLS, [(kills, n, wanted.kills, made(top / f"kills-{n}")) for n in (1, 2, 4)]),
            "storms": (STORMY, [(storm, n, wanted.storm_kills, made(top / f"storm-{n}")) for n in range(len(STORMS))]),
            "simulation": (SIMULATED, [(simulation, wanted.schedules, made(top / "simulation"))]),
            "lost": (LOST, [(lost_machines, loss, made(top / loss)) for loss in losses]),
        }
        begun = [(work[part][0], [workers.submit(*call) for call in work[part][1]]) for part in wanted.parts]
        lines = [f"# Chaos, {today}, CPU, {os.cpu_count()} cores", ""]
        lines += ["Made by `make chaos`; two proofs at a time, dropout 0.2, seeded."]
        for title, rows in begun:
            lines += ["", title, *(row.result() for row in rows)]
    report = "\n".join(lines) + "\n"
    some = "" if set(wanted.parts) == set(PARTS) else "_" + "_".join(wanted.parts)
    Path(f"bench/chaos_cpu{some}_{today}.md").write_text(report, encoding="utf-8")
    print(report)
    return int("DIFFERENT" in report)


if __name__ == "__main__":
    sys.exit(main())
