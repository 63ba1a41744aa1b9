"""`dragoman prepare --dump`: every pair exactly as it was read.

Nothing is sampled, normalised, cleaned or encoded, and no model is needed: this shows
what the readers make of the data. One JSON array per line, `[source, target, source_code,
target_code]`, in ASCII.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dragoman.config import DataConfig
from dragoman.data.replay import open_for
from dragoman.data.sources import BadRow
from dragoman.data.sources.rows import FileCount, counts_of
from dragoman.languages import Direction
from dragoman.store.disk import Disk, part

_CHUNK_LINES = 1000


@dataclass(frozen=True)
class Counted:
    """What became of one source."""

    direction: Direction
    name: str
    read: int
    """Rows."""
    bad: int
    """Rows that were skipped."""
    files: list[FileCount]
    """The same for each of its files."""


def dump(data: DataConfig, directions: Sequence[Direction], path: Path, disk: Disk) -> list[Counted]:
    """Write all pairs of all directions to `path`; skipped rows go to a file beside it that ends in `.rejected.tsv`.

    Raises:
        InputError: An entry of `--data` cannot be opened.
        DataError: A source cannot be read; there is no new file then.
        OSError: The file cannot be written.
    """
    counted: list[Counted] = []
    rejected: list[BadRow] = []
    disk.make_folders(path.parent)
    try:
        disk.write(part(path), _chunks(_lines(data, directions, counted, rejected)))
    except BaseException:
        part(path).unlink(missing_ok=True)
        raise
    disk.rename(part(path), path)
    disk.sync_folder(path.parent)
    if rejected:
        rows = "".join(row.tsv() + "\n" for row in rejected)
        disk.replace(path.with_name(f"{path.stem}.rejected.tsv"), rows.encode())
    return counted


def _lines(
    data: DataConfig, directions: Sequence[Direction], counted: list[Counted], rejected: list[BadRow]
) -> Iterator[str]:
    for direction in directions:
        sources = open_for(data, direction.plain, rejected.append)
        for source in sources:
            for pair in source.pairs():
                yield json.dumps([pair.source, pair.target, direction.source, direction.target]) + "\n"
            rows = source.rows
            counted.append(Counted(direction, source.name, rows.num_read, rows.num_rejected, counts_of(source)))


def _chunks(lines: Iterator[str]) -> Iterator[bytes]:
    chunk: list[str] = []
    for line in lines:
        chunk.append(line)
        if len(chunk) == _CHUNK_LINES:
            yield "".join(chunk).encode("ascii")
            chunk = []
    yield "".join(chunk).encode("ascii")
