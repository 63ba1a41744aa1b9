"""Which files serve which direction, and how each is read.

An entry of `--data` is a file, two files in Moses format, a folder of gettext catalogues,
`gettext:PACKAGE,…` or a data set on the Hub, and serves every direction, unless `en-fr=`
before it ties it to one. A tied entry also serves the reverse direction, with its columns
swapped, when that has no entry of its own.

A new format is one module with a `Source`, and one case in `formats`.
"""

from collections.abc import Callable, Sequence

from dragoman.data.sources import entries, formats, hub, hub_data
from dragoman.data.sources.entries import GETTEXT_PREFIX, Entry, data_set_of, existing_path, serving
from dragoman.data.sources.formats import How
from dragoman.data.sources.gettext import Domain, GettextSource, find_domains, find_package, languages_of
from dragoman.data.sources.hub_data import DataSetName
from dragoman.data.sources.markup import InlineTags
from dragoman.data.sources.rows import BadRow, OnBadRows, Pair, Rows, Source
from dragoman.errors import InputError
from dragoman.languages import Direction, new_among

__all__ = [
    "BadRow",
    "DataSetName",
    "InlineTags",
    "OnBadRows",
    "Pair",
    "Rows",
    "Source",
    "are_local",
    "check_data",
    "data_sets",
    "open_sources",
    "pinned",
]


def open_sources(
    data: Sequence[str],
    direction: Direction,
    *,
    on_bad_rows: OnBadRows,
    offer: Callable[[BadRow], None] | None = None,
    inline_tags: InlineTags = "strip",
) -> list[Source]:
    """The sources of one direction, in the order of `data`; nothing is read yet.

    Args:
        data: Entries of `--data`: `PATH`, `en-fr=PATH`, `gettext:PACKAGE,…`, `USER/NAME:SPLIT` on the Hub.
        direction: What the pairs shall be.
        on_bad_rows: `fail` ends the reading at the first bad row, `skip` counts it and goes on.
        offer: Receives every skipped row while `Source.pairs` runs.
        inline_tags: What becomes of the tags in segments of TMX and XLIFF.

    Raises:
        InputError: An entry names nothing that can be read, or none serves the direction.
    """
    sources: list[Source] = []
    offered: list[Domain] = []
    for entry in serving(entries.parse_beside(data, direction), direction):
        how = How(
            direction, entry.direction == entries.reverse(direction), lambda: Rows(on_bad_rows, offer), inline_tags
        )
        domains = _domains(entry)
        if domains is None:
            sources.extend(_open(entry, how))
            continue
        for title, found in domains:
            source = GettextSource(title, found, direction, how.rows())
            offered.extend(found)
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
    new = new_among(code for way in directions for code in (way.source, way.target))
    parsed = entries.parse(data, new)
    used = {entry for direction in directions for entry in serving(parsed, direction)}
    trained = " ".join(map(str, directions))
    for entry in parsed:
        if entry not in used:
            raise InputError(
                f"--data {entry.text}: it serves none of --language-pairs {trained}",
                "remove the entry, correct the pair before '=', or train that pair too",
            )
        if entry.direction is None and len(directions) > 1 and _has_columns(entry, directions):
            raise InputError(
                f"--data {entry.text}: two columns that name no languages cannot serve {trained} alike",
                f"say which it holds: --data {directions[0]}={entry.place}",
            )


def are_local(data: Sequence[str], new: Sequence[str] = ()) -> bool:
    """Whether all entries of `--data` are read without asking the Hub."""
    return not any(data_set_of(entry) for entry in entries.parse(data, new))


def pinned(data: Sequence[str], stored: Sequence[str] = ()) -> list[str]:
    """The entries with the commit behind each data set on the Hub, so that they always mean the same bytes.

    Args:
        data: Entries of `--data`.
        stored: Those of the run that is continued: what it was begun with is what an entry without revision means.

    Raises:
        DataError: The Hub does not tell, and was never asked before.
    """
    return [_pinned(text, stored) for text in data]


def data_sets(data: Sequence[str]) -> list[DataSetName]:
    """The data sets on the Hub among the entries of `--data`, each once."""
    names = (entries.data_set_in(text) for text in data)
    return list(dict.fromkeys(name for name in names if name))


def _pinned(text: str, stored: Sequence[str]) -> str:
    name = entries.data_set_in(text)
    if name is None or name.is_pinned:
        return text
    begun_with = [it for it in stored if it.startswith(f"{text}@")]
    return begun_with[0] if begun_with else f"{text.partition('@')[0]}@{hub_data.find(name).commit}"


def _domains(entry: Entry) -> list[tuple[str, tuple[Domain, ...]]] | None:
    """The catalogues of a package or folder, with what to call them; None for anything else."""
    if entry.place.startswith(GETTEXT_PREFIX):
        return [(f"{GETTEXT_PREFIX}{name}", find_package(name)) for name in entries.packages(entry)]
    if entry.sides or data_set_of(entry) or not (path := existing_path(entry)).is_dir():
        return None
    found = find_domains(path.absolute())
    if not found:
        raise InputError(
            f"--data {entry.text}: the folder {path} holds no gettext catalogues (<locale>/LC_MESSAGES/*.po or *.mo)",
            "name a .tsv or .jsonl file, or a folder such as /usr/share/locale",
        )
    return [(str(path), found)]


def _open(entry: Entry, how: How) -> list[Source]:
    """The sources of an entry that is no folder of catalogues; none when it has another language."""
    if name := data_set_of(entry):
        return [hub.open_data_set(hub_data.find(name), name.split, entry, how)]
    if entry.sides:
        return formats.open_moses(entry, [existing_path(entry, place) for place in entry.sides], how)
    return formats.open_file(entry, existing_path(entry), how)


def _has_columns(entry: Entry, directions: Sequence[Direction]) -> bool:
    if entry.place.startswith(GETTEXT_PREFIX) or entry.sides or data_set_of(entry):
        return False
    return formats.has_columns(existing_path(entry), directions)


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
