"""One run that loses its trainer, its replicator or its whole machine again and again, until it is done.

    python -m tests.support.storm --store hub --kills 60 --seed 1 --folder DIR

Sessions are forked from a process that has imported torch, so that a life costs little;
with `--real` they are the real command. The store is a stand-in for the Hub in a process of
its own, or a folder. Prints one JSON object; exit code 1 when a run did not end alike.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dragoman import journal
from dragoman.checkpoint.log import RunLog
from dragoman.store.address import Access, open_store
from dragoman.store.local import FolderStore
from tests.support import real
from tests.support.hub import hub_process
from tests.support.runs import train_args
from tests.support.sessions import final, fingerprint, trained

TOKEN = "hf_ada_ada_ada"
STEPS = 400
LATEST_SECONDS = 1.5
"""Latest instant of a kill after a session began to train."""
LOSSES = ("trainer", "replicator", "both", "disk")
"""Who is killed; with the disk goes everything."""


@dataclass
class Storm:
    """The kills of one store, over as many runs as they need."""

    folder: Path
    url: str
    chance: random.Random
    launch: Callable[[list[str], Path], "Life"]
    met: Counter[str] = field(default_factory=Counter[str])
    steps: list[int] = field(default_factory=list[int])
    """Step at which each life began."""
    alike: list[bool] = field(default_factory=list[bool])
    """Whether each run ended with the undisturbed weights, moments, losses and number of pairs."""

    def options(self, output: Path, **more: Any) -> list[str]:
        return train_args(
            self.folder,
            **{
                "language_pairs": ["en-fr", "fr-en"],
                "max_steps": STEPS,
                "dropout": 0.2,
                "save_steps": 5,
                "eval_steps": 100,
                "log_steps": 1,
                "threads": 1,
                "output": output,
                "lease_minutes": 5,
                "drain_minutes": 2,
                "commits_per_hour": 100_000,
            }
            | more,
        )

    def one_run(self, number: int, kills: int) -> None:
        """Kill a run until `kills` are spent or it is done; then let it end and compare."""
        run, store = self.folder / f"run-{number}", f"{self.url}-{number}"
        words = self.options(run, store=store, take_over=True)
        while self.met.total() < kills:
            if not self._one_life(words, run):
                break
        code = self.launch(words, run).wait()
        assert code == 0, f"run {number} ended with exit code {code}"
        there = RunLog(open_store(store, Access())).newest
        assert there is not None
        plain = self.folder / "plain"
        newest = RunLog(FolderStore(run)).newest
        assert newest is not None
        # A best model whose machine was lost while it was on its way is lost; then the newest one is published.
        is_best_lost = self.met["disk"] > 0 and newest.best in ("", newest.nonce)
        expected = newest.files["model.safetensors"].sha256 if is_best_lost else final(plain)
        same = {
            "folder": trained(run) == trained(plain),
            "model": final(run) == expected,
            "store": fingerprint(there) == trained(plain),
            "outbox": not any((run / "dragoman/outbox").glob("*")),
        }
        self.alike.append(all(same.values()))
        if self.alike[-1]:
            shutil.rmtree(run)
        else:
            print(f"run {number} in {run} differs: {same}", file=sys.stderr)

    def _one_life(self, words: list[str], run: Path) -> bool:
        """Start a session and end it; False when it was done before."""
        before = _began(run)
        life = self.launch(words, run)
        real.until(
            lambda: life.is_over() or len(_began(run)) > len(before) or (not before and bool(_began(run))),
            "a session begins",
        )
        instant = time.monotonic() + self.chance.uniform(0.0, LATEST_SECONDS)
        while time.monotonic() < instant and not life.is_over():
            time.sleep(0.002)
        if life.is_over():
            assert life.wait() == 0
            return False
        self.steps.append(_began(run)[-1] if _began(run) else 0)
        victim = self.chance.choice(LOSSES)
        self.met[victim] += 1
        if victim == "replicator":
            real.kill_copying(run)
            return self._goes_on(life)
        life.kill()
        if victim in ("both", "disk"):
            real.kill_copying(run)
        if victim == "disk":
            shutil.rmtree(run)
        return True

    def _goes_on(self, life: "Life") -> bool:
        """A trainer whose replicator was killed trains on; later it is killed too, which counts as one more."""
        instant = time.monotonic() + self.chance.uniform(0.0, LATEST_SECONDS)
        while time.monotonic() < instant and not life.is_over():
            time.sleep(0.002)
        if life.is_over():
            assert life.wait() == 0
            return False
        self.met["trainer"] += 1
        life.kill()
        return True


def _began(run: Path) -> list[int]:
    """Steps at which the sessions in this folder began."""
    return [
        event["step"] for event in journal.read(run / "dragoman/journal.jsonl") if event["kind"] == "session_started"
    ]


class Life:
    """One process life of a trainer."""

    def __init__(self, pid: int) -> None:
        self._pid, self._code = pid, -1

    def is_over(self) -> bool:
        """Whether it has ended."""
        if self._code < 0:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                self._code = os.waitstatus_to_exitcode(status) & 0xFF
        return self._code >= 0

    def wait(self) -> int:
        """Its exit code, in the end."""
        real.until(self.is_over, "a session ends")
        return self._code

    def kill(self) -> None:
        """SIGKILL."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, 9)
        self.wait()


def forked(words: list[str], _: Path) -> Life:
    """A session forked from this process, which has imported torch."""
    from dragoman.cli.app import run

    pid = os.fork()
    if pid == 0:
        log = os.open(os.devnull, os.O_WRONLY)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os._exit(run(words))
    return Life(pid)


def started(words: list[str], run: Path) -> Life:
    """A session that is the real command."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dragoman", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    process.returncode = 0  # we wait for it ourselves
    return Life(process.pid)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", choices=["hub", "file"], required=True)
    parser.add_argument("--kills", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--real", action="store_true")
    wanted = parser.parse_args()
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        url = f"file://{wanted.folder / 'store'}"
        if wanted.store == "hub":
            hub = stack.enter_context(hub_process(wanted.folder / "hub", "--token", f"{TOKEN}:ada:write"))
            os.environ |= {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HOME": str(wanted.folder / "hf")}
            os.environ |= {"HF_HUB_DISABLE_XET": "1"}
            url = "hf://ada/run"
        storm = Storm(wanted.folder, url, random.Random(wanted.seed), started if wanted.real else forked)
        import transformers  # noqa: F401  before any fork

        from dragoman.training import loop  # noqa: F401

        assert storm.launch(storm.options(wanted.folder / "plain"), wanted.folder / "plain").wait() == 0
        number = 0
        while storm.met.total() < wanted.kills:
            number += 1
            storm.one_run(number, wanted.kills)
    result = {
        "store": wanted.store,
        "real": wanted.real,
        "seed": wanted.seed,
        "kills": storm.met.total(),
        "by_victim": dict(storm.met),
        "lives": len(storm.steps),
        "runs": len(storm.alike),
        "alike": all(storm.alike),
        "seconds": round(time.monotonic() - began, 1),
    }
    print(json.dumps(result))
    return int(not result["alike"])


if __name__ == "__main__":
    sys.exit(main())
