"""How long ranks wait for one another, by how the pairs of a step are divided.

Lengths: those of gettext catalogues, prepared as for a run, in the steps of the run's own plan; and
lognormal ones like those of web sentences, median 20 tokens. Costs: those of the 600M, all rows of the
vocabulary. The wait is what the slowest rank needs beyond the mean one. Nothing is trained: it is arithmetic.

Usage: python -m bench.balance [--steps 200] [--report bench/balance_cpu_DATE.md]
"""

import argparse
import datetime
import heapq
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.speed_world import FIVE, PACKAGES
from dragoman.config import from_flat
from dragoman.data import balance, planning, prepare
from dragoman.data.corpus import Corpus
from dragoman.data.loader import OVERHEAD, Loader
from dragoman.data.sources import open_sources
from dragoman.languages import parse_pairs
from dragoman.model import costs, scratch, sizes, vocabulary
from dragoman.model.regime import Regime
from dragoman.store.disk import Disk

PAIRS, RANKS = (16, 64, 256, 1024), (2, 4, 8)
PIECES = 32_000
BEARABLE = 0.05
"""Of the mean rank's time, waited for the slowest."""
MEDIAN_TOKENS, SPREAD, SIDES = 20.0, 0.7, 0.2
"""Of lognormal lengths: median, standard deviation of a pair's logarithm, and of a side's around its pair's."""
MAX_TOKENS = 256

Ints = NDArray[np.int64]
Divide = Callable[[Ints, int], list[Ints]]


def greedy(costs_B: Ints, num_ranks: int) -> list[Ints]:
    """Longest processing time first (Graham 1969): the costliest pair left goes to the rank with least to do."""
    heap = [(0, rank) for rank in range(num_ranks)]
    held: list[list[int]] = [[] for _ in range(num_ranks)]
    values = costs_B.tolist()
    for place in np.argsort(-costs_B, kind="stable").tolist():
        load, rank = heap[0]
        held[rank].append(place)
        heapq.heapreplace(heap, (load + values[place], rank))
    return [np.array(sorted(places), dtype=np.int64) for places in held]


def differencing(costs_B: Ints, num_ranks: int) -> list[Ints]:
    """Largest differencing (Karmarkar and Karp 1982; for more than two shares Michiels et al. 2007).

    Every pair begins as a division of its own, one full share and empty ones. Time and again the two divisions
    that are furthest from equal become one, the largest share of either with the smallest of the other.
    """
    empty: list[tuple[int, list[int]]] = [(0, [])] * (num_ranks - 1)
    divisions = [(-cost, place, [(cost, [place]), *empty]) for place, cost in enumerate(costs_B.tolist())]
    heapq.heapify(divisions)  # by the difference of largest and smallest share, then by age
    for age in range(len(costs_B), 2 * len(costs_B) - 1):
        one, other = heapq.heappop(divisions)[2], divisions[0][2]
        pairs = zip(one, reversed(other), strict=True)
        both = sorted(((a + b, held + more) for (a, held), (b, more) in pairs), key=lambda it: it[0], reverse=True)
        heapq.heapreplace(divisions, (both[-1][0] - both[0][0], age, both))
    return [np.array(sorted(places), dtype=np.int64) for _, places in divisions[0][2]]


def dealt(costs_B: Ints, num_ranks: int) -> list[Ints]:
    """Like cards, the longest first: pair i to rank i mod n."""
    return [np.arange(rank, len(costs_B), num_ranks) for rank in range(num_ranks)]


def equal_numbers(costs_B: Ints, num_ranks: int) -> list[Ints]:
    """As many pairs for each, drawn by chance: what torch's DistributedSampler does."""
    return np.array_split(np.random.default_rng(int(costs_B.sum()) % 2**32).permutation(len(costs_B)), num_ranks)


WAYS: dict[str, Divide] = {
    "ours": balance.shares,
    "greedy": greedy,
    "differencing": differencing,
    "dealt": dealt,
    "equal numbers": equal_numbers,
}

LEAST = "least possible"
INTRODUCTION = """\
Made by `python -m bench.balance`. {steps} steps each. The wait is what the slowest rank needs beyond the mean one, in
operations of the 600M with all rows of the vocabulary. No step was trained: kernels, memory and networks do not enter.
The catalogues' pieces (32,000) were learned from them, so sentences have fewer tokens than NLLB gives them.

* **ours**: greedy, then exchanges between the busiest rank and the others until it is within 0.5 % of the mean.
* **greedy**: the costliest pair left to the rank with least to do (Graham 1969).
* **differencing**: Karmarkar and Karp 1982, for several shares.
* **dealt**: sorted pairs, one to each rank in turn. **equal numbers**: as many for each, by chance, as torch's
  `DistributedSampler` does.
* **least possible**: what the costliest pair alone forces, since no pair is divided; the true least may be higher."""


@dataclass
class Found:
    """One way of dividing, over all steps."""

    waits: list[float] = field(default_factory=list[float])
    milliseconds: list[float] = field(default_factory=list[float])

    def add(self, divide: Divide, costs_B: Ints, num_ranks: int) -> None:
        started = time.process_time()
        divided = divide(costs_B, num_ranks)
        self.milliseconds.append(1e3 * (time.process_time() - started))
        self.waits.append(balance.imbalance(costs_B, divided))

    def cell(self) -> str:
        middle, high = (100 * np.percentile(self.waits, percent) for percent in (50, 95))
        return f"{middle:.2f} / {high:.2f}"

    def beyond(self) -> str:
        return f"{100 * np.mean(np.array(self.waits) > BEARABLE):.1f} %"


def prepared(folder: Path) -> Corpus:
    """Catalogues in five directions, prepared as for a run, with pieces learned from them."""
    config = from_flat({"language_pairs": [f"en-{tag}" for tag in FIVE], "data": [PACKAGES], "max_tokens": MAX_TOKENS})
    ways = [way for pair in config.data.language_pairs for way in parse_pairs(pair)]
    texts = [
        side
        for way in ways
        for source in open_sources(config.data.data, way, on_bad_rows="skip")
        for pair in source.pairs()
        for side in (pair.source, pair.target)
    ]
    base = folder / "base"
    base.mkdir()
    scratch.build_tokenizer(base, texts, PIECES)
    inputs = prepare.inputs_digest(config.data, ways, 1)
    chosen = prepare.select(config.data, ways, 1, prepare.work_of(folder, inputs))
    return prepare.build(folder, inputs, chosen, ways, vocabulary.load(base), MAX_TOKENS, Disk())


def catalogue_steps(corpus: Corpus, num_pairs: int, steps: int) -> Iterator[Ints]:
    """Lengths of the pairs of each step, as the run's own plan draws them, the longest pair first."""
    settings = {"batch_size": num_pairs, "gradient_accumulation": 1, "max_steps": steps}
    config = from_flat({"language_pairs": [f"en-{tag}" for tag in FIVE], **settings})
    loader = Loader(corpus, planning.plan_of(config, corpus))
    for step in range(steps):
        yield loader.lengths(loader.batch(step))


def lognormal_steps(num_pairs: int, steps: int) -> Iterator[Ints]:
    """The same from chance."""
    chance = np.random.default_rng(1)
    for _ in range(steps):
        both = chance.lognormal(np.log(MEDIAN_TOKENS), SPREAD, (num_pairs, 1))
        tokens = both * chance.lognormal(0, SIDES, (num_pairs, 2))
        lengths_B2 = np.clip(np.rint(tokens), 1, MAX_TOKENS - OVERHEAD).astype(np.int64) + OVERHEAD
        yield lengths_B2[np.argsort(-lengths_B2.sum(axis=1), kind="stable")]


def measured(steps: Iterator[Ints], num_ranks: tuple[int, ...], each: costs.TokenCosts) -> dict[int, dict[str, Found]]:
    """Every way over the same steps, for each number of ranks; beside them what the costliest pair alone forces."""
    found = {count: {name: Found() for name in [*WAYS, LEAST]} for count in num_ranks}
    for lengths_B2 in steps:
        costs_B = balance.costs(lengths_B2, each)
        for count, sides in found.items():
            for name, divide in WAYS.items():
                sides[name].add(divide, costs_B, count)
            sides[LEAST].waits.append(max(0.0, count * float(costs_B.max() / costs_B.sum()) - 1))
    return found


def waits(found: dict[int, dict[int, dict[str, Found]]]) -> Iterator[str]:
    names = [*WAYS, LEAST]
    yield f"| pairs | ranks | {' | '.join(names)} |"
    yield "|---" * (2 + len(names)) + "|"
    for num_pairs, by_ranks in found.items():
        for count, sides in by_ranks.items():
            yield f"| {num_pairs:,} | {count} | {' | '.join(sides[name].cell() for name in names)} |"


def beyond(found: dict[int, dict[int, dict[str, Found]]]) -> Iterator[str]:
    names, timed = [*WAYS, LEAST], ["ours", "greedy", "differencing"]
    yield f"| pairs | ranks | {' | '.join(names)} | {' | '.join(f'{name}, CPU ms' for name in timed)} |"
    yield "|---" * (2 + len(names) + len(timed)) + "|"
    for num_pairs, by_ranks in found.items():
        for count, sides in by_ranks.items():
            cells = [sides[name].beyond() for name in names]
            cells += [f"{statistics.median(sides[name].milliseconds):.2f}" for name in timed]
            yield f"| {num_pairs:,} | {count} | {' | '.join(cells)} |"


def part(kind: str, draw: Callable[[int, int], Iterator[Ints]], steps: int, each: costs.TokenCosts) -> list[str]:
    low, middle, high = np.percentile(np.concatenate(list(draw(1024, 20))).sum(axis=1), (5, 50, 95))
    found = {pairs: measured(draw(pairs, steps), RANKS, each) for pairs in PAIRS}
    return [
        f"## {kind}",
        "",
        f"Tokens of a pair, both sides: {low:.0f}, {middle:.0f}, {high:.0f} (5th, 50th, 95th percentile).",
        "",
        "Wait in per cent of the mean rank's time: median / 95th percentile.",
        "",
        *waits(found),
        "",
        "Steps in which it is more than 5 %, and what dividing costs (median).",
        "",
        *beyond(found),
        "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--report", type=Path)
    options = parser.parse_args()
    each = costs.token_costs(sizes.KNOWN["facebook/nllb-200-distilled-600M"], Regime())
    lines = [f"# Shares of ranks, {datetime.date.today()}, CPU", "", INTRODUCTION.format(steps=options.steps), ""]
    with tempfile.TemporaryDirectory() as folder:
        corpus = prepared(Path(folder))
        kind = f"Gettext catalogues, {corpus.manifest['splits']['train']['count']:,} pairs in five directions"
        lines += part(kind, lambda pairs, steps: catalogue_steps(corpus, pairs, steps), options.steps, each)
    lines += part("Lognormal lengths", lognormal_steps, options.steps, each)
    print("\n".join(lines))
    if options.report:
        options.report.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
