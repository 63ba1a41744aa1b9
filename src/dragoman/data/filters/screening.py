"""A first look at many texts at once, so that the dear filters look only where they may find something.

It errs to one side alone: what it does not suspect, the filter would let pass too. Of what it
suspects nothing is said, the filter decides. So no verdict depends on it, only how soon it comes.
"""

import sys
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from dragoman.data.filters.repetition import MOST_LETTERS, MOST_WORDS
from dragoman.data.filters.script import MIN_LETTERS, other_letters

BETWEEN, SPACE = ord("\n"), ord(" ")
"""Code points: what stands behind each text here, and what parts two words."""


class Screen:
    """The code points of many texts in one array."""

    def __init__(self, texts: Sequence[str]) -> None:
        """Take texts as `normalized` leaves them: one space between words, none at the ends, no other white space."""
        joined = "".join(f"{text}\n" for text in texts)
        self._points = np.frombuffer(joined.encode("utf-32-le"), np.uint32)
        lengths = np.fromiter(map(len, texts), np.int64, len(texts)) + 1
        self._starts = np.cumsum(lengths) - lengths

    def script(self, code: str) -> NDArray[np.bool_]:
        """Which texts `is_in_script` may refuse: those with enough letters of scripts that are not the language's."""
        is_other = _is_other_letter(code)
        if is_other is None or not len(self._starts):
            return np.zeros(len(self._starts), bool)
        return np.add.reduceat(is_other[self._points], self._starts, dtype=np.int64) >= MIN_LETTERS

    def repetition(self, times: int) -> NDArray[np.bool_]:
        """Which texts `repeats` may find to say the same more than `times` times in a row."""
        found = [_rounds(self._points, period, times) for period in range(1, MOST_LETTERS + 1)]
        ends = np.flatnonzero((self._points == SPACE) | (self._points == BETWEEN))
        starts = np.concatenate(([0], ends[:-1] + 1))[: len(ends)]
        # Equal words are equally long and begin alike; that few others are is enough here.
        words = (ends - starts) << 21 | self._points[starts]
        found += [starts[_rounds(words, period, times)] for period in range(1, MOST_WORDS + 1)]
        suspected = np.zeros(len(self._starts), bool)
        suspected[np.searchsorted(self._starts, np.concatenate(found), side="right") - 1] = True
        return suspected


def _rounds(items: NDArray[np.integer], period: int, times: int) -> NDArray[np.int64]:
    """The places from which on the same `period` items stand more than `times` times in a row."""
    is_same = items[period:] == items[:-period]
    width = 1  # so many items in a row are as those a period before
    while width < period * times:
        step = min(width, period * times - width)
        is_same = is_same[step:] & is_same[:-step]
        width += step
    return np.flatnonzero(is_same)


@cache
def _is_other_letter(code: str) -> NDArray[np.bool_] | None:
    """For each code point whether `other_letters` finds it; None where nothing is judged."""
    letters = other_letters(code)
    if letters is None:
        return None
    points = np.arange(sys.maxunicode + 1, dtype=np.uint32)
    points[0xD800:0xE000] = SPACE  # halves of surrogate pairs are no characters
    found = np.zeros(len(points), bool)
    for run in letters.finditer(points.tobytes().decode("utf-32-le")):
        found[run.start() : run.end()] = True
    return found
