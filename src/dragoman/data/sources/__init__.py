"""Which files serve which direction, and how each is read.

An entry of `--data` is a file, a folder of gettext catalogues or `gettext:PACKAGE,…`,
and serves every direction, unless `en-fr=` before it ties it to one. A tied entry also
serves the reverse direction, with its columns swapped, when that has no entry of its own.

A new format is one module with a `Source` and one case in `_open_file`.
"""

import contextlib
import difflib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from dragoman import languages
from dragoman.data.sources import jsonl
from dragoman.data.sources.gettext import Domain, GettextSource, find_domains, find_package, languages_of
from dragoman.data.sources.jsonl import JsonlSource
from dragoman.data.sources.rows import BadRow, OnBadRows, Pair, Rows, Source
from dragoman.data.sources.tsv import TsvSource
from dragoman.errors import InputError, UnknownLanguageError
from dragoman.languages import Direction

__all__ = ["BadRow", "OnBadRows", "Pair", "Rows", "Source", "check_data", "open_sources"]

GETTEXT_PREFIX = "gettext:"
TSV_ENDINGS = (".tsv",)
JSONL_ENDINGS = (".jsonl", ".ndjson")


class Entry(NamedTuple):
    """One entry of `--data`, taken apart."""

    text: str
    """As the user gave it."""

    direction: Direction | None
    """The direction before `=`; None when the entry serves every direction."""

    place: str
    """The path, or `gettext:` and packages."""


def open_sources(
    data: Sequence[str],
    direction: Direction,
    *,
    on_bad_rows: OnBadRows,
    offer: Callable[[BadRow], None] | None = None,
) -> list[Source]:
    """The sources of one direction, in the order of `data`; nothing is read yet.

    Args:
        data: Entries of `--data`: `PATH`, `en-fr=PATH`, `gettext:PACKAGE,…`.
        direction: What the pairs shall be.
        on_bad_rows: `fail` ends the reading at the first bad row, `skip` counts it and goes on.
        offer: Receives every skipped row while `Source.pairs` runs.

    Raises:
        InputError: An entry names nothing that can be read, or none serves the direction.
    """
    sources: list[Source] = []
    offered: list[Domain] = []
    for entry in _serving(list(_entries_beside(data, direction)), direction):
        if entry.place.startswith(GETTEXT_PREFIX):
            catalogues = [(f"gettext:{name}", find_package(name)) for name in _packages(entry)]
        elif (path := _existing_path(entry)).is_dir():
            catalogues = [(str(path), _folder_domains(entry, path))]
        else:
            sources.append(_open_file(entry, path, direction, Rows(on_bad_rows, offer)))
            continue
        for title, domains in catalogues:
            source = GettextSource(title, domains, direction, Rows(on_bad_rows, offer))
            offered.extend(domains)
            if source.files:
                sources.append(source)
    if not sources:
        raise _nothing_serves(data, direction, offered)
    return sources


def check_data(data: Sequence[str], directions: Sequence[Direction]) -> None:
    """Refuse entries that cannot mean what the user wants, before anything is read.

    Raises:
        InputError: An entry tied to a direction serves none of `directions`; or a file
            whose columns name no languages would serve several of them.
    """
    new = languages.new_among(code for way in directions for code in (way.source, way.target))
    entries = [_parse(text, new) for text in data]
    used = {entry for direction in directions for entry in _serving(entries, direction)}
    trained = " ".join(map(str, directions))
    for entry in entries:
        if entry not in used:
            raise InputError(
                f"--data {entry.text}: it serves none of --language-pairs {trained}",
                "remove the entry, correct the pair before '=', or train that pair too",
            )
        if entry.direction is None and len(directions) > 1 and _has_columns(entry):
            raise InputError(
                f"--data {entry.text}: two columns that name no languages cannot serve {trained} alike",
                f"say which it holds: --data {directions[0]}={entry.place}",
            )


def _reverse(direction: Direction) -> Direction:
    return Direction(direction.target, direction.source)


def _serving(entries: list[Entry], direction: Direction) -> list[Entry]:
    tied = [entry.direction for entry in entries]
    tie = direction if direction in tied else _reverse(direction)
    return [entry for entry in entries if entry.direction in (None, tie)]


def _entries_beside(data: Sequence[str], direction: Direction) -> Iterator[Entry]:
    """The entries, without those whose pair names languages that neither NLLB nor this direction has."""
    new = languages.new_among((direction.source, direction.target))
    for text in data:
        try:
            yield _parse(text, new)
        except InputError as error:
            # Another direction of the run is taught that language; `check_data` has seen all of them.
            if not isinstance(error.__cause__, UnknownLanguageError) or error.__cause__.candidates:
                raise


def _parse(text: str, new: Sequence[str]) -> Entry:
    """An entry taken apart; its pair may name `new` languages besides NLLB's."""
    prefix, equals, place = text.partition("=")
    # What holds a separator or a dot is the beginning of a path that happens to hold "=".
    if not equals or re.search(r"[/\\.]", prefix):
        return _entry(text, None, text)
    try:
        return _entry(text, languages.parse_pair(prefix, new), place)
    except InputError as error:
        if _exists(text):
            return _entry(text, None, text)
        why = error.message.removeprefix("--language-pairs ")
        raise InputError(f"--data {text}: the pair before '=' is wrong: {why}", error.hint) from error


def _entry(text: str, direction: Direction | None, place: str) -> Entry:
    # The shell leaves ~ alone behind "=".
    return Entry(text, direction, os.path.expanduser(place))  # noqa: PTH111 (Path's raises for an unknown ~user)


def _exists(path: str) -> bool:
    return os.path.exists(path)  # noqa: PTH110 (Path's raises where the user may not look)


def _packages(entry: Entry) -> list[str]:
    return [name.strip() for name in entry.place.removeprefix(GETTEXT_PREFIX).split(",")]


def _existing_path(entry: Entry) -> Path:
    path = Path(entry.place)
    if _exists(entry.place):
        return path
    neighbours: list[str] = []
    with contextlib.suppress(OSError):
        neighbours = [neighbour.name for neighbour in path.parent.iterdir()]
    close = difflib.get_close_matches(path.name, neighbours, n=1)
    missing = f"file or folder {path}" if _exists(str(path.parent)) else f"folder {path.parent}"
    raise InputError(
        f"--data {entry.text}: there is no {missing}",
        f"did you mean {path.parent / close[0]}?" if close else "check the path",
    )


def _folder_domains(entry: Entry, path: Path) -> tuple[Domain, ...]:
    domains = find_domains(path.absolute())
    if not domains:
        raise InputError(
            f"--data {entry.text}: the folder {path} holds no gettext catalogues (<locale>/LC_MESSAGES/*.po or *.mo)",
            "name a .tsv or .jsonl file, or a folder such as /usr/share/locale",
        )
    return domains


def _open_file(entry: Entry, path: Path, direction: Direction, rows: Rows) -> Source:
    swapped = entry.direction == _reverse(direction)
    ending = path.suffix.lower()
    if ending in TSV_ENDINGS:
        return TsvSource(path, swapped, rows)
    if ending in JSONL_ENDINGS:
        return JsonlSource(path, swapped, rows, direction)
    known = ", ".join((*TSV_ENDINGS, *JSONL_ENDINGS))
    hint = "name the folder above <locale>/LC_MESSAGES" if ending in (".po", ".mo") else "rename or convert the file"
    raise InputError(f"--data {entry.text}: cannot tell the format from {ending!r}; read are {known}", hint)


def _has_columns(entry: Entry) -> bool:
    if entry.place.startswith(GETTEXT_PREFIX):
        return False
    path = _existing_path(entry)
    ending = path.suffix.lower()
    return ending in TSV_ENDINGS or (ending in JSONL_ENDINGS and jsonl.has_columns(path))


def _nothing_serves(data: Sequence[str], direction: Direction, offered: list[Domain]) -> InputError:
    if offered:
        codes = ", ".join(languages_of(offered))
        return InputError(
            f"--data {' '.join(data)}: no catalogue serves {direction}",
            f"other languages; the catalogues offer, besides eng_Latn: {codes}",
        )
    if data:
        return InputError(f"--data {' '.join(data)}: no entry serves {direction}", f"--data {direction}=FILE")
    return InputError(f"no --data for {direction}", f"--data {direction}=FILE")
