"""Real `dragoman` processes beside a real server on loopback."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from dragoman.checkpoint import watchdog

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
    """Kill the replicator of a run folder and its worker, as the loss of the machine would; whether there was one."""
    pid = watchdog.holder(run_folder)
    if not pid:
        return False
    os.kill(pid, signal.SIGKILL)  # its worker dies with it
    until(lambda: watchdog.holder(run_folder) != pid, "the replicator is gone")
    return True


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Our environment without anything that would lead to another Hub or bucket."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "AWS_", "DRAGOMAN_"))}
    return (
        ours
        | {"HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1", "OMP_WAIT_POLICY": "PASSIVE"}
        | dict(variables)
    )
