"""The files of one checkpoint: a model that anyone can load, and what only training needs.

    model.safetensors config.json tokenizer.json …     as transformers reads them
    training/optimizer.safetensors                     both moments of every parameter
    training/state.json                                position, counters, best, scaler
    training/config.yaml                               the run's configuration

With adapters the model is the merged one, the moments are those of the adapters, and

    training/adapter/                                  the adapters, as peft reads them
    training/base.safetensors                          the frozen matrices beside them, bit for bit

Tensors are streamed to the disk one by one and hashed on the way. Whether they are the
live ones or a copy makes no difference here (`snapshot.py`).
"""

import json
from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dragoman.config import RunConfig
from dragoman.errors import Damaged
from dragoman.model import nllb
from dragoman.model.derived import Derived, Frozen, is_gathered, parts
from dragoman.model.pieces import Pieces
from dragoman.store.disk import Disk
from dragoman.store.record import FileEntry
from dragoman.training import optimizer as adamw
from dragoman.training import tensor_file
from dragoman.training.forward import Forward

WEIGHTS = "model.safetensors"
MOMENTS = "training/optimizer.safetensors"
STATE = "training/state.json"
CONFIG = "training/config.yaml"
ADAPTER = "training/adapter/adapter_model.safetensors"
ADAPTER_SETTINGS = "training/adapter/adapter_config.json"
FROZEN = "training/base.safetensors"
KEPT_LOSSES = 50

Tensors = Mapping[str, Mapping[str, Tensor | Derived]]
"""The tensors of a checkpoint, by file and by name."""


@dataclass
class TrainState:
    """Everything besides weights and moments that the next step depends on."""

    microbatch_tokens: int
    """Most source and target tokens in one forward pass; halved when memory runs out."""
    checkpointing: bool = False
    """Whether layers are computed a second time in the backward pass, where the options leave it open."""
    step: int = 0
    """Steps done, skipped ones included."""
    updates: int = 0
    """Steps that changed the weights."""
    scaler: dict[str, Any] = field(default_factory=dict)
    """State of the fp16 gradient scaler."""
    best_chrf: float = -1.0
    best_step: int = 0
    best_scores: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What the dev sample scored at `best_step`, by direction, as `Scores`."""
    seconds: float = 0.0
    """Time that all sessions took up to here, from their first step on."""
    bad_steps: list[int] = field(default_factory=list)
    """Steps whose loss or gradient was not finite."""
    consecutive_bad: int = 0
    pass_over: list[int] = field(default_factory=list)
    """Steps that are not computed again after a roll-back."""
    rolled_back: bool = False
    out_of_memory: list[tuple[int, int]] = field(default_factory=list)
    """(step, new limit): from the first on, a resume is no longer bit-identical to a run without it."""
    computed_with: dict[str, str] = field(default_factory=dict)
    """Device, precision, threads and torch: with other ones a resume is not bit-identical."""
    losses: list[tuple[int, float]] = field(default_factory=list)
    """The last steps and their losses, nats per target token."""

    def observe(self, step: int, loss: float) -> None:
        """Remember the loss of `step`."""
        self.losses = [*self.losses[-(KEPT_LOSSES - 1) :], (step, loss)]


def tensors(forward: Forward, optimizer: torch.optim.Optimizer) -> Tensors:
    """All tensors that a checkpoint holds, as training has them: the optimizer's step changes them, nothing else."""
    held: dict[str, Mapping[str, Tensor | Derived]] = {
        WEIGHTS: weights(forward),
        MOMENTS: moments(forward, optimizer),
    }
    if forward.lora:
        plain = {name: saved(forward, name, tensor) for name, tensor in nllb.weights(forward.model)}
        held |= {ADAPTER: forward.lora.tensors(), FROZEN: forward.lora.frozen(plain)}
    return held


def small_files(state: TrainState, beside: dict[str, bytes], config: RunConfig) -> dict[str, bytes]:
    """The other files of a checkpoint, as they are now.

    Args:
        state: Goes to `training/state.json`.
        beside: Files beside the weights, by name.
        config: Goes to `training/config.yaml`.
    """
    return beside | {
        STATE: json.dumps(asdict(state), indent=1).encode(),
        CONFIG: config.to_yaml(stored=True).encode(),
    }


def write(
    disk: Disk, folder: Path, small: dict[str, bytes], large: Mapping[str, Iterable[bytes | memoryview]]
) -> dict[str, FileEntry]:
    """Write all files of a checkpoint into `folder`, each fsynced.

    Args:
        disk: Takes every change.
        folder: An empty folder of the store's staging.
        small: From `small_files`.
        large: From `files_of`.

    Raises:
        OSError: The disk failed; nothing outside `folder` was touched.
    """
    contents: dict[str, Iterable[Any]] = {**{name: [content] for name, content in small.items()}, **large}
    folders = sorted({(folder / name).parent for name in contents})
    for each in folders:
        disk.make_folders(each)
    files = {name: disk.write(folder / name, chunks) for name, chunks in contents.items()}
    for each in reversed(folders):
        disk.sync_folder(each)
    return files


def files_of(large: Tensors, updates: int) -> dict[str, Iterator[bytes | memoryview]]:
    """The files of these tensors, a chunk at a time; each chunk is made when it is asked for.

    Args:
        large: From `tensors`, or a copy; stored in their own precision.
        updates: Optimizer updates that made the moments.
    """
    metadata = {MOMENTS: {"updates": str(updates)}}
    return {name: tensor_file.chunks(named, metadata.get(name, {"format": "pt"})) for name, named in large.items()}


def asked_of_others(large: Tensors) -> Tensors:
    """Those that the first rank does not hold whole, and which the others need not copy."""
    return {
        name: {each: tensor for each, tensor in named.items() if is_gathered(tensor)} for name, named in large.items()
    }


def send(large: Tensors) -> None:
    """On another rank than the first: send what this one holds of a checkpoint's tensors, by `asked_of_others`."""
    for named in large.values():
        for tensor in named.values():
            for _ in parts(tensor):
                pass


def weights(forward: Forward) -> Mapping[str, Tensor | Derived]:
    """Every weight of the whole model, by the name under which it is saved; put together when it is."""
    plain = dict(nllb.weights(forward.model))
    embedding = plain[nllb.EMBEDDING]
    held = {name: saved(forward, name, tensor) for name, tensor in plain.items()}
    found: dict[str, Tensor | Derived] = {**held}
    if forward.lora:
        found = {**{name: Frozen(tensor) for name, tensor in held.items()}, **forward.lora.merged(held)}
    if forward.new_rows:
        found[nllb.EMBEDDING] = embedding
    if forward.active:
        found[nllb.EMBEDDING] = forward.active.spread(embedding)
    return found


def moments(forward: Forward, optimizer: torch.optim.Optimizer) -> dict[str, Tensor | Pieces]:
    """What the optimizers of all ranks remember, by what it is and the name of the weight."""
    found = adamw.moments(optimizer, forward.trained())
    return {full: saved(forward, full.partition(".")[2], tensor) for full, tensor in found}


def saved(forward: Forward, name: str, tensor: Tensor) -> Tensor | Pieces:
    """A weight or moment as this process holds it, for a checkpoint."""
    return forward.parallel.saved(name, tensor) if forward.parallel else tensor


def load_weights(forward: Forward, saved: Mapping[str, Tensor]) -> None:
    """Put the weights of a whole model, without adapters, into the one that is trained."""
    with torch.no_grad():
        for name, weight in nllb.weights(forward.model):
            if forward.active and name == nllb.EMBEDDING:
                forward.active.take(saved[name], weight)
            elif forward.parallel:
                forward.parallel.mine_of(weight).copy_(forward.parallel.mine(name, saved[name]))
            else:
                weight.copy_(saved[name])


def restart(forward: Forward, optimizer: torch.optim.Optimizer, base: Mapping[str, Tensor]) -> None:
    """As before the first step, with the weights of the base model."""
    load_weights(forward, base)
    if forward.lora:
        forward.lora.restart()
    optimizer.state.clear()


def read(folder: Path) -> TrainState:
    """The position of a verified checkpoint, and all else that is no tensor."""
    stored = json.loads((folder / STATE).read_text("utf-8"))
    for name in ("out_of_memory", "losses"):
        stored[name] = [tuple(entry) for entry in stored[name]]
    return TrainState(**stored)


def restore(
    forward: Forward,
    optimizer: torch.optim.Optimizer,
    updates: int,
    opened: Callable[[str], Mapping[str, Tensor]],
) -> None:
    """Put the tensors of a verified checkpoint into model and optimizer, in place.

    Args:
        forward: Its model takes the weights.
        optimizer: Takes the moments.
        updates: Optimizer updates that made them.
        opened: Gives the tensors of a file.

    Raises:
        Damaged: The files do not belong to this model.
    """
    stored = opened(WEIGHTS)
    names = {name for name, _ in nllb.weights(forward.model)}
    if stored.keys() != names:
        odd = sorted(stored.keys() ^ names)[0]
        raise Damaged(f"{WEIGHTS} of the checkpoint holds another model ({odd})", "--model as in the run's config.yaml")
    if forward.lora:
        stored = ChainMap(opened(FROZEN), stored)  # pyright: ignore[reportArgumentType]  only read
        forward.lora.take(opened(ADAPTER))
    load_weights(forward, stored)
    remembered = opened(MOMENTS) if updates else {}
    mine = forward.parallel.mine if forward.parallel else lambda name, whole: whole
    adamw.restore_moments(optimizer, forward.trained(), remembered, updates, mine)
