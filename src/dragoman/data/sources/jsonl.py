"""JSON lines: one row per line, in any of the shapes that data sets come in."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dragoman.data.sources import shapes
from dragoman.data.sources.opening import Line, bad_utf8, lines, show
from dragoman.data.sources.rows import BadRow, FileSource, Pair
from dragoman.data.sources.shapes import NotAPairError
from dragoman.languages import Direction


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
                source, target = shapes.sides(_parse(line), self.direction, self.swapped)
            except UnicodeDecodeError as error:
                self.rows.reject(bad_utf8(self.path, line, error))
            except NotAPairError as error:
                self.rows.reject(BadRow(self.path, line.number, str(error), show(line.data)))
            else:
                yield Pair(source, target, line.number)


def has_columns(path: Path) -> bool:
    """Whether the first row that can be read has two columns instead of named languages.

    Such a file does not say which languages it holds.

    Raises:
        DataError: The file cannot be read.
    """
    for line in lines(path):
        try:
            return shapes.names_no_languages(_parse(line))
        except (UnicodeDecodeError, NotAPairError):
            continue
    return False


def _parse(line: Line) -> Any:
    text = line.data.decode("utf-8")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise NotAPairError(f"broken JSON at column {error.colno}: {error.msg}") from error
    except ValueError as error:
        raise NotAPairError("a number with thousands of digits") from error
    except RecursionError as error:
        raise NotAPairError("JSON nested too deep") from error
