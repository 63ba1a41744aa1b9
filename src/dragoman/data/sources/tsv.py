"""Tab-separated pairs: two columns, no quoting, one pair per line.

A quotation mark is a character like any other. CSV, where it is not, is another format.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from dragoman.data.sources.rows import BadRow, FileSource, Pair, bad_utf8, lines

EXPECTED = "expected 2 (source<TAB>target)"


@dataclass(frozen=True)
class TsvSource(FileSource):
    """The pairs of one TSV file."""

    def pairs(self) -> Iterator[Pair]:
        """All pairs in file order. Empty lines at the end of the file are no rows.

        Raises:
            DataError: The file cannot be read, or a row is bad and bad rows are not skipped.
        """
        self.rows.restart()
        first_empty = 0
        for line in lines(self.path):
            if not line.data:
                first_empty = first_empty or line.number
                continue
            if first_empty:
                self._reject_empty(range(first_empty, line.number))
                first_empty = 0
            self.rows.num_read += 1
            try:
                columns = line.data.decode("utf-8").split("\t")
            except UnicodeDecodeError as error:
                self.rows.reject(bad_utf8(self.path, line, error))
                continue
            if len(columns) != 2:
                count = "1 column" if len(columns) == 1 else f"{len(columns)} columns"
                self.rows.reject(BadRow(self.path, line.number, f"{count}, {EXPECTED}", "\t".join(columns)))
                continue
            first, second = columns
            yield Pair(second, first, line.number) if self.swapped else Pair(first, second, line.number)

    def _reject_empty(self, numbers: range) -> None:
        for number in numbers:
            self.rows.num_read += 1
            self.rows.reject(BadRow(self.path, number, f"an empty line between rows, {EXPECTED}", ""))
