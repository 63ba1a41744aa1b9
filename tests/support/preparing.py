"""Preparing corpora in small chunks, and what the same preparation gives when nobody minds memory."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dragoman.config import DataConfig, from_flat
from dragoman.data import prepare
from dragoman.data.corpus import Corpus, Text
from dragoman.data.encode import Encoder
from dragoman.data.filters import Limits, Split, clean, key, near_key, reason, sample_priority, split_of
from dragoman.data.sources import open_sources
from dragoman.languages import Direction, parse_pair
from dragoman.store.disk import Disk


def options(*entries: str, pairs: Sequence[str] = ("en-fr",), **more: Any) -> DataConfig:
    """Options of the data."""
    values = {"language_pairs": list(pairs), "data": list(entries), "dev_percent": 10, "test_percent": 10}
    return from_flat(values | more).data


def directions_of(data: DataConfig) -> list[Direction]:
    """The directions of the options."""
    return [parse_pair(pair) for pair in data.language_pairs]


def corpus_of(folder: Path, data: DataConfig, encoder: Encoder, processes: int = 1) -> Corpus:
    """Prepare in `folder`, going on with what is there."""
    ways = directions_of(data)
    inputs = prepare.inputs_digest(data, ways, 1)
    chosen = prepare.select(data, ways, 1, prepare.work_of(folder, inputs), processes=processes)
    made = prepare.build(folder, inputs, chosen, ways, encoder, data.max_tokens, Disk())
    prepare.clear(folder)
    return made


def naive(data: DataConfig, seed: int = 1) -> tuple[dict[Split, list[Text]], dict[str, dict[str, int]]]:
    """The pairs of each split, and per direction how many were dropped why: with everything in memory."""
    kept: list[tuple[Split, Text]] = []
    dropped: dict[str, dict[str, int]] = {}
    for way in directions_of(data):
        counts, seen = dropped.setdefault(str(way), {}), set[tuple[str, str]]()
        near_seen = set[tuple[str, str]]()
        for source in open_sources(data.data, way, on_bad_rows=data.on_bad_rows):
            for pair in source.pairs():
                text = Text(clean(pair.source), clean(pair.target), way)
                same = key(text.source), key(text.target)
                why = reason(text.source, text.target, Limits.of(data, way)) or ("duplicate" if same in seen else None)
                seen.add(same)
                near = near_key(text.source), near_key(text.target)
                if why is None and data.near_duplicates == "drop" and all(near):
                    why = "near_duplicate" if near in near_seen else None
                    near_seen.add(near)
                if why:
                    counts[why] = counts.get(why, 0) + 1
                else:
                    kept.append((split_of(text.source, data.dev_percent, data.test_percent), text))
    held = {side for split, text in kept if split != "train" for side in _sides(text)}
    splits: dict[Split, list[Text]] = {"train": [], "dev": [], "test": []}
    for way in directions_of(data):
        counts = dropped[str(way)]
        train = [text for split, text in kept if split == "train" and text.direction == way]
        clear = [text for text in train if not held & set(_sides(text))]
        drawn = set(sorted(clear, key=lambda text: _priority(text, seed))[: data.max_samples])
        splits["train"] += [text for text in clear if text in drawn]
        counts |= {"leak": len(train) - len(clear), "not_sampled": len(clear) - len(drawn)}
        for split in ("dev", "test"):
            texts = [text for side, text in kept if side == split and text.direction == way]
            splits[split] += sorted(texts, key=lambda text: _priority(text, seed))
    return splits, {way: {why: count for why, count in counts.items() if count} for way, counts in dropped.items()}


def _sides(text: Text) -> tuple[tuple[str, str], tuple[str, str]]:
    return (text.direction.source, key(text.source)), (text.direction.target, key(text.target))


def _priority(text: Text, seed: int) -> int:
    return sample_priority(seed, text.direction, text.source, text.target)
