"""Directions of a model: NLLB's languages, and those that this model was taught besides."""

from dragoman.errors import UnknownLanguageError
from dragoman.languages import Direction, parse_pair


def direction_of(pair: str, model: str) -> Direction:
    """The direction that a pair names.

    Args:
        pair: As for `languages.parse_pair`.
        model: A folder or Hub id; looked at only when NLLB lacks a language of the pair.

    Raises:
        InputError: It is no pair of languages that NLLB or the model knows, or there is no such model.
    """
    try:
        return parse_pair(pair)
    except UnknownLanguageError as error:
        if error.candidates:
            raise
        if not (also := new_codes(model)):
            raise
    return parse_pair(pair, also)


def new_codes(model: str) -> tuple[str, ...]:
    """Codes that a model was taught besides NLLB's.

    Raises:
        ModelError: There is no such model.
    """
    from dragoman.model import nllb, vocabulary

    return vocabulary.taught(nllb.find(model))
