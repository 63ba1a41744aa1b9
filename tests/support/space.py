"""A Space on this machine: containers that come and go with their disks, ended as the platform ends them.

The platform's side of the Hub is the stand-in's: when it is asked to pause the Space, the
container is told to end, has its grace, and is gone with its disk. `bench/space.py` plays
the same with the built image.
"""

import json
import os
import re
import signal
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.faults_dragoman import patched
from bench.faults_machine import Machine, Process, wait_until
from tests.support.hub import HubStandIn
from tests.support.runs import flags

SPACE, REPO, TOKEN = "ada/nllb", "ada/fine-tuned-nllb-scratch-tiny", "hf_ada_space"
SECONDS = 180.0
"""The longest that anything is waited for: a cold disk may take a minute to import torch."""


def space_words(data: Path, **options: object) -> list[str]:
    """The words of a tiny run behind `dragoman space`; without `--store`, so that it goes to REPO."""
    chosen: dict[str, object] = {
        "language_pairs": "en-fr",
        "data": f"en-fr={data}",
        "model": "scratch:tiny",
        "max_steps": 60,
        "batch_size": 4,
        "gradient_accumulation": 1,
        "learning_rate": "1e-3",
        "dropout": 0.2,
        "dev_percent": 0,
        "test_percent": 0,
        "save_steps": 5,
        "eval_steps": 0,
        "log_steps": 1,
        "device": "cpu",
        "threads": 1,
        "drain_minutes": 0.25,
    }
    return ["--port", "0", "--page-minutes", "0.01", *flags(chosen | options)]


class Container:
    """One life of the container, on a disk of its own."""

    def __init__(
        self, folder: Path, hub: HubStandIn, words: list[str], pace: float, environ: Mapping[str, str]
    ) -> None:
        self.machine = Machine(
            folder,
            {
                "SPACE_ID": SPACE,
                "HF_ENDPOINT": hub.url,
                "HF_TOKEN": TOKEN,
                "HF_HUB_DISABLE_XET": "1",
                **patched(pace),
                "PYTHONPATH": os.pathsep.join(filter(None, [patched()["PYTHONPATH"], os.environ.get("PYTHONPATH")])),
                **environ,
            },
        )
        chosen = words if "--output" in words else [*words, "--output", str(folder / "run")]
        self.process: Process = self.machine.start("space", ["-m", "dragoman", "space", *chosen])
        self._url = ""

    @property
    def url(self) -> str:
        """Of its page."""
        if not self._url:
            assert wait_until(lambda: "the page is at" in "".join(self.process.talk), SECONDS), self.process.talk
            found = re.search(r"http://\S+", "\n".join(self.process.talk))
            assert found
            self._url = found[0]
        return self._url

    def shows(self, is_so: Callable[[], object]) -> bool:
        """Whether it became so before the container ended, and in time."""
        wait_until(lambda: is_so() or self.process.exit_code is not None, SECONDS)
        return bool(is_so())

    def page(self, path: str = "") -> str:
        """What it answers."""
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return answer.read().decode()

    def entry(self) -> dict[str, Any]:
        """What its entry does."""
        return json.loads(self.page("entry.json"))

    def end(self, grace_seconds: float = 0.0) -> None:
        """SIGTERM to process 1, and after its grace SIGKILL to all; 0: without a warning."""
        if grace_seconds:
            self.process.popen.send_signal(signal.SIGTERM)
            self.process.ended(grace_seconds)
        self.machine.vanish()


def is_paused(hub: HubStandIn) -> bool:
    """Whether the Space was asked to pause."""
    return hub.space(SPACE)["stage"] == "PAUSED"
