"""`dragoman train` as a child: its words, its output line by line, and what its end means."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Literal, cast

from dragoman.config import RunConfig
from dragoman.errors import ExitCode

Verdict = Literal["finished", "out of time", "superseded", "again", "refused"]
"""What follows from the end of training: nothing is left to do; no time is left; another machine goes on; try again; a
person must change something."""


def words(config: RunConfig) -> list[str]:
    """The words after `dragoman` that train with exactly this configuration, whatever the environment says."""
    found = ["train"]
    for name, value in config.given().items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, list):
            texts = [str(text) for text in cast("list[object]", value)]
            found += [flag, *texts] if texts else []
        elif value is True:
            found.append(flag)
        elif value is False:
            found.append(f"{flag}=false")
        elif value is not None:
            found.append(f"{flag}={value}")
    return found


def verdict(code: int, *, out_of_time: bool) -> Verdict:
    """What to do after training ended.

    Args:
        code: Its exit code; that of the signal, negative, when it was killed.
        out_of_time: Whether its time limit ended it.
    """
    match code:
        case ExitCode.DONE:
            return "finished"
        case ExitCode.SUPERSEDED:
            return "superseded"
        case ExitCode.BAD_INPUT | ExitCode.CHECK_SAID_NO:
            return "refused"
        case ExitCode.RESUME_ME if out_of_time:
            return "out of time"
        case _:
            return "again"


def how_it_ended(code: int) -> str:
    """An exit code in words."""
    if code < 0:
        return f"was killed ({signal.Signals(-code).name})"
    if code == ExitCode.RESUME_ME:
        return "stopped before its end (exit code 75)"
    return f"ended with exit code {code}"


class Child:
    """One `dragoman` process.

    Args:
        arguments: The words after `dragoman`.
        tell: Called with every line that it says, from another thread.
    """

    def __init__(self, arguments: Sequence[str], tell: Callable[[str], None]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "dragoman", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
        self._reader = threading.Thread(target=self._read, args=(tell,), daemon=True)
        self._reader.start()

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None while it lives."""
        self._reap_orphans()
        code = self._process.poll()
        if code is not None:
            self._reader.join(timeout=5.0)  # what it said last says why
        return code

    def send(self, number: signal.Signals) -> None:
        """Pass on a signal."""
        self._process.send_signal(number)

    def _read(self, tell: Callable[[str], None]) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            tell(line.rstrip("\n"))

    def _reap_orphans(self) -> None:
        """As process 1 of a container we inherit what our child leaves; nobody else buries it."""
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None or ended.si_pid == self._process.pid:
                return
            os.waitpid(ended.si_pid, 0)
