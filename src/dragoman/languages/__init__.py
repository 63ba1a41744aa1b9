"""Languages of NLLB-200: what a tag names, and which direction a pair means."""

from dragoman.languages.codes import CODES
from dragoman.languages.pairs import Direction, parse_pair, parse_pairs
from dragoman.languages.tags import is_language, is_new, lookup, name, names_new, new_among, resolve, search, short

__all__ = [
    "CODES",
    "Direction",
    "is_language",
    "is_new",
    "lookup",
    "name",
    "names_new",
    "new_among",
    "parse_pair",
    "parse_pairs",
    "resolve",
    "search",
    "short",
]
