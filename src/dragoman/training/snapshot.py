"""What a checkpoint holds, as it was in one instant, so that training may go on while it is written.

Weights and moments change in the optimizer's step and nowhere else. So their copy has
until the next update, and on a GPU it takes that time: it runs beside the next forward
and backward. All else is small, and copied at once as bytes.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dragoman.model.derived import Derived, changing
from dragoman.store.base import CARD
from dragoman.store.card import seal
from dragoman.training import card, state
from dragoman.training.state import Tensors

if TYPE_CHECKING:
    from dragoman.training.session import Session

SPARE_BYTES = 1 << 30
SPARE_SHARE = 0.1
"""Memory that stays free beside the buffers, fixed and by their size: for the system's cache, and for what grows."""


@dataclass(frozen=True)
class Snapshot:
    """All that a save needs; nothing that training does later changes it."""

    step: int
    """Steps done."""
    time: float
    """When it was taken, by `time.monotonic`."""
    updates: int
    """Optimizer updates that made the moments."""
    pairs_seen: int
    """Sentence pairs trained on."""
    tensors: Tensors
    """A copy, or the live ones when training waits for the save."""
    wait: Callable[[], None]
    """Returns when the copy is whole; called before a tensor is read."""
    small: dict[str, bytes]
    """All other files, by name."""
    config: str
    """Digest of the configuration."""
    corpus: str
    """Digest of the corpus."""
    metrics: Mapping[str, float]
    """What was measured."""
    losses: tuple[tuple[int, float], ...]
    """The last steps and their losses."""
    is_best: bool
    """Whether its own model is to be published."""
    best: str
    """Nonce of the checkpoint whose model is published otherwise."""
    keep: int
    """How many checkpoints stay when it is safe."""


class HostBuffers:
    """Memory of the host for the tensors of one checkpoint: taken at the first copy, used again by every later one.

    Fresh memory would cost several times the copy. For tensors on a GPU it is pinned, so
    that the GPU copies by itself. One snapshot at a time: the next copy overwrites the last.
    """

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, str, int], Tensor] = {}
        self._stream: torch.cuda.Stream | None = None
        self._copied: torch.cuda.Event | None = None

    def copy(self, live: Tensors) -> tuple[Tensors, Callable[[], None]]:
        """Copy all that training changes, in one pass; returns the copies and what to call before reading them.

        Tensors on a GPU are copied on a stream of their own, which begins when all work that
        was given to the GPU so far is done. Call `wait_before_update` before they change.

        Raises:
            MemoryError: There is no memory; what was taken is given back.
        """
        pairs: list[tuple[Tensor, Tensor]] = []
        try:
            copies = {
                file: {name: self._copy_of(file, name, tensor, pairs) for name, tensor in named.items()}
                for file, named in live.items()
            }
        except RuntimeError as error:  # so torch says that memory could not be had
            self._buffers.clear()
            raise MemoryError(str(error)) from None
        device = next((tensor.device for _, tensor in pairs if tensor.is_cuda), None)
        with torch.no_grad():
            if device is None:
                _copy(pairs)
                return copies, lambda: None
            self._stream = self._stream or torch.cuda.Stream(device)
            self._stream.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(self._stream):
                _copy(pairs)
            copied = self._copied = torch.cuda.Event()
            copied.record(self._stream)
        return copies, copied.synchronize

    def wait_before_update(self) -> None:
        """Let the GPU finish the copy before what follows; the host goes on at once, and a CPU has copied already."""
        if self._stream and self._copied:
            torch.cuda.current_stream(self._stream.device).wait_event(self._copied)
            self._copied = None

    def _copy_of(
        self, file: str, name: str, tensor: Tensor | Derived, pairs: list[tuple[Tensor, Tensor]]
    ) -> Tensor | Derived:
        """What will be the copy, once all `pairs` are copied."""
        live = changing(tensor)
        copies = [self._like((file, name, number), each) for number, each in enumerate(live)]
        pairs.extend(zip(copies, live, strict=True))
        return copies[0] if isinstance(tensor, Tensor) else tensor.over(copies)

    def _like(self, where: tuple[str, str, int], tensor: Tensor) -> Tensor:
        found = self._buffers.get(where)
        if found is None or found.shape != tensor.shape or found.dtype != tensor.dtype:
            # One by one: torch rounds pinned memory up to a power of two, which most tensors are and their sum is not.
            found = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
            self._buffers[where] = found
        return found


def _copy(pairs: list[tuple[Tensor, Tensor]]) -> None:
    for copy, tensor in pairs:
        copy.copy_(tensor, non_blocking=True)


def num_bytes(tensors: Tensors) -> int:
    """Of a copy of them, which holds what training changes."""
    return sum(each.nbytes for named in tensors.values() for tensor in named.values() for each in changing(tensor))


def has_room(needed: int, free: int) -> bool:
    """Whether a copy of `needed` bytes leaves enough of the `free` ones."""
    return needed * (1 + SPARE_SHARE) + SPARE_BYTES <= free


def take(run: "Session", tensors: Tensors, wait: Callable[[], None] = lambda: None) -> Snapshot:
    """The present instant of a session.

    Args:
        run: Between two steps.
        tensors: Its tensors, or their copy.
        wait: Returns when the copy is whole.
    """
    now, instant = run.state, time.monotonic()
    now.seconds += instant - run.counted_time
    run.counted_time = instant
    now.scaler, now.computed_with = run.scaler.state_dict(), run.arithmetic.facts()
    return Snapshot(
        step=now.step,
        time=instant,
        updates=now.updates,
        pairs_seen=run.plan.pairs_seen(now.step),
        tensors=tensors,
        wait=wait,
        small=state.small_files(now, run.small_files | {CARD: _card(run)} | _adapter_settings(run), run.config),
        config=run.config.digest(),
        corpus=run.corpus.digest,
        metrics={"chrf": now.best_chrf} if now.best_chrf >= 0 else {},
        losses=tuple(now.losses),
        is_best=now.best_step == now.step or run.config.evaluation.eval_steps == 0,
        best=run.best,
        keep=run.config.save.keep,
    )


def _adapter_settings(run: "Session") -> dict[str, bytes]:
    return {state.ADAPTER_SETTINGS: run.forward.lora.settings_file()} if run.forward.lora else {}


def _card(run: "Session") -> bytes:
    return seal(card.text(card.facts(run)))
