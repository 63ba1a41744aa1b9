"""The first pass: from sources to pairs that are good in themselves, chunk by chunk.

One process reads, because formats are read from their beginning; others clean, filter and
hash. What is left of a chunk is its text and, for each pair, the numbers by which later
passes compare it with all others, so these need not hold any text.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dragoman.config import DataConfig
from dragoman.data import replay, work, workers
from dragoman.data.filters import (
    Funnel,
    Limits,
    Split,
    hash64,
    key,
    near_key,
    reasons,
    sample_priority,
    split_at,
    text_hash,
)
from dragoman.data.normalization import Normalization
from dragoman.data.progress import Progress
from dragoman.data.shares import Share
from dragoman.data.sources import BadRow, Source
from dragoman.data.sources.opening import num_read
from dragoman.data.sources.rows import counts_of
from dragoman.data.work import Chunk, Work
from dragoman.data.workers import Call
from dragoman.languages import Direction

CHUNK_PAIRS = 16_384
"""Pairs that are read for one chunk."""

CHUNK_CHARS = 8_000_000
"""Characters after which a chunk of long texts ends earlier."""

SPLITS: tuple[Split, ...] = ("train", "dev", "test")
"""The sides of the split, in the order in which they are numbered."""

SAME: dict[str, Callable[[str], str]] = {"duplicate": key, "near_duplicate": near_key}
"""When a later pair is dropped, and what of a side has to be equal for that."""


def same_of(data: DataConfig) -> list[str]:
    """Those of `SAME` that the options ask for."""
    return [name for name in SAME if name != "near_duplicate" or data.near_duplicates == "drop"]


@dataclass(frozen=True)
class Cleaning:
    """What decides, besides its text, what becomes of one pair."""

    data: DataConfig
    directions: tuple[Direction, ...]
    seed: int


class _Rows(NamedTuple):
    """Rows of one chunk as they are read."""

    source: list[str]
    target: list[str]
    bad: list[str]
    """Rows that hold no pair, as `BadRow.tsv`."""


def clean_all(cleaning: Cleaning, folder: Work, share: Share, processes: int | None, progress: Progress) -> list[Chunk]:
    """Clean all chunks of this machine's share that are not done yet; returns all of its chunks in their order.

    Raises:
        DataError: A row cannot be read, and bad rows are not skipped.
    """
    folder.folder.mkdir(parents=True, exist_ok=True)
    found: list[Chunk] = []
    calls = _undone(cleaning, folder, share, found, progress)
    workers.each(_clean_chunk, cleaning, calls, processes, lambda call: progress.add_cleaned(call.arguments[0]))
    return found


class _Opened(NamedTuple):
    """A source that is about to be read."""

    direction: int
    place: int
    """Among the sources of the direction."""
    source: Source
    bad: list[str]
    """Fills up with rows that hold no pair, as `BadRow.tsv`, while it is read."""

    @property
    def num_bytes(self) -> int:
        """Of all its files."""
        return sum(file.stat().st_size for file in self.source.files)

    @property
    def num_read(self) -> int:
        """Bytes of those that are open that were read so far."""
        return sum(map(num_read, self.source.files))


def _opened(cleaning: Cleaning) -> Iterator[_Opened]:
    for number, direction in enumerate(cleaning.directions):
        bad: list[str] = []

        def note(row: BadRow, bad: list[str] = bad) -> None:
            bad.append(row.tsv())

        for place, source in enumerate(replay.open_for(cleaning.data, direction, note)):
            yield _Opened(number, place, source, bad)


def _undone(cleaning: Cleaning, folder: Work, share: Share, found: list[Chunk], progress: Progress) -> Iterator[Call]:
    """What `_clean_chunk` has to be called with; puts all chunks of the share into `found`."""
    total = 0  # over all sources, so that each machine gets equally many
    every = list(_opened(cleaning))
    num_bytes, bytes_before = sum(opened.num_bytes for opened in every), 0
    for opened in every:
        number, place = opened.direction, opened.place
        known = folder.num_chunks(number, place)
        ours = [Chunk(number, place, count) for count in range(known or 0) if share.has(total + count)]
        if known is not None and all(work.is_whole(folder.cleaned(chunk)) for chunk in ours):
            for chunk in ours:
                progress.add_cleaned(folder.cleaned(chunk), earlier=True)
        else:
            count, ours = 0, list[Chunk]()
            for count, rows in enumerate(_cut(opened), start=1):
                progress.share = (bytes_before + opened.num_read) / max(num_bytes, 1)
                if share.has(total + count - 1):
                    ours.append(chunk := Chunk(number, place, count - 1))
                    if work.is_whole(path := folder.cleaned(chunk)):
                        progress.add_cleaned(path, earlier=True)
                    else:
                        yield Call(len(rows.source), (path, number, rows))
            known = count
            folder.write_ended(number, place, known, counts_of(opened.source))
        total += known
        found += ours
        bytes_before += opened.num_bytes


def _cut(opened: _Opened) -> Iterator[_Rows]:
    """The rows of a source, so many at a time."""
    bad = opened.bad
    rows, num_chars = _Rows([], [], bad), 0
    for pair in opened.source.pairs():
        rows.source.append(pair.source)
        rows.target.append(pair.target)
        num_chars += len(pair.source) + len(pair.target)
        if len(rows.source) == CHUNK_PAIRS or num_chars >= CHUNK_CHARS:
            yield _Rows(rows.source, rows.target, bad[:])
            bad.clear()
            rows, num_chars = _Rows([], [], bad), 0
    if rows.source or bad:
        yield _Rows(rows.source, rows.target, bad[:])
        bad.clear()


def _clean_chunk(cleaning: Cleaning, path: Path, direction: int, rows: _Rows) -> None:
    """Write what is left of a chunk:

    text       uint8, source and target of each pair in turn as UTF-8
    lengths    uint32, (pairs, 2), of these in bytes
    sides      uint64, (pairs, 2), a hash of language and text
    split      uint8, place in `SPLITS`
    priority   uint64, what samples are drawn by; 0 where nothing is drawn
    REASON     uint64, sorted, a hash of each pair that `SAME` may call a duplicate
    REASON_of  uint32, which pairs these are
    """
    data, way = cleaning.data, cleaning.directions[direction]
    limits, form = Limits.of(data, way), Normalization.of(data)
    funnel = Funnel(read=len(rows.source) + len(rows.bad), bad_rows=len(rows.bad))
    texts: list[bytes] = []
    sides: list[int] = []
    splits: list[int] = []
    priorities: list[int] = []
    sources, targets = list(map(form.of_source, rows.source)), list(map(form.of_target, rows.target))
    for source, target, why in zip(sources, targets, reasons(sources, targets, limits), strict=True):
        if why:
            funnel.reject(why, source, target)
            continue
        hashes = text_hash(source), text_hash(target)
        split = split_at(hashes[0], data.dev_percent, data.test_percent)
        if way.is_replay and split != "train":
            funnel.reject("held_out", source, target)
            continue
        is_drawn = split != "train" or data.max_samples is not None
        priorities.append(sample_priority(cleaning.seed, way, source, target) if is_drawn else 0)
        splits.append(SPLITS.index(split))
        sides += hashes
        texts += source.encode(), target.encode()
    arrays: dict[str, NDArray[Any]] = {
        "text": np.frombuffer(b"".join(texts), np.uint8),
        "lengths": np.fromiter(map(len, texts), np.uint32, len(texts)).reshape(-1, 2),
        "sides": np.array(sides, np.uint64).reshape(-1, 2) ^ language_hashes(way),
        "split": np.array(splits, np.uint8),
        "priority": np.array(priorities, np.uint64),
    }
    hashes = _pair_hashes(texts, arrays["sides"], same_of(data))
    work.save(path, funnel_facts(funnel) | {"bad": rows.bad}, **arrays, **hashes)


def language_hashes(direction: Direction) -> NDArray[np.uint64]:
    """What sets texts of one language apart from equal ones of another."""
    codes = (direction.source, direction.target)
    return np.array([hash64(b"dragoman code", code) for code in codes], np.uint64)


def _pair_hashes(texts: Sequence[bytes], sides: NDArray[np.uint64], names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """For each way of being the same: the sorted hashes of pairs, and which pairs they belong to."""
    found: dict[str, NDArray[Any]] = {}
    for name in names:
        same = SAME[name]
        hashes, places = sides, np.arange(len(sides), dtype=np.uint32)
        if same is not key:
            keys = [same(text.decode()) for text in texts]
            hashes = np.array([hash64(b"dragoman same", text) for text in keys], np.uint64).reshape(-1, 2)
            # A pair with a side of which nothing is left is like no other.
            places = np.flatnonzero(np.array(list(map(bool, keys)), bool).reshape(-1, 2).all(axis=1)).astype(np.uint32)
        # An odd factor: (a, b) and (b, a) differ, and evenly spread numbers stay so.
        pairs = hashes[places, 0] * np.uint64(0x9E3779B97F4A7C15) + hashes[places, 1]
        order = np.argsort(pairs, kind="stable")
        found |= {name: pairs[order], f"{name}_of": places[order]}
    return found


def funnel_facts(funnel: Funnel) -> dict[str, Any]:
    """The counts of a chunk, for the facts of its file."""
    rejected = {name: [count, funnel.examples.get(name, [])] for name, count in funnel.rejected.items()}
    return {"read": funnel.read, "bad_rows": funnel.bad_rows, "rejected": rejected}


def add_facts(funnel: Funnel, facts: dict[str, Any]) -> None:
    """Add the counts of a later chunk to a funnel."""
    funnel.read += facts["read"]
    funnel.bad_rows += facts["bad_rows"]
    for name, (count, examples) in facts["rejected"].items():
        for source, target in examples:
            funnel.reject(name, source, target)
        funnel.rejected[name] += count - len(examples)


def texts_at(path: Path, places: NDArray[Any]) -> list[tuple[str, str]]:
    """Source and target of some pairs of a cleaned chunk."""
    blob, lengths = work.load(path, "text", "lengths")
    ends = np.cumsum(lengths, dtype=np.int64).reshape(-1, 2)
    starts = ends[:, 0] - lengths[:, 0]
    data = blob.tobytes()
    return [
        (data[start:middle].decode(), data[middle:end].decode())
        for start, middle, end in zip(
            starts[places].tolist(), ends[places, 0].tolist(), ends[places, 1].tolist(), strict=True
        )
    ]
