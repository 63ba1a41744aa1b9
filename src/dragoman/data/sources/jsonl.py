"""JSON lines: one row per line, in any of the shapes that data sets come in.

`{"en": …, "fr": …}`, the same below `"translation"`, `{"source": …, "target": …}` and
`[source, target]`. Keys that name languages say which side is which; the other shapes
have a first and a second column, like TSV.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from dragoman import languages
from dragoman.data.sources.rows import BadRow, FileSource, Line, Pair, bad_utf8, has_lone_surrogate, lines, show
from dragoman.errors import UnknownLanguageError
from dragoman.languages import Direction

MAX_SHOWN_KEYS = 8


@dataclass(frozen=True)
class JsonlSource(FileSource):
    """The pairs of one JSONL file."""

    direction: Direction
    """Which sides of a row are source and target."""

    def pairs(self) -> Iterator[Pair]:
        """All pairs in file order. Empty lines are no rows.

        Raises:
            DataError: The file cannot be read, or a row is bad and bad rows are not skipped.
        """
        self.rows.restart()
        for line in lines(self.path):
            if not line.data.strip():
                continue
            self.rows.num_read += 1
            try:
                source, target = self._sides(_parse(line))
            except UnicodeDecodeError as error:
                self.rows.reject(bad_utf8(self.path, line, error))
            except _NotAPairError as error:
                self.rows.reject(BadRow(self.path, line.number, str(error), show(line.data)))
            else:
                yield Pair(source, target, line.number)

    def _sides(self, row: Any) -> tuple[str, str]:
        match row:
            case {"translation": {} as inner}:
                return self._by_language(inner)
            case {"source": first, "target": second}:
                return self._by_column(first, second, '"source"', '"target"')
            case {}:
                return self._by_language(row)
            case [first, second]:
                return self._by_column(first, second, "item 1", "item 2")
            case _:
                raise _NotAPairError('neither an object such as {"source": …, "target": …} nor [source, target]')

    def _by_language(self, row: dict[str, Any]) -> tuple[str, str]:
        return self._side(row, self.direction.source), self._side(row, self.direction.target)

    def _side(self, row: dict[str, Any], code: str) -> str:
        keys = [key for key in row if _code(key, code) == code]
        if not keys:
            shown = ", ".join(map(_quote, islice(row, MAX_SHOWN_KEYS))) or "(none)"
            raise _NotAPairError(f"no {code} side among the keys {shown}{', …' * (len(row) > MAX_SHOWN_KEYS)}")
        # Of "pt" and "pt_BR", which NLLB does not tell apart, take the general one.
        key = min(keys, key=lambda key: (len(key), key))
        return _text(row[key], _quote(key))

    def _by_column(self, first: Any, second: Any, first_name: str, second_name: str) -> tuple[str, str]:
        sides = _text(first, first_name), _text(second, second_name)
        return (sides[1], sides[0]) if self.swapped else sides


def has_columns(path: Path) -> bool:
    """Whether the first row that can be read has two columns instead of named languages.

    Such a file does not say which languages it holds.

    Raises:
        DataError: The file cannot be read.
    """
    for line in lines(path):
        try:
            row = _parse(line)
        except (UnicodeDecodeError, _NotAPairError):
            continue
        match row:
            case {"translation": {}}:
                return False
            case {"source": _, "target": _} | [_, _]:
                return True
            case _:
                return False
    return False


class _NotAPairError(Exception):
    """Why a row holds no pair."""


def _parse(line: Line) -> Any:
    text = line.data.decode("utf-8")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise _NotAPairError(f"broken JSON at column {error.colno}: {error.msg}") from error
    except ValueError as error:
        raise _NotAPairError("a number with thousands of digits") from error
    except RecursionError as error:
        raise _NotAPairError("JSON nested too deep") from error


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise _NotAPairError(f"{name} is {_JSON_TYPES[type(value)]}, expected text")
    if has_lone_surrogate(value):
        raise _NotAPairError(f"{name} holds half of a surrogate pair (a \\ud8… escape without its other half)")
    return value


_JSON_TYPES: dict[type, str] = {
    type(None): "null",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    list: "a list",
    dict: "an object",
}


def _quote(key: str) -> str:
    return json.dumps(key)


_TAG = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{1,8})*")


@lru_cache(maxsize=4096)
def _code(key: str, wanted: str) -> str | None:
    """The NLLB code, or the `wanted` one that NLLB lacks, that a key names; None for "id", "score" and the like.

    "id" is Indonesian as well: it counts as a side only where a direction asks for ind_Latn.
    """
    if not _TAG.fullmatch(key):  # resolve would look a long word up among the names of languages
        return None
    try:
        return languages.resolve(key, languages.new_among([wanted]))
    except UnknownLanguageError:
        return None
