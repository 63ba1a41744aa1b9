"""Several processes that train tiny runs together, one run after the other, and what came of each.

    report = crowd.played(folder, 2, cases)

Every process does for each case what a rank of `dragoman train` does, with the same
functions; the first one also trains it alone, and compares. One group of processes for many
cases, because to start one takes longer than to train ten of them.
"""

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from dragoman.config import RunConfig, from_flat
from dragoman.data import planning
from dragoman.data.corpus import open_corpus
from dragoman.data.loader import Loader
from dragoman.host import cluster
from dragoman.model import nllb
from dragoman.model.derived import parts
from dragoman.training import fitting, optimizer, state, trainee
from dragoman.training.feed import Batches
from dragoman.training.optimizer import learning_rate
from dragoman.training.ranks import Ranks, joined
from dragoman.training.snapshot import HostBuffers
from dragoman.training.step import Settled, train_step
from dragoman.training.tensor_file import Stored

SECONDS = 900
"""Longest that a group may take; it is ended then."""


@dataclass(frozen=True)
class Case:
    """A run, and how several ranks share it."""

    options: dict[str, Any]
    """Of the configuration, as a flat mapping."""
    base: str
    corpus: str
    parallel: str
    """ddp or fsdp."""
    kind: str = "equal"
    """What is looked at: equal, saves or resume."""
    steps: int = 10
    limit: int = 10**6
    """Most tokens of one forward pass."""
    first_new: int | None = None
    twice: bool = False
    """Compute layers twice in the backward pass."""


@dataclass
class Report:
    """What came of a case."""

    alone: list[float] = field(default_factory=list)
    """Nats per target token of each step, of one process."""
    together: list[float] = field(default_factory=list)
    norms_alone: list[float] = field(default_factory=list)
    norms_together: list[float] = field(default_factory=list)
    same_pairs: bool = False
    """Whether the ranks computed, at every step and each once, the pairs that one process computes."""
    passes: list[list[int]] = field(default_factory=list)
    """Forward passes of each rank that count, by step."""
    differs: dict[str, float] = field(default_factory=dict)
    """By tensor, the largest difference of two numbers as a share of the largest number."""
    facts: dict[str, Any] = field(default_factory=dict)


def played(folder: Path, count: int, cases: Mapping[str, Case]) -> dict[str, Report]:
    """Let `count` processes play the cases; returns what the first one reports of each."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cases.json").write_text(json.dumps({name: asdict(case) for name, case in cases.items()}))
    port, processes = cluster.free_port(), list[subprocess.Popen[bytes]]()
    try:
        for number in range(count):
            environment = cluster.environment_of_rank(
                cluster.Rank(number, count, number, count), "127.0.0.1", port, "lo"
            )
            command = [sys.executable, "-m", "tests.support.crowd", str(folder)]
            with (folder / f"rank-{number}.txt").open("wb") as log:
                processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
        for process in processes:
            process.wait(SECONDS)
    finally:
        for process in processes:
            process.kill()
    told = "\n".join((folder / f"rank-{number}.txt").read_text() for number in range(count))
    assert [process.returncode for process in processes] == [0] * count, told[-6000:]
    return {name: Report(**each) for name, each in json.loads((folder / "reports.json").read_text()).items()}


# --- inside a process ------------------------------------------------------------


class Noting:
    """A feed that notes which pairs it gave."""

    def __init__(self, feed: Any) -> None:
        self.feed = feed
        self.pairs: list[list[str]] = []
        self.passes: list[int] = []

    def step(self, step: int, limit: int) -> Batches:
        made = self.feed.step(step, limit)
        self.pairs.append([pair for _, ready in made.parts for pair in _pairs(ready.batch)])
        self.passes.append(len(made.parts))
        return made


def _pairs(batch: Any) -> Iterator[str]:
    sources = torch.from_numpy(batch.source_N).split(batch.source_lengths_B.tolist())
    labels = torch.from_numpy(batch.labels_N).split(batch.target_lengths_B.tolist())
    for source, label in zip(sources, labels, strict=True):
        yield f"{source.tolist()} {label.tolist()}"


class Rank:
    """A run as one process of several has it, or the only one."""

    def __init__(self, case: Case, ranks: Ranks | None) -> None:
        self.case, self.ranks = case, ranks
        self.config: RunConfig = from_flat(case.options)
        arithmetic = trainee.set_up_torch(self.config, ranks.place.count if ranks else 1)
        corpus = open_corpus(Path(case.corpus))
        assert corpus is not None
        plan = planning.plan_of(self.config, corpus)
        self.plan = plan
        if ranks is None or ranks.is_first:
            model = nllb.load(Path(case.base), self.config.model.dropout)
            if ranks:
                ranks.tell(model.config.to_json_string(use_diff=False))
        else:
            model = nllb.blank(json.loads(ranks.tell()))
        build = trainee.Build(case.parallel if ranks else "", case.first_new)
        self.forward = trainee.assemble(self.config, model, arithmetic, Loader(corpus, plan), build, ranks)
        loader = Loader(corpus, plan, active=self.forward.active is not None)
        self.feed = Noting(trainee.feed_of(self.forward, self.config, loader))
        self.optimizer = optimizer.build(self.forward.trained(), self.config.training)
        self.scaler = arithmetic.scaler()
        self.forward = fitting.checkpointed(self.forward, case.twice)

    def train(self, first: int, last: int) -> list[Settled]:
        return [self._step(step) for step in range(first, last)]

    def _step(self, step: int) -> Settled:
        training, feed = self.config.training, self.feed
        done = train_step(
            self.forward,
            self.optimizer,
            self.scaler,
            feed,  # pyright: ignore[reportArgumentType]  it gives what it is given
            training,
            step=step,
            limit=self.case.limit,
            rate=learning_rate(training, step, self.plan.total_steps),
        )
        return done.settled()

    def tensors(self) -> dict[str, Tensor]:
        """All tensors of a checkpoint, whole, on the first rank."""
        live = state.tensors(self.forward, self.optimizer)
        if self.is_other:
            state.send(state.asked_of_others(live))
            return {}
        return {
            f"{file}: {name}": torch.cat([part.reshape(-1) for part in parts(tensor)])
            for file, named in live.items()
            for name, tensor in named.items()
        }

    def files(self, updates: int, live: state.Tensors | None = None) -> dict[str, bytes]:
        """The large files of a checkpoint, on the first rank."""
        live = live or state.tensors(self.forward, self.optimizer)
        if self.is_other:
            state.send(state.asked_of_others(live))
            return {}
        return {name: b"".join(map(bytes, chunks)) for name, chunks in state.files_of(live, updates).items()}

    def restore(self, folder: Path, updates: int) -> None:
        def opened(name: str) -> Mapping[str, Tensor]:
            stored = Stored(folder / name) if not self.is_other else None
            return self.ranks.shared(stored) if self.ranks else stored or {}

        state.restore(self.forward, self.optimizer, updates, opened)

    @property
    def is_other(self) -> bool:
        return self.ranks is not None and not self.ranks.is_first


@dataclass
class Alone:
    """What one process makes of a case."""

    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    pairs: list[list[str]] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)


_ALONE: dict[str, Alone] = {}


def _trained_alone(case: Case) -> Alone:
    """The case without other ranks; computed once for all the ways to share it."""
    shared = {name: value for name, value in case.options.items() if name not in ("parallel", "offload", "output")}
    key = json.dumps([shared, case.steps, case.limit, case.twice])
    if key not in _ALONE:
        rank = Rank(case, None)
        told = rank.train(0, case.steps)
        losses = [each.nats / each.target_tokens for each in told]
        pairs = [sorted(step) for step in rank.feed.pairs]
        _ALONE[key] = Alone(losses, [each.gradient_norm for each in told], pairs, rank.tensors())
    return _ALONE[key]


def _equal(case: Case, ranks: Ranks, folder: Path) -> Report:
    """The same steps alone and together; nothing is written."""
    alone = _trained_alone(case) if ranks.is_first else Alone()
    report = Report(alone.losses, norms_alone=alone.norms)
    mine = Rank(case, ranks)
    told = mine.train(0, case.steps)
    report.together = [each.nats / each.target_tokens for each in told]
    report.norms_together = [each.gradient_norm for each in told]
    given: list[Any] = [None] * ranks.place.count
    dist.all_gather_object(given, (mine.feed.pairs, mine.feed.passes))
    report.passes = [passes for _, passes in given]
    found = mine.tensors()
    if ranks.is_first:
        steps = zip(*(pairs for pairs, _ in given), strict=True)
        report.same_pairs = [sorted(chain(*of_ranks)) for of_ranks in steps] == alone.pairs
        report.differs = _differences(alone.tensors, found)
    return report


def _differences(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> dict[str, float]:
    assert one.keys() == other.keys()
    return {name: float((one[name] - other[name]).abs().max() / one[name].abs().max().clamp(min=1e-30)) for name in one}


def _written(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def _saves(case: Case, ranks: Ranks, folder: Path) -> Report:
    """Checkpoints of one process and of several, written and read by either."""
    report, steps = Report(), case.steps
    if ranks.is_first:
        alone = Rank(case, None)
        alone.train(0, steps)
        of_one = alone.files(steps)
        _written(folder / "one", of_one)
    ranks.ask(True)
    mine = Rank(case, ranks)
    mine.restore(folder / "one", steps)
    taken = mine.files(steps)
    told = mine.train(steps, 2 * steps)
    streamed = mine.files(2 * steps)
    copies, wait = HostBuffers().copy(state.tensors(mine.forward, mine.optimizer))
    mine.train(2 * steps, 2 * steps + 1)
    wait()
    copied = mine.files(2 * steps, copies)
    if ranks.is_first:
        again = Rank(case, None)
        again.restore(_written(folder / "several", streamed), 2 * steps)
        report.alone = [each.nats for each in alone.train(steps, 2 * steps)]
        report.together = [each.nats for each in told]
        report.facts = {
            "several hold what one wrote": taken == of_one,
            "a copy is what is streamed": copied == streamed,
            "one holds what several wrote": again.files(2 * steps) == streamed,
            "training changed something": all(streamed[n] != of_one[n] for n in of_one if n != state.FROZEN),
        }
    return report


def _resume(case: Case, ranks: Ranks, folder: Path) -> Report:
    """One run that goes on, and one that begins again in its middle; all ranks make both."""
    report, half = Report(), case.steps // 2
    whole = Rank(case, ranks)
    whole.train(0, half)
    _written(folder, whole.files(half))
    ranks.ask(True)
    report.alone = [each.nats for each in whole.train(half, case.steps)]
    resumed = Rank(case, ranks)
    resumed.restore(folder, half)
    report.together = [each.nats for each in resumed.train(half, case.steps)]
    one, other = whole.files(case.steps), resumed.files(case.steps)
    digests = [{name: hashlib.sha256(content).hexdigest() for name, content in files.items()} for files in (one, other)]
    report.facts = {"same bytes": digests[0] == digests[1]}
    return report


def _play(folder: Path) -> None:
    place = cluster.rank()
    assert place is not None
    cases = {name: Case(**each) for name, each in json.loads((folder / "cases.json").read_text()).items()}
    reports: dict[str, Any] = {}

    def leave(why: str) -> None:
        raise SystemExit(f"rank {place.number}: {why}")

    with joined(place, "device: cpu" if place.number == 0 else None, leave) as (ranks, _):
        for name, case in cases.items():
            print(f"{time.process_time():.1f} {name}", flush=True)
            play = {"equal": _equal, "saves": _saves, "resume": _resume}[case.kind]
            reports[name] = asdict(play(case, ranks, folder / name))
        ranks.ask(True)
    if place.number == 0:
        (folder / "reports.json").write_text(json.dumps(reports))


if __name__ == "__main__":
    _play(Path(sys.argv[1]))
