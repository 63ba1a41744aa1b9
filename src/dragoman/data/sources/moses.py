"""Moses pairs: two files, line n of one translates line n of the other.

The ending before `.gz` or `.zip` says which language a file holds: `books.en`,
`books.fr.gz`. Nothing but the line number aligns them, so files of unequal length are
refused as a whole, whatever is done with bad rows: one lost line shifts all that follow.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, zip_longest
from math import log
from pathlib import Path
from typing import NamedTuple

from dragoman.data.sources.opening import Line, bad_utf8, file_of, lines
from dragoman.data.sources.rows import BadRow, Pair, Rows
from dragoman.errors import DataError


class Side(NamedTuple):
    """A file name taken apart."""

    stem: str
    """What both files share."""
    tag: str
    """The language, as it is written."""


def side_of(path: Path) -> Side:
    """What a name says: `books.en.gz` is the `en` side of `books`."""
    name = path.with_suffix("") if path.suffix.lower() in (".gz", ".zip") else path
    return Side(name.stem, name.suffix.removeprefix("."))


@dataclass(frozen=True)
class MosesSource:
    """The pairs of two files."""

    source: Path
    """Lines in the source language."""

    target: Path
    """Lines in the target language."""

    rows: Rows
    """Counts, and what a bad row does."""

    @property
    def name(self) -> str:
        """What to call it in a report."""
        return f"{self.source} and {self.target}"

    @property
    def files(self) -> tuple[Path, ...]:
        """Both files; the zip where they are members of one."""
        return tuple(dict.fromkeys(map(file_of, (self.source, self.target))))

    def pairs(self) -> Iterator[Pair]:
        """All pairs in file order; an empty line is a side like any other.

        Raises:
            DataError: A file cannot be read, the numbers of lines differ, or a row is bad and bad rows are not skipped.
        """
        self.rows.restart()
        for source, target in zip_longest(lines(self.source), lines(self.target)):
            if source is None or target is None:
                raise self._unequal()
            self.rows.num_read += 1
            bad = _bad(self.source, source) or _bad(self.target, target)
            if bad:
                self.rows.reject(bad)
            else:
                yield Pair(source.data.decode("utf-8"), target.data.decode("utf-8"), source.number)

    def _unequal(self) -> DataError:
        counts = [sum(1 for _ in lines(path)) for path in (self.source, self.target)]
        suspicious = self._first_suspicious(counts[0], counts[1])
        return DataError(
            f"{self.source} has {counts[0]:,} lines and {self.target} has {counts[1]:,}: "
            f"one line is not the other's translation, the first suspicious one is line {suspicious:,}",
            "look at both files around that line, and repair the one that lost or gained a line",
        )

    def _first_suspicious(self, num_source: int, num_target: int) -> int:
        """Where the lengths of the lines fit best when all that follows is moved by the difference."""
        longer, shorter = (self.source, self.target) if num_source > num_target else (self.target, self.source)
        shift = abs(num_source - num_target)
        moved = islice(_lengths(longer), shift, None)
        gain, best, line = 0.0, 0.0, 1
        for number, (here, there, other) in enumerate(
            zip(_lengths(longer), moved, _lengths(shorter), strict=False), start=1
        ):
            # By so much the lines up to here fit better as they stand than with the lost ones before them.
            gain += _misfit(there, other) - _misfit(here, other)
            if gain >= best:
                best, line = gain, number + 1
        return line


def _lengths(path: Path) -> Iterator[int]:
    return (len(line.data.strip()) for line in lines(path))


def _misfit(one: int, other: int) -> float:
    return abs(log((1 + one) / (1 + other)))


def _bad(path: Path, line: Line) -> BadRow | None:
    try:
        line.data.decode("utf-8")
    except UnicodeDecodeError as error:
        return bad_utf8(path, line, error)
    return None
