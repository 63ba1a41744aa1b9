"""The answers of the verbs that look: as tables for people, or as JSON."""

import shlex
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from dragoman.cli.output import data, duration, preparing, print_json, say, table
from dragoman.errors import ExitCode

MAX_FILES = 20
"""Files of a direction that a report for people names."""

if TYPE_CHECKING:
    from pathlib import Path

    from dragoman.checkpoint.doctor import Check
    from dragoman.checkpoint.status_shape import Session, Status, StoreHeld
    from dragoman.data.dump import Counted
    from dragoman.deploy.compare import Comparison
    from dragoman.training.ending import Ending
    from dragoman.training.prepared import PartReport, Report


def prepared(report: "Report", as_json: bool) -> None:
    """What became of every row, and how many pairs each split holds."""
    if as_json:
        splits = {name: {"train": a, "dev": b, "test": c} for name, a, b, c in report.pairs}
        values = {"corpus": str(report.folder), "digest": report.digest, "pairs": splits}
        unknown = {"unknown_rate": report.unknown_rate, "unknown_characters": report.unknown_characters}
        print_json(values | {"mix": report.mix, "funnel": report.funnel} | unknown)
        return
    for direction, funnel in report.funnel.items():
        data(direction)
        data(f"  {'read':16}{funnel['read']:>10,}")
        _files([(one["file"], one["read"]) for one in funnel.get("files", [])])
        if funnel["bad_rows"]:
            data(f"  {'bad rows':16}{funnel['bad_rows']:>10,}  listed in {report.folder.parents[1] / 'rejected.tsv'}")
        for reason, entry in funnel["rejected"].items():
            data(f"  {reason:16}{entry['pairs']:>10,}  {entry['why']}")
            for source, target in entry["examples"][: 1 if reason != "empty" else 0]:
                data(f"  {'':26}  such as: {source} → {target}")
        data(f"  {'kept':16}{funnel['kept']:>10,}")
    rows = [(name, f"{a:,}", f"{b:,}", f"{c:,}") for name, a, b, c in report.pairs]
    table(("direction", "train", "dev", "test"), rows)
    if report.mix:
        trained = {name: a for name, a, _, _ in report.pairs}
        drawn = [(name, f"{n:,}", f"{n / trained[name]:.2f}") for name, n in report.mix.items()]
        table(("an epoch draws", "pairs", "each pair, times"), drawn)
    rates = ", ".join(f"{code} {rate:.1%}" for code, rate in report.unknown_rate.items())
    data(f"tokens that the model cannot write: {rates}")
    for code, characters in report.unknown_characters.items():
        shown = ", ".join(f"{character} U+{ord(character):04X} {count:,}" for character, count in characters)
        data(f"  {code}, most often for: {shown}")
    data(f"corpus: {report.folder}")


def _files(counts: "Sequence[tuple[str, int]]") -> None:
    """The rows of each of several files."""
    for file, count in counts[:MAX_FILES] if len(counts) > 1 else ():
        data(f"  {'':16}{count:>10,}  in {file}")
    if len(counts) > MAX_FILES:
        data(f"  {'':26}  and {len(counts) - MAX_FILES:,} more files (--json names all)")


def prepared_part(report: "PartReport", as_json: bool) -> None:
    """What one of several machines has prepared, and how to go on."""
    if as_json:
        folder = str(report.folder)
        print_json({"folder": folder, "part": report.part, "read": report.read, "kept": report.kept})
        return
    data(f"part {report.part}: {report.read:,} rows read, {report.kept:,} pairs kept so far, in {report.folder}")
    say("when all parts are done: the same command with --merge and the outputs of all machines, without --shard")


def dumped(counted: "Sequence[Counted]", path: "Path", as_json: bool) -> None:
    """How many rows each source gave, and how many of them were bad."""
    if as_json:
        print_json({"dump": str(path), "sources": [_dumped_source(it) for it in counted]})
        return
    table(
        ("direction", "source", "pairs", "bad rows"),
        [(str(it.direction), it.name, f"{it.read - it.bad:,}", f"{it.bad:,}") for it in counted],
    )
    if any(it.bad for it in counted):
        data(f"bad rows: {path.with_name(path.stem + '.rejected.tsv')}")
    data(f"pairs: {path}")


def _dumped_source(counted: "Counted") -> dict[str, Any]:
    files = [{"file": one.file, "read": one.read, "bad_rows": one.bad} for one in counted.files]
    values = {"direction": str(counted.direction), "source": counted.name, "read": counted.read}
    return values | {"bad_rows": counted.bad, "files": files}


def status(found: "Status", as_json: bool) -> None:
    """The state of a run: what it does, what is safe and where, what goes wrong and for how long."""
    if as_json:
        print_json(found)
        return
    total = f" of {found['total_steps']:,}" if found["total_steps"] else ""
    if far := found["preparing"]:
        done = preparing(far["stage"], far["rows"], far["kept"], far["share"], far["pairs_per_second"])
        data(f"{found['state']}: {done} ({duration(far['age_seconds'])} ago)")
    else:
        data(f"{found['state']}: step {found['step']:,}{total}" + _epoch(found))
    if found["loss"] is not None:
        speed = f", {found['tokens_per_second']:,.0f} target tokens/s" if found["tokens_per_second"] else ""
        best = "best " if found["store"] and found["store"]["checkpoints"] is not None else ""
        chrf = f", {best}chrF++ {found['chrf']:.1f}" if found["chrf"] is not None else ""
        data(f"loss {found['loss']:.3f}{chrf}{speed}")
    if found["eta_seconds"] is not None:
        data(f"about {duration(found['eta_seconds'])} left")
    _what_is_safe(found)
    if degraded := found["degraded"]:
        data(f"DEGRADED for {duration(degraded['since_seconds'])}: {degraded['reason']}")
    if found["store"] and (lease := found["lease"]):
        holds = "holds it" if found["state"] in ("running", "preparing") else "held it last"
        seen = f"last seen {duration(lease['age_seconds'])} ago"
        data(f"lease: {lease['host']} {holds} (epoch {lease['epoch']}), {seen}")
    if found["store"] and found["store"]["checkpoints"] is not None:
        _what_the_store_holds(found["store"], found["history"])
        if found["state"] in ("interrupted", "stopped", "failed") and found["safe"]:
            data(f"continue with: dragoman resume {shlex.quote(found['store']['url'])}")


def _what_is_safe(found: "Status") -> None:
    store, local, safe = found["store"], found["local"], found["safe"]
    where = f" in {store['url']}" if store else ""
    if safe:
        data(f"safe: step {safe['step']:,}, saved {duration(safe['age_seconds'])} ago in {safe['store']}")
    else:
        data(f"safe: nothing yet{where}")
    if store and local:
        data(f"on this disk: step {local['step']:,}, saved {duration(local['age_seconds'])} ago in {local['folder']}")


def _what_the_store_holds(store: "StoreHeld", history: "list[Session]") -> None:
    rows: list[list[str]] = []
    for kept in store["checkpoints"] or []:
        notes = ["best"] * kept["best"] + ["model only"] * (not kept["whole"])
        size, age = f"{kept['num_bytes'] / 1e6:,.1f} MB", duration(kept["age_seconds"])
        rows.append([kept["folder"], f"{kept['step']:,}", size, age, ", ".join(notes)])
    if rows:
        table(("checkpoint", "step", "size", "age", ""), rows)
    if (num_bytes := store["num_bytes"]) is not None:
        data(f"{store['url']} holds {num_bytes / 1e6:,.1f} MB")
    else:
        data(f"{store['url']} does not say how many bytes it holds")
    sessions = [
        [
            f"{session['epoch']} on {session['host']}",
            _moment(session["first_time"]),
            _moment(session["last_time"]),
            "" if session["step"] is None else f"{session['step']:,}",
            session["outcome"],
        ]
        for session in history
    ]
    table(("session", "from (UTC)", "to (UTC)", "step", "outcome"), sessions)


def _moment(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M")


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
    elif how.store:
        say(f"step {how.store_step:,} is safe in {how.store}: dragoman resume {how.store} continues on any machine")
    say(f"continue with: dragoman resume {shlex.quote(str(how.folder))}")


def _epoch(found: "Status") -> str:
    return f", {found['epoch']:.2f} passes over the data" if found["epoch"] is not None else ""


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


def checks(found: "Iterable[Check]", as_json: bool) -> "list[Check]":
    """What each check found, as soon as it is known; returns all of them."""
    made: list[Check] = []
    for check in found:
        made.append(check)
        if not as_json:
            data(f"{check.verdict:8} {check.name}: {check.finding}")
            if check.hint:
                data(f"{'':8}   try: {check.hint}")
            sys.stdout.flush()
    if as_json:
        worst = next((verdict for verdict in ("problem", "warning") if any(c.verdict == verdict for c in made)), "ok")
        print_json({"schema": 1, "verdict": worst, "checks": [check.to_json() for check in made]})
    return made
