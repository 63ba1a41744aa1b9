"""Directions of a model: NLLB's languages, and those that this model was taught besides."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from dragoman.errors import UnknownLanguageError
from dragoman.languages import Direction, parse_pair, parse_pairs

Parsed = TypeVar("Parsed")


def direction_of(pair: str, model: str) -> Direction:
    """The direction that a pair names.

    Args:
        pair: As for `languages.parse_pair`.
        model: A folder or Hub id; looked at only when NLLB lacks a language of the pair.

    Raises:
        InputError: It is no pair of languages that NLLB or the model knows, or there is no such model.
    """
    return _parsed(parse_pair, pair, model)


def directions_of(pairs: Sequence[str], model: str) -> list[Direction]:
    """The directions that pairs name, each of which may name both; otherwise as `direction_of`."""
    return [direction for pair in pairs for direction in _parsed(parse_pairs, pair, model)]


def new_codes(model: str) -> tuple[str, ...]:
    """Codes that a model was taught besides NLLB's.

    Raises:
        ModelError: There is no such model.
    """
    from dragoman.model import nllb, vocabulary

    return vocabulary.taught(nllb.find(model))


def _parsed(parse: Callable[[str, Sequence[str]], Parsed], pair: str, model: str) -> Parsed:
    try:
        return parse(pair, ())
    except UnknownLanguageError as error:
        if error.candidates or not (also := new_codes(model)):
            raise
    return parse(pair, also)
