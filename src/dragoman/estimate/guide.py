"""The starting document's table of times, with its arithmetic corrected.

It says 3 epochs, and counts the steps of one. Its times were for a T4.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dragoman.config import RunConfig
from dragoman.estimate import memory
from dragoman.estimate.hours import Hours, hours_of
from dragoman.estimate.work import TOKENS_PER_PAIR, Work, of_counts
from dragoman.languages import CODES, Direction

GPU = "t4"
"""On which the document's times are."""


@dataclass(frozen=True)
class Said:
    """A row of the document's table."""

    num_directions: int
    max_samples: int
    """Pairs of each direction."""
    steps: int
    hours: tuple[float, float]
    checkpoints: int


TABLE = (
    Said(2, 20_000, 3_000, (0.75, 0.75), 6),
    Said(3, 50_000, 9_000, (2, 3), 18),
    Said(5, 50_000, 15_000, (3, 4), 30),
    Said(10, 50_000, 30_000, (6, 8), 60),
)


@dataclass(frozen=True)
class Row:
    """What the document says, and what comes out."""

    said: Said
    epoch_steps: int
    """Steps of one epoch."""
    work: Work
    """Of all epochs."""
    hours: tuple[tuple[str, Hours], ...]
    """On each GPU, with the pairs per step of the options."""

    def to_json(self) -> dict[str, Any]:
        """What a program may read."""
        said = {"steps": self.said.steps, "hours": list(self.said.hours), "checkpoints": self.said.checkpoints}
        found: dict[str, Any] = {"pairs": self.said.num_directions, "samples": self.said.max_samples, "said": said}
        found |= {"epoch_steps": self.epoch_steps, "work": self.work.to_json()}
        return found | {"gpus": {name: it.to_json() | {"saves": it.storage.saves} for name, it in self.hours}}


def corrected(config: RunConfig, gpus: Sequence[str] = (), tokens_per_pair: float | None = None) -> list[Row]:
    """The four rows of the table, for the epochs, model and pairs per step of the options.

    Args:
        config: The options; languages and samples are the table's.
        gpus: On which; a T4 without.
        tokens_per_pair: Target tokens of a pair.

    Raises:
        InputError: A GPU or the model is not known.
    """
    ways = [memory.as_configured(config, memory.machine(name, config)) for name in gpus or (GPU,)]
    others = [code for code in CODES if code != "eng_Latn"]
    once = config.model_copy(update={"training": config.training.model_copy(update={"epochs": 1.0})})
    rows: list[Row] = []
    for said in TABLE:
        counts = {Direction("eng_Latn", code): said.max_samples for code in others[: said.num_directions]}
        work = of_counts(config, counts, tokens_per_pair or TOKENS_PER_PAIR)
        epoch = of_counts(once, counts, work.tokens_per_pair).steps
        hours = tuple((way.machine.title, hours_of(config, work, way)) for way in ways)
        rows.append(Row(said, epoch, work, hours))
    return rows
