"""Comma-separated pairs after RFC 4180: quotes hold commas, newlines and doubled quotes.

A first row that names both languages, or `source` and `target`, is a header; without
one, the first two columns count.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dragoman.data.sources import shapes
from dragoman.data.sources.opening import Line, raw_lines
from dragoman.data.sources.rows import BadRow, FileSource, Pair, has_lone_surrogate
from dragoman.errors import DataError
from dragoman.languages import Direction

# What the csv module says when a quote is never closed: at the file's end, or when a field outgrows its limit.
_ENDLESS = ("unexpected end of data", "field larger than field limit")


@dataclass(frozen=True)
class CsvSource(FileSource):
    """The pairs of one CSV file."""

    direction: Direction
    """What a header is searched for."""

    def pairs(self) -> Iterator[Pair]:
        """All pairs in file order. Empty lines are no rows.

        Raises:
            DataError: The file cannot be read, a quote is never closed, or a row is bad and bad rows are not skipped.
        """
        self.rows.restart()
        places, is_first = (1, 0) if self.swapped else (0, 1), True
        for number, cells in _rows(self.path):
            if is_first and isinstance(cells, list) and (named := shapes.header(cells, self.direction, self.swapped)):
                places, is_first = named, False
                continue
            is_first = False
            self.rows.num_read += 1
            if isinstance(cells, str):
                self.rows.reject(BadRow(self.path, number, cells, ""))
            elif len(cells) <= max(places):
                count = "1 column" if len(cells) == 1 else f"{len(cells)} columns"
                why = f"{count}, expected {max(places) + 1} or more (source,target)"
                self.rows.reject(BadRow(self.path, number, why, ",".join(cells)))
            elif has_lone_surrogate((source := cells[places[0]]) + (target := cells[places[1]])):
                self.rows.reject(BadRow(self.path, number, "its bytes are not UTF-8", ",".join(cells)))
            else:
                yield Pair(source, target, number)


def has_columns(path: Path, direction: Direction) -> bool:
    """Whether the file does not say in its first row which language is where."""
    _, cells = next(_rows(path), (0, ""))
    return isinstance(cells, str) or not shapes.header_names(cells, direction)


def _rows(path: Path) -> Iterator[tuple[int, list[str] | str]]:
    """Line where each row begins, and its cells, or what is wrong with it.

    Raises:
        DataError: A quote is never closed: what follows cannot be told from what it quotes.
    """
    reader = csv.reader(map(_text, raw_lines(path)), strict=True)
    while True:
        begins = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if str(error).startswith(_ENDLESS):
                why = f"{path} line {begins:,}: a row that begins here has a quote without end, or the file is cut off"
                raise DataError(why, 'close the quote; a quote inside quotes is written ""') from error
            yield begins, f"not CSV: {error}"
            continue
        if cells:
            yield begins, cells


def _text(line: Line) -> str:
    # Bytes that are not UTF-8 become lone surrogates, so that only the row that holds them is bad.
    return line.data.decode("utf-8", "surrogateescape")
