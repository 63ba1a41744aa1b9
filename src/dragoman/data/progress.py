"""How far a preparation is, told every few seconds.

What is counted are chunks that are done and the place in the files that are read; nobody
waits for either, so what is told may lag a little behind.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from dragoman.data import work
from dragoman.journal import Event, Preparing

EVERY_SECONDS = 5.0


@dataclass
class Progress:
    """Counts what is done, and tells it; of what takes less than `EVERY_SECONDS` nothing is told."""

    tell: Callable[[Event], None] = lambda event: None
    """Gets an event every `EVERY_SECONDS`, and one where a stage begins."""
    clock: Callable[[], float] = time.monotonic
    """Seconds since any instant."""
    share: float | None = field(default=None, init=False)
    """How much of a stage of unknown size is done, from 0 to 1, for whoever can tell; None where nobody can."""

    def __post_init__(self) -> None:
        self._rows = self._kept = 0
        self._told, self._is_slow = self.clock(), False
        self._begin("reading", None)

    def begin(self, stage: str, num_pairs: int | None = None, *, kept: int | None = None) -> None:
        """Go on to another stage.

        Args:
            stage: As `Preparing.stage`.
            num_pairs: How many it has to do, where that is known.
            kept: Pairs that are left, where that is known better now.
        """
        self._kept = self._kept if kept is None else kept
        self._begin(stage, num_pairs)
        if self._is_slow:
            self._tell()

    def add_cleaned(self, path: Path, *, earlier: bool = False) -> None:
        """Count a cleaned chunk by its file; one that an `earlier` session has cleaned says nothing of the speed."""
        facts = work.facts(path)
        self._rows += facts["read"]
        self._kept += facts["read"] - facts["bad_rows"] - sum(count for count, _ in facts["rejected"].values())
        self.add(facts["read"], earlier=earlier)

    def add(self, num_pairs: int, *, earlier: bool = False) -> None:
        """Count pairs that this stage has done, or needs not do because an `earlier` session has."""
        self._before += num_pairs if earlier else 0
        self._done += 0 if earlier else num_pairs
        if self.clock() - self._told >= EVERY_SECONDS:
            self._is_slow = True
            self._tell()

    def _begin(self, stage: str, num_pairs: int | None) -> None:
        self._stage, self._num_pairs, self.share = stage, num_pairs, None
        self._before = self._done = 0
        self._began = self.clock()

    def _tell(self) -> None:
        self._told = self.clock()
        seconds = self._told - self._began
        share = (self._before + self._done) / self._num_pairs if self._num_pairs else self.share
        self.tell(
            Preparing(
                stage=self._stage,
                rows=self._rows,
                kept=self._kept,
                share=None if share is None else round(share, 4),
                pairs_per_second=round(self._done / seconds, 1) if self._done and seconds else None,
            )
        )
