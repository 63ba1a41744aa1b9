"""The prepared pairs of a run: immutable arrays on disk, named by what went into them.

A corpus folder is written beside its final name and renamed when complete, so a folder
that exists is whole. Its name is a digest of inputs and settings: the same command
finds it again, another one cannot mistake it for its own. What is stored per split:

    rows.ids      uint32, sorted: every token that the pairs use or text like them may use
    train.ids     pieces of source and target in turn, as places in rows.ids, uint16 or uint32
    train.bounds  uint64, 2 n + 1 offsets into ids
    train.way     uint8, index into the manifest's directions; the pairs of one stand together, in that order
    dev.jsonl, test.jsonl   the held-out text, [source, target, source code, target code]
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dragoman.data import encode
from dragoman.data.filters import Split
from dragoman.errors import Damaged
from dragoman.languages import Direction
from dragoman.store.disk import Disk, digest

FORMAT = 2
MANIFEST = "corpus.json"
ROWS = "rows.ids"
PART = ".part"
"""Behind the name of a folder that is not whole yet; nobody opens one."""


class Text(NamedTuple):
    """One pair as text."""

    source: str
    target: str
    direction: Direction


class Encoded(NamedTuple):
    """One pair as text and as token pieces, without codes and `</s>`."""

    text: Text
    source_ids: Sequence[int]
    target_ids: Sequence[int]


@dataclass(frozen=True)
class Arrays:
    """The token arrays of one split, memory-mapped."""

    ids: NDArray[np.unsignedinteger[Any]]
    """Pieces of source and target of every pair in turn, as places in the corpus's rows."""
    bounds: NDArray[np.uint64]
    """Where each of them begins, and where the last one ends."""
    way: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.way)

    def lengths(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Pieces of source and target of these pairs, without code and `</s>`, shape (pairs, 2)."""
        return np.diff(self.bounds[2 * indices[:, None] + np.arange(3)].astype(np.int64))


@dataclass(frozen=True)
class Corpus:
    """An opened corpus folder."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def digest(self) -> str:
        """Sha256 over all arrays and texts: what a checkpoint records to prove that data is the same."""
        return self.manifest["digest"]

    @property
    def directions(self) -> list[Direction]:
        """The directions, in the order that `way` counts them."""
        return [
            Direction(entry["source"], entry["target"], entry.get("replay", False))
            for entry in self.manifest["directions"]
        ]

    @property
    def codes(self) -> NDArray[np.int64]:
        """Token ids of (source code, target code) per direction, shape (directions, 2)."""
        entries = self.manifest["directions"]
        return np.array([(entry["source_id"], entry["target_id"]) for entry in entries], dtype=np.int64)

    @property
    def rows(self) -> NDArray[np.int64]:
        """Token ids that the pairs, or text like them, can hold: sorted, specials and all codes among them.

        Raises:
            Damaged: The file is missing or has another size than recorded.
        """
        path, count = self.folder / ROWS, self.manifest["rows"]["count"]
        if not path.exists() or path.stat().st_size != 4 * count:
            raise _damaged(path)
        return np.fromfile(path, dtype=np.uint32).astype(np.int64)

    def counts(self, split: Split) -> dict[str, int]:
        """Pairs per direction in one split."""
        return self.manifest["splits"][split]["pairs"]

    def arrays(self, split: Split) -> Arrays:
        """The token arrays of a split.

        Raises:
            Damaged: A file is missing or has another size than recorded.
        """
        entry = self.manifest["splits"][split]
        shapes = {"ids": (entry["dtype"], entry["tokens"]), "bounds": ("uint64", 2 * entry["count"] + 1)}
        shapes["way"] = ("uint8", entry["count"])
        loaded: dict[str, Any] = {}
        for name, (dtype, length) in shapes.items():
            path = self.folder / f"{split}.{name}"
            if not path.exists() or path.stat().st_size != np.dtype(dtype).itemsize * length:
                raise _damaged(path)
            loaded[name] = np.memmap(path, dtype=dtype, mode="r") if length else np.empty(0, dtype)
        return Arrays(**loaded)

    def verify(self) -> None:
        """Read every file and compare it with the manifest: training on other bytes would not be exact.

        Raises:
            Damaged: A file is missing or is not as it was written.
        """
        for entry in (self.manifest["rows"], *self.manifest["splits"].values()):
            for name, sha256 in entry["files"].items():
                path = self.folder / name
                if not path.exists() or digest(path).sha256 != sha256:
                    raise Damaged(f"{path} is damaged", f"delete {self.folder}; it is rebuilt from --data")

    def texts(self, split: Literal["dev", "test"]) -> list[Text]:
        """The held-out pairs as text, in their stored order."""
        return list(read_texts(self.folder / f"{split}.jsonl"))


def read_texts(path: Path) -> Iterator[Text]:
    """Pairs of a file written by `write`: one JSON array per line."""
    with path.open(encoding="ascii") as lines:
        for line in lines:
            source, target, source_code, target_code = json.loads(line)
            yield Text(source, target, Direction(source_code, target_code))


def open_corpus(folder: Path) -> Corpus | None:
    """The corpus in `folder`, or None when there is no whole one of this format.

    Raises:
        Damaged: The folder is there, but its manifest cannot be read.
    """
    if folder.suffix == PART or not folder.is_dir():
        return None
    manifest = folder / MANIFEST
    try:
        content = json.loads(manifest.read_text("utf-8"))
        is_ours = content["format"] == FORMAT
    except (OSError, ValueError, LookupError, TypeError):
        raise _damaged(manifest) from None
    return Corpus(folder, content) if is_ours else None


def _damaged(path: Path) -> Damaged:
    return Damaged(f"{path} is damaged", f"delete {path.parent}; it is rebuilt from --data")


def write(
    folder: Path,
    splits: dict[Split, Sequence[Encoded]],
    directions: Sequence[Direction],
    encoder: encode.Encoder,
    facts: dict[str, Any],
    disk: Disk,
) -> Corpus:
    """Write a corpus; `folder` appears whole or not at all.

    Args:
        folder: Where it will stand; must not exist.
        splits: The pairs of each split.
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
    rows = encoder.family(np.unique(np.concatenate([_flat(pairs) for pairs in splits.values()])))
    file = disk.write(part / ROWS, [rows.astype(np.uint32).data])
    manifest["rows"] = {"count": len(rows), "files": {ROWS: file.sha256}}
    total.update(json.dumps(manifest["rows"], sort_keys=True).encode())
    for split, pairs in splits.items():
        entry = _write_split(part, split, pairs, directions, rows, encoder.unk, disk)
        total.update(json.dumps(entry["files"], sort_keys=True).encode())
        manifest["splits"][split] = entry
    manifest["digest"] = total.hexdigest()
    disk.write(part / MANIFEST, [json.dumps(manifest, indent=1, ensure_ascii=False).encode()])
    disk.sync_folder(part)
    disk.rename(part, folder)
    disk.sync_folder(folder.parent)
    return Corpus(folder, manifest)


def _write_split(
    part: Path,
    split: Split,
    pairs: Sequence[Encoded],
    directions: Sequence[Direction],
    rows: NDArray[np.int64],
    unk: int,
    disk: Disk,
) -> dict[str, Any]:
    """Write the files of one split; returns its manifest entry."""
    order = {direction: index for index, direction in enumerate(directions)}
    lengths = np.array([len(ids) for pair in pairs for ids in (pair.source_ids, pair.target_ids)], dtype=np.uint64)
    bounds = np.concatenate((np.zeros(1, np.uint64), np.cumsum(lengths, dtype=np.uint64)))
    flat = np.searchsorted(rows, _flat(pairs))
    dtype = np.uint16 if len(rows) <= 2**16 else np.uint32
    way = np.array([order[pair.text.direction] for pair in pairs], dtype=np.uint8)
    contents: dict[str, Iterable[Any]] = {
        f"{split}.ids": [flat.astype(dtype).data],
        f"{split}.bounds": [bounds.data],
        f"{split}.way": [way.data],
    }
    if split != "train":
        contents[f"{split}.jsonl"] = [_line(pair.text) for pair in pairs]
    files = {name: disk.write(part / name, chunks).sha256 for name, chunks in contents.items()}
    return {
        "count": len(pairs),
        "tokens": int(bounds[-1]),
        "target_tokens": int(lengths[1::2].sum()) + 2 * len(pairs),
        "dtype": np.dtype(dtype).name,
        "pairs": {str(way): sum(1 for pair in pairs if pair.text.direction == way) for way in directions},
        "unknown_rate": _unknown_rate(pairs, unk),
        "files": files,
    }


def _flat(pairs: Sequence[Encoded]) -> NDArray[np.int64]:
    """All pieces, source and target in turn, as token ids."""
    tokens = (token for pair in pairs for ids in (pair.source_ids, pair.target_ids) for token in ids)
    return np.fromiter(tokens, dtype=np.int64)


def _unknown_rate(pairs: Sequence[Encoded], unk: int) -> dict[str, float]:
    """Share of `<unk>` among the pieces of each language."""
    tallies: dict[str, list[int]] = {}
    for pair in pairs:
        for code, ids in ((pair.text.direction.source, pair.source_ids), (pair.text.direction.target, pair.target_ids)):
            tally = tallies.setdefault(code, [0, 0])
            tally[0] += sum(1 for token in ids if token == unk)
            tally[1] += len(ids)
    return {code: unknown / max(total, 1) for code, (unknown, total) in sorted(tallies.items())}


def _line(pair: Text) -> bytes:
    row = [pair.source, pair.target, pair.direction.source, pair.direction.target]
    return (json.dumps(row) + "\n").encode("ascii")
