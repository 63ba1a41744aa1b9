"""Whole sessions of a tiny run, in this process, that can be disturbed; and what they leave."""

import hashlib
import shutil
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from dragoman.checkpoint.log import RunLog
from dragoman.config import RunConfig, from_flat
from dragoman.journal import Event
from dragoman.store.disk import Disk
from dragoman.store.local import FolderStore
from dragoman.store.record import CheckpointRecord
from dragoman.training import loop
from dragoman.training.ending import Ending
from tests.support.runs import flags, make_pairs

PREPARED = ("dragoman/corpus", "dragoman/base")
"""What does not depend on training and may be copied to spare time."""


@dataclass
class Lab:
    """A folder with data, and runs in it that share their corpus and base model."""

    folder: Path
    options: dict[str, Any] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)

    def config(self, name: str, **options: Any) -> RunConfig:
        data = self.folder / "pairs.tsv"
        if not data.exists():
            make_pairs(data, n=80, seed=1)
        values: dict[str, Any] = {
            "language_pairs": ["en-fr", "fr-en"],
            "data": [f"en-fr={data}"],
            "model": "scratch:tiny",
            "dropout": 0.2,
            "max_steps": 8,
            "batch_size": 4,
            "gradient_accumulation": 2,
            "learning_rate": 1e-3,
            "dev_percent": 10,
            "save_steps": 2,
            "eval_steps": 4,
            "eval_samples": 2,
            "log_steps": 1,
            "device": "cpu",
            "threads": 1,
            "output": str(self.folder / name),
        }
        return from_flat(values | self.options | options)

    def words(self, name: str, **options: Any) -> list[str]:
        """The same configuration as words after `dragoman`."""
        flat = self.config(name, **options).flat()
        return ["train", *flags({key: value for key, value in flat.items() if value is not False and value != []})]

    def train(self, name: str, disk: Disk | None = None, **options: Any) -> Ending:
        """One session of the run `name`, from where it is to its end."""
        self.events.clear()
        return loop.run(self.config(name, **options), self.events.append, disk)

    def prepared(self, name: str, like: str) -> Path:
        """The folder of a new run, with corpus and base model of another one."""
        for part in PREPARED:
            shutil.copytree(self.folder / like / part, self.folder / name / part)
        return self.folder / name

    def stopped(self, name: str, before: int, **options: Any) -> Ending:
        """One session of the run `name` that is asked to stop when it is about to compute step `before`."""
        real = loop.train_step

        def interrupted(*values: Any, **told: Any) -> Any:
            if told["step"] == before:
                signal.raise_signal(signal.SIGTERM)
            return real(*values, **told)

        with mock.patch.object(loop, "train_step", interrupted):
            return self.train(name, **options)

    def kinds(self) -> list[str]:
        return [event.kind() for event in self.events]


def final(run: Path) -> str:
    """Sha256 of the published weights."""
    return hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()


def trained(run: Path) -> dict[str, tuple[str, str]]:
    """Digests of weights and moments of the newest checkpoint, and its losses: all that training made."""
    newest = RunLog(FolderStore(run)).newest
    assert newest is not None
    return fingerprint(newest)


def fingerprint(checkpoint: CheckpointRecord) -> Any:
    names = ("model.safetensors", "training/optimizer.safetensors")
    return [checkpoint.step, checkpoint.pairs_seen, checkpoint.losses, *(checkpoint.files[name] for name in names)]
