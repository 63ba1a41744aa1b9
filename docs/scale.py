"""The tables of `explain/scale.md`, from the model that `dragoman estimate` asks; `make docs`, and a test keeps them.

Nothing in them was measured.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from dragoman import gpus, platforms
from dragoman.config import from_flat
from dragoman.estimate import memory, speed
from dragoman.estimate.span import Span
from dragoman.estimate.speed import Step
from dragoman.estimate.team import Team, traffic
from dragoman.model import resident
from dragoman.model.memory import on_ranks, peak_bytes
from dragoman.model.regime import Regime
from dragoman.model.sizes import KNOWN

MODELS = {"600M": memory.MODELS[0], "1.3B": memory.MODELS[1], "3.3B": memory.MODELS[2]}
RANKS = (1, 2, 4, 8, 16, 32, 64)
GPU, PER_NODE, LINK = "a100-80", 8, "nvlink3"
FAST = "fast-network"
CASES = ((16, platforms.NETWORK), (1024, platforms.NETWORK), (1024, FAST), (16384, FAST))
TOKENS_PER_PAIR, MICROBATCH = 27, 8192
MEMORY_TOKENS = 2048
PAGE = Path(__file__).parent / "explain/scale.md"
HOW: tuple[Literal["ddp", "fsdp"], ...] = ("ddp", "fsdp")
HALF = Regime(precision="bf16", vocabulary="active")


def tables() -> dict[str, str]:
    """Each table by the name under which the page holds it."""
    return {"memory": _text(_memory()), "traffic": _text(_traffic()), "efficiency": _text(_efficiency())}


def filled(page: str) -> str:
    """The page with its tables as they are now."""
    for name, table in tables().items():
        start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        before, _, rest = page.partition(start)
        page = f"{before}{start}\n{table}\n{end}{rest.partition(end)[2]}"
    return page


def _memory() -> Iterator[Sequence[str]]:
    yield ["GiB of each rank", *(f"{ranks}" for ranks in RANKS)]
    for rows in ("active", "full"):
        for name, model in MODELS.items():
            alone = replace(HALF, vocabulary=rows)
            needs = {how: [_gib(model, alone.on_ranks(how, ranks)) for ranks in RANKS] for how in HOW}
            yield [f"{name}, {rows}, ddp", *needs["ddp"][:2], *["same"] * (len(RANKS) - 2)]
            yield [f"{name}, {rows}, fsdp", "", *needs["fsdp"][1:]]
    kept = [replace(HALF, vocabulary="full").on_ranks("fsdp", ranks, offload=True) for ranks in RANKS[1:]]
    large = MODELS["3.3B"]
    yield ["3.3B, full, fsdp --offload", "", *(_gib(large, each) for each in kept)]
    in_host = (resident.offloaded_bytes(KNOWN[large], each) for each in kept)
    yield ["and in the host's, for each rank", "", *(f"{num_bytes / 2**30:.1f}" for num_bytes in in_host)]


def _gib(model: str, regime: Regime) -> str:
    return f"{peak_bytes(KNOWN[model], regime, MEMORY_TOKENS) / 2**30:.1f}"


def _traffic() -> Iterator[Sequence[str]]:
    yield ["MB that a rank sends in a step", *(f"{ranks}" for ranks in RANKS[1:])]
    for name, model in MODELS.items():
        cases: tuple[tuple[Literal["ddp", "fsdp"], int], ...] = (("ddp", 1), ("fsdp", 1), ("fsdp", 4))
        for how, passes in cases:
            sent = [traffic(KNOWN[model], HALF.on_ranks(how, ranks), passes, ranks) for ranks in RANKS[1:]]
            title = f"{name}, {how}" if how == "ddp" else f"{name}, {how}, microbatches: {passes}"
            yield [title, *(f"{(each.beside + each.after) / 1e6:,.0f}" for each in sent)]


def _efficiency() -> Iterator[Sequence[str]]:
    yield ["times as fast as one", "network", *(f"{ranks}" for ranks in RANKS[1:])]
    for pairs, network in CASES:
        bits = f"{platforms.links()[network].gb_per_second * 8:.0f} Gbit/s"
        for name, model in MODELS.items():
            yield [f"{name}, {pairs:,} pairs", bits, *(_gain(model, pairs, ranks, network) for ranks in RANKS[1:])]


def _gain(model: str, pairs: int, ranks: int, network: str) -> str:
    alone, shared = (_seconds(model, pairs, count, network) for count in (1, ranks))
    low, high = sorted((alone.low / shared.low, alone.high / shared.high))
    return f"{low:.1f}–{high:.1f}" if low >= 0.1 else f"{low:.2f}–{high:.2f}"


def _seconds(model: str, pairs: int, ranks: int, network: str) -> Span:
    link = platforms.links()[LINK if ranks <= PER_NODE else network]
    tokens, config = pairs * TOKENS_PER_PAIR / ranks, from_flat({})
    regime, _ = on_ranks(config, KNOWN[model], HALF, ranks, memory.machine(GPU, config).free_bytes)
    step = Step(math.ceil(2 * tokens / MICROBATCH), tokens, tokens)
    return speed.step_seconds(KNOWN[model], regime, gpus.GPUS[GPU], step, Team(ranks, link if ranks > 1 else None))


def _text(rows: Iterator[Sequence[str]]) -> str:
    header, *body = rows
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text("utf-8")), "utf-8")
