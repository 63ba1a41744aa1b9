"""The prepared pairs of a finished or living run, as other verbs than training use them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dragoman.checkpoint.log import RunLog
from dragoman.checkpoint.run_folder import CORPUS
from dragoman.data import corpus
from dragoman.data.corpus import Corpus
from dragoman.data.filters import Split
from dragoman.languages import Direction
from dragoman.store.local import FolderStore

PAIRS_AT_ONCE = 1 << 18
SPLITS: tuple[Split, ...] = ("train", "dev", "test")


def trained_on(folder: Path) -> Corpus | None:
    """The corpus of the run in a folder; None when there is none."""
    found = [opened for path in sorted((folder / CORPUS).glob("*")) if (opened := corpus.open_corpus(path))]
    if not found:
        return None
    # `dragoman prepare` may have left others; only of this one is the test split unseen.
    newest = RunLog(FolderStore(folder)).newest
    return ([one for one in found if newest and one.digest == newest.corpus] or found)[-1]


def tokens(corpus: Corpus, directions: Sequence[Direction]) -> NDArray[np.int64]:
    """Token ids of all pairs of some directions, sorted, each once."""
    ways = [way for way, direction in enumerate(corpus.directions) if direction in directions]
    rows = corpus.rows
    seen = np.zeros(len(rows), dtype=bool)
    for arrays in map(corpus.arrays, SPLITS):
        for start in range(0, len(arrays), PAIRS_AT_ONCE):
            bounds = arrays.bounds[2 * start : 2 * (start + PAIRS_AT_ONCE) + 1 : 2].astype(np.int64)
            chosen = np.isin(arrays.way[start : start + PAIRS_AT_ONCE], ways)
            seen[arrays.ids[bounds[0] : bounds[-1]][np.repeat(chosen, np.diff(bounds))]] = True
    return rows[seen]
