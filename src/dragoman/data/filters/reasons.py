"""Which pairs are worth learning from, and why the others are not.

One pair at a time, and its text alone: neither the order of the files, nor the other
pairs, nor the machine enters.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dragoman.config import DataConfig
from dragoman.data.filters import langid
from dragoman.data.filters.keys import key
from dragoman.data.filters.placeholders import have_same
from dragoman.data.filters.repetition import repeats
from dragoman.data.filters.screening import Screen
from dragoman.data.filters.script import is_in_script
from dragoman.languages import Direction

REASONS = {
    "empty": "a side has fewer than the least number of characters",
    "length": "a side has more than the greatest number of characters",
    "ratio": "one side is too many times longer than the other",
    "identical": "both sides are the same text",
    "placeholder": "placeholders such as %s, %(name)s or {0} differ between the sides",
    "script": "a side is mostly not in the script of its language",
    "repetition": "a side says the same too many times in a row, and the other does not",
    "language": "a side is in another language than it should be",
    "duplicate": "the same pair came before",
    "near_duplicate": "the same pair but for digits, punctuation and case came before",
    "leak": "a side is a text of a pair that is held out for dev or test, or of --held-out",
    "held_out": "rehearsed, but its source is a sentence that is held out",
    "too_many_tokens": "a side has more tokens than the model takes",
    "not_sampled": "left out by --max-samples",
}
"""Why a pair is dropped. Other reasons may be counted as well; these have a description."""

# Below this many characters of the longer side the ratio says nothing: "OK" is
# "Einverstanden", and a Chinese word of one character an English one of nine.
MIN_CHARS_FOR_RATIO = 21


@dataclass(frozen=True)
class Limits:
    """Bounds of a pair that is kept, both ends included."""

    min_chars: int = 1
    """Least characters of each side."""

    max_chars: int = 1050
    """Greatest characters of each side."""

    max_length_ratio: float = 9.0
    """Greatest quotient of the longer by the shorter side, in characters. Pairs whose
    longer side has 20 characters or fewer are not judged by it."""

    direction: Direction | None = None
    """Languages of the sides; None: neither script nor language is judged."""

    min_script_percent: float = 0.0
    """Least share of the letters that are in the script of their language, in per cent."""

    max_repeats: int | None = None
    """Most times that a side says the same in a row; None: not judged."""

    langid_chars: int | None = None
    """Least characters of a side whose language is identified; None: none is."""

    @classmethod
    def of(cls, data: DataConfig, direction: Direction) -> "Limits":
        """The bounds that the options set for the pairs of one direction."""
        return cls(
            data.min_chars,
            data.max_chars,
            data.max_length_ratio,
            direction,
            data.min_script_percent,
            data.max_repeats or None,
            data.langid_min_chars if data.langid else None,
        )


def reason(source: str, target: str, limits: Limits) -> str | None:
    """Why the pair of two normalised texts is dropped, the first that applies; None if it is kept."""
    return _reason_at_once(source, target, limits) or _reason_in_language(source, target, limits)


def reasons(sources: Sequence[str], targets: Sequence[str], limits: Limits) -> Iterator[str | None]:
    """`reason` of many pairs, much sooner than one by one."""
    suspected = _suspected(sources, targets, limits)
    for source, target, is_suspected in zip(sources, targets, suspected, strict=True):
        why = _reason_at_once(source, target, limits)
        if why is None and is_suspected:
            why = _reason_in_language(source, target, limits)
        yield why


def _suspected(sources: Sequence[str], targets: Sequence[str], limits: Limits) -> list[bool]:
    """For which pairs `_reason_in_language` may have a reason."""
    found = np.full(len(sources), limits.langid_chars is not None)
    codes = (limits.direction.source, limits.direction.target) if limits.direction else (None, None)
    for texts, code in zip((sources, targets), codes, strict=True):
        screen = Screen(texts)
        if code and limits.min_script_percent:
            found |= screen.script(code)
        if limits.max_repeats:
            found |= screen.repetition(limits.max_repeats)
    return found.tolist()


def _reason_at_once(source: str, target: str, limits: Limits) -> str | None:
    """The reasons that are soon found."""
    shorter, longer = sorted((len(source), len(target)))
    if shorter < limits.min_chars:
        return "empty"
    if longer > limits.max_chars:
        return "length"
    if longer >= MIN_CHARS_FOR_RATIO and longer > limits.max_length_ratio * shorter:
        return "ratio"
    if key(source) == key(target):
        return "identical"
    if not have_same(source, target):
        return "placeholder"
    return None


def _reason_in_language(source: str, target: str, limits: Limits) -> str | None:
    """The reasons for which one has to look into the text, the dearest last."""
    way, times, num_chars = limits.direction, limits.max_repeats, limits.langid_chars
    sides = ((source, way.source), (target, way.target)) if way else ()
    if not all(is_in_script(text, code, limits.min_script_percent) for text, code in sides):
        return "script"
    if times and repeats(source, times) != repeats(target, times):
        return "repetition"
    if num_chars and any(langid.is_other_language(text, code, num_chars) for text, code in sides):
        return "language"
    return None
