"""Test sets that stand apart from the data: none of their texts is trained on, on either side of any direction.

An entry of `--held-out` is one of `--data`. One that is tied to a pair is read as that pair,
whatever is learned: the English of a German test set is held out from French as well. One
that is not serves all directions of the run.
"""

import contextlib
from collections.abc import Generator, Sequence

import numpy as np
from numpy.typing import NDArray

from dragoman.config import DataConfig
from dragoman.data.cleaning import language_hashes
from dragoman.data.filters import text_hash
from dragoman.data.normalization import Normalization
from dragoman.data.sources import Source, check_data, entries, open_sources
from dragoman.errors import InputError
from dragoman.languages import Direction


def open_all(data: DataConfig, directions: Sequence[Direction]) -> list[tuple[Direction, Source]]:
    """Every source, with what it is read as; nothing is read yet.

    Args:
        data: The options.
        directions: Those of the run.

    Raises:
        InputError: An entry names nothing that can be read, does not say which languages it holds, or is tied to no
            pair and does not serve all directions.
    """
    if not data.held_out:
        return []
    with _naming():
        parsed = entries.parse(data.held_out, data.new_codes)
        tied = [entry.direction for entry in parsed if entry.direction]
        ways = dict.fromkeys([*tied, *(direction.plain for direction in directions)])
        served = [way for way in ways if entries.serving(parsed, way)]
        check_data(data.held_out, served)
        return [(way, source) for way in served for source in _open(data, way)]


def hashes(data: DataConfig, directions: Sequence[Direction]) -> NDArray[np.uint64]:
    """Of all their texts, as `cleaning` makes them of pairs; sorted.

    Raises:
        DataError: A row cannot be read, and bad rows are not skipped.
    """
    form = Normalization.of(data)
    found: list[NDArray[np.uint64]] = [np.empty(0, np.uint64)]
    for direction, source in open_all(data, directions):
        pairs = ((form.of_source(pair.source), form.of_target(pair.target)) for pair in source.pairs())
        sides = np.fromiter((text_hash(text) for pair in pairs for text in pair), np.uint64)
        found.append((sides.reshape(-1, 2) ^ language_hashes(direction)).ravel())
    return np.unique(np.concatenate(found))


def _open(data: DataConfig, direction: Direction) -> list[Source]:
    return open_sources(data.held_out, direction, on_bad_rows=data.on_bad_rows, inline_tags=data.inline_tags)


@contextlib.contextmanager
def _naming() -> Generator[None]:
    """Complaints name the option that the entries stand in."""
    try:
        yield
    except InputError as error:
        error.message = error.message.replace("--data", "--held-out").replace("--language-pairs", "the run")
        error.hint = error.hint.replace("--data", "--held-out")
        raise
