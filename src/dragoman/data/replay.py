"""Rehearsed pairs: what a model could do before, mixed in so that it does not forget.

An entry of `--replay` is one of `--data` with a share behind it: `de-en=general.tsv:0.1`.
It serves the directions before `=`, which need not be among those to learn, else all of
them. Its pairs are cleaned and encoded like any others, but held out for nothing, and
those whose source sentence is held out are left out.
"""

import contextlib
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import NamedTuple

from dragoman.config import DataConfig
from dragoman.data.sources import BadRow, Source, check_data, open_sources
from dragoman.errors import InputError
from dragoman.languages import Direction, parse_pairs

HINT = "SOURCE:SHARE, such as general.tsv:0.2, or de-en=general.tsv:0.2 for another direction"


class Replay(NamedTuple):
    """One entry of `--replay`, taken apart."""

    entry: str
    """The entry of `--data` in it."""

    share: float
    """Of all pairs of an epoch, between 0 and 1."""

    directions: tuple[Direction, ...]
    """What it serves; all are marked as rehearsed."""


def replays(data: DataConfig) -> list[Replay]:
    """The entries of `--replay`.

    Raises:
        InputError: One has no share, or names no languages; or the shares leave nothing to learn.
    """
    learned = [direction for pair in data.language_pairs for direction in parse_pairs(pair, data.new_codes)]
    found = [_parse(text, learned, data.new_codes) for text in data.replay]
    if (total := sum(replay.share for replay in found)) >= 1:
        raise InputError(f"--replay: the shares add up to {total:g}", "less than 1: the rest is what is learned")
    return found


def directions_of(data: DataConfig) -> list[Direction]:
    """The directions that are rehearsed, each once."""
    return list(dict.fromkeys(way for replay in replays(data) for way in replay.directions))


def entries_of(data: DataConfig, direction: Direction) -> list[str]:
    """The entries of `--data`, or of `--replay`, for one direction."""
    if not direction.is_replay:
        return data.data
    return [replay.entry for replay in replays(data) if direction in replay.directions]


def open_for(data: DataConfig, direction: Direction, offer: Callable[[BadRow], None] | None = None) -> list[Source]:
    """The sources of one direction, as `open_sources`, from `--data` or from `--replay`.

    Raises:
        InputError: An entry names nothing that can be read, or none serves the direction.
    """
    with _naming(direction):
        entries = entries_of(data, direction)
        return open_sources(
            entries, direction.plain, on_bad_rows=data.on_bad_rows, offer=offer, inline_tags=data.inline_tags
        )


def check(data: DataConfig) -> None:
    """Look at the entries without reading them.

    Raises:
        InputError: One cannot mean what the user wants.
    """
    for replay in replays(data):
        with _naming(replay.directions[0]):
            check_data([replay.entry], [way.plain for way in replay.directions])


@contextlib.contextmanager
def _naming(direction: Direction) -> Generator[None]:
    """Complaints about the entries of a rehearsed direction name the option that they stand in."""
    try:
        yield
    except InputError as error:
        if direction.is_replay:
            error.message = error.message.replace("--data", "--replay").replace("--language-pairs", "its directions")
            error.hint = error.hint.replace("--data", "--replay")
        raise


def shares(data: DataConfig, counts: Mapping[Direction, int]) -> dict[Direction, float]:
    """Share of each rehearsed direction, of all pairs of an epoch.

    Args:
        data: The options.
        counts: Training pairs of each direction; one entry's directions share in proportion to theirs.
    """
    found: dict[Direction, float] = {}
    for replay in replays(data):
        total = sum(counts[way] for way in replay.directions)
        for way in replay.directions:
            found[way] = found.get(way, 0.0) + replay.share * counts[way] / total
    return found


def _parse(text: str, learned: Sequence[Direction], also: Sequence[str]) -> Replay:
    entry, _, number = text.rpartition(":")
    try:
        share = float(number)
    except ValueError:
        share = -1.0
    if not entry or not 0 < share < 1:
        raise InputError(f"--replay {text}: it does not end in a share between 0 and 1", HINT)
    prefix, equals, place = entry.partition("=")
    directions = list(learned)
    if equals and not any(sign in prefix for sign in "/\\."):
        try:
            directions = parse_pairs(prefix, also)
        except InputError as error:
            message = error.message.replace("--language-pairs", f"--replay {text}:", 1)
            raise InputError(message, error.hint) from None
        entry = f"{directions[0]}={place}"
    marked = (Direction(way.source, way.target, is_replay=True) for way in directions)
    return Replay(entry, share, tuple(dict.fromkeys(marked)))
