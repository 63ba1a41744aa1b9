"""What `make ranks` found, as a table."""

import datetime
import os
from collections.abc import Sequence

import torch

from bench.ranks_play import ALIKE, BEGIN, SAVE_STEPS, STEPS, Outcome

GRID = ("ddp-", "fsdp-")
TITLES = {
    "SIGKILL of one of three ranks, seven times in a run": GRID,
    "Other faults": ("sig", "memory", "not-finite", "no-restarts", "deadline"),
    "Several sessions, several machines": ("elastic", "superseded", "two-hosts"),
}

SHOWN = {"write": "save", "gather": "save"}
HEAD = """| fault | seconds | exits | restarts | steps lost | difference | as it should be |
|---|---|---|---|---|---|---|
"""


def report(outcomes: Sequence[Outcome]) -> str:
    """All rows, sorted under three titles."""
    date = datetime.datetime.now(datetime.UTC).date()
    text = f"""# Faults to runs with several ranks, {date}, CPU

Made by `make ranks`; {os.cpu_count()} cores that others used too, torch {torch.__version__}, gloo, float64,
dropout 0. A run has {STEPS} steps and a save at every {SAVE_STEPS}th. It begins from a checkpoint of one process at
step {BEGIN} (the first table: from nothing), and ends like a run of one process that nobody disturbed: losses and
weights of the last checkpoint, to a relative {ALIKE:.0e}. `k_proj.bias` is left out:
softmax does not see it, so its true gradient is zero, and Adam makes steps of full size out of the rounding noise
that is left.

*Seconds*: from the fault to the start of the next ranks, or to when no process was left alive; behind it what was
allowed. *Exits*: of every `dragoman train`; a second one is a resume on two ranks without a fault. *Lost*: steps
computed twice: at most an interval of {SAVE_STEPS}, and what was trained beside a save that the fault interrupted
(these steps take milliseconds, a save some tenths of a second).
"""
    for title, beginnings in TITLES.items():
        rows = [each for each in outcomes if each.name.startswith(beginnings)]
        if rows:
            text += f"\n## {title}\n\n{HEAD}" + "".join(map(_line, rows))
        if title.startswith("SIGKILL") and rows:
            text += _moments(rows)
        text += "".join(f"\n*{each.name}*: {'; '.join(each.remarks)}.\n" for each in rows if each.remarks)
    wrong = sum(bool(each.wrong) for each in outcomes)
    return f"{text}\n{len(outcomes)} rows, {wrong} of them wrong.\n"


def _line(one: Outcome) -> str:
    seconds = "" if one.seconds is None else f"{one.seconds:.1f}" + (f" ({one.bound:.0f})" if one.bound else "")
    difference = "" if one.difference is None else f"{one.difference:.0e}"
    verdict = "yes" if not one.wrong else f"**NO**: {'; '.join(one.wrong)}"
    exits = ", ".join(map(str, one.codes))
    return f"| {one.name} | {seconds} | {exits} | {one.restarts} | {one.lost_steps} | {difference} | {verdict} |\n"


def _moments(rows: Sequence[Outcome]) -> str:
    """Seconds from each fault to the start of the next ranks."""
    most = max((row.each for row in rows), key=len)
    names = [f"{SHOWN.get(moment, moment)} ({step})" if step else moment for moment, _, step in most]
    text = "\nSeconds from each SIGKILL to the start of the next ranks, by moment (and steps done); here without the\n"
    text += "pause that grows with every restart:"
    text += f"\n\n| killed | {' | '.join(names)} |\n|{'---|' * (len(names) + 1)}\n"
    for row in rows:
        text += f"| {row.name} | {' | '.join(f'{seconds:.1f}' for _, seconds, _ in row.each)} |\n"
    return text
