"""A machine that vanishes: a folder, a home and processes, which end together by SIGKILL."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent
LOOK_SECONDS = 0.02


def wait_until(is_so: Callable[[], object], seconds: float) -> bool:
    """Whether it became so in time; looks many times a second."""
    until = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() >= until:
            return False
        time.sleep(LOOK_SECONDS)
    return True


@dataclass
class Process:
    """One command on a machine, with all that it says in files."""

    popen: subprocess.Popen[bytes]
    said_to: Path
    started: float = field(default_factory=time.monotonic)

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative when a signal ended it."""
        return self.popen.poll()

    @property
    def talk(self) -> list[str]:
        """Every line that it wrote, progress bars left out."""
        text = self.said_to.read_text("utf-8", "replace").replace("\r", "\n")
        return [
            line.rstrip() for line in text.split("\n") if line.strip() and "it/s]" not in line and "?it/s" not in line
        ]

    def ended(self, seconds: float) -> bool:
        """Whether it ended by itself within so many seconds."""
        return wait_until(lambda: self.exit_code is not None, seconds)

    def go_on(self) -> None:
        """Give it the line that it waits for."""
        assert self.popen.stdin is not None
        self.popen.stdin.write(b"\n")
        self.popen.stdin.flush()


class Machine:
    """Everything that a person has on one machine. Use as a context manager: nothing of it survives.

    Args:
        folder: Its disk; made here.
        environment: What its processes see besides the usual.
        directory: Where they run; left out: where this project is.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str], directory: Path = ROOT) -> None:
        (folder / "home").mkdir(parents=True)
        self.folder, self.directory = folder, directory
        self._mark = f"FAULTS_MACHINE={uuid.uuid4().hex}"
        name, mark = self._mark.split("=")
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("HF_", "DRAGOMAN_", "HUGGING"))},
            "HF_HOME": str(folder / "home"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "OMP_NUM_THREADS": "1",
            "OMP_WAIT_POLICY": "PASSIVE",
            "TOKENIZERS_PARALLELISM": "false",
            name: mark,
            **environment,
        }
        self._processes: list[Process] = []

    def __enter__(self) -> "Machine":
        return self

    def __exit__(self, *_: object) -> None:
        self.vanish()

    def start(self, name: str, words: Sequence[object]) -> Process:
        """Start `python WORDS`; what it says goes to NAME.txt."""
        said_to = self.folder / f"{name}.txt"
        with said_to.open("ab") as file:
            popen = subprocess.Popen(
                [sys.executable, *map(str, words)],
                env=self.environment,
                cwd=self.directory,
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        process = Process(popen, said_to)
        self._processes.append(process)
        return process

    def vanish(self) -> None:
        """SIGKILL to every process of this machine, whoever started it; returns when they are gone."""
        while pids := self.alive():
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            for process in self._processes:
                process.popen.poll()  # else it stays a zombie
            time.sleep(LOOK_SECONDS)
        for process in self._processes:
            process.popen.wait()
            if process.popen.stdin:
                process.popen.stdin.close()

    def alive(self) -> list[int]:
        """Ids of the processes of this machine that are not zombies: all inherit its mark."""
        found: list[int] = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    marked = self._mark.encode() in (entry / "environ").read_bytes().split(b"\0")
                except OSError:  # not ours, or gone
                    continue
                if marked:
                    found.append(int(entry.name))
        return found
