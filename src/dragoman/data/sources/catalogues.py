"""One gettext catalogue, .po or .mo: its translated messages, a block of them in memory at a time."""

import re
import struct
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, TextIO

import polib

from dragoman.data.sources import tags
from dragoman.data.sources.opening import MAX_LINE_BYTES, cannot_read
from dragoman.data.sources.rows import BadRow, FileSource, Pair, Rows, has_lone_surrogate
from dragoman.errors import DataError
from dragoman.languages import Direction

MessageKey = tuple[str, str, int]
ENGLISH = "eng_Latn"
ENDINGS = (".po", ".mo")
_BLOCK_LINES = 2000
_HEADER_BYTES = 1 << 16
"""The header, which names the charset, lies within so many."""


class Message(NamedTuple):
    """One form of one message."""

    english: str
    translation: str
    key: MessageKey
    """Context, message id and number of the form: equal in the catalogues of all locales."""

    where: int
    """Line of the message in a .po, its number in a .mo."""


@dataclass(frozen=True)
class CatalogueSource(FileSource):
    """The pairs of one catalogue that was named itself; `swapped` when its translations are the source."""

    def pairs(self) -> Iterator[Pair]:
        """All pairs in file order.

        Raises:
            DataError: The catalogue cannot be read or is damaged, or a row is bad and bad rows are not skipped.
        """
        self.rows.restart()
        for message in read_catalogue(self.path):
            sides = (message.translation, message.english) if self.swapped else (message.english, message.translation)
            yield from checked(self.rows, self.path, Pair(*sides, message.where))


def checked(rows: Rows, path: Path, pair: Pair) -> Iterator[Pair]:
    """The pair, counted, unless it is no Unicode text."""
    rows.num_read += 1
    if has_lone_surrogate(pair.source + pair.target):
        why = "the catalogue's charset gives half of a surrogate pair"
        rows.reject(BadRow(path, pair.where, why, f"{pair.source}\t{pair.target}"))
    else:
        yield pair


def is_backwards(path: Path, direction: Direction) -> bool | None:
    """Whether the translations of a catalogue are the source of a direction, not its target; None when neither.

    Its header says in which language it is, else its name does (`fr.po`, `fr/LC_MESSAGES/app.po`); when neither
    does, it is the language of the direction that is not English. Message ids are English. A file's own name says
    so only when it is a language of NLLB or of the direction: `app` is Apma.

    Raises:
        DataError: It cannot be read or is damaged.
    """
    if ENGLISH not in (direction.source, direction.target):
        return None
    backwards = direction.target == ENGLISH
    other = direction.source if backwards else direction.target
    language = _named_language(path, other)
    return backwards if language is None or tags.fits(language, other) else None


def _named_language(path: Path, expected: str) -> str | None:
    """The tag in a catalogue's header, its name or its place."""
    stem = _as_tag(path.stem)
    if tags.is_language(header := _as_tag(_language_of(path))):
        return header
    if tags.is_known(stem) or tags.fits(stem, expected):
        return stem
    folder = _as_tag(path.parent.parent.name) if path.parent.name == "LC_MESSAGES" else ""
    return folder if tags.is_language(folder) else None


def _as_tag(locale: str) -> str:
    return re.split("[.@]", locale)[0]


def read_catalogue(path: Path) -> Iterator[Message]:
    """The translated messages of a .po or .mo file; without header, fuzzy, obsolete and empty ones.

    A plural gives the singular with form 0 and the plural with form 1. Contexts are dropped.

    Raises:
        DataError: The file cannot be read or is damaged; the message names the line where one is known.
    """
    for number, entry in enumerate(_entries(path), start=1):
        if not entry.msgid or entry.obsolete or "fuzzy" in entry.flags:
            continue
        if entry.msgid_plural:
            forms = entry.msgstr_plural
            texts = [(entry.msgid, forms.get(0, "")), (entry.msgid_plural, forms.get(1, ""))]
        else:
            texts = [(entry.msgid, entry.msgstr)]
        where = entry.linenum or number if isinstance(entry, polib.POEntry) else number
        for form, (english, translation) in enumerate(texts):
            if translation:
                yield Message(english, translation, (entry.msgctxt or "", entry.msgid, form), where)


def _language_of(path: Path) -> str:
    for block in _parsed(path):
        return str(block.metadata.get("Language", "")).strip()
    return ""


def _entries(path: Path) -> Iterator[polib.POEntry | polib.MOEntry]:
    for block in _parsed(path):
        yield from block


def _parsed(path: Path) -> Iterator[polib.POFile | polib.MOFile]:
    """The catalogue, whole when it is compiled, else in blocks of entries; the first one knows the header."""
    with _naming(path):
        if path.suffix.lower() == ".mo":
            # As bytes: polib would allocate whatever length a damaged .mo file claims.
            yield polib.mofile(path.read_bytes())  # pyright: ignore[reportArgumentType] (its stub knows only paths)
            return
        with path.open("rb") as head:
            # As bytes: of a path polib would read the whole file.
            charset = polib.detect_encoding(b"\n" + head.read(_HEADER_BYTES))  # pyright: ignore[reportArgumentType]
        try:
            file = path.open(encoding=charset)
        except LookupError:
            file = path.open(encoding="utf-8")
        with file:
            for before, block in _blocks(path, file):
                with _naming(path, before):
                    parsed = polib.pofile(_Lines(block), encoding=charset)
                for entry in parsed:
                    entry.linenum = (entry.linenum or 1) + before
                yield parsed


class _Lines(str):
    """A text that polib splits where a file would be split; U+2028 is content."""

    __slots__ = ()

    def splitlines(self, keepends: bool = False) -> list[str]:
        return self.split("\n")


def _blocks(path: Path, file: TextIO) -> Iterator[tuple[int, str]]:
    """Whole entries as (lines before them, text); they are cut where an empty line ends one and another begins."""
    lines: list[str] = []
    before = 0
    for number, line in enumerate(iter(partial(file.readline, MAX_LINE_BYTES), "")):
        if len(line) == MAX_LINE_BYTES:
            raise DataError(f"{path} line {number + 1:,}: longer than any text", "check what the file holds")
        begins = line.startswith(("#", "msgid ", "msgctxt "))
        if len(lines) >= _BLOCK_LINES and begins and not lines[-1].strip() and _ends_entry(lines):
            yield before, "".join(lines)
            before, lines = number, []
        lines.append(line)
        if len(lines) > 100 * _BLOCK_LINES:
            raise DataError(f"{path} line {before + 1:,}: not a gettext catalogue", "repair or remove the catalogue")
    yield before, "".join(lines)


def _ends_entry(lines: Iterable[str]) -> bool:
    """Whether the last keyword was a msgstr, of an entry that is complete."""
    keyword = next((line for line in reversed(list(lines)) if line.strip() and not line.startswith(('"', "#"))), "")
    return keyword.startswith("msgstr")


@contextmanager
def _naming(path: Path, lines_before: int = 0) -> Generator[None]:
    """Say which file it was, and which line."""
    try:
        yield
    except UnicodeError as error:
        why = f"{path}: not in the charset that its header names (none named means UTF-8): {error}"
        raise DataError(why, "repair or remove the catalogue") from error
    except OSError as error:
        if error.errno is not None:
            raise cannot_read(path, error) from error
        raise DataError(_damage(path, str(error), lines_before), "repair or remove the catalogue") from error
    except (ValueError, LookupError, struct.error) as error:
        raise DataError(_damage(path, str(error), lines_before), "repair or remove the catalogue") from error


def _damage(path: Path, text: str, lines_before: int) -> str:
    kind = "compiled gettext catalogue" if path.suffix.lower() == ".mo" else "gettext catalogue"
    line = re.search(r"\(line (\d+)\)", text)
    return f"{path} line {int(line[1]) + lines_before:,}: not a {kind}" if line else f"{path}: not a {kind}, or damaged"
