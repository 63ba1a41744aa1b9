"""What fits on which GPU, or on each of several: the memory model, asked before anything is rented or downloaded.

It uses the same arithmetic by which training chooses its microbatches. Nothing is
measured here, and no tensor is made.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from dragoman import gpus, host
from dragoman.config import RunConfig
from dragoman.errors import InputError
from dragoman.estimate.team import ALONE, Team
from dragoman.model import memory, presets
from dragoman.model.regime import Precision, Regime, regime_of
from dragoman.model.sizes import KNOWN, Sizes, of_file

MODELS = ("facebook/nllb-200-distilled-600M", "facebook/nllb-200-distilled-1.3B", "facebook/nllb-200-3.3B")
"""Reckoned with when no model is named."""
_WAYS: tuple[dict[str, str], ...] = (
    {"vocabulary": "active", "optimizer": "adamw", "adapter": "none"},
    {"vocabulary": "full", "optimizer": "adamw", "adapter": "none"},
    {"vocabulary": "active", "optimizer": "adamw8bit", "adapter": "none"},
    {"vocabulary": "full", "optimizer": "adamw8bit", "adapter": "none"},
    {"vocabulary": "active", "optimizer": "adamw", "adapter": "lora"},
)
"""Ways to train, the usual one first; the first with room is recommended."""


@dataclass(frozen=True)
class Machine:
    """Where training would be."""

    name: str
    """As `--gpu` takes it."""
    title: str
    memory_bytes: int
    overhead_bytes: int
    """Taken before the first weight is there."""
    device: Literal["cpu", "cuda"]
    precision: Precision

    @property
    def gpu(self) -> gpus.Gpu | None:
        """None when it has none."""
        return gpus.GPUS.get(self.name)

    @property
    def free_bytes(self) -> int:
        """Left for training."""
        return max(0, self.memory_bytes - self.overhead_bytes)


@dataclass(frozen=True)
class Way:
    """One way to train one model on one machine."""

    machine: Machine
    model: str
    regime: Regime
    need_bytes: int
    """To compute the longest pair that the options let through, gradients of other microbatches beside it."""
    tokens: int
    """Most source and target tokens of a microbatch, when a step has several."""
    tokens_alone: int
    """The same when the whole step is one microbatch, so that its gradients come when its activations go."""
    longest: int
    """Tokens of the longest pair."""
    recommended: bool = False
    team: Team = ALONE
    """The ranks that train it, each with such a GPU."""

    @property
    def parallel(self) -> str:
        """How several ranks hold the model: ddp or fsdp; empty for one."""
        return "" if self.team.ranks == 1 else "fsdp" if self.regime.shards > 1 else "ddp"

    @property
    def fits(self) -> bool:
        """Whether the longest pair can be computed."""
        return max(self.tokens, self.tokens_alone) >= self.longest

    @property
    def is_roomy(self) -> bool:
        """Whether microbatches are large enough to keep a GPU busy."""
        return self.tokens >= max(self.longest, memory.ROOMY_TOKENS)

    def to_json(self) -> dict[str, Any]:
        """What a program may read."""
        decides = ("vocabulary", "optimizer", "adapter", "lora_rank", "precision", "forward", "gradient_checkpointing")
        regime = asdict(self.regime)
        facts = {name: regime[name] for name in decides}
        names = ("need_bytes", "tokens", "tokens_alone", "recommended")
        ours = {name: getattr(self, name) for name in names}
        ranks = {"ranks": self.team.ranks, "parallel": self.parallel or None}
        return {"gpu": self.machine.name, "model": self.model, **facts, **ranks, "fits": self.fits, **ours}


def ways(config: RunConfig, names: Sequence[str]) -> list[Way]:
    """Every way to train on each machine; what the options say is not varied.

    Args:
        config: The options. Without `--model`, the three sizes of NLLB-200 are reckoned with.
        names: GPUs, or `cpu` for this machine without one; none for all that are known.

    Raises:
        InputError: A GPU or the model is not known.
    """
    wanted = [part for name in names for part in name.split(",") if part] or gpus.usable()
    machines = [machine(name, config) for name in wanted]
    models = [config.model.model] if "model" in config.given() else MODELS
    known = {model: sizes_of(model) for model in models}
    team = Team((config.ranks.devices or 1) * config.ranks.nodes)
    return [row for place in machines for model in models for row in _ways(config, place, model, known[model], team)]


def machine(name: str, config: RunConfig) -> Machine:
    """The machine that a name stands for, with the precision that training would choose there.

    Raises:
        InputError: It is not known, or cannot compute in `--precision`.
    """
    asked = config.training.precision
    if name.lower() == gpus.CPU:
        if asked == "fp16":
            raise InputError("--precision fp16: needs a GPU", "--precision fp32 or bf16 on a CPU")
        precision = "fp32" if asked == "auto" else asked
        free = host.free_memory_bytes()
        return Machine(gpus.CPU, "CPU, what is free now", free, memory.PROCESS_BYTES, "cpu", precision)
    gpu = gpus.find(name)
    if not can_compute(config, gpu):
        raise InputError(f"--precision bf16: {gpu.name} only emulates it", "--precision fp16")
    precision = gpu.precision if asked == "auto" else asked
    return Machine(name.lower(), gpu.name, gpu.memory_bytes, memory.CONTEXT_BYTES, "cuda", precision)


def can_compute(config: RunConfig, gpu: gpus.Gpu) -> bool:
    """Whether a GPU has the arithmetic of `--precision`, and does not emulate it."""
    return config.training.precision != "bf16" or gpu.precision == "bf16"


def sizes_of(model: str) -> Sizes:
    """The sizes of a model that is in a folder, or well known.

    Raises:
        InputError: It is neither.
    """
    if found := of_file(Path(model).expanduser() / "config.json") or KNOWN.get(model):
        return found
    if small := presets.preset(model):
        return small.sizes
    raise InputError(f"--model: the size of {model} is not known here", f"a folder with config.json, or {MODELS[0]}")


def _ways(config: RunConfig, place: Machine, model: str, sizes: Sizes, team: Team) -> Iterator[Way]:
    base = regime_of(config, place.device, place.precision)
    given = config.given()
    regimes = dict.fromkeys(
        replace(base, **{name: value for name, value in way.items() if name not in given}) for way in _WAYS
    )
    rows = [_one(config, place, model, sizes, regime, team) for regime in regimes]
    fitting = [row for row in rows if row.fits]
    best = next((row for row in fitting if row.is_roomy), max(fitting, key=lambda row: row.tokens, default=None))
    for row in rows:
        yield replace(row, recommended=row is best)


def as_configured(config: RunConfig, place: Machine, rows: int | None = None, team: Team = ALONE) -> Way:
    """How a run would be trained on a machine, every option as it is.

    Args:
        config: The options.
        place: The machine.
        rows: Those that an active vocabulary trains, where a corpus tells.
        team: The ranks that train together, each on such a machine's GPU.

    Raises:
        InputError: The model is not known.
    """
    regime = regime_of(config, place.device, place.precision)
    if rows:
        regime = replace(regime, active_rows=rows)
    return _one(config, place, config.model.model, sizes_of(config.model.model), regime, team)


def _one(config: RunConfig, place: Machine, model: str, sizes: Sizes, regime: Regime, team: Team) -> Way:
    free, longest = place.free_bytes, 2 * config.data.max_tokens
    regime, _ = memory.on_ranks(config, sizes, regime, team.ranks, free)
    if config.training.gradient_checkpointing == "auto":
        regime = memory.with_checkpointing(sizes, regime, free)
    return Way(
        machine=place,
        model=model,
        regime=regime,
        need_bytes=memory.peak_bytes(sizes, regime, longest) + place.overhead_bytes,
        tokens=memory.microbatch_tokens(sizes, regime, free),
        tokens_alone=memory.microbatch_tokens(sizes, replace(regime, accumulates=False), free),
        longest=longest,
        team=team,
    )
