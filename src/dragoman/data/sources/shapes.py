"""The shapes of a row with names: which of its values are source and target.

`{"en": …, "fr": …}`, the same below `"translation"`, `{"source": …, "target": …}` and
`[source, target]`. Keys that name languages say which side is which; the other shapes
have a first and a second column, like TSV.
"""

import json
from collections.abc import Sequence
from itertools import islice
from typing import Any

from dragoman.data.sources import tags
from dragoman.data.sources.rows import has_lone_surrogate
from dragoman.languages import Direction

MAX_SHOWN_KEYS = 8


class NotAPairError(Exception):
    """Why a row holds no pair."""


def sides(row: Any, direction: Direction, swapped: bool) -> tuple[str, str]:
    """Source and target of a row.

    Args:
        row: A JSON value.
        direction: Which languages are wanted.
        swapped: First and second column are target and source.

    Raises:
        NotAPairError: It has not both, or they are not text.
    """
    match row:
        case {"translation": {} as inner}:
            return _by_language(inner, direction)
        case {"source": first, "target": second}:
            return _by_column(first, second, '"source"', '"target"', swapped)
        case {}:
            return _by_language(row, direction)
        case [first, second]:
            return _by_column(first, second, "item 1", "item 2", swapped)
        case _:
            raise NotAPairError('neither an object such as {"source": …, "target": …} nor [source, target]')


def names_no_languages(row: Any) -> bool:
    """Whether a row has two columns instead of named languages."""
    match row:
        case {"translation": {}}:
            return False
        case {"source": _, "target": _} | [_, _]:
            return True
        case _:
            return False


def header(cells: Sequence[str], direction: Direction, swapped: bool) -> tuple[int, int] | None:
    """Columns of source and target when the first row of a table names them, from 0; None when it is text.

    A header names both languages, or says `source` and `target`, in any case.
    """
    names = [cell.strip() for cell in cells]
    source, target = (tags.pick(names, code) for code in (direction.source, direction.target))
    if source is not None and target is not None:
        return names.index(source), names.index(target)
    lower = [name.lower() for name in names]
    if "source" in lower and "target" in lower:
        columns = lower.index("source"), lower.index("target")
        return (columns[1], columns[0]) if swapped else columns
    return None


def header_names(cells: Sequence[str], direction: Direction) -> bool:
    """Whether a first row says which language is where."""
    return all(tags.pick([cell.strip() for cell in cells], code) for code in (direction.source, direction.target))


def _by_language(row: dict[str, Any], direction: Direction) -> tuple[str, str]:
    return _side(row, direction.source), _side(row, direction.target)


def _side(row: dict[str, Any], code: str) -> str:
    key = tags.pick(row, code)
    if key is None:
        shown = ", ".join(map(_quote, islice(row, MAX_SHOWN_KEYS))) or "(none)"
        raise NotAPairError(f"no {code} side among the keys {shown}{', …' * (len(row) > MAX_SHOWN_KEYS)}")
    return _text(row[key], _quote(key))


def _by_column(first: Any, second: Any, first_name: str, second_name: str, swapped: bool) -> tuple[str, str]:
    texts = _text(first, first_name), _text(second, second_name)
    return (texts[1], texts[0]) if swapped else texts


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        kind = next((word for known, word in _JSON_TYPES if isinstance(value, known)), "no text")
        raise NotAPairError(f"{name} is {kind}, expected text")
    if has_lone_surrogate(value):
        raise NotAPairError(f"{name} holds half of a surrogate pair (a \\ud8… escape without its other half)")
    return value


_JSON_TYPES: tuple[tuple[type, str], ...] = (
    (type(None), "null"),
    (bool, "a boolean"),
    (int, "a number"),
    (float, "a number"),
    (list, "a list"),
    (dict, "an object"),
)


def _quote(key: str) -> str:
    return json.dumps(key)
