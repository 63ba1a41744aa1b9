"""Data sets on the Hub: the files of one configuration, read as files are.

A configuration is found by its name, `en-fr` or `fr-en`; the languages in its rows say
which side is which. Its `train` split is read unless another one is named: we hold out sentences of our own.
Data sets that are scripts are programs of strangers, and are refused.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any, cast

from dragoman.data.sources import formats, tags
from dragoman.data.sources.entries import Entry
from dragoman.data.sources.formats import How
from dragoman.data.sources.hub_data import TRAIN, DataSet
from dragoman.data.sources.rows import Pair, Rows, Source
from dragoman.errors import DataError
from dragoman.languages import Direction

ENDINGS = (".parquet", ".arrow", ".jsonl", ".csv", ".tsv", ".tmx")
_MAX_SHOWN = 12
_SPLITS = {"train": "train", "test": "test", "validation": "validation", "valid": "validation", "dev": "validation"}
_SHARD = re.compile(r"(\d+|[-_.])")


@dataclass(frozen=True)
class HubSource:
    """The pairs of one configuration of a data set. Its files are downloaded when they are first asked for."""

    data_set: DataSet
    configuration: str
    """Empty when the data set has only one."""
    split: str
    """As the data set calls it."""
    paths: tuple[str, ...]
    """Files of the split in the repository, in order."""
    entry: Entry
    """What names it."""
    how: How
    """How a file is read once it is here."""
    names_languages: bool
    """Whether entry or configuration say what a first and a second column hold; else each row must."""
    rows: Rows
    """Counts, and what a bad row does."""

    @property
    def name(self) -> str:
        """What to call it in a report."""
        split = self.split if self.split != TRAIN else ""
        return " ".join(filter(None, (str(self.data_set), self.configuration, split)))

    @property
    def files(self) -> tuple[Path, ...]:
        """The files, downloaded.

        Raises:
            DataError: The Hub does not give one.
        """
        return tuple(self.data_set.fetch(path) for path in self.paths)

    def pairs(self) -> Iterator[Pair]:
        """All pairs, file by file.

        Raises:
            DataError: A file cannot be had or read, or a row is bad and bad rows are not skipped.
        """
        self.rows.restart()
        for path, file in zip(self.paths, self.files, strict=True):
            source = self._open(file)
            yield from source.pairs()
            self.rows.num_read += source.rows.num_read
            self.rows.num_rejected += source.rows.num_rejected
            self.rows.examples.extend(source.rows.examples)
            self.rows.end_of(path)

    def _open(self, file: Path) -> Source:
        if not self.names_languages and formats.has_columns(file, [self.how.direction]):
            raise DataError(
                f"--data {self.entry.text}: two columns that name no languages",
                f"say which they hold: --data {self.how.direction}={self.entry.place}",
            )
        return formats.open_one(self.entry, file, self.how)


def open_data_set(data_set: DataSet, split: str, entry: Entry, how: How) -> HubSource:
    """The source of one direction; nothing but the data set's card is downloaded yet.

    Args:
        data_set: Which one.
        split: Its name, or another usual one for the same: `dev` for `validation`.
        entry: What names it.
        how: How its files are read.

    Raises:
        DataError: It is a script, has no configuration for the direction, or no such split in it.
    """
    direction = how.direction
    layout = _layout(data_set)
    if not layout:
        raise _nothing_to_read(data_set)
    names = [name for name in layout if _order(name, direction) is not None]
    if not names and len(layout) == 1:
        names = list(layout)
    if not names:
        shown = ", ".join(sorted(layout)[:_MAX_SHOWN]) + ", …" * (len(layout) > _MAX_SHOWN)
        raise DataError(
            f"--data {data_set}: no configuration for {direction}; it has {shown}",
            f"--data {direction}=FILE, or another data set",
        )
    # Of "en-pt" and "en-pt_BR", which NLLB does not tell apart, take the general one.
    name = min(names, key=lambda name: (len(name), name))
    splits = layout[name]
    found = split if splits.get(split) else _SPLITS.get(split, split)
    if not splits.get(found):
        there = sorted(other for other, paths in splits.items() if paths)
        raise DataError(
            f"--data {data_set} {name}: no split `{split}`; it has {', '.join(there)}",
            f"--data {data_set.repo_id}:{there[0]}, or another data set",
        )
    order = _order(name, direction)
    if entry.direction is None and order is not None:
        how = how._replace(swapped=not order)
    names_languages = entry.direction is not None or order is not None
    shown = "" if name == "default" else name
    return HubSource(data_set, shown, found, tuple(splits[found]), entry, how, names_languages, how.rows())


_Layout = dict[str, dict[str, list[str]]]
"""Configuration to split to files."""


def _layout(data_set: DataSet) -> _Layout:
    # Of the same rows in several formats, one is read.
    for ending in ENDINGS:
        paths = sorted(path for path in data_set.files if _ending_of(path) == ending)
        if layout := _by_card(data_set.configurations, paths) or _by_folders(paths):
            return layout
    return {}


def _ending_of(path: str) -> str:
    plain = path.lower().removesuffix(".gz")
    return PurePosixPath(plain).suffix


def _by_card(configurations: Sequence[dict[str, Any]], paths: Sequence[str]) -> _Layout:
    """What the card says: `configs`, each with `data_files` as one pattern, several, or those of each split."""
    layout: _Layout = {}
    for entry in configurations:
        folder = str(entry.get("data_dir") or "").strip("/")
        splits: dict[str, list[str]] = {}
        for split, patterns in _patterns(entry.get("data_files")):
            inside = [f"{folder}/{pattern}" if folder else pattern for pattern in patterns]
            splits.setdefault(split, []).extend(path for path in paths if any(_matches(path, it) for it in inside))
        if "data_files" not in entry and folder:
            splits = _by_split([path for path in paths if path.startswith(folder + "/")])
        if any(splits.values()):
            layout[str(entry.get("config_name") or "default")] = splits
    return layout


def _patterns(data_files: Any) -> Iterator[tuple[str, list[str]]]:
    match data_files:
        case str() | [str(), *_]:
            yield TRAIN, _as_list(data_files)
        case list():
            for item in cast("list[Any]", data_files):
                match item:
                    case {"path": path}:
                        yield str(cast("dict[str, Any]", item).get("split", TRAIN)), _as_list(path)
                    case _:
                        pass
        case {}:
            for split, path in cast("dict[str, Any]", data_files).items():
                yield str(split), _as_list(path)
        case _:
            pass


def _as_list(path: Any) -> list[str]:
    return [str(it) for it in cast("list[Any]", path)] if isinstance(path, list) else [str(path)]


def _matches(path: str, pattern: str) -> bool:
    """Whether a pattern names a file; as on the Hub, `*` stays within a folder and `**` does not."""
    if "**" in pattern:
        return fnmatchcase(path, pattern) or fnmatchcase(path, pattern.replace("**/", ""))
    return path.count("/") == pattern.count("/") and fnmatchcase(path, pattern)


def _by_folders(paths: Sequence[str]) -> _Layout:
    """Without a card: the folder says which configuration, a word in the path which split."""
    layout: dict[str, list[str]] = {}
    for path in paths:
        folders = [part for part in path.split("/")[:-1] if part != "data" and part not in _SPLITS]
        layout.setdefault(folders[0] if folders else "default", []).append(path)
    return {name: _by_split(found) for name, found in layout.items()}


def _by_split(paths: Sequence[str]) -> dict[str, list[str]]:
    splits: dict[str, list[str]] = {}
    for path in paths:
        words = [word for part in path.split("/") for word in _SHARD.split(part)]
        splits.setdefault(next((_SPLITS[word] for word in words if word in _SPLITS), TRAIN), []).append(path)
    return splits


def _order(name: str, direction: Direction) -> bool | None:
    """Whether a configuration's name is the two languages in this order, `en-fr` or `en_pt-BR`; None when it is not."""
    cuts = [(name[: at.start()], name[at.end() :]) for at in re.finditer("[-_]", name)]
    sides = (direction.source, direction.target)
    for is_forth, order in ((True, sides), (False, sides[::-1])):
        if any(all(tags.fits(tag, code) for tag, code in zip(cut, order, strict=True)) for cut in cuts):
            return is_forth
    return None


def _nothing_to_read(data_set: DataSet) -> DataError:
    script = data_set.repo_id.split("/")[1] + ".py"
    if script in data_set.files:
        return DataError(
            f"--data {data_set}: it is a script ({script}): a program of somebody else, which is not run",
            f"{data_set.repo_id}@refs/convert/parquet (the Hub's own conversion, where there is one), "
            "or download the files that it names and give those",
        )
    return DataError(f"--data {data_set}: it has no files that can be read ({', '.join(ENDINGS)})", "another data set")
