"""The outcomes of all rows, as tables for people."""

import re
import sys
from collections.abc import Mapping, Sequence

from bench.faults_machine import ROOT
from bench.faults_play import Outcome, in_a_word
from bench.faults_scenarios import Row
from bench.faults_sides import STEPS
from bench.faults_strikes import num_lost

INTRODUCTION = """\
Made by `make bench-faults`. Both sides train a model of {parameters} with NLLB's architecture on the same 120
sentence pairs, 30 steps of 4 pairs, a save ({megabytes} MB) every 5 steps, that is every {interval:.1f} s, into one
private repository of a Hub on this machine, which the real client talks to. **Recipe**: `bench/faults_recipe.py`, the
`Seq2SeqTrainer` of the starting document, in a process of its own, with hf-xet, which is the default. **dragoman**:
the real command `python -m dragoman train --store hf://USER/REPO`. {versions}.

What is measured, not believed: a save counts as *whole* if at some commit the branch held all its files with the
SHA-256 that training had written. A commit is *torn* if it holds weights of one step with the state of another (in
`last-checkpoint` or a recorded checkpoint, or at the root against the newest checkpoint). *Resumed* is a fresh process
on an empty disk: the recipe's as its users do, `snapshot_download` and the folder `last-checkpoint`; ours with
`dragoman resume hf://USER/REPO` (when nothing was left to train, the newest checkpoint is fetched). *Same weights*: bit
for bit those of the undisturbed run.

A loss is **silent** if the process would exit 0 and no line says a word that the undisturbed run does not say;
*requests only* if the HTTP client logs failed requests or retries, but nothing says that a save was lost; *said* if a
line does. Shown are the recipe's exit code and words after `train()`; what a `push_to_hub()` at the very end, which
some add, does after that, has a column.

With two ranks: the recipe under `torchrun --standalone --nproc-per-node 2`, gloo, half the pairs for each; dragoman
with `--devices 2`; *same weights* are those of the undisturbed run of two ranks. They are struck after step 13; after a
kill they may start again once (`--max-restarts 1`), on the same machine, the recipe from its newest checkpoint there.
Loss and gradient norm are of runs without dropout, whose first step has the same weights and pairs.

In dragoman's processes waits are shorter than in life, through `bench/faults_patch/sitecustomize.py`: {patches};
and a pause of {pace} s follows each step, as in the recipe.
"""

RECIPE_HEAD = [
    "fault",
    "seen before",
    "so again?",
    "ended",
    "saves made / ever whole",
    "torn commits",
    "whole at the end",
    "root at the end",
    "told",
    "a final `push_to_hub()`",
    "resumed at",
    "same weights",
]
DRAGOMAN_HEAD = [
    "fault",
    "ended",
    "saves made / ever whole",
    "torn commits",
    "whole at the end",
    "`status` says safe",
    "DEGRADED in `status` (longest age)",
    "fault over",
    "resumed at",
    "same weights",
    "last line",
]


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table."""
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |" for line in lines]


def in_short(o: Outcome) -> str:
    """What became of a run, in one cell."""
    parts = [o.ended] if o.ended != "killed" else []
    lost = num_lost(o)
    parts.append(f"{lost} of {len(o.made)} saves lost" if lost else f"all {len(o.made)} saves arrived")
    if o.torn_at_end:
        parts.append(f"**torn at the end** ({o.torn_at_end})")
    if o.silent:
        parts.append(f"**{o.silent}**" if o.silent != "said" else "said so")
    if leaked := [path for path in o.leaked if path.startswith("uploaded")]:
        parts.append(f"**token uploaded** in {len(leaked)} files")
    parts += [short(remark) for remark in o.remarks[:3]]
    return "; ".join([*parts, resumed(o)])


def dragoman_in_short(o: Outcome) -> str:
    """The same for dragoman: what counts is the newest step, and whether it says so."""
    parts = [o.ended] if o.ended != "killed" else []
    if o.made:
        parts.append(f"step {o.end_step} of {o.made[-1]} in the store")
    parts += ["torn"] if o.torn else []
    parts += [f"DEGRADED shown, {o.degraded_seconds:.0f} s"] if o.degraded else []
    parts += [f"fault over: caught up {o.caught_up}"] if o.caught_up else []
    parts += [f"**newest step fell**: {o.falls[0]}"] if o.falls else []
    parts += [remark for remark in o.remarks[:3] if "not uploaded" not in remark]
    return "; ".join([*parts, resumed(o)])


def resumed(o: Outcome) -> str:
    """How it went on elsewhere."""
    if o.resumed is None:
        return "not resumed"
    if o.resumed.step is None:
        return f"does not resume (exit {o.resumed.exit_code}: {short(o.resumed.note, 110)})"
    return f"resumes at {o.resumed.step}, " + ("same weights" if o.resumed.exact else "other weights")


def short(text: str, length: int = 90) -> str:
    """The beginning of a long text."""
    text = without_places(text)
    return text if len(text) <= length else text[: length - 1] + "…"


def again(row: Row, o: Outcome) -> str:
    """Whether what was seen of the recipe before was seen once more."""
    holds = row.holds(o)
    if not holds:
        return "**no**"
    words = [holds] if isinstance(holds, str) and holds not in (o.torn_at_end,) else []
    return ": ".join(["yes, with request lines" if o.silent == "requests only" else "yes", *words])


def recipe_row(row: Row, o: Outcome) -> list[str]:
    """One line of the recipe's table."""
    told = o.silent or (in_a_word(o.said) if o.said else "nothing to tell" if not num_lost(o) else "")
    return [
        row.title,
        row.before,
        again(row, o),
        o.ended,
        f"{len(o.made)} / {len(o.durable)} ({', '.join(o.durable) or 'none'})",
        f"{len(o.torn)} of {o.commits}",
        str(o.end_step) if o.end_step >= 0 else "nothing",
        f"**{o.root_step}**" if o.torn_at_end else str(o.root_step) if o.root_step >= 0 else "nothing",
        told + (f": “{short(o.said[0])}”" if o.said else ""),
        short(o.final_push, 120),
        resumed(o),
        _same(o),
    ]


def dragoman_row(row: Row, o: Outcome) -> list[str]:
    """One line of dragoman's table."""
    note = o.resumed.note if o.resumed and o.resumed.step is not None else ""
    reasons = [short(reason.removeprefix("hf://ada/run: "), 100) for reason in o.degraded[:2]]
    safe = o.status.get("safe") or {}
    return [
        row.title,
        o.ended,
        f"{len(o.made)} / {len(o.durable)} ({', '.join(o.durable) or 'none'})",
        f"{len(o.torn)} of {o.commits}",
        str(o.end_step) if o.end_step >= 0 else "nothing",
        f"step {safe['step']}" if isinstance(safe, dict) and safe else "",
        (" · ".join(reasons) + f" ({o.degraded_seconds:.0f} s)") if reasons else "",
        o.caught_up,
        resumed(o) + (f" (“{short(note, 130)}”)" if note else ""),
        _same(o),
        short(o.last_line, 110),
    ]


def _same(o: Outcome) -> str:
    return "" if o.resumed is None or o.resumed.step is None else "yes" if o.resumed.exact else "no"


def quota(outcomes: Mapping[tuple[str, str], Outcome]) -> str:
    """Bytes that the Hub charges for, after a run without a fault."""
    held = {side: outcomes["none", side] for side in ("recipe", "dragoman") if ("none", side) in outcomes}
    if not held:
        return "Space of the repository: see the whole table."
    words = [f"{side} {o.held_bytes / 1e6:.0f} MB, at most {o.peak_bytes / 1e6:.0f} MB" for side, o in held.items()]
    return f"Space of the repository that is charged after {STEPS} steps without a fault: " + "; ".join(words) + "."


def text(rows: Sequence[Row], outcomes: Mapping[tuple[str, str], Outcome], head: str, introduction: str) -> str:
    """The whole report."""
    both = [[row.title, row.before, *(_cell(outcomes, row, side) for side in ("recipe", "dragoman"))] for row in rows]
    recipe = [recipe_row(row, outcomes[row.key, "recipe"]) for row in rows if (row.key, "recipe") in outcomes]
    ours = [dragoman_row(row, outcomes[row.key, "dragoman"]) for row in rows if (row.key, "dragoman") in outcomes]
    lines = [head, "", introduction, "## In short", ""]
    lines += grid(["fault", "the recipe, as seen before", "the recipe, measured now", "dragoman"], both)
    lines += ["", quota(outcomes), "", "## The recipe", "", *grid(RECIPE_HEAD, recipe)]
    lines += ["", "## dragoman", "", *grid(DRAGOMAN_HEAD, ours), ""]
    return without_places("\n".join(lines))


def without_places(text: str) -> str:
    """The same without the folders in which the bench happened to work, and packages lie."""
    text = re.sub(
        r"/[^\s\"']*/site-packages/",
        "/…/site-packages/",
        text.replace(f"{ROOT}/", "").replace(sys.executable, "python"),
    )
    return re.sub(r"/[^\s\"']*/faults-\w+/", "/…/", text)


def _cell(outcomes: Mapping[tuple[str, str], Outcome], row: Row, side: str) -> str:
    outcome = outcomes.get((row.key, side))
    if outcome is None:
        return "–"
    return in_short(outcome) if side == "recipe" else dragoman_in_short(outcome)
