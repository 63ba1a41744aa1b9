"""What the store of a run holds at most: `keep` + 1 checkpoints and two models, the published one and the best.

That is promise 7 of the design, in bytes, for whoever says it before a run begins. Where no
prepared corpus tells how many rows of the vocabulary are trained, moments of all of them
count: what is said is a bound, not a guess. No torch.
"""

from dataclasses import dataclass, replace

from dragoman.model import resident
from dragoman.model.regime import Regime
from dragoman.model.sizes import Sizes

NUM_MODELS = 2
"""Models in a store besides the checkpoints."""
_FLOAT = 4


@dataclass(frozen=True)
class HeldAtMost:
    """The bound, and what it is made of."""

    num_checkpoints: int
    """Kept ones, and one that is being uploaded."""
    checkpoint_bytes: int
    """Of one, at most."""
    model_bytes: int
    """Of a model alone."""
    data_bytes: int = 0
    """Of the prepared data; 0 where it is not known, or stays out of the store."""

    @property
    def num_bytes(self) -> int:
        """All of it."""
        return self.num_checkpoints * self.checkpoint_bytes + NUM_MODELS * self.model_bytes + self.data_bytes

    def __str__(self) -> str:
        """As it is shown."""
        parts = [
            f"{self.num_checkpoints} checkpoints of up to {_gigabytes(self.checkpoint_bytes)}",
            f"{NUM_MODELS} models of {_gigabytes(self.model_bytes)}",
            *([f"{self.data_bytes / 1e6:,.1f} MB of data"] if self.data_bytes else []),
        ]
        return f"at most {self.num_bytes / 1e9:,.1f} GB: {', '.join(parts[:-1])} and {parts[-1]}"


def held_at_most(sizes: Sizes, regime: Regime, keep: int, rows: int | None = None, data_bytes: int = 0) -> HeldAtMost:
    """The bound for a run.

    Args:
        sizes: The model.
        regime: What of it is trained.
        keep: As `--keep`.
        rows: Those that an active vocabulary trains; None where nothing is prepared.
        data_bytes: Of the prepared data that goes to the store.
    """
    bound = replace(regime, active_rows=sizes.vocabulary if rows is None else rows)
    return HeldAtMost(keep + 1, checkpoint_bytes(sizes, bound), sizes.weights_bytes, data_bytes)


def checkpoint_bytes(sizes: Sizes, regime: Regime) -> int:
    """Bytes of the tensors of a checkpoint; a tokenizer and small files come to some 20 MB more for NLLB.

    The model is saved whole whatever was trained of it, the moments only of what was.
    """
    adapters = resident.trained_parameters(sizes, regime) if regime.adapter == "lora" else 0
    frozen = sizes.layer_parameters if adapters else 0
    of_all_ranks = replace(regime, shards=1, offload=False)
    return sizes.weights_bytes + resident.moment_bytes(sizes, of_all_ranks) + _FLOAT * (adapters + frozen)


def _gigabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:,.2f} GB"
