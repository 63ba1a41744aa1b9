"""What a run writes: how many checkpoints, how large, what the store holds, how far it lags behind.

Follows the code: `training/saving.py` says when a save is due, `training/state.py` what is
in it, promise 7 of the design how much the store holds at most.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

from dragoman.config import RunConfig
from dragoman.estimate.work import Work
from dragoman.model import held
from dragoman.model.regime import Regime
from dragoman.model.sizes import Sizes

UPLINK_BYTES = 20e6
"""Bytes per second that a machine is assumed to upload, where `--upload-megabytes` names no less."""
BESIDES = 2
"""Models in a store besides the checkpoints: the published one, and the best."""
_FLOAT = 4


@dataclass(frozen=True)
class Storage:
    """What a run writes, at a given speed."""

    checkpoint_bytes: int
    """Of one checkpoint: the whole model, moments, and what adapters need."""
    model_bytes: int
    """Of the model alone."""
    saves: int
    """Checkpoints written in the whole run."""
    save_seconds: float
    """Between two of them, of training."""
    held_bytes: int
    """In the store at most."""
    uplink: float
    """Bytes per second."""

    @property
    def upload_seconds(self) -> float:
        """Of one checkpoint."""
        return self.checkpoint_bytes / self.uplink

    @property
    def uploads(self) -> int:
        """Checkpoints that reach the store: one that is overtaken before its turn is skipped."""
        return max(1, min(self.saves, math.ceil(self.saves * self.save_seconds / max(self.upload_seconds, 1e-9))))

    @property
    def lost_seconds(self) -> float:
        """Most training that is lost with a machine and its disk: an interval and two uploads."""
        return self.save_seconds + 2 * self.upload_seconds

    def to_json(self) -> dict[str, Any]:
        """What a program may read."""
        names = ("checkpoint_bytes", "model_bytes", "saves", "uploads", "held_bytes")
        seconds = {"upload_seconds": round(self.upload_seconds, 1), "lost_seconds": round(self.lost_seconds, 1)}
        return {name: getattr(self, name) for name in names} | seconds


def checkpoint_bytes(sizes: Sizes, regime: Regime) -> int:
    """Bytes of the tensors of a checkpoint; a tokenizer and small files come to some 20 MB more for NLLB.

    The model is saved whole whatever was trained of it, the moments only of what was.
    """
    adapters = held.trained_parameters(sizes, regime) if regime.adapter == "lora" else 0
    frozen = sizes.layer_parameters if adapters else 0
    of_all_ranks = replace(regime, shards=1, offload=False)
    return sizes.weights_bytes + held.moment_bytes(sizes, of_all_ranks) + _FLOAT * (adapters + frozen)


def num_saves(config: RunConfig, steps: int, step_seconds: float) -> int:
    """Checkpoints of a run that is never interrupted: by steps or minutes, whichever is first, and one at the end.

    Those by minutes fall between those by steps, which come at multiples of `--save-steps`.
    """
    whole, rest = divmod(steps, config.save.save_steps)

    def within(num_steps: int) -> int:
        return max(1, math.ceil(num_steps * step_seconds / (60 * config.save.save_minutes)))

    return whole * within(config.save.save_steps) + (within(rest) if rest else 0)


def storage_of(config: RunConfig, work: Work, sizes: Sizes, regime: Regime, step_seconds: float) -> Storage:
    """What a run writes.

    Args:
        config: When it saves, and what it keeps.
        work: Its steps.
        sizes: The model.
        regime: What of it is trained.
        step_seconds: Of training; slower steps are saved more often.
    """
    size, cap = checkpoint_bytes(sizes, regime), config.store.upload_megabytes
    saves = num_saves(config, work.steps, step_seconds)
    whole = min(config.save.keep + 1, saves)
    data = work.data_bytes if config.store.keeps_data else 0
    return Storage(
        checkpoint_bytes=size,
        model_bytes=sizes.weights_bytes,
        saves=saves,
        save_seconds=work.steps * step_seconds / saves,
        held_bytes=whole * size + BESIDES * sizes.weights_bytes + data,
        uplink=min(cap * 1e6, UPLINK_BYTES) if cap else UPLINK_BYTES,
    )
