"""What people see: talk goes to stderr, data to stdout.

On a terminal a run shows one live bar; in a pipe, a log or a notebook it prints plain
lines. Both render journal events, so nothing is shown that was not written down.
"""

import contextlib
import json
import sys
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.status import Status
from rich.table import Table
from rich.text import Text

from dragoman import journal
from dragoman.store.record import LeaseRecord

PREPARING_SECONDS = 60.0
"""Between two plain lines that say how far a preparation is."""

SHOWN_STEPS = 5
"""How many of the steps that were not uploaded are named."""

talk = Console(stderr=True, highlight=False, soft_wrap=True)


def error(message: str, hint: str = "") -> None:
    """One error message with its way out, on stderr."""
    talk.print(Text.assemble(("error:", "bold red"), " ", _visible(message)))
    if hint:
        talk.print(Text.assemble("  ", ("try:", "bold"), " ", _visible(hint)))


def say(text: str) -> None:
    """One line of talk on stderr."""
    talk.print(Text(_visible(text)))


def confirmed(question: str) -> bool:
    """Whether a person at the terminal says yes; anything else is a no."""
    talk.print(Text(f"{question} [y/N] "), end="")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def duration(seconds: float) -> str:
    """Seconds in the unit that a person would use."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def waiting(lease: LeaseRecord, left: float) -> None:
    """Say whose silence this machine waits for."""
    say(
        f"{lease.host} holds the lease of this run (epoch {lease.epoch}): waiting until it has been silent for "
        f"{left:,.0f} s more; --take-over does not wait"
    )


def _visible(text: str) -> str:
    """The text with what no stream takes as `\\udcNN`: file names may be any bytes."""
    return text.encode("utf-8", "backslashreplace").decode()


def data(text: str) -> None:
    """One line of data on stdout."""
    sys.stdout.write(text + "\n")


def print_json(value: Any) -> None:
    """One JSON object on stdout."""
    data(json.dumps(value, ensure_ascii=False))


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], console: Console | None = None) -> None:
    """A table on stdout; the first column holds names, the others figures."""
    drawn = Table()
    for index, column in enumerate(columns):
        drawn.add_column(Text(column), justify="right" if index else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(cell) for cell in row))
    console = console or Console(highlight=False)
    # A pipe has no width: a row stays a line, whatever reads it.
    console.print(drawn, width=None if console.is_terminal else 200)


def line(event: journal.Event, total_steps: int = 0) -> str:
    """An event as one plain line; empty for events that only machines read."""
    match event:
        case journal.Preparing():
            share, speed = event.share, event.pairs_per_second
            return f"preparing: {preparing(event.stage, event.rows, event.kept, share, speed)}"
        case journal.Prepared():
            pairs = ", ".join(f"{name} {count:,}" for name, count in event.pairs.items())
            made = f"corpus {event.corpus[:12]}{' (reused)' if event.reused else ''}: {pairs} pairs to train on"
            return made if event.reused else "\n".join([*map(_funnel, event.funnel, event.funnel.values()), made])
        case journal.LanguagesAdded():
            names = ", ".join(f"{code} like {' and '.join(like)}" for code, like in event.languages.items() if like)
            count = len(event.characters)
            more = f"{count:,} characters: {event.characters[:80]}{'…' * (count > 80)}" if count else "no character"
            return f"added {names or ', '.join(event.languages)} and {more} (rows {event.first_row:,} …)"
        case journal.SessionStarted():
            where = f"{event.pairs_per_step} pairs each, {event.device}, {event.precision}, {event.threads} threads"
            where += f", {event.ranks} ranks, {event.parallel}" if event.ranks > 1 else ""
            start = f"continues at step {event.step:,} of" if event.step else "starts:"
            return f"run {event.run} {start} {event.total_steps:,} steps ({where}, session {event.epoch})"
        case journal.RanksLost():
            then = f"start {event.restart} of {event.max_restarts} follows" if event.restart else "no start follows"
            return f"{event.reason}: all ranks ended; {then}"
        case journal.TimeLimited():
            until = datetime.fromtimestamp(event.until, UTC)
            return f"the last checkpoint is saved and uploaded before {until:%Y-%m-%d %H:%M} UTC ({event.reason})"
        case journal.Step():
            of = f"/{total_steps:,}" if total_steps else ""
            speed = f"{event.tokens_per_second:,.0f} target tokens/s"
            return f"step {event.step:,}{of}  loss {event.loss:.3f}  lr {event.learning_rate:.2e}  {speed}"
        case journal.Evaluated():
            scores = "  ".join(f"{name} {score['chrf']:.1f}" for name, score in event.directions.items())
            return f"step {event.step:,}  dev loss {event.loss:.3f}  chrF++ {scores}  ({event.seconds:.0f} s)"
        case journal.Saved():
            size = f"{event.num_bytes / 1e6:,.1f} MB"
            return f"step {event.step:,}  saved {event.folder} ({size}, {event.seconds:.1f} s, {event.reason})"
        case journal.SaveFailed():
            return (
                f"DEGRADED at step {event.step:,}: not saved: {event.reason}; "
                f"safe is step {event.last_safe_step:,}; training goes on"
            )
        case journal.Fetching():
            done = f"{event.num_bytes / 1e6:,.1f} of {event.of_bytes / 1e6:,.1f} MB"
            return f"step {event.step:,}  fetching: {done}"
        case journal.Draining():
            return f"waiting for the upload of step {event.step:,} to {event.store} (at most {event.seconds:,.0f} s)"
        case journal.ReplicatorStarted():
            safe = f"step {event.safe_step:,} is there" if event.safe_step >= 0 else "nothing is there yet"
            return f"copying to {event.store} (session {event.epoch}): {safe}"
        case journal.UploadSkipped():
            more = f" and {len(event.steps) - SHOWN_STEPS} more" if len(event.steps) > SHOWN_STEPS else ""
            steps = ", ".join(f"{step:,}" for step in event.steps[-SHOWN_STEPS:]) + more
            return f"step {steps} not uploaded: step {event.newer_step:,} was there before its turn"
        case journal.Replicated():
            size = f"{event.num_bytes / 1e6:,.1f} MB"
            return f"step {event.step:,}  safe in {event.store} ({size}, {event.seconds:.1f} s)"
        case journal.ReplicationFailed():
            age = f", {duration(event.age_seconds)} old" if event.age_seconds else ""
            safe = f"step {event.safe_step:,}{age}" if event.safe_step >= 0 else "not known"
            again = f"tried again in {max(event.retry_seconds, 1):,.0f} s"
            return f"DEGRADED: {event.reason}; safe in the store is {safe}; {again}"
        case journal.ReplicationRecovered():
            return f"the store answers again, after {event.attempts:,} failures"
        case journal.TransferHung():
            return f"a transfer was silent for {event.seconds:,.0f} s: started anew"
        case journal.ReplicatorEnded() if event.outcome != "done":
            return f"copying ended: {event.reason}"
        case journal.StepSkipped():
            why = "passed over" if event.passed_over else f"not finite ({event.consecutive} in a row): skipped"
            return f"step {event.step:,}  {why}"
        case journal.RolledBack():
            bad = ", ".join(map(str, event.bad_steps))
            return f"rolled back from step {event.from_step:,} to {event.to_step:,}; will pass over steps {bad}"
        case journal.OutOfMemory():
            smaller = f"microbatches of {event.microbatch_tokens:,} tokens"
            return f"step {event.step:,}  out of memory: repeated with {smaller}"
        case journal.Warned():
            return f"warning: {event.message}"
        case journal.SessionEnded():
            return f"{event.outcome} at step {event.step:,}: {event.reason}; safe is step {event.safe_step:,}"
        case _:
            return ""


def preparing(stage: str, rows: int, kept: int, share: float | None, pairs_per_second: float | None) -> str:
    """How far a preparation is, as `Preparing` has it."""
    done = f" {share:.0%}" if share is not None else ""
    speed = f", {pairs_per_second:,.0f} pairs/s" if pairs_per_second else ""
    return f"{stage}{done}, {rows:,} rows read, {kept:,} pairs kept{speed}"


def _funnel(direction: str, funnel: dict[str, Any]) -> str:
    """What became of the rows of one direction, in one line."""
    dropped = [f"{reason} {entry['pairs']:,}" for reason, entry in funnel["rejected"].items()]
    bad = [f"bad rows {funnel['bad_rows']:,}"] if funnel["bad_rows"] else []
    left_out = ", ".join([*bad, *dropped]) or "nothing"
    return f"{direction}: {funnel['read']:,} read, {funnel['kept']:,} kept; left out: {left_out}"


class Display:
    """Renders events: a live bar on a terminal, plain lines elsewhere. Use as a context manager."""

    def __init__(self, console: Console = talk, clock: Callable[[], float] = time.monotonic) -> None:
        self.console = console
        self.clock = clock
        self.total_steps = 0
        self.bar: Progress | None = None
        self.task: Any = None
        self.preparing: Status | None = None
        self.stage, self.stage_shown = "", 0.0
        # FORCE_COLOR makes rich believe that a log file is a terminal.
        if console.is_interactive and console.file.isatty() and not console.is_jupyter:
            columns = (
                TextColumn("step {task.completed:,.0f}/{task.total:,.0f}"),
                BarColumn(),
                TextColumn("{task.description}"),
                TimeElapsedColumn(),
                TextColumn("·"),
                TimeRemainingColumn(),
                TextColumn("left"),
            )
            self.bar = Progress(*columns, console=console)

    def __enter__(self) -> Callable[[journal.Event], None]:
        return self.show

    def __exit__(self, *_: object) -> None:
        self._end_preparing()
        if self.bar:
            self.bar.stop()

    def show(self, event: journal.Event) -> None:
        """Render one event."""
        if isinstance(event, journal.Preparing):
            self._show_preparing(event)
            return
        if isinstance(event, journal.Prepared):
            self._end_preparing()
        if isinstance(event, journal.SessionStarted):
            self.total_steps = event.total_steps
            if self.bar:
                self.task = self.bar.add_task("", total=event.total_steps, completed=event.step)
                self.bar.start()
                # Rich hides it, and a process that is killed cannot show it again.
                self.console.show_cursor(True)
        if self.bar and self.task is not None and isinstance(event, journal.Step):
            speed = f"loss {event.loss:.3f}  {event.tokens_per_second:,.0f} tok/s"
            self.bar.update(self.task, completed=event.step, description=speed)
            return
        if text := line(event, self.total_steps):
            self.console.print(Text(_visible(text)))

    def _show_preparing(self, event: journal.Preparing) -> None:
        """One live line on a terminal; elsewhere a line for each stage, and one every `PREPARING_SECONDS`."""
        text = line(event)
        if self.bar is None:
            now = self.clock()
            if event.stage != self.stage or now - self.stage_shown >= PREPARING_SECONDS:
                self.stage, self.stage_shown = event.stage, now
                self.console.print(Text(text))
        elif self.preparing is None:
            self.preparing = self.console.status(Text(text), spinner="line")
            self.preparing.start()
            self.console.show_cursor(True)
        else:
            self.preparing.update(Text(text))

    def _end_preparing(self) -> None:
        if self.preparing:
            self.preparing.stop()
            self.preparing = None


@contextlib.contextmanager
def preparing_shown() -> Generator[Callable[[journal.Event], None]]:
    """A display of how far a preparation is and nothing else, for a command whose report says the rest."""
    with Display() as echo:
        yield lambda event: echo(event) if isinstance(event, journal.Preparing) else None
