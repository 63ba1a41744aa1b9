"""How a file is read: by its ending, without `.gz`; what a `.zip` holds is read as if it lay in a folder."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from dragoman.data.sources import catalogues, columnar, csv, jsonl, moses, tags, tsv
from dragoman.data.sources.catalogues import CatalogueSource
from dragoman.data.sources.columnar import ColumnarSource
from dragoman.data.sources.csv import CsvSource
from dragoman.data.sources.entries import FORMATS, Entry, ending_of
from dragoman.data.sources.jsonl import JsonlSource
from dragoman.data.sources.markup import InlineTags
from dragoman.data.sources.moses import MosesSource
from dragoman.data.sources.opening import is_zip, members
from dragoman.data.sources.rows import Rows, Source
from dragoman.data.sources.tmx import TmxSource
from dragoman.data.sources.tsv import TsvSource
from dragoman.data.sources.xliff import XliffSource
from dragoman.errors import InputError
from dragoman.languages import Direction


class How(NamedTuple):
    """What every reader is told."""

    direction: Direction
    """What the pairs shall be."""
    swapped: bool
    """A first and a second column hold target and source."""
    rows: Callable[[], Rows]
    """New counts."""
    tags: InlineTags
    """What becomes of the tags in a segment of TMX or XLIFF."""


def open_file(entry: Entry, path: Path, how: How) -> list[Source]:
    """The sources of a file: one, those of all files in a zip, or none when it is in another language.

    Raises:
        InputError: It cannot be told how to read it, or nothing in the zip can be read.
    """
    if is_zip(path):
        return _open_zip(entry, path, how)
    if ending_of(path) in catalogues.ENDINGS:
        backwards = how.swapped if entry.direction else catalogues.is_backwards(path, how.direction)
        return [] if backwards is None else [CatalogueSource(path, backwards, how.rows())]
    return [open_one(entry, path, how)]


def open_one(entry: Entry, path: Path, how: How) -> Source:
    """The source of one file that is no archive.

    Raises:
        InputError: It cannot be told how to read it.
    """
    match ending_of(path):
        case ".tsv":
            reader = TsvSource
        case ".csv":
            reader = CsvSource
        case ".jsonl" | ".ndjson":
            reader = JsonlSource
        case ".parquet" | ".arrow" | ".feather":
            reader = ColumnarSource
        case ".tmx":
            return TmxSource(path, how.swapped, how.rows(), how.direction, how.tags)
        case ".xlf" | ".xliff":
            return XliffSource(path, how.swapped, how.rows(), how.direction, how.tags)
        case ending:
            known = ", ".join(sorted(FORMATS))
            raise InputError(
                f"--data {entry.text}: cannot tell the format from {ending!r}; read are {known}",
                "rename or convert the file; two text files in Moses format end in their languages: x.en x.fr",
            )
    return reader(path, how.swapped, how.rows(), how.direction)


def open_moses(entry: Entry, paths: Sequence[Path], how: How) -> list[Source]:
    """The source of a Moses pair; none when its languages are not those of the direction.

    Raises:
        InputError: One of its files is missing, or a zip is not one file.
    """
    sides = {moses.side_of(path).tag: path for path in paths}
    if len(sides) == 1:
        (tag,) = sides
        other = next((code for code in (how.direction.target, how.direction.source) if not tags.fits(tag, code)), "")
        name = f"{moses.side_of(paths[0]).stem}.{tags.short(other)}"
        raise InputError(
            f"--data {entry.text}: one side of a pair; the file in the other language is missing",
            f"name both: {paths[0]} {paths[0].with_name(name)}",
        )
    source, target = (tags.pick(sides, code) for code in (how.direction.source, how.direction.target))
    if source is None or target is None:
        return []
    return [MosesSource(_only(entry, sides[source]), _only(entry, sides[target]), how.rows())]


def has_columns(path: Path, directions: Sequence[Direction]) -> bool:
    """Whether a file has columns that do not say which languages they hold.

    Raises:
        DataError: The file cannot be read.
    """
    match ending_of(path):
        case ".tsv":
            return any(tsv.has_columns(path, direction) for direction in directions)
        case ".csv":
            return any(csv.has_columns(path, direction) for direction in directions)
        case ".jsonl" | ".ndjson":
            return jsonl.has_columns(path)
        case ".parquet" | ".arrow" | ".feather":
            return columnar.has_columns(path)
        case ".zip":
            return any(has_columns(member, directions) for member in members(path))
        case _:
            return False


def _only(entry: Entry, path: Path) -> Path:
    """A file; of a zip its only member, or that which is called like it."""
    if not is_zip(path):
        return path
    found = members(path)
    named = [member for member in found if member.name == path.stem] or found
    if len(named) != 1:
        raise InputError(f"--data {entry.text}: {path} holds {len(found)} files", f"name the one: {path}/MEMBER")
    return named[0]


def _open_zip(entry: Entry, path: Path, how: How) -> list[Source]:
    found = members(path)
    read = [member for member in found if ending_of(member) in FORMATS - set(catalogues.ENDINGS)]
    sources = [open_one(entry, member, how) for member in read]
    stems: dict[Path, dict[str, Path]] = {}
    for member in found:
        side = moses.side_of(member)
        if member not in read and tags.is_tag(side.tag):
            stems.setdefault(member.with_name(side.stem), {})[side.tag] = member
    for sides in stems.values():
        source, target = (tags.pick(sides, code) for code in (how.direction.source, how.direction.target))
        if source is not None and target is not None:
            sources.append(MosesSource(sides[source], sides[target], how.rows()))
    if not sources and not stems:
        raise InputError(
            f"--data {entry.text}: the zip holds nothing that can be read", "a zip of x.en and x.fr, or of such a file"
        )
    return sources
