"""The microbatches of a step, as tensors of the host: what can be made before the device is free.

Nothing here depends on the weights, so on a GPU a thread makes those of the next step
while this one is computed. What comes out is the same either way.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from dragoman.data import balance
from dragoman.data.balance import TokenCosts
from dragoman.data.loader import Ids, Loader, PackedBatch
from dragoman.model import layout
from dragoman.model.active import ActiveVocabulary
from dragoman.model.layout import Layout, Shape
from dragoman.model.loss import Negatives
from dragoman.model.regime import STATIC_TOKENS
from dragoman.training.seeds import seed_of

NO_TOKEN = -1
"""Label of a place in a row where there is no token."""


@dataclass(frozen=True)
class Ready:
    """Pairs as a forward pass takes them."""

    batch: PackedBatch
    ids_N: Tensor
    """Source tokens, sentence after sentence, then the decoder's input in the same order."""
    labels_N: Tensor
    where: Layout
    shape: Shape | None = None
    """The sizes to which all of it is padded; None when nothing is."""

    @property
    def num_source(self) -> int:
        """How many of the tokens are the encoder's, or filled up for it."""
        return len(self.ids_N) - len(self.labels_N)

    def moved(self, move: Callable[[Tensor], Tensor]) -> "Ready":
        """The same with every tensor replaced, always in the same order."""
        return replace(self, ids_N=move(self.ids_N), labels_N=move(self.labels_N), where=self.where.moved(move))


def ready(batch: PackedBatch, *, static: bool = False) -> Ready:
    """A batch, ready for a forward pass.

    Args:
        batch: Its tokens as the model numbers them.
        static: Pad it to one of few sizes, if it is small.
    """
    lengths = (batch.source_lengths_B, batch.target_lengths_B)
    source, decoder, labels = batch.source_N, batch.decoder_N, batch.labels_N
    shape, where = None, None
    if static and len(source) + len(labels) <= STATIC_TOKENS:
        shape = layout.shape_of(*lengths)
        where = layout.static_layout(*lengths, shape)
        source = layout.filled(source, shape.source_tokens, 0)
        decoder = layout.filled(decoder, shape.target_tokens, 0)
        labels = layout.filled(labels, shape.target_tokens, NO_TOKEN)
    ids_N = torch.from_numpy(np.concatenate((source, decoder)))
    return Ready(batch, ids_N, torch.from_numpy(labels), where or layout.layout(*lengths), shape)


@dataclass(frozen=True)
class Share:
    """Which part of every step a rank computes."""

    number: int
    """Of the rank."""
    count: int
    costs: TokenCosts
    """What a token costs, so that all ranks are done at the same time."""
    in_step: bool
    """Whether all ranks have to compute equally many microbatches."""


@dataclass(frozen=True)
class Batches:
    """All of a step."""

    tokens: int
    """Target tokens: what the step's nats are divided by."""
    negatives: Negatives | None
    parts: list[tuple[int, Ready]]
    """This rank's, each with the place of its first pair in the step."""
    idle: tuple[Ready, ...] = ()
    """What this rank computes for nothing, because others compute more microbatches, or because it has no pair."""


@dataclass
class Feed:
    """Gives the microbatches of one step after the other."""

    loader: Loader
    seed: int
    active: ActiveVocabulary | None = None
    """Where the negatives come from."""
    padded: bool = False
    """Whether the forward pass computes padding, which then counts against the limit."""
    static: bool = False
    """Pad small microbatches to few sizes."""
    share: Share | None = None
    """Which of the pairs this rank computes; None: all."""
    ahead: bool = False
    """Make the next step's in a thread, in memory that a GPU can fetch from by itself."""

    def __post_init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "feed") if self.ahead else None
        self._next: tuple[tuple[int, int], Future[Batches]] | None = None

    def step(self, step: int, limit: int) -> Batches:
        """The microbatches of `step`.

        Args:
            step: Counted from 0.
            limit: Largest number of source and target tokens in one of them.
        """
        if self._thread is None:
            return self._made(step, limit)
        coming, self._next = self._next, None
        found = coming[1].result() if coming and coming[0] == (step, limit) else self._made(step, limit)
        if step + 1 < self.loader.plan.total_steps:
            self._next = (step + 1, limit), self._thread.submit(self._made, step + 1, limit)
        return found

    def cut(self, step: int, limit: int) -> list[Ids]:
        """The pairs of each microbatch of `step`, on all ranks."""
        indices = self.loader.batch(step)
        return [indices[share][part] for share in self._shares(indices) for part in self._cut(indices[share], limit)]

    def _made(self, step: int, limit: int) -> Batches:
        indices = self.loader.batch(step)
        negatives = self.active.negatives(seed_of(self.seed, step, -1)) if self.active else None
        if negatives:
            negatives = replace(negatives, rows_KD=self._pinned(negatives.rows_KD))
        tokens = self.loader.target_tokens(indices)
        shares = self._shares(indices)
        if self.share is None:
            return Batches(tokens, negatives, list(self._parts(indices, shares[0], limit)))
        parts = list(self._parts(indices, shares[self.share.number], limit))
        most = max(self._num_parts(indices[each], limit) for each in shares) if self.share.in_step else 1
        shortest = ready(self.loader.packed(indices[-1:])).moved(self._pinned)
        return Batches(tokens, negatives, parts, (shortest,) * (most - len(parts)))

    def _shares(self, indices: Ids) -> list[Ids]:
        """The places in a step of each rank's pairs."""
        if self.share is None:
            return [np.arange(len(indices))]
        return balance.shares(balance.costs(self.loader.lengths(indices), self.share.costs), self.share.count)

    def _parts(self, indices: Ids, share: Ids, limit: int) -> Iterator[tuple[int, Ready]]:
        """The microbatches of some of a step's pairs, which are given by their places in it."""
        for part in self._cut(indices[share], limit):
            made = ready(self.loader.packed(indices[share[part]]), static=self.static)
            yield int(share[part.start]), made.moved(self._pinned)

    def _num_parts(self, indices: Ids, limit: int) -> int:
        return sum(1 for _ in self._cut(indices, limit))

    def _cut(self, indices: Ids, limit: int) -> Iterator[slice]:
        return self.loader.microbatches(indices, limit, padded=self.padded)

    def _pinned(self, tensor: Tensor) -> Tensor:
        return tensor.pin_memory() if self.ahead and torch.cuda.is_available() else tensor
