"""What a person at a terminal sees of a run, and what Ctrl-C does to it."""

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Generator
from pathlib import Path

from dragoman.checkpoint.status import status
from dragoman.errors import ExitCode
from tests.support.runs import train_args

LONG = {"max_steps": 100_000, "save_steps": 100_000, "eval_steps": 0}
PATIENCE = 60.0
"""Seconds within which a step must have been shown, on a busy machine."""


class Terminal:
    """A `dragoman` process on a terminal of its own, and all that it has shown there."""

    def __init__(self, words: list[str]) -> None:
        outer, inner = pty.openpty()
        environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
        environment |= {"TERM": "xterm-256color", "COLUMNS": "120", "OMP_WAIT_POLICY": "PASSIVE"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dragoman", *words], stdin=inner, stdout=inner, stderr=inner, env=environment
        )
        os.close(inner)
        self.shown = ""
        self.grown = threading.Condition()
        self.reader = threading.Thread(target=self._read, args=(outer,), daemon=True)
        self.reader.start()

    def _read(self, outer: int) -> None:
        with contextlib.suppress(OSError):  # Linux says EIO when the other side has closed
            while part := os.read(outer, 65536):
                with self.grown:
                    self.shown += part.decode(errors="replace")
                    self.grown.notify_all()
        os.close(outer)

    def wait_for(self, pattern: str) -> None:
        """Until the terminal has shown what matches."""
        with self.grown:
            assert self.grown.wait_for(lambda: re.search(pattern, self.shown), PATIENCE), self.shown

    def end(self) -> int:
        """Exit code of the process, when everything it showed has been read."""
        code = self.process.wait(PATIENCE)
        self.reader.join(PATIENCE)
        return code


@contextlib.contextmanager
def training(folder: Path) -> Generator[Terminal]:
    terminal = Terminal(train_args(folder, **LONG))
    try:
        yield terminal
    finally:
        if terminal.process.poll() is None:
            terminal.process.kill()
            terminal.process.wait()


def test_ctrl_c_saves_says_what_is_safe_and_how_to_continue(tmp_path: Path) -> None:
    with training(tmp_path) as terminal:
        terminal.wait_for(r"step [1-9]\d*/100,000 .*loss \d\.\d{3}.*left")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.end() == ExitCode.RESUME_ME
    folder = tmp_path / "run"
    assert "SIGINT: will save and stop; once more ends at once" in terminal.shown
    saved = re.search(r"step (\d+)  saved checkpoint-\1 \(.*SIGINT\)", terminal.shown)
    assert saved, terminal.shown
    assert f"stopped at step {saved[1]}: SIGINT; safe is step {saved[1]}" in terminal.shown
    assert f"continue with: dragoman resume {folder}" in terminal.shown
    assert "Traceback" not in terminal.shown
    found = status(folder)
    assert (found["state"], found["safe"]["step"]) == ("stopped", int(saved[1]))


def test_a_second_ctrl_c_ends_at_once_and_leaves_the_terminal_usable(tmp_path: Path) -> None:
    with training(tmp_path) as terminal:
        terminal.wait_for(r"step [1-9]\d*/100,000 .*loss")
        # Both wait until the process runs again; Python handles them one after the other.
        terminal.process.send_signal(signal.SIGSTOP)
        terminal.process.send_signal(signal.SIGINT)
        terminal.process.send_signal(signal.SIGTERM)
        terminal.process.send_signal(signal.SIGCONT)
        assert terminal.end() in (-signal.SIGINT, -signal.SIGTERM)
    shown = terminal.shown
    assert shown.rfind("\x1b[?25h") > shown.rfind("\x1b[?25l"), "the cursor is visible"
    assert status(tmp_path / "run")["state"] == "interrupted"
