"""The answers of the verbs that look: as tables for people, or as JSON."""

import shlex
from typing import TYPE_CHECKING, Any

from dragoman.cli.output import data, print_json, say, table
from dragoman.errors import ExitCode

if TYPE_CHECKING:
    from dragoman.deploy.compare import Comparison
    from dragoman.training.loop import Ending
    from dragoman.training.prepared import Report


def prepared(report: "Report", as_json: bool) -> None:
    """What became of every row, and how many pairs each split holds."""
    if as_json:
        splits = {name: {"train": a, "dev": b, "test": c} for name, a, b, c in report.pairs}
        values = {"corpus": str(report.folder), "digest": report.digest, "pairs": splits}
        print_json(values | {"funnel": report.funnel, "unknown_rate": report.unknown_rate})
        return
    for direction, funnel in report.funnel.items():
        data(direction)
        data(f"  {'read':16}{funnel['read']:>10,}")
        if funnel["bad_rows"]:
            data(f"  {'bad rows':16}{funnel['bad_rows']:>10,}  listed in {report.folder.parents[1] / 'rejected.tsv'}")
        for reason, entry in funnel["rejected"].items():
            data(f"  {reason:16}{entry['pairs']:>10,}  {entry['why']}")
            for source, target in entry["examples"][: 1 if reason != "empty" else 0]:
                data(f"  {'':26}  such as: {source} → {target}")
        data(f"  {'kept':16}{funnel['kept']:>10,}")
    rows = [(name, f"{a:,}", f"{b:,}", f"{c:,}") for name, a, b, c in report.pairs]
    table(("direction", "train", "dev", "test"), rows)
    rates = ", ".join(f"{code} {rate:.1%}" for code, rate in report.unknown_rate.items())
    data(f"tokens that the model cannot write: {rates}")
    data(f"corpus: {report.folder}")


def status(found: dict[str, Any], as_json: bool) -> None:
    """The state of a run."""
    if as_json:
        print_json(found)
        return
    total = f" of {found['total_steps']:,}" if found["total_steps"] else ""
    data(f"{found['state']}: step {found['step']:,}{total}" + _epoch(found))
    if found["loss"] is not None:
        speed = f", {found['tokens_per_second']:,.0f} target tokens/s" if found["tokens_per_second"] else ""
        chrf = f", chrF++ {found['chrf']:.1f}" if found["chrf"] is not None else ""
        data(f"loss {found['loss']:.3f}{chrf}{speed}")
    if found["eta_seconds"] is not None:
        data(f"about {_duration(found['eta_seconds'])} left")
    if safe := found["safe"]:
        data(f"safe: step {safe['step']:,}, saved {_duration(safe['age_seconds'])} ago in {safe['store']}")
    else:
        data("safe: nothing yet")
    if degraded := found["degraded"]:
        data(f"DEGRADED for {_duration(degraded['since_seconds'])}: {degraded['reason']}")


def ending(how: "Ending") -> None:
    """The last line of a session: what is durable, where, and how to go on."""
    if how.exit_code is ExitCode.DONE:
        here = [str(how.folder)] if how.safe_step >= how.step else []
        there = [how.store] if how.store_step >= how.step else []
        say(f"{how.reason}; the model is in {' and '.join(here + there)}")
        return
    if how.store and how.store_step < how.step:
        safe = f"only step {how.store_step:,} is safe" if how.store_step >= 0 else "nothing is safe yet"
        say(f"in {how.store} {safe}; step {how.safe_step:,} is on this disk, and its upload goes on by itself")
    say(f"continue with: dragoman resume {shlex.quote(str(how.folder))}")


def _epoch(found: dict[str, Any]) -> str:
    return f", {found['epoch']:.2f} passes over the data" if found["epoch"] is not None else ""


def _duration(seconds: float) -> str:
    """Seconds in the unit that a person would use."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def comparison(compared: "Comparison", as_json: bool) -> None:
    """Scores of all systems, with sacrebleu's signatures."""
    if as_json:
        print_json(compared.to_json())
        return
    directions = list(compared.systems[0].scores)
    rows: list[list[str]] = []
    for name in directions:
        scores = [system.scores[name] for system in compared.systems]
        rows.append([name, *(f"{score.chrf:.1f} / {score.bleu:.1f}" for score in scores)])
    pairs = f"{len(compared.pairs):,} {'pair' if len(compared.pairs) == 1 else 'pairs'}"
    data(f"chrF++ / BLEU on {pairs}")
    table(["", *(system.name for system in compared.systems)], rows)
    for name in directions:
        score = compared.systems[0].scores[name]
        data(f"{name}: {score.sentences:,} sentences; {score.chrf_signature}; {score.bleu_signature}")
