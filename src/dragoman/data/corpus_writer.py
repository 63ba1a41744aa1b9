"""Writes a corpus folder from blocks of pairs that stream by, so its size never meets memory.

Each file is one pass over the blocks of its split: reading numbers again costs less than
keeping them.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dragoman.data.corpus import FORMAT, MANIFEST, PART, ROWS, Corpus
from dragoman.data.encode import Encoder
from dragoman.data.filters import Split
from dragoman.languages import Direction
from dragoman.store.disk import Disk


class Block(NamedTuple):
    """Some pairs of one direction."""

    direction: int
    """Its place among the directions."""
    lengths: NDArray[np.integer[Any]]
    """Shape (pairs, 2): tokens of source and target, without code and `</s>`."""
    ids: Callable[[], NDArray[np.integer[Any]]]
    """Gives the token ids of source and target of each pair in turn; not every file needs them."""
    texts: Sequence[tuple[str, str]] = ()
    """Their text; empty for pairs to train on."""


@dataclass(frozen=True)
class SplitBlocks:
    """The pairs of one split."""

    blocks: Callable[[], Iterator[Block]]
    """Gives the same blocks each time it is called."""
    facts: dict[str, Any] = field(default_factory=dict[str, Any])
    """More entries for the split's part of the manifest."""


def write(
    folder: Path,
    splits: Mapping[Split, SplitBlocks],
    used: NDArray[np.integer[Any]],
    directions: Sequence[Direction],
    encoder: Encoder,
    facts: dict[str, Any],
    disk: Disk,
) -> Corpus:
    """Write a corpus; `folder` appears whole or not at all.

    Args:
        folder: Where it will stand; must not exist.
        splits: The pairs of each split.
        used: The different token ids of all pairs.
        directions: All directions of the run.
        encoder: The tokenizer.
        facts: More entries for the manifest, e.g. the funnel.
        disk: Takes every change.
    """
    part = folder.with_name(folder.name + PART)
    for leftover in sorted(part.glob("*")):
        disk.unlink(leftover)
    disk.make_folders(part)
    manifest: dict[str, Any] = {"format": FORMAT, "tokenizer": encoder.digest(), "splits": {}, **facts}
    manifest |= {"pad": encoder.pad, "eos": encoder.eos}
    manifest["directions"] = [
        {
            "source": way.source,
            "target": way.target,
            "source_id": encoder.code_id(way.source),
            "target_id": encoder.code_id(way.target),
            **({"replay": True} if way.is_replay else {}),
        }
        for way in directions
    ]
    total = hashlib.sha256(json.dumps(manifest["directions"]).encode())
    rows = encoder.family(np.asarray(used, np.int64))
    file = disk.write(part / ROWS, [rows.astype(np.uint32).data])
    manifest["rows"] = {"count": len(rows), "files": {ROWS: file.sha256}}
    total.update(json.dumps(manifest["rows"], sort_keys=True).encode())
    for split, pairs in splits.items():
        entry = _write_split(part, split, pairs, directions, rows, disk)
        total.update(json.dumps(entry["files"], sort_keys=True).encode())
        manifest["splits"][split] = entry
    manifest["digest"] = total.hexdigest()
    disk.write(part / MANIFEST, [json.dumps(manifest, indent=1, ensure_ascii=False).encode()])
    disk.sync_folder(part)
    disk.rename(part, folder)
    disk.sync_folder(folder.parent)
    return Corpus(folder, manifest)


def _write_split(
    part: Path, split: Split, pairs: SplitBlocks, directions: Sequence[Direction], rows: NDArray[np.int64], disk: Disk
) -> dict[str, Any]:
    """Write the files of one split; returns its manifest entry."""
    counts, tokens = np.zeros(len(directions), np.int64), np.zeros(2, np.int64)
    for block in pairs.blocks():
        counts[block.direction] += len(block.lengths)
        tokens += block.lengths.sum(axis=0, dtype=np.int64)
    dtype = np.uint16 if len(rows) <= 2**16 else np.uint32
    place_of = np.zeros(int(rows[-1]) + 1, dtype)
    place_of[rows] = np.arange(len(rows), dtype=dtype)
    contents: dict[str, Iterable[Any]] = {
        f"{split}.ids": (place_of[block.ids()].data for block in pairs.blocks()),
        f"{split}.bounds": _bounds(pairs.blocks()),
        f"{split}.way": (np.full(len(block.lengths), block.direction, np.uint8).data for block in pairs.blocks()),
    }
    if split != "train":
        contents[f"{split}.jsonl"] = (_lines(block, directions[block.direction]) for block in pairs.blocks())
    files = {name: disk.write(part / name, chunks).sha256 for name, chunks in contents.items()}
    num_pairs = int(counts.sum())
    return {
        "count": num_pairs,
        "tokens": int(tokens.sum()),
        "target_tokens": int(tokens[1]) + 2 * num_pairs,
        "dtype": np.dtype(dtype).name,
        "pairs": {str(way): int(count) for way, count in zip(directions, counts, strict=True)},
        **pairs.facts,
        "files": files,
    }


def _bounds(blocks: Iterator[Block]) -> Iterator[Any]:
    end = np.zeros(1, np.uint64)
    yield end.data
    for block in blocks:
        ends = end + np.cumsum(block.lengths.ravel(), dtype=np.uint64)
        yield ends.data
        end = ends[-1:] if len(ends) else end


def _lines(block: Block, direction: Direction) -> bytes:
    rows = ([source, target, direction.source, direction.target] for source, target in block.texts)
    return "".join(json.dumps(row) + "\n" for row in rows).encode("ascii")
