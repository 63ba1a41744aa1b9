"""How the speed bench drives dragoman: the only file of it that knows our own training interface.

A rung of the ladder is a set of options of `RunConfig`. One whose options do not exist yet is
reported as not built, so the ladder grows by itself when they appear.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.speed_clock import Clock, Counts, Pair
from bench.speed_world import MAX_TOKENS, PACKAGES, RATE, Scale, build_tokenizer
from dragoman.config import FIELDS, RunConfig, from_flat
from dragoman.data import prepare
from dragoman.data.batch_plan import BatchPlan
from dragoman.data.corpus import Corpus, open_corpus
from dragoman.data.loader import Loader
from dragoman.model import loss, nllb
from dragoman.model.vocabulary import load as load_tokenizer
from dragoman.store.disk import Disk
from dragoman.training import inputs, session
from dragoman.training.optimizer import build
from dragoman.training.step import StepResult, to_device, train_step

SEED = 1
EQUAL_PAIRS = 16
"""Pairs per step of the starting document: 4 x 4."""


@dataclass(frozen=True)
class Rung:
    """One of our settings: a name and what it changes."""

    name: str
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    pairs_per_step: int = EQUAL_PAIRS
    is_default: frozenset[str] = frozenset()
    """Options that name what already happens, so that the rung can be run before they exist."""

    @property
    def precision(self) -> str:
        """Arithmetic of the forward pass."""
        return self.options.get("precision", "fp32")

    @property
    def missing(self) -> list[str]:
        """The options that are not built yet."""
        return sorted(self.options.keys() - FIELDS.keys() - self.is_default)

    def config(self, scale: Scale, **more: Any) -> RunConfig:
        """The whole configuration; one microbatch per step, no label smoothing, as in the recipe."""
        values: dict[str, Any] = {
            "language_pairs": scale.pairs,
            "data": [PACKAGES],
            "batch_size": self.pairs_per_step,
            "gradient_accumulation": 1,
            "min_chars": scale.min_chars,
            "max_tokens": MAX_TOKENS,
            "label_smoothing": 0.0,
            "precision": "fp32",
            "max_steps": 1_000_000,
            "seed": SEED,
        }
        known = {name: value for name, value in self.options.items() if name in FIELDS}
        return from_flat(values | known | more)


DEFAULT = frozenset({"forward", "vocabulary"})
REFERENCE = {"forward": "reference", "vocabulary": "full"}
FULL = {"forward": "packed", "vocabulary": "full"}
ACTIVE = {"forward": "packed", "vocabulary": "active"}


def equal_pairs() -> list[Rung]:
    """Our rungs at the recipe's pairs per step, in float32."""
    return [
        Rung("dragoman reference", REFERENCE, is_default=DEFAULT),
        Rung("dragoman packed, whole logits", FULL | {"chunked_loss": False}),
        Rung("dragoman packed", FULL),
        Rung("dragoman active", ACTIVE),
    ]


def ladder(precision: str, larger: tuple[int, ...]) -> list[Rung]:
    """Our rungs: at the recipe's pairs per step, then in `precision` with more pairs per step."""
    half = {"precision": precision}
    return [
        *equal_pairs(),
        *(Rung(f"dragoman reference {precision} {n}", REFERENCE | half, n, DEFAULT) for n in larger[-1:]),
        *(Rung(f"dragoman packed {precision} {n}", FULL | half, n) for n in larger),
        *(Rung(f"dragoman active {precision} {n}", ACTIVE | half, n) for n in (EQUAL_PAIRS, *larger)),
    ]


def vocabulary(name: str) -> Rung:
    """Plain training with the full or the active vocabulary."""
    return Rung(f"vocabulary {name}", {"vocabulary": name}, is_default=DEFAULT if name == "full" else frozenset())


# --- the text ----------------------------------------------------------------------


def prepare_corpus(folder: Path, scale: Scale) -> None:
    """Make `folder/base` (the tokenizer) and the corpus beside it."""
    config = Rung("").config(scale)
    directions = inputs.directions_of(config)
    selection = prepare.select(config.data, directions, SEED)
    texts = [side for pair in selection.splits["train"] for side in (pair.source, pair.target)]
    (folder / "base").mkdir(parents=True)
    build_tokenizer(folder / "base", texts, scale)
    encoder = load_tokenizer(folder / "base")
    made = prepare.build(folder, "bench", selection, directions, encoder, MAX_TOKENS, Disk())
    (folder / "which.json").write_text(json.dumps(made.folder.name))


def corpus_of(folder: Path) -> Corpus:
    """The corpus that `prepare_corpus` made."""
    found = open_corpus(folder / json.loads((folder / "which.json").read_text()))
    assert found is not None
    return found


def pairs_in_order(corpus: Corpus, num_pairs: int | None = None) -> list[Pair]:
    """The first pairs of our plan, in the order in which every side takes them; all of one epoch when left out."""
    total = sum(corpus.counts("train").values())
    loader = Loader(corpus, BatchPlan(total, num_pairs or total, SEED))
    return [_pair(loader, index) for index in loader.plan.indices(0)]


def dev_pairs(corpus: Corpus) -> list[Pair]:
    """The held-out pairs."""
    total = corpus.manifest["splits"]["dev"]["count"]
    loader = Loader(corpus, BatchPlan(total, total, SEED), "dev")
    return [_pair(loader, np.int64(index)) for index in range(total)]


def _pair(loader: Loader, index: np.int64) -> Pair:
    batch = loader.padded(np.array([index]))
    return Pair(batch.source_BS[0].tolist(), batch.labels_BT[0].tolist())


# --- training ------------------------------------------------------------------------


@contextmanager
def trainer_of(
    rung: Rung, scale: Scale, corpus: Corpus, model: Any, device: torch.device, **more: Any
) -> Iterator[Callable[[int, float], StepResult]]:
    """A function that makes one step at a learning rate.

    torch's settings are those of a real run inside, and as before outside.
    """
    config = rung.config(scale, device=device.type, **more)
    before = torch.are_deterministic_algorithms_enabled()
    arithmetic = session.set_up_torch(config)
    loader = Loader(corpus, session.plan_of(config, corpus))
    optimizer = build(model.named_parameters(), config.training)
    scaler = arithmetic.scaler()

    def step(number: int, rate: float) -> StepResult:
        return train_step(
            model,
            optimizer,
            scaler,
            loader,
            config.training,
            arithmetic,
            step=number,
            microbatch=config.training.batch_size,
            rate=rate,
        )

    try:
        yield step
    finally:
        torch.use_deterministic_algorithms(before)


def run(
    rung: Rung,
    scale: Scale,
    corpus: Corpus,
    device: torch.device,
    *,
    model: Any,
    first_pair: int,
    num_pairs: int,
    warmup: int,
) -> Clock:
    """Train over the pairs at `first_pair` and on; `warmup` steps before them are not counted."""
    steps = range(first_pair // rung.pairs_per_step, (first_pair + num_pairs) // rung.pairs_per_step)
    clock = Clock(device)
    with trainer_of(rung, scale, corpus, model, device) as step:
        for number in range(steps.start - warmup, steps.start):
            step(number, RATE)
        clock.start()
        for number in steps:
            step(number, RATE)
        clock.stop()
    clock.counts = positions(rung, scale, corpus, steps)
    return clock


def positions(rung: Rung, scale: Scale, corpus: Corpus, steps: range) -> Counts:
    """Positions and tokens of these steps, without training."""
    loader = Loader(corpus, session.plan_of(rung.config(scale), corpus))
    return sum((_counts(loader, step) for step in steps), Counts())


def _counts(loader: Loader, step: int) -> Counts:
    """Positions that a step computes, and those of them that are real; one microbatch per step."""
    batch = loader.padded(loader.batch(step))
    return Counts(
        int(batch.source_mask_BS.sum()), batch.source_mask_BS.size, batch.target_tokens, batch.target_mask_BT.size
    )


# --- parts of the model -------------------------------------------------------------


def loss_heads() -> dict[str, Callable[[Tensor, Tensor, Tensor], Tensor] | None]:
    """Our ways from hidden states (N, d), rows (V, d) and labels (N) to summed nats; None for one not built."""

    def whole(hidden_ND: Tensor, weight_VD: Tensor, labels_N: Tensor) -> Tensor:
        return loss.token_nats(hidden_ND @ weight_VD.T, labels_N, 0.0).objective

    return {"dragoman, whole logits": whole, "dragoman, chunked": None}


def full_model(model: Any) -> Any:
    """The model with all its rows, after training with any vocabulary."""
    return model


def dev_nats(model: Any, corpus: Corpus, device: torch.device) -> float:
    """Nats per target token of the held-out pairs under the full vocabulary."""
    count = corpus.manifest["splits"]["dev"]["count"]
    loader = Loader(corpus, BatchPlan(count, EQUAL_PAIRS, SEED), "dev")
    nats = tokens = 0.0
    full = full_model(model).eval()
    with torch.inference_mode():
        for step in range(loader.plan.total_steps):
            batch = loader.padded(loader.batch(step))
            nats += float(nllb.nats(full, to_device(batch, device), 0.0).plain)
            tokens += batch.target_tokens
    full.train()
    return nats / tokens
