"""Training as a child that is started again until it is done, has no time left, or gets no further."""

import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, Protocol

from dragoman import host, journal
from dragoman.checkpoint.run_folder import JOURNAL
from dragoman.config import RunConfig
from dragoman.errors import ExitCode
from dragoman.launch.container.attempts import Attempts, fruitless_before
from dragoman.launch.container.child import Child, how_it_ended, verdict, words
from dragoman.launch.container.home import is_ours, look, taking_over
from dragoman.launch.container.voice import Voice

_LOOK_SECONDS = 0.2
_ERROR_LINES = 8
"""Most lines of an error message that are shown."""


class Process(Protocol):
    """A process that trains, as `Child`."""

    def poll(self) -> int | None: ...  # noqa: D102
    def send(self, number: signal.Signals) -> None: ...  # noqa: D102


Start = Callable[[list[str], Callable[[str], None]], Process]
"""Starts a process from the words after `dragoman`, and has told every line that it says."""


@dataclass(frozen=True)
class End:
    """How all training in this container ended."""

    code: int
    """Exit code of the container."""
    words: str
    """Why, in a sentence."""
    release: Literal["now", "later", "no"]
    """Whether to stop paying: at once, after a person could read the page, or not at all."""
    copying_seconds: float = 0.0
    """How long an upload that goes on by itself is waited for."""


def train(config: RunConfig, voice: Voice, start: Start = Child) -> End:
    """Train until there is a reason to stop.

    Args:
        config: As `home.at_home` made it.
        voice: Says what happens, and hears signals.
        start: Starts a process.
    """
    voice.show("starting", "looking at the store")
    known = look(config, voice.clock())
    attempts, ours = Attempts(), known is not None and is_ours(known)
    if known:
        safe_step = known["safe"]["step"] if known["safe"] else -1
        attempts = Attempts(fruitless_before(known["history"], host.name(), voice.clock()), safe_step)
    while not voice.is_over:
        if attempts.are_enough:
            return End(ExitCode.BUG, _why_enough(attempts, voice), "later", config.store.drain_minutes * 60)
        if pause := attempts.pause_seconds:
            voice.show("pausing", f"training starts again in {pause:,.0f} s")
            voice.wait(pause, heard=0)
            if voice.is_over:
                break
        attempts.number += 1
        began = voice.clock()
        voice.show("training", attempts=attempts.number)
        arguments = words(taking_over(config) if ours and attempts.number == 1 else config)
        code = _watch(start(arguments, voice.tell), voice)
        if voice.is_over:
            break
        if end := _judge(code, config, voice, began):
            return end
        attempts.ended(_safe_step(voice))
        voice.say(f"training {how_it_ended(code)}")
    return End(ExitCode.RESUME_ME, f"{voice.signals.received[0].name}: stopped", "no")


def _watch(child: Process, voice: Voice) -> int:
    """Wait for the end of a child, and pass signals on to it; its exit code."""
    passed_on = 0
    while (code := child.poll()) is None:
        for number in voice.signals.received[passed_on:]:
            passed_on += 1
            with suppress(ProcessLookupError):
                child.send(number)
            voice.show("stopping", f"{number.name}: saves and stops")
        voice.wait(_LOOK_SECONDS)
    return code


def _judge(code: int, config: RunConfig, voice: Voice, began: float) -> End | None:
    """What the end of training means; None when it is to be started again."""
    last, copying = _last_session(config, began), config.store.drain_minutes * 60
    match verdict(code, out_of_time=bool(last and last.get("is_out_of_time"))):
        case "finished":
            return End(code, "all steps are done, and the model is in the store", "now")
        case "out of time":
            assert last
            return End(code, f"stopped: {last['reason']}; start again to go on", "now", copying)
        case "superseded":
            known = look(config, voice.clock())
            if known and is_ours(known):
                return End(code, f"a newer container of {host.name()} has taken over", "no")
            return End(code, "another machine has taken over this run", "later")
        case "refused":
            return End(code, _last_error(voice) or f"training {how_it_ended(code)}", "later", copying)
        case "again":
            return None


def _why_enough(attempts: Attempts, voice: Voice) -> str:
    safe = f"than step {attempts.safe_step:,}" if attempts.safe_step >= 0 else "than nothing"
    last = f" The last error was: {error}" if (error := _last_error(voice)) else ""
    return f"training ended {attempts.fruitless} times in a row with no more {safe} safe.{last}"


def _last_error(voice: Voice) -> str:
    """The last error that training told, with its way out; empty when it told none."""
    lines = voice.board.lines
    at = max((number for number, line in enumerate(lines) if line.startswith("error:")), default=None)
    return "" if at is None else " ".join(lines[at : at + _ERROR_LINES])


def _safe_step(voice: Voice) -> int:
    """The newest step that is safe, as the run folder knows; -1 for none."""
    status = voice.board.status()
    return status["safe"]["step"] if status and status["safe"] else -1


def _last_session(config: RunConfig, began: float) -> dict[str, object] | None:
    """How the session that began at a time ended, by its own word."""
    assert config.save.output
    ended = [event for event in journal.read(config.save.output / JOURNAL) if event["kind"] == "session_ended"]
    return ended[-1] if ended and float(ended[-1]["time"]) >= began else None
