"""CUDA graphs: the forward and backward pass of a small microbatch as one thing that a GPU repeats.

Sixteen pairs keep a GPU busy for a moment, and Python thousands of launches longer. A graph
is launched once. It is tied to the sizes and addresses it was recorded with: so microbatches
are padded to few shapes (`model/layout.py`), and inputs are copied to where they were.

A graph is used only after it gave, on this machine and for these pairs, what the plain pass
gives. Whatever goes wrong before that ends in a warning and the plain pass, which computes
the same kernels in the same order: using graphs or not changes no number of a run.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from dragoman.model.layout import Shape
from dragoman.model.loss import Negatives
from dragoman.training.feed import Ready

SEEN_BEFORE = 3
"""Times that a shape comes up before it is recorded: recording costs as much as two plain passes."""
MOST_GRAPHS = 64
"""Shapes that are recorded; each graph holds some memory of its own."""
LOSS_TOLERANCE, NORM_TOLERANCE = 1e-4, 1e-2
"""Relative difference from the plain pass: kernels that add in any order differ a little from themselves."""

Pass = Callable[[Ready, Negatives | None], Tensor]
"""Forward and backward: adds to the gradients, returns nats without label smoothing."""
Record = Callable[[Callable[[], None]], Callable[[], None]]
"""Gives back what repeats the work of a function, on the tensors that it used."""


@dataclass
class Graph:
    """The recorded pass of one shape."""

    inputs: Ready
    nats: Tensor
    replay: Callable[[], None]


@dataclass
class Graphs:
    """All recorded passes of a session."""

    parameters: Sequence[torch.nn.Parameter]
    """Those that are trained; their gradients stay where they are for as long as there are graphs."""
    record: Record
    warn: Callable[[str], None]
    given_up: bool = False
    divisor: Tensor = field(init=False)
    """The step's target tokens, where graphs read them."""
    _kept: dict[Shape, Graph] = field(default_factory=dict[Shape, Graph])
    _seen: Counter[Shape] = field(default_factory=Counter[Shape])
    _negatives: Negatives | None = None

    def __post_init__(self) -> None:
        self.divisor = torch.ones((), device=self.parameters[0].device)

    def zero_gradients(self) -> None:
        """Set all gradients to zero, in place."""
        for parameter in self.parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        torch._foreach_zero_(self._gradients())

    def forget(self) -> None:
        """Drop all graphs: gradients may go, and come back elsewhere."""
        self._kept.clear()
        self._negatives = None

    def run(
        self, ready: Ready, negatives: Negatives | None, plain: Pass, seed: Callable[[], None], *, is_first: bool
    ) -> Tensor:
        """A forward and backward pass, by a graph where there is one.

        Args:
            ready: On the host, in a static shape.
            negatives: On the device.
            plain: The pass itself, over tensors of the device.
            seed: Sets the random numbers of this microbatch.
            is_first: All gradients are zero, so that two ways to compute them can be compared.
        """
        shape, device = ready.shape, self.parameters[0].device
        assert shape is not None
        if graph := self._kept.get(shape):
            self._fill(graph, ready, negatives)
            seed()
            graph.replay()
            return graph.nats
        self._seen[shape] += 1
        if is_first and not self.given_up and self._seen[shape] > SEEN_BEFORE and len(self._kept) < MOST_GRAPHS:
            return self._recorded(shape, ready, negatives, plain, seed)
        seed()
        return plain(ready.moved(lambda tensor: tensor.to(device, non_blocking=True)), negatives)

    def _recorded(
        self, shape: Shape, ready: Ready, negatives: Negatives | None, plain: Pass, seed: Callable[[], None]
    ) -> Tensor:
        """Record the pass, and prove the graph on this microbatch."""
        device = self.parameters[0].device
        inputs = ready.moved(lambda tensor: tensor.to(device, copy=True))
        if negatives and self._negatives is None:
            self._negatives = replace(negatives, rows_KD=torch.empty_like(negatives.rows_KD))
        if negatives and self._negatives:
            self._negatives.rows_KD.copy_(negatives.rows_KD)
        seed()
        expected, norm = plain(inputs, self._negatives).clone(), self._norm()
        nats = torch.zeros_like(expected)

        def work() -> None:
            nats.copy_(plain(inputs, self._negatives))

        try:
            graph = Graph(inputs, nats, self.record(work))
            self.zero_gradients()
            seed()
            graph.replay()
            found, found_norm = float(nats), float(self._norm())
        except RuntimeError as error:  # out of memory is one, too
            why = str(error).strip().splitlines()[0]
            return self._without(f"no graph can be recorded here: {why}", inputs, plain, seed)
        if not _near(found, float(expected), LOSS_TOLERANCE) or not _near(found_norm, float(norm), NORM_TOLERANCE):
            told = f"a graph gave {found:.6g} nats and a gradient of {found_norm:.6g}"
            why = f"{told}, the plain pass {float(expected):.6g} and {float(norm):.6g}"
            return self._without(why, inputs, plain, seed)
        self._kept[shape] = graph
        return nats

    def _without(self, why: str, inputs: Ready, plain: Pass, seed: Callable[[], None]) -> Tensor:
        """Give graphs up, and compute this microbatch without."""
        self.given_up = True
        self.warn(f"--static-shapes: training goes on without CUDA graphs: {why}")
        self.zero_gradients()
        seed()
        found = plain(inputs, self._negatives)
        self.forget()
        return found

    def _fill(self, graph: Graph, ready: Ready, negatives: Negatives | None) -> None:
        """Copy this microbatch to where the graph reads."""
        news: list[Tensor] = []
        ready.moved(lambda tensor: news.append(tensor) or tensor)
        coming = iter(news)
        graph.inputs.moved(lambda tensor: tensor.copy_(next(coming), non_blocking=True))
        if negatives and self._negatives:
            self._negatives.rows_KD.copy_(negatives.rows_KD, non_blocking=True)

    def _norm(self) -> Tensor:
        """Of all gradients together."""
        return torch.stack(torch._foreach_norm(self._gradients())).norm()

    def _gradients(self) -> list[Tensor]:
        return [parameter.grad for parameter in self.parameters if parameter.grad is not None]


def _near(found: float, expected: float, tolerance: float) -> bool:
    """Whether both are alike; a loss that is not finite has its own handling, and is none of ours."""
    if not math.isfinite(expected):
        return not math.isfinite(found)
    return abs(found - expected) <= tolerance * abs(expected)


def cuda_recorder() -> Record:
    """Records CUDA graphs, which all share one pool of memory: no two of them run at a time."""
    pool = torch.cuda.graph_pool_handle()

    def record(work: Callable[[], None]) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        with torch.cuda.graph(graph, pool=pool):
            work()
        return graph.replay

    return record
