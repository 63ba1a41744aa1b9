"""Entries of `--data`, taken apart: which direction each is tied to, and what it names.

Two files that differ only in a language at the end, `books.en books.fr`, are one entry.
"""

import contextlib
import difflib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dragoman import languages
from dragoman.data.sources import hub_data, moses, tags
from dragoman.data.sources.hub_data import DataSetName
from dragoman.data.sources.opening import is_zip
from dragoman.errors import InputError, UnknownLanguageError
from dragoman.languages import Direction

GETTEXT_PREFIX = "gettext:"
FORMATS = frozenset(
    {".tsv", ".jsonl", ".ndjson", ".csv", ".parquet", ".arrow", ".feather", ".tmx", ".xlf", ".xliff", ".po", ".mo"}
)
"""Endings that say how a file is read, with or without `.gz` behind them; a `.zip` holds such files."""
# What holds a separator or a dot is the beginning of a path that happens to hold "=".
_BEGINS_PATH = re.compile(r"[/\\.]")


class Entry(NamedTuple):
    """One entry of `--data`, taken apart."""

    text: str
    """As the user gave it."""

    direction: Direction | None
    """The direction before `=`; None when the entry serves every direction."""

    place: str
    """The path, `gettext:` and packages, or a data set on the Hub."""

    sides: tuple[str, ...] = ()
    """The files of a Moses pair, `place` the first of them; empty for anything else."""


def parse(data: Sequence[str], new: Sequence[str] = ()) -> list[Entry]:
    """The entries, in the order of `data`; the files of a Moses pair stand where the first of them stood.

    Args:
        data: Entries of `--data`.
        new: Codes of languages besides NLLB's.

    Raises:
        InputError: A pair before `=` is wrong.
    """
    entries: list[Entry] = []
    groups: dict[str, list[int]] = {}
    parsed = [_parse(text, new) for text in data]
    for entry, side in zip(parsed, _moses_sides(parsed), strict=True):
        text = entry.text
        if side is None:
            entries.append(entry)
            continue
        number = next((at for at in groups.get(side.stem, []) if _takes(entries[at], entry)), None)
        if number is None:
            groups.setdefault(side.stem, []).append(len(entries))
            entries.append(entry._replace(sides=(entry.place,)))
        else:
            first = entries[number]
            texts, sides = f"{first.text} {text}", (*first.sides, entry.place)
            entries[number] = first._replace(text=texts, sides=sides, direction=first.direction or entry.direction)
    return entries


def parse_beside(data: Sequence[str], direction: Direction) -> list[Entry]:
    """The entries, without those whose pair names languages that neither NLLB nor this direction has.

    Another direction of the run is taught such a language; `check_data` has seen all of them.

    Raises:
        InputError: A pair before `=` is wrong.
    """
    new = languages.new_among((direction.source, direction.target))
    return parse([text for text in data if _is_known(text, new)], new)


def _is_known(text: str, new: Sequence[str]) -> bool:
    try:
        _parse(text, new)
    except InputError as error:
        if not isinstance(error.__cause__, UnknownLanguageError) or error.__cause__.candidates:
            raise
        return False
    return True


def serving(entries: Sequence[Entry], direction: Direction) -> list[Entry]:
    """The entries for one direction: those tied to it, else to its reverse, and those tied to none."""
    tied = [entry.direction for entry in entries]
    tie = direction if direction in tied else reverse(direction)
    return [entry for entry in entries if entry.direction in (None, tie)]


def reverse(direction: Direction) -> Direction:
    """The same languages the other way."""
    return Direction(direction.target, direction.source)


def ending_of(path: Path) -> str:
    """What says how a file is read: the ending in lower case, that before `.gz` where it is compressed."""
    plain = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    return plain.suffix.lower()


def data_set_of(entry: Entry) -> DataSetName | None:
    """The data set on the Hub that an entry names; None when it is a place on this machine."""
    if entry.sides or entry.place.startswith(GETTEXT_PREFIX):
        return None
    name = hub_data.parse(entry.place)
    if name is None or entry.place.startswith(hub_data.PREFIXES):
        return name
    path = Path(entry.place)
    # What lies in a folder that is here, or is called like a file, is a path that is wrong and no data set.
    is_path = exists(entry.place) or ending_of(path) in FORMATS or (len(path.parts) > 1 and exists(path.parts[0]))
    return None if is_path else name


def data_set_in(text: str) -> DataSetName | None:
    """The data set on the Hub that an entry names, whatever stands before `=`; see `data_set_of`."""
    prefix, equals, place = text.partition("=")
    is_tied = equals and not _BEGINS_PATH.search(prefix) and not exists(text)
    return data_set_of(_entry(text, None, place if is_tied else text))


def packages(entry: Entry) -> list[str]:
    """The packages of a `gettext:` entry."""
    return [name.strip() for name in entry.place.removeprefix(GETTEXT_PREFIX).split(",")]


def existing_path(entry: Entry, place: str = "") -> Path:
    """The path of an entry, or of one of its sides; for a member of a zip, the member's.

    Raises:
        InputError: Nothing is there.
    """
    place = place or entry.place
    path = Path(place)
    if exists(place) or any(is_zip(parent) and exists(str(parent)) for parent in path.parents):
        return path
    neighbours: list[str] = []
    with contextlib.suppress(OSError):
        neighbours = [neighbour.name for neighbour in path.parent.iterdir()]
    close = difflib.get_close_matches(path.name, neighbours, n=1)
    missing = f"file or folder {path}" if exists(str(path.parent)) else f"folder {path.parent}"
    raise InputError(
        f"--data {entry.text}: there is no {missing}",
        f"did you mean {path.parent / close[0]}?" if close else "check the path",
    )


def exists(path: str) -> bool:
    """Whether something is there; False too where we may not look."""
    return os.path.exists(path)  # noqa: PTH110 (Path's raises where the user may not look)


def _parse(text: str, new: Sequence[str]) -> Entry:
    prefix, equals, place = text.partition("=")
    if not equals or _BEGINS_PATH.search(prefix):
        return _entry(text, None, text)
    try:
        return _entry(text, languages.parse_pair(prefix, new), place)
    except InputError as error:
        if exists(text):
            return _entry(text, None, text)
        why = error.message.removeprefix("--language-pairs ")
        raise InputError(f"--data {text}: the pair before '=' is wrong: {why}", error.hint) from error


def _entry(text: str, direction: Direction | None, place: str) -> Entry:
    # The shell leaves ~ alone behind "=".
    return Entry(text, direction, os.path.expanduser(place))  # noqa: PTH111 (Path's raises for an unknown ~user)


def _moses_sides(entries: Sequence[Entry]) -> list[moses.Side | None]:
    """For each entry the side of a Moses pair that it is, None where it is none.

    A language that NLLB lacks makes a side of a file only beside another one, or `notes.txt` would be in Citak.
    """
    sides = [_moses_side(entry) for entry in entries]
    tags_of: dict[str, set[str]] = {}
    for side in filter(None, sides):
        tags_of.setdefault(side.stem, set()).add(side.tag)
    return [side if side and (tags.is_known(side.tag) or len(tags_of[side.stem]) > 1) else None for side in sides]


def _moses_side(entry: Entry) -> moses.Side | None:
    path = Path(entry.place)
    if entry.place.startswith((GETTEXT_PREFIX, *hub_data.PREFIXES)) or ending_of(path) in FORMATS:
        return None
    side = moses.side_of(path)
    if not side.stem or not tags.is_language(side.tag):
        return None
    is_file = exists(entry.place) or "/" not in entry.place or exists(str(path.parent))
    return side if is_file and not path.is_dir() else None


def _takes(group: Entry, entry: Entry) -> bool:
    """Whether a file belongs to the pair begun before: the same tie or none, and another language."""
    languages_taken = {moses.side_of(Path(place)).tag for place in group.sides}
    same_tie = group.direction is None or entry.direction in (None, group.direction)
    return same_tie and moses.side_of(Path(entry.place)).tag not in languages_taken
