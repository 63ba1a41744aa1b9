"""The end of a container: say why, let a last upload end, and stop the cost, once.

Whether somebody reads the page or an upload still moves, a machine that trains nothing is
paid for by the minute; so each wait has an end, and then the machine goes.
"""

from collections.abc import Callable

from dragoman.checkpoint import watchdog
from dragoman.errors import ExitCode, InputError, StoreUnavailable
from dragoman.launch.container.training import End
from dragoman.launch.container.voice import Voice
from dragoman.launch.release import can_release, release_here

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 2.0, 600.0
_ENDING_SECONDS = 600.0
"""How long to wait to be ended by the platform, after it was asked to."""


def leave(
    end: End,
    voice: Voice,
    platform: str | None,
    page_minutes: float,
    release: Callable[[str | None], str] = release_here,
) -> int:
    """Say how it ended, and stop paying; returns the exit code.

    Args:
        end: How training ended.
        voice: Says it, and hears signals.
        platform: Where this is; None when it is not recognised.
        page_minutes: How long the page stays after an end that a person should read.
        release: Stops the cost of this machine, and says what was done.
    """
    is_bad = end.code not in (ExitCode.DONE, ExitCode.RESUME_ME)
    voice.show("stopped", end.words, is_bad=is_bad)
    voice.say(end.words)
    if end.release == "no" or not can_release(platform):
        return end.code
    if end.release == "later":
        voice.show("stopped", f"{end.words} (This machine is released in {page_minutes:g} min.)", is_bad=is_bad)
        voice.wait(page_minutes * 60, heard=0)
    _let_copying_end(end, voice)
    if not voice.is_over and _release(end, voice, lambda: release(platform)):
        # The platform's signal may be here before its answer to us.
        voice.wait(_ENDING_SECONDS, heard=0)
    return end.code


def _let_copying_end(end: End, voice: Voice) -> None:
    """Wait for an upload that goes on by itself, but not for ever: a store that refuses must not cost a GPU."""
    folder, until = voice.board.folder, voice.clock() + end.copying_seconds
    while folder and not voice.is_over and (left := until - voice.clock()) > 0:
        if watchdog.holder(folder) is None:
            return
        voice.show("stopped", f"{end.words} The last upload goes on; at most {left / 60:,.0f} min are given to it.")
        voice.wait(min(1.0, left))


def _release(end: End, voice: Voice, release: Callable[[], str]) -> bool:
    """Ask until it is granted, or refused for good; whether it was granted."""
    pause, is_bad = _FIRST_PAUSE_SECONDS, voice.board.situation.is_bad
    while not voice.is_over:
        try:
            done = release()
        except InputError as error:
            words = f"{end.words} THIS MACHINE MAY STILL COST MONEY: {error.message}. Try: {error.hint}"
            voice.show("stopped", words, is_bad=True)
            voice.say(words)
            return False
        except StoreUnavailable as error:
            voice.say(f"{error.message}; tried again in {pause:,.0f} s")
            voice.wait(pause, heard=0)
            pause = min(_LONGEST_PAUSE_SECONDS, 2 * pause)
        else:
            voice.show("released", f"{end.words} ({done})", is_bad=is_bad)
            voice.say(done)
            return True
    return False
