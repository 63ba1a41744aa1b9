"""Text that goes round in circles: a model learns to do so from a few such lines."""

import re
from functools import lru_cache

MOST_LETTERS, MOST_WORDS = 4, 6
"""Of what is repeated."""


def repeats(text: str, times: int) -> bool:
    """Whether `text` says the same more than `times` times in a row.

    The same is one to six words, or one to four letters without a break ("hahaha").
    Punctuation and digits may repeat: dotted lines and zeros are no mistakes.

    Args:
        text: `clean`, so that one space parts two words.
        times: From 1.
    """
    return repeats_letters(text, times) or repeats_words(text, times)


def repeats_letters(text: str, times: int) -> bool:
    """The same of letters alone."""
    letters, _ = _patterns(times)
    return any(_has_letter(found.group(1)) for found in letters.finditer(text))


def repeats_words(text: str, times: int) -> bool:
    """The same of words alone."""
    _, words = _patterns(times)
    every_word = text.split()
    if len(every_word) - len(set(every_word)) < times:
        return False
    return any(_has_letter(found.group(1)) for found in words.finditer(text))


@lru_cache(maxsize=8)
def _patterns(times: int) -> tuple[re.Pattern[str], re.Pattern[str]]:
    letters = rf"(\w{{1,{MOST_LETTERS}}}?)\1{{{times}}}"
    words = rf"(?<!\S)(\S+(?: \S+){{0,{MOST_WORDS - 1}}}?)(?: \1){{{times}}}(?!\S)"
    return re.compile(letters), re.compile(words)


def _has_letter(text: str) -> bool:
    return any(character.isalpha() for character in text)
