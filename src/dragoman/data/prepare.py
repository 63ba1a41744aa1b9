"""From `--data` to a corpus: read, clean, filter, split, sample, encode.

Reading and choosing look at text alone, encoding needs the tokenizer; so they are two
functions, and a tokenizer can be learned from what the first one chose.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dragoman.config import DataConfig
from dragoman.data import corpus, encode, replay
from dragoman.data.corpus import Corpus, Encoded, Text
from dragoman.data.filters import (
    REASONS,
    Duplicates,
    Funnel,
    Limits,
    Sample,
    Split,
    near_key,
    reason,
    sample_priority,
    split_of,
)
from dragoman.data.normalization import Normalization
from dragoman.data.sources import BadRow, Pair, Source
from dragoman.data.sources.rows import FileSource
from dragoman.errors import DataError
from dragoman.languages import Direction
from dragoman.store.disk import Disk

VERSION = "2"
"""Raised whenever the same input would give another corpus."""

OVERHEAD = 2
"""Tokens of a side besides its pieces: language code and `</s>`."""


@dataclass
class Selection:
    """The chosen pairs of all directions, and what became of the others."""

    splits: dict[Split, list[Text]] = field(default_factory=lambda: {"train": [], "dev": [], "test": []})
    funnels: dict[str, Funnel] = field(default_factory=dict[str, Funnel])
    rejected: list[BadRow] = field(default_factory=list[BadRow])


def inputs_digest(data: DataConfig, directions: Sequence[Direction], seed: int) -> str:
    """Sha256 over everything that decides the selection: settings, seed and the bytes of every file."""
    digest = hashlib.sha256(VERSION.encode())
    settings = data.model_dump(mode="json", exclude={"data", "replay"})
    digest.update(json.dumps([settings, [str(way) for way in directions], seed], sort_keys=True).encode())
    for direction in directions:
        for source in replay.open_for(data, direction):
            digest.update(f"{direction} {_reading(source)} {len(source.files)}\n".encode())
            for file in source.files:
                with file.open("rb") as content:
                    digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()


def _reading(source: Source) -> str:
    """What decides, besides the bytes of its files, which pairs a source gives."""
    is_swapped = isinstance(source, FileSource) and source.swapped
    return f"{type(source).__name__}{' swapped' if is_swapped else ''}"


def select(data: DataConfig, directions: Sequence[Direction], seed: int) -> Selection:
    """Read all sources and choose the pairs of each split.

    Raises:
        DataError: A row cannot be read (and `on_bad_rows` is `fail`), or nothing is left to train on.
    """
    chosen = Selection()
    for direction in directions:
        funnel = chosen.funnels.setdefault(str(direction), Funnel())
        held_out, train = _select_direction(data, direction, seed, funnel, chosen.rejected)
        chosen.splits["train"].extend(Text(pair.source, pair.target, direction) for pair in train)
        for split, texts in held_out.items():
            if direction.is_replay:
                for text in texts:
                    funnel.reject("held_out", text.source, text.target)
                continue
            # In the order of their hash, so that the first k are a uniform sample.
            texts.sort(key=lambda text: sample_priority(seed, direction, text.source, text.target))
            chosen.splits[split].extend(texts)
        if not train:
            raise _nothing_left(direction, funnel)
    return chosen


def _nothing_left(direction: Direction, funnel: Funnel) -> DataError:
    message = f"--data: no pair of {direction} is left to train on: {funnel.read:,} read"
    dropped = [(name, count) for name, count in funnel.rejected.most_common(3) if count]
    if not funnel.read:
        return DataError(message, "the files are empty: one pair per line is wanted")
    if not dropped:
        held_out = funnel.read - funnel.bad_rows
        return DataError(f"{message}, {held_out:,} held out", "more pairs, or --dev-percent 0 --test-percent 0")
    message += "".join(f", {count:,} {name}" for name, count in dropped)
    return DataError(message, f"{dropped[0][0]} means: {REASONS[dropped[0][0]]}")


def _select_direction(
    data: DataConfig, direction: Direction, seed: int, funnel: Funnel, rejected: list[BadRow]
) -> tuple[dict[Split, list[Text]], list[Pair]]:
    limits, form = Limits.of(data, direction), Normalization.of(data)
    duplicates, near_duplicates = Duplicates(), Duplicates(near_key)
    held_out: dict[Split, list[Text]] = {"dev": [], "test": []}
    sample = Sample(data.max_samples, seed, direction)
    candidates = 0
    before = len(rejected)
    for pair in _read(data, direction, rejected):
        funnel.read += 1
        source, target = form.of_source(pair.source), form.of_target(pair.target)
        why = reason(source, target, limits)
        if why is None and not duplicates.is_new(source, target):
            why = "duplicate"
        if why is None and data.near_duplicates == "drop" and not near_duplicates.is_new(source, target):
            why = "near_duplicate"
        if why:
            funnel.reject(why, source, target)
            continue
        split = split_of(source, data.dev_percent, data.test_percent)
        if split == "train":
            candidates += 1
            sample.add(Pair(source, target, pair.where))
        else:
            held_out[split].append(Text(source, target, direction))
    funnel.bad_rows = len(rejected) - before
    funnel.read += funnel.bad_rows
    drawn = sample.pairs()
    funnel.rejected["not_sampled"] += candidates - len(drawn)
    return held_out, drawn


def _read(data: DataConfig, direction: Direction, rejected: list[BadRow]) -> Iterator[Pair]:
    for source in replay.open_for(data, direction, rejected.append):
        yield from source.pairs()


def encode_all(
    texts: Sequence[Text], encoder: encode.Encoder, max_tokens: int, funnels: dict[str, Funnel]
) -> Iterator[Encoded]:
    """Pairs with their token pieces; those over `max_tokens` are counted in their funnel and left out."""
    ids = encode.pieces(encoder, (side for text in texts for side in (text.source, text.target)))
    for text in texts:
        source_ids, target_ids = next(ids), next(ids)
        if max(len(source_ids), len(target_ids)) + OVERHEAD > max_tokens:
            funnels[str(text.direction)].reject("too_many_tokens", text.source, text.target)
        else:
            yield Encoded(text, source_ids, target_ids)


def find(folder: Path, inputs: str, encoder: encode.Encoder) -> Corpus | None:
    """The corpus made earlier from the same inputs with the same tokenizer, if it is there."""
    return corpus.open_corpus(folder / name_of(inputs, encoder))


def name_of(inputs: str, encoder: encode.Encoder) -> str:
    """A corpus's folder name: it depends on inputs, settings and tokenizer alone."""
    return hashlib.sha256(f"{corpus.FORMAT} {inputs} {encoder.digest()}".encode()).hexdigest()[:16]


def build(
    folder: Path,
    inputs: str,
    selection: Selection,
    directions: Sequence[Direction],
    encoder: encode.Encoder,
    max_tokens: int,
    disk: Disk,
) -> Corpus:
    """Encode a selection and write it below `folder`.

    Raises:
        DataError: Every pair of a direction is longer than `max_tokens`.
    """
    funnels = selection.funnels
    splits: dict[Split, Sequence[Encoded]] = {
        split: list(encode_all(texts, encoder, max_tokens, funnels)) for split, texts in selection.splits.items()
    }
    trained = {pair.text.direction for pair in splits["train"]}
    for direction in directions:
        if direction not in trained:
            raise DataError(f"--max-tokens {max_tokens}: no pair of {direction} is that short", "--max-tokens 256")
    facts: dict[str, Any] = {
        "inputs": inputs,
        "funnel": {name: funnel.to_json() for name, funnel in funnels.items()},
    }
    return corpus.write(folder / name_of(inputs, encoder), splits, directions, encoder, facts, disk)


def write_rejected(path: Path, rejected: Iterable[BadRow], disk: Disk) -> None:
    """Write the rows that were skipped as TSV: file, line, reason, row."""
    disk.replace(path, "".join(row.tsv() + "\n" for row in rejected).encode())
