"""A figure that is not known exactly: between two others."""

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """From `low` to `high`, both in the same unit."""

    low: float
    high: float

    @property
    def middle(self) -> float:
        """The figure that both ends miss by the same factor."""
        return math.sqrt(self.low * self.high)

    def __add__(self, other: "Span") -> "Span":
        return Span(self.low + other.low, self.high + other.high)

    def __mul__(self, factor: float) -> "Span":
        return Span(self.low * factor, self.high * factor)

    def each(self, function: Callable[[float], float]) -> "Span":
        """A growing function of both ends."""
        return Span(function(self.low), function(self.high))


def exactly(value: float) -> Span:
    """A figure that is known."""
    return Span(value, value)
