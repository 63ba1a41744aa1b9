"""Real `dragoman` processes beside a real server on loopback."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

SECONDS = 300.0
"""Longest wait for anything; nothing that is asserted depends on it."""


def start(words: Sequence[str], variables: Mapping[str, str], log: Path) -> "subprocess.Popen[bytes]":
    """Start `dragoman WORDS`; all that it prints goes to `log`."""
    with log.open("ab") as output:
        command = [sys.executable, "-m", "dragoman", *words]
        return subprocess.Popen(command, env=environment(variables), stdout=output, stderr=output)


def run(words: Sequence[str], variables: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    """Run `dragoman WORDS` to its end."""
    command = [sys.executable, "-m", "dragoman", *words]
    return subprocess.run(
        command, env=environment(variables or {}), capture_output=True, text=True, timeout=SECONDS, check=False
    )


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.02)


def kill_copying(run_folder: Path) -> bool:
    """Kill what copies a run folder, as the loss of the machine would; whether there was something.

    Also one that has only just been started and holds no lock yet, and the workers.
    """
    doomed = _copying(run_folder)
    for pid in doomed:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until(lambda: not _copying(run_folder), "what copies is gone")
    return bool(doomed)


def _copying(run_folder: Path) -> list[int]:
    """Processes that copy the folder."""
    words = [b"replicate", os.fsencode(run_folder)]
    found: list[int] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            command = path.read_bytes().split(b"\0")
            if all(word in command for word in words):
                found.append(int(path.parent.name))
    return found


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Our environment without anything that would lead to another Hub or bucket."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "AWS_", "DRAGOMAN_"))}
    return (
        ours
        | {"HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1", "OMP_WAIT_POLICY": "PASSIVE"}
        | dict(variables)
    )
