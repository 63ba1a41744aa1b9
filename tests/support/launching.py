"""What tests of started machines share: an account at the Hub stand-in, and a run that is worth starting."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import venv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import constants

from dragoman import platforms
from dragoman.config import from_flat
from dragoman.launch.job import Job
from tests.support.hub import HubStandIn

TOKEN = "hf_thisIsTheSecretOfAda"
GOLDEN = Path(__file__).parents[1] / "golden"
RUN: dict[str, Any] = {"language_pairs": ["en-fr"], "max_samples": 20000, "store": "hf://ada/run"}
"""A run on data of the Hub, as its run file says it."""
SMALL: dict[str, Any] = {
    "data": ["en-fr=texts/pairs.tsv"],
    "model": "scratch:tiny",
    "max_steps": 2,
    "batch_size": 4,
    "gradient_accumulation": 1,
    "dev_percent": 10,
    "test_percent": 0,
    "eval_steps": 0,
    "device": "cpu",
    "max_samples": None,
    "commits_per_hour": 3600,
}
"""What makes of it a run of seconds, on pairs that lie here."""
WHEEL = "dragoman-1.2.3+x0123456789ab-py3-none-any.whl"


def signed_in(monkeypatch: pytest.MonkeyPatch, hub: HubStandIn, token: str | None = TOKEN) -> None:
    """Let this process talk to the stand-in, with a token or without one."""
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    pages = constants.HUGGINGFACE_CO_URL_TEMPLATE.partition("/{repo_id}")
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", "".join((hub.url, *pages[1:])))
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    else:
        monkeypatch.delenv("HF_TOKEN", raising=False)


def example(platform: str = "jobs", gpu: str | None = "l4", **more: Any) -> Job:
    """A job whose plan is the same on every machine: its wheel is no wheel."""
    place = platforms.find(platform)
    config = from_flat(more.pop("options", RUN))
    carried = {"carries": {WHEEL: b"a wheel"}, "requires": (WHEEL,)}
    return Job(name="run", config=config, platform=place, offer=place.offer(gpu), **(carried | more))


def write_run(path: Path, **options: Any) -> Path:
    """A run file; options that are None are left out of `RUN`."""
    values = {name: value for name, value in (RUN | options).items() if value is not None}
    path.write_text(yaml.safe_dump(values, sort_keys=False), "utf-8")
    return path


def agrees(name: str, value: Any) -> None:
    """Compare with a golden file; a missing one is written, and fails."""
    path = GOLDEN / name
    text = json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        raise AssertionError(f"{path} was missing, and was written: look at it")
    assert text == path.read_text("utf-8")


class Container:
    """An empty machine with Python, on which the packages that the tests use are installed, but not dragoman.

    It has no network but to the stand-in: pip is forbidden to look for packages.
    """

    def __init__(self, folder: Path, hub: HubStandIn) -> None:
        self.home, self._hub = folder / "home", hub
        self.home.mkdir(parents=True)
        venv.create(folder / "venv", with_pip=False, symlinks=True)
        self._bin = folder / "venv/bin"
        [site] = (folder / "venv/lib").glob("python*/site-packages")
        installed = next(path for path in sys.path if path.endswith("site-packages"))
        # Its own .pth files are not read there, so this checkout cannot be imported.
        (site / "packages.pth").write_text(installed + "\n")

    def has(self, package: str) -> bool:
        """Whether something of this name was installed there."""
        [site] = (self._bin.parent / "lib").glob("python*/site-packages")
        return (site / package).exists()

    def run(self, command: list[str], variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        """What the platform does: run a command with these variables and no others of this machine."""
        environment = self._environment(variables)
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    def start(self, command: list[str], variables: Mapping[str, str], log: Path) -> "subprocess.Popen[bytes]":
        """The same, for a machine that may be cut: in a process group of its own; all that it says goes to `log`."""
        environment = self._environment(variables)
        with log.open("wb") as file:
            return subprocess.Popen(command, env=environment, stdout=file, stderr=file, start_new_session=True)

    def cut(self, process: "subprocess.Popen[bytes]") -> None:
        """What the platform does when it takes the machine away: every process in it is gone at once."""
        while doomed := self._processes():
            for pid in doomed:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        process.wait()

    def _processes(self) -> list[int]:
        """All that are in it, whatever group, session or parent they have: those with its home."""
        mine, found = f"HOME={self.home}".encode(), list[int]()
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if mine in path.read_bytes().split(b"\0"):
                    found.append(int(path.parent.name))
        return found

    def _environment(self, variables: Mapping[str, str]) -> dict[str, str]:
        own = {
            "PATH": f"{self._bin}:/usr/bin:/bin",
            "HOME": str(self.home),
            "HF_ENDPOINT": self._hub.url,
            "HF_HUB_DISABLE_XET": "1",
            "PIP_NO_INDEX": "1",
            "OMP_WAIT_POLICY": "PASSIVE",
            "OMP_NUM_THREADS": "1",
        }
        return {**own, **variables}


def impatient(folder: Path, hub: HubStandIn) -> tuple[Container, str]:
    """An empty machine on which sleeping takes no time; and its PATH."""
    machine = Container(folder, hub)
    tools = folder / "impatient"
    tools.mkdir()
    (tools / "sleep").write_text("#!/bin/sh\n")
    (tools / "sleep").chmod(0o755)
    return machine, f"{tools}:{folder / 'venv/bin'}:/usr/bin:/bin"
