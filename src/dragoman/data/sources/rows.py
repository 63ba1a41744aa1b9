"""What every source of pairs shares: a pair, a row that is not one, and what becomes of it.

A format's own file knows only how to turn one row into two texts. Counting rows and
skipping or refusing bad ones happen here, once.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from dragoman.errors import DataError

OnBadRows = Literal["fail", "skip"]
NUM_EXAMPLES = 3
SKIP_HINT = "--on-bad-rows skip   (writes them to rejected.tsv)"


class Pair(NamedTuple):
    """One sentence pair as it was read: nothing normalised, nothing filtered."""

    source: str
    target: str
    where: int
    """Line of the file, from 1; for a compiled catalogue (.mo) the number of the message, for Parquet and Arrow of
    the row."""


class BadRow(NamedTuple):
    """A row that holds no pair."""

    file: Path
    where: int
    """As `Pair.where`."""

    why: str
    """What is wrong, as the end of a sentence that begins with file and line."""

    text: str
    """The row itself; bytes that are not UTF-8 appear as `\\xNN`."""

    def message(self) -> str:
        """File, line and reason in one line, as the user sees it."""
        return f"{self.file} line {self.where:,}: {self.why}"

    def tsv(self) -> str:
        """File, line, reason and row as one line of rejected.tsv, without newline.

        Backslash, tab, CR and LF inside a field are escaped; lone surrogates appear as `\\uNNNN`.
        """
        return "\t".join(_escape(column) for column in (str(self.file), str(self.where), self.why, self.text))


def _escape(text: str) -> str:
    for character, escaped in (("\\", "\\\\"), ("\t", "\\t"), ("\r", "\\r"), ("\n", "\\n")):
        text = text.replace(character, escaped)
    return text.encode("utf-8", "backslashreplace").decode()


class FileCount(NamedTuple):
    """What one file of a source gave."""

    file: str
    """Its name, with as much of its place as tells it from the other files of the source."""

    read: int
    """Rows, bad ones included."""

    bad: int
    """Rows that were skipped."""


@dataclass
class Rows:
    """Counts the rows of one source and decides what a bad one does."""

    on_bad_rows: OnBadRows
    """`fail`: the first bad row ends the reading. `skip`: it is counted and offered."""

    offer: Callable[[BadRow], None] | None = None
    """Receives each skipped row, so that it can be written down."""

    num_read: int = 0
    """Rows seen since `restart`, bad ones included."""

    num_rejected: int = 0
    """Rows skipped since `restart`."""

    examples: list[BadRow] = field(default_factory=list[BadRow])
    """The first few skipped rows, for the report."""

    files: list[FileCount] = field(default_factory=list[FileCount])
    """What each file gave that `end_of` has named; empty for a source that is one file."""

    def restart(self) -> None:
        """Forget all counts: the source is read again from its beginning."""
        self.num_read = self.num_rejected = 0
        self.examples.clear()
        self.files.clear()

    def end_of(self, file: str) -> None:
        """Note that the rows since the last file, or the beginning, were those of this one of several files."""
        read, bad = sum(count.read for count in self.files), sum(count.bad for count in self.files)
        self.files.append(FileCount(file, self.num_read - read, self.num_rejected - bad))

    def reject(self, row: BadRow) -> None:
        """Count a bad row and offer it.

        Raises:
            DataError: Bad rows are not to be skipped; the message names file and line.
        """
        if self.on_bad_rows == "fail":
            raise DataError(row.message(), SKIP_HINT)
        self.num_rejected += 1
        if len(self.examples) < NUM_EXAMPLES:
            self.examples.append(row)
        if self.offer is not None:
            self.offer(row)


class Source(Protocol):
    """Pairs of one direction from one entry of `--data`.

    `pairs` streams them in file order. It may be called again and then gives the same
    pairs, counts anew, and offers the rejected rows again.
    """

    @property
    def name(self) -> str:
        """What to call it in a report."""
        ...

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that decide what is read: equal bytes in them, equal pairs."""
        ...

    @property
    def rows(self) -> Rows:
        """Counts of the reading under way or just ended."""
        ...

    def pairs(self) -> Iterator[Pair]:
        """All pairs in a fixed order.

        Raises:
            DataError: A file cannot be read, or a row is bad and bad rows are not skipped.
        """
        ...


@dataclass(frozen=True)
class FileSource(ABC):
    """A source that is one file with two columns."""

    path: Path
    """The file."""

    swapped: bool
    """The first column holds the target: the rows were written for the other direction."""

    rows: Rows
    """Counts, and what a bad row does."""

    @property
    def name(self) -> str:
        """What to call it in a report."""
        return f"{self.path} (columns swapped)" if self.swapped else str(self.path)

    @property
    def files(self) -> tuple[Path, ...]:
        """The file; for a member of a zip, the zip."""
        from dragoman.data.sources.opening import file_of

        return (file_of(self.path),)

    @abstractmethod
    def pairs(self) -> Iterator[Pair]:
        """See `Source`."""


def counts_of(source: Source) -> list[FileCount]:
    """What each file of a source has given that was read to its end."""
    if source.rows.files:
        return list(source.rows.files)
    paths = (source.path,) if isinstance(source, FileSource) else source.files
    return [FileCount(" and ".join(path.name for path in paths), source.rows.num_read, source.rows.num_rejected)]


def has_lone_surrogate(text: str) -> bool:
    """Whether `text` holds half of a surrogate pair: it then is not Unicode text and cannot be encoded."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False
