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
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dragoman.config import RunConfig
from dragoman.errors import Damaged
from dragoman.model import nllb
from dragoman.model.derived import Derived, Frozen, num_bytes, parts
from dragoman.store.disk import Disk
from dragoman.store.record import FileEntry
from dragoman.training import optimizer as adamw
from dragoman.training.forward import Forward

WEIGHTS = "model.safetensors"
MOMENTS = "training/optimizer.safetensors"
STATE = "training/state.json"
CONFIG = "training/config.yaml"
ADAPTER = "training/adapter/adapter_model.safetensors"
ADAPTER_SETTINGS = "training/adapter/adapter_config.json"
FROZEN = "training/base.safetensors"
KEPT_LOSSES = 50
WRITE_BYTES = 1 << 20
"""Tensors below this size are written together."""

Tensors = Mapping[str, Mapping[str, Tensor | Derived]]
"""The tensors of a checkpoint, by file and by name."""

_DTYPES = {
    torch.float32: "F32",
    torch.float64: "F64",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.uint8: "U8",
}


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
        MOMENTS: dict(adamw.moments(optimizer, forward.model.named_parameters())),
    }
    if forward.lora:
        held |= {ADAPTER: forward.lora.tensors(), FROZEN: forward.lora.frozen()}
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


def write(disk: Disk, folder: Path, small: dict[str, bytes], large: Tensors, updates: int) -> dict[str, FileEntry]:
    """Write all files of a checkpoint into `folder`, each fsynced.

    Args:
        disk: Takes every change.
        folder: An empty folder of the store's staging.
        small: From `small_files`.
        large: From `tensors`, or a copy; stored in their own precision.
        updates: Optimizer updates that made the moments.

    Raises:
        OSError: The disk failed; nothing outside `folder` was touched.
    """
    contents: dict[str, Iterable[Any]] = {name: [content] for name, content in small.items()}
    metadata = {MOMENTS: {"updates": str(updates)}}
    contents |= {name: safetensors_chunks(named, metadata.get(name, {"format": "pt"})) for name, named in large.items()}
    folders = sorted({(folder / name).parent for name in contents})
    for each in folders:
        disk.make_folders(each)
    files = {name: disk.write(folder / name, chunks) for name, chunks in contents.items()}
    for each in reversed(folders):
        disk.sync_folder(each)
    return files


def weights(forward: Forward) -> Mapping[str, Tensor | Derived]:
    """Every weight of the whole model, by the name under which it is saved; put together when it is."""
    plain = dict(nllb.weights(forward.model))
    found: dict[str, Tensor | Derived] = {**plain}
    if forward.lora:
        found = {**{name: Frozen(tensor) for name, tensor in plain.items()}, **forward.lora.merged()}
    if forward.new_rows:
        found[nllb.EMBEDDING] = plain[nllb.EMBEDDING]
    if forward.active:
        found[nllb.EMBEDDING] = forward.active.spread(plain[nllb.EMBEDDING])
    return found


def load_weights(forward: Forward, saved: Mapping[str, Tensor]) -> None:
    """Put the weights of a whole model, without adapters, into the one that is trained."""
    with torch.no_grad():
        for name, weight in nllb.weights(forward.model):
            if forward.active and name == nllb.EMBEDDING:
                forward.active.take(saved[name], weight)
            else:
                weight.copy_(saved[name])


def restore(folder: Path, forward: Forward, optimizer: torch.optim.Optimizer) -> TrainState:
    """Put a verified checkpoint into model and optimizer, in place.

    Raises:
        Damaged: The files do not belong to this model.
    """
    stored = json.loads((folder / STATE).read_text("utf-8"))
    for name in ("out_of_memory", "losses"):
        stored[name] = [tuple(entry) for entry in stored[name]]
    state = TrainState(**stored)
    saved: Mapping[str, Tensor] = Stored(folder / WEIGHTS)
    names = {name for name, _ in nllb.weights(forward.model)}
    if saved.keys() != names:
        odd = sorted(saved.keys() ^ names)[0]
        raise Damaged(f"{folder / WEIGHTS}: holds another model ({odd})", "--model as in the run's config.yaml")
    if forward.lora:
        saved = {**saved, **Stored(folder / FROZEN)}
        forward.lora.take(Stored(folder / ADAPTER))
    load_weights(forward, saved)
    moments = Stored(folder / MOMENTS) if state.updates else {}
    adamw.restore_moments(optimizer, forward.model.named_parameters(), moments, state.updates)
    return state


class Stored(Mapping[str, Tensor]):
    """The tensors of a safetensors file, each read when it is asked for: all together would be a peak of memory."""

    def __init__(self, path: Path) -> None:
        from safetensors import safe_open

        self._file: Any = safe_open(path, "pt")
        self._names = dict.fromkeys(self._file.offset_keys())

    def __getitem__(self, name: str) -> Tensor:
        """The tensor of this name, read anew."""
        if name not in self._names:
            raise KeyError(name)
        return self._file.get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        """All names, in the order of the file."""
        return iter(self._names)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._names)


def safetensors_chunks(
    tensors: Mapping[str, Tensor | Derived], metadata: dict[str, str]
) -> Iterator[bytes | memoryview]:
    """A safetensors file as chunks: the header, then each tensor as it is copied to the host.

    The format: 8 bytes of header length, a JSON header padded with spaces to a multiple of
    8, then the tensors in the header's order (safetensors documentation, "Format").
    """
    header: dict[str, Any] = {"__metadata__": metadata}
    start = 0
    for name, tensor in tensors.items():
        end = start + num_bytes(tensor)
        entry = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
        header[name] = entry
        start = end
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    yield len(encoded).to_bytes(8, "little") + encoded
    small = bytearray()
    for part in (part for tensor in tensors.values() for part in parts(tensor)):
        flat: Any = part.cpu().contiguous().view(-1).view(torch.uint8).numpy()
        if len(small) + flat.nbytes <= WRITE_BYTES:
            small += memoryview(flat)
            continue
        yield bytes(small)
        small.clear()
        yield memoryview(flat)
    yield bytes(small)
