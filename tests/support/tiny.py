"""A tiny model with its corpus, in memory where tests want to reach inside."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dragoman.checkpoint.run_folder import JOURNAL
from dragoman.config import RunConfig, from_flat
from dragoman.data import planning, prepare
from dragoman.data.batch_plan import BatchPlan
from dragoman.data.corpus import Text
from dragoman.data.loader import Loader
from dragoman.journal import Journal
from dragoman.model import nllb
from dragoman.store.disk import Disk
from dragoman.training import inputs, trainee
from dragoman.training.forward import Forward
from dragoman.training.inputs import Inputs
from dragoman.training.optimizer import Arithmetic, build, learning_rate
from dragoman.training.step import Settled, train_step
from tests.support.runs import make_pairs

CPU = Arithmetic(torch.device("cpu"), "fp32")


@dataclass
class Tiny:
    """What a run starts from."""

    config: RunConfig
    made: Inputs
    plan: BatchPlan
    loader: Loader

    @property
    def active_loader(self) -> Loader:
        """The same batches, for a model that holds the corpus's rows only."""
        return Loader(self.made.corpus, self.plan, active=True)

    @property
    def texts(self) -> list[Text]:
        """The training pairs in the order of the corpus."""
        directions = inputs.directions_of(self.config)
        return list(prepare.select(self.config.data, directions, self.config.training.seed).splits["train"])

    def model(self, dtype: torch.dtype = torch.float32) -> Any:
        model: Any = nllb.load(self.made.base, self.config.model.dropout)
        return model.to(dtype)

    def forward(self, model: Any, **options: Any) -> Forward:
        """How a model of this run is computed on the CPU."""
        training = self.config.training
        values: dict[str, Any] = {"packed": training.forward == "packed", "smoothing": training.label_smoothing}
        return Forward(model, CPU, **(values | options))

    def train(self, model: Any, steps: int, limit: int = 10**6, **options: Any) -> list[Settled]:
        """Train the model in place for `steps` steps, at most `limit` tokens at once."""
        training, forward = self.config.training, self.forward(model, **options)
        loader = Loader(self.made.corpus, self.plan, active=forward.active is not None)
        feed = trainee.feed_of(forward, self.config, loader)
        optimizer = build(model.named_parameters(), training)
        scaler = CPU.scaler()
        return [
            train_step(
                forward,
                optimizer,
                scaler,
                feed,
                training,
                step=step,
                limit=limit,
                rate=learning_rate(training, step, self.plan.total_steps),
            ).settled()
            for step in range(steps)
        ]


def make(folder: Path, rows: int = 200, **options: Any) -> Tiny:
    """Prepare `rows` toy pairs in both directions and a `scratch:tiny` model in `folder`."""
    data = make_pairs(folder / "pairs.tsv", rows, seed=1)
    values: dict[str, Any] = {
        "language_pairs": ["en-fr", "fr-en"],
        "data": [f"en-fr={data}"],
        "model": "scratch:tiny",
        "output": str(folder / "run"),
        "batch_size": 16,
        "gradient_accumulation": 1,
        "max_steps": 50,
        "device": "cpu",
        "dev_percent": 0,
        "test_percent": 0,
    }
    config = from_flat(values | options)
    run = folder / "run"
    (run / "dragoman").mkdir(parents=True, exist_ok=True)
    made = inputs.obtain(config, run, Journal(run / JOURNAL), Disk())
    plan = planning.plan_of(config, made.corpus)
    return Tiny(config, made, plan, Loader(made.corpus, plan))
