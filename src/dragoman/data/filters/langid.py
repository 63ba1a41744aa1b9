"""Whether a text is plainly in another language than its pair says.

Identification is a guess, and on short text a bad one. So it only ever says no: from a
least length on, when it is nearly sure, and when the languages are not close relatives.
Of languages that lingua does not know nothing is said at all.
"""

from functools import cache
from typing import Any

from dragoman.data.filters.placeholders import prose
from dragoman.errors import InputError

SURE = 0.99
"""Least confidence in the other language, of 1."""

KNOWN_AS = {
    "als": "SQI",
    "azj": "AZE",
    "khk": "MON",
    "lvs": "LAV",
    "pes": "FAS",
    "prs": "FAS",
    "swh": "SWA",
    "yue": "ZHO",
    "zsm": "MSA",
    **dict.fromkeys(("acm", "acq", "aeb", "ajp", "apc", "arb", "ars", "ary", "arz"), "ARA"),
}
"""NLLB's language to the ISO 639-3 code by which lingua knows it, where that is another."""

RELATIVES = (
    {"BOS", "HRV", "SRP", "SLV", "MKD", "BUL"},
    {"NOB", "NNO", "DAN", "SWE"},
    {"IND", "MSA"},
    {"CES", "SLK"},
    {"XHO", "ZUL"},
    {"SOT", "TSN"},
    {"HIN", "MAR"},
    {"BEL", "KAZ", "UKR"},
    {"CAT", "POR", "SPA"},
    {"AFR", "NLD"},
    {"ARA", "FAS", "URD"},
)
"""Groups of languages, within which even a sure guess is often wrong."""


def check() -> None:
    """Look whether languages can be identified at all.

    Raises:
        InputError: The package is missing.
    """
    try:
        import lingua  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError:
        raise InputError("--langid needs the package lingua", 'pip install "dragoman[langid]"') from None


def is_other_language(text: str, code: str, min_chars: int) -> bool:
    """Whether a text is surely not in the language of an NLLB code.

    Args:
        text: Any text; the longer, the better.
        code: NLLB code of the language that it should be in.
        min_chars: Text with less prose is not judged, in characters.
    """
    lingua, known = detector()
    expected = KNOWN_AS.get(code[:3], code[:3].upper())
    text = prose(text)
    if len(text) < min_chars or expected not in known:
        return False
    likeliest = lingua.compute_language_confidence_values(text)[0]
    found = likeliest.language.iso_code_639_3.name
    if found == expected or any({found, expected} <= group for group in RELATIVES):
        return False
    return likeliest.value >= SURE


def likeliest(text: str) -> tuple[str, float] | None:
    """The tag of the language that a text is most likely in, and how sure that is, of 1.

    None when the package is missing, or the text has no word to judge by.
    """
    try:
        lingua, _ = detector()
    except ImportError:
        return None
    text = prose(text)
    if not any(character.isalpha() for character in text):
        return None
    found = lingua.compute_language_confidence_values(text)[0]
    return found.language.iso_code_639_1.name.lower(), float(found.value)


@cache
def detector() -> tuple[Any, frozenset[str]]:
    """The detector, and the languages that it knows. Without its high accuracy, which takes a gigabyte."""
    from lingua import Language, LanguageDetectorBuilder

    known = frozenset(language.iso_code_639_3.name for language in Language.all())
    return LanguageDetectorBuilder.from_all_languages().with_low_accuracy_mode().build(), known
