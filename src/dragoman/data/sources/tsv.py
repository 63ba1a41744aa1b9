"""Tab-separated pairs: two columns, no quoting, one pair per line.

A quotation mark is a character like any other. CSV, where it is not, is another format.
A first row that names both languages, or `source` and `target`, says which columns count;
then there may be more than two.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dragoman.data.sources import shapes
from dragoman.data.sources.opening import bad_utf8, lines, show
from dragoman.data.sources.rows import BadRow, FileSource, Pair
from dragoman.languages import Direction

EXPECTED = "expected 2 (source<TAB>target)"


@dataclass(frozen=True)
class TsvSource(FileSource):
    """The pairs of one TSV file."""

    direction: Direction
    """What a header is searched for."""

    def pairs(self) -> Iterator[Pair]:
        """All pairs in file order. Empty lines at the end of the file are no rows.

        Raises:
            DataError: The file cannot be read, or a row is bad and bad rows are not skipped.
        """
        self.rows.restart()
        width, places, first_empty, is_first = 2, (1, 0) if self.swapped else (0, 1), 0, True
        for line in lines(self.path):
            if not line.data:
                first_empty = first_empty or line.number
                continue
            if first_empty:
                self._reject_empty(range(first_empty, line.number))
                first_empty = 0
            try:
                columns = line.data.decode("utf-8").split("\t")
            except UnicodeDecodeError as error:
                self.rows.num_read += 1
                self.rows.reject(bad_utf8(self.path, line, error))
                continue
            if is_first and (named := shapes.header(columns, self.direction, self.swapped)):
                width, places, is_first = len(columns), named, False
                continue
            is_first = False
            self.rows.num_read += 1
            if len(columns) != width:
                count = "1 column" if len(columns) == 1 else f"{len(columns)} columns"
                expected = EXPECTED if width == 2 else f"expected {width} as in the header"
                self.rows.reject(BadRow(self.path, line.number, f"{count}, {expected}", "\t".join(columns)))
                continue
            yield Pair(columns[places[0]], columns[places[1]], line.number)

    def _reject_empty(self, numbers: range) -> None:
        for number in numbers:
            self.rows.num_read += 1
            self.rows.reject(BadRow(self.path, number, f"an empty line between rows, {EXPECTED}", ""))


def has_columns(path: Path, direction: Direction) -> bool:
    """Whether the file does not say in its first row which language is where."""
    first = next((line.data for line in lines(path) if line.data), b"")
    return not shapes.header_names(show(first).split("\t"), direction)
