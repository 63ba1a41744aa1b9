"""How the speed bench drives dragoman: the only file of it that knows our own training interface.

A rung of the ladder is a set of options of `RunConfig`. One whose options do not exist yet is
reported as not built, so the ladder grows by itself when they appear.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from bench.speed_clock import Clock, Counts, Pair
from bench.speed_world import MAX_TOKENS, PACKAGES, RATE, Scale, build_tokenizer
from dragoman.config import FIELDS, RunConfig, from_flat
from dragoman.data import planning, prepare
from dragoman.data.batch_plan import BatchPlan
from dragoman.data.corpus import Corpus, open_corpus
from dragoman.data.loader import Loader
from dragoman.model import active, loss
from dragoman.model.vocabulary import REAL_VOCABULARY
from dragoman.model.vocabulary import load as load_tokenizer
from dragoman.store.disk import Disk
from dragoman.training import forward as forward_pass
from dragoman.training import inputs, trainee
from dragoman.training.feed import Feed
from dragoman.training.forward import Forward
from dragoman.training.graphs import Graphs
from dragoman.training.optimizer import Arithmetic, build
from dragoman.training.step import StepResult, train_step

SEED = 1
EQUAL_PAIRS = 16
"""Pairs per step of the starting document: 4 x 4."""


NO_LIMIT = 1 << 40
"""Of tokens in a microbatch: every step is computed at once."""


@dataclass(frozen=True)
class Rung:
    """One of our settings: a name and what it changes."""

    name: str
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    pairs_per_step: int = EQUAL_PAIRS
    whole_logits: bool = False
    """Never in chunks; else as the size of the logits says."""

    @property
    def precision(self) -> str:
        """Arithmetic of the forward pass."""
        return self.options.get("precision", "fp32")

    @property
    def missing(self) -> list[str]:
        """The options that are not built yet."""
        return sorted(self.options.keys() - FIELDS.keys())

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
        return from_flat(values | self.options | more)


REFERENCE = {"forward": "reference", "vocabulary": "full"}
FULL = {"forward": "packed", "vocabulary": "full"}
ACTIVE = {"forward": "packed", "vocabulary": "active"}


def equal_pairs() -> list[Rung]:
    """Our rungs at the recipe's pairs per step, in float32."""
    return [
        Rung("dragoman reference", REFERENCE),
        Rung("dragoman packed, whole logits", FULL, whole_logits=True),
        Rung("dragoman packed", FULL),
        Rung("dragoman active", ACTIVE),
    ]


def true_size() -> list[Rung]:
    """The same where memory counts too: also with layers computed a second time."""
    return [*equal_pairs(), Rung("dragoman active, checkpointing", ACTIVE | {"gradient_checkpointing": "on"})]


def ladder(precision: str, larger: tuple[int, ...]) -> list[Rung]:
    """Our rungs: at the recipe's pairs per step, then in `precision` with more pairs per step."""
    half = {"precision": precision}
    return [
        *equal_pairs(),
        *(Rung(f"dragoman reference {precision} {n}", REFERENCE | half, n) for n in larger[-1:]),
        *(Rung(f"dragoman packed {precision} {n}", FULL | half, n) for n in larger),
        *(Rung(f"dragoman active {precision} {n}", ACTIVE | half, n) for n in (EQUAL_PAIRS, *larger)),
    ]


def vocabulary(name: str) -> Rung:
    """Plain training with the full or the active vocabulary."""
    return Rung(f"vocabulary {name}", {"vocabulary": name})


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
    batch = loader.packed(np.array([index]))
    return Pair(batch.source_N.tolist(), batch.labels_N.tolist())


def active_rows(corpus: Corpus) -> list[int]:
    """The rows that the active vocabulary trains."""
    return corpus.rows.tolist()


# --- training ------------------------------------------------------------------------


@dataclass(frozen=True)
class Training:
    """A model under training, as a session would hold it."""

    config: RunConfig
    corpus: Corpus
    forward: Forward
    optimizer: torch.optim.Optimizer
    feed: Feed
    graphs: Graphs | None
    scaler: torch.amp.GradScaler

    def step(self, number: int, rate: float) -> StepResult:
        """One step at a learning rate; on a GPU nobody has waited for it yet."""
        training = self.config.training
        return train_step(
            self.forward,
            self.optimizer,
            self.scaler,
            self.feed,
            training,
            step=number,
            limit=NO_LIMIT,
            rate=rate,
            graphs=self.graphs,
        )

    def loss(self, number: int, rate: float) -> float:
        """The same; its nats per target token."""
        result = self.step(number, rate).settled()
        return result.nats / result.target_tokens

    @contextmanager
    def whole(self) -> Iterator[Any]:
        """The model with all its rows, for judging."""
        with self.forward.whole():
            yield self.forward.model

    def dev_nats(self) -> float:
        """Nats per target token of the held-out pairs over all rows."""
        model = self.forward.model
        count = self.corpus.manifest["splits"]["dev"]["count"]
        loader = Loader(self.corpus, BatchPlan(count, EQUAL_PAIRS, SEED), "dev")
        model.eval()
        with self.forward.whole(), torch.inference_mode():
            batches = [loader.packed(loader.batch(step)) for step in range(loader.plan.total_steps)]
            nats = sum(float(self.forward.plain().nats(batch).plain) for batch in batches)
        model.train()
        return nats / sum(batch.target_tokens for batch in batches)


@contextmanager
def training_of(
    rung: Rung, scale: Scale, corpus: Corpus, model: Any, device: torch.device, **more: Any
) -> Iterator[Training]:
    """A rung's training of `model`; torch's settings are those of a real run inside, and as before outside.

    The sample of frozen rows is scaled as the vocabulary is.
    """
    config = rung.config(scale, device=device.type, **more)
    before = torch.are_deterministic_algorithms_enabled()
    with ExitStack() as stack:
        stack.callback(torch.use_deterministic_algorithms, before)
        sampled = round(active.NUM_NEGATIVES * scale.rows / REAL_VOCABULARY)
        stack.enter_context(mock.patch.object(active, "NUM_NEGATIVES", sampled))
        if rung.whole_logits:
            stack.enter_context(mock.patch.object(forward_pass, "head_nats", whole_nats))
        arithmetic = trainee.set_up_torch(config)
        yield _training(config, corpus, model, arithmetic)


def _training(config: RunConfig, corpus: Corpus, model: Any, arithmetic: Arithmetic) -> Training:
    training = config.training
    is_active = training.vocabulary == "active"
    forward = Forward(
        model,
        arithmetic,
        training.forward == "packed",
        training.label_smoothing,
        active.ActiveVocabulary(model, corpus.rows) if is_active else None,
        training.gradient_checkpointing == "on",
    )
    loader = Loader(corpus, planning.plan_of(config, corpus), active=is_active)
    feed, graphs = trainee.feed_of(forward, config, loader), trainee.graphs_of(forward, config, print)
    return Training(
        config, corpus, forward, build(model.named_parameters(), training), feed, graphs, arithmetic.scaler()
    )


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
    with training_of(rung, scale, corpus, model, device) as training:
        for number in range(steps.start - warmup, steps.start):
            training.step(number, RATE)
        clock.start()
        for number in steps:
            training.step(number, RATE)
        clock.stop()
    clock.counts = positions(rung, scale, corpus, steps)
    return clock


def positions(rung: Rung, scale: Scale, corpus: Corpus, steps: range) -> Counts:
    """Positions and tokens of these steps, without training."""
    config = rung.config(scale)
    loader = Loader(corpus, planning.plan_of(config, corpus))
    is_packed = config.training.forward == "packed"
    return sum((_counts(loader, step, is_packed) for step in steps), Counts())


def _counts(loader: Loader, step: int, is_packed: bool) -> Counts:
    """Positions that a step computes outside of attention, and those of them that are real."""
    batch = loader.packed(loader.batch(step))
    source, target = len(batch.source_N), len(batch.labels_N)
    if is_packed:
        return Counts(source, source, target, target)
    rows = batch.padded()
    return Counts(source, rows.source_mask_BS.size, target, rows.target_mask_BT.size)


# --- parts of the model -------------------------------------------------------------


def loss_heads() -> dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]]:
    """Our ways from hidden states (N, d), rows (V, d) and labels (N) to summed nats."""

    def nats(hidden_ND: Tensor, weight_VD: Tensor, labels_N: Tensor) -> Tensor:
        return loss.head_nats(hidden_ND, weight_VD, labels_N, 0.0).objective

    return {"dragoman, chunked": nats}


def whole_nats(hidden_ND: Tensor, weight_VD: Tensor, labels_N: Tensor, smoothing: float, _: object = None) -> loss.Nats:
    """The loss from all logits at once, by torch's own cross-entropy."""
    logits_NV = torch.nn.functional.linear(hidden_ND, weight_VD).float()
    nats = torch.nn.functional.cross_entropy(logits_NV, labels_N, reduction="sum", label_smoothing=smoothing)
    return loss.Nats(nats, nats.detach())
