"""Whether a translation is one at all: neither empty, nor going round in circles, nor in another language.

It says nothing about quality, which is what scores are for. Every judgement compares with
the reference: what is true of that too is no mistake. The language is judged where the text
is long enough: by its script, by whether it is the source itself, and by lingua where that
is installed. That the code of the target language was obeyed needs no check: each
translation is forced to begin with it (`decode`).
"""

from importlib.util import find_spec
from typing import Literal

from dragoman.data.corpus import Text
from dragoman.data.filters import clean, key, langid
from dragoman.data.filters.placeholders import prose
from dragoman.data.filters.repetition import repeats_letters, repeats_words
from dragoman.data.filters.script import is_in_script

Verdict = Literal["ok", "empty", "loops", "wrong language"]

MOST_REPEATS = 3
"""A translation that says the same more often than this in a row goes round in circles."""
MIN_CHARS = 30
"""Prose shorter than this says too little about its language."""
SCRIPT_PERCENT = 10.0
"""Least share of letters in the script of the target language, where the reference has it."""


def judge(hypothesis: str, pair: Text) -> Verdict:
    """What is wrong with the translation of a sentence, the worst first.

    Args:
        hypothesis: The translation.
        pair: The sentence with its reference, which may be empty when there is none.
    """
    hypothesis = clean(hypothesis)
    if _is_empty(hypothesis) and not _is_empty(pair.target or pair.source):
        return "empty"
    if _loops(hypothesis, clean(pair.source), clean(pair.target)):
        return "loops"
    return "wrong language" if _is_in_another_language(hypothesis, pair) else "ok"


def _is_empty(text: str) -> bool:
    return not any(character.isalnum() for character in text)


def _loops(hypothesis: str, *others: str) -> bool:
    """Whether it says the same again and again, as neither source nor reference does: a YYYY excuses a JJJJ."""
    return any(
        repeating(hypothesis, MOST_REPEATS) and not any(repeating(text, MOST_REPEATS) for text in others)
        for repeating in (repeats_letters, repeats_words)
    )


def _is_in_another_language(hypothesis: str, pair: Text) -> bool:
    if _is_not_in(hypothesis, pair.direction.target):
        return not _is_not_in(pair.target, pair.direction.target)
    is_copy = key(hypothesis) == key(pair.source) and len(prose(hypothesis)) >= MIN_CHARS
    return is_copy and key(pair.target) != key(pair.source)


def _is_not_in(text: str, code: str) -> bool:
    if not is_in_script(text, code, SCRIPT_PERCENT):
        return True
    return find_spec("lingua") is not None and langid.is_other_language(text, code, MIN_CHARS)
