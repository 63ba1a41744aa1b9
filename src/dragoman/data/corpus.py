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

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dragoman.data.filters import Split
from dragoman.data.work import ENDING
from dragoman.errors import Damaged
from dragoman.languages import Direction
from dragoman.store.disk import digest

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
        entries = self.manifest["directions"]
        return [Direction(entry["source"], entry["target"], entry.get("replay", False)) for entry in entries]

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

    @property
    def unknown_characters(self) -> dict[str, list[tuple[str, int]]]:
        """The characters of each language's training text that became `<unk>`, the most frequent first, with counts."""
        found = self.manifest["splits"]["train"].get("unknown_characters", {})
        return {code: [(character, count) for character, count in rows] for code, rows in found.items()}

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
    """Pairs of a file of held-out text: one JSON array per line."""
    with path.open(encoding="ascii") as lines:
        for line in lines:
            source, target, source_code, target_code = json.loads(line)
            yield Text(source, target, Direction(source_code, target_code))


def open_corpus(folder: Path) -> Corpus | None:
    """The corpus in `folder`, or None when there is no whole one of this format.

    Raises:
        Damaged: The folder is there, but its manifest cannot be read.
    """
    if folder.suffix in (PART, ENDING) or not folder.is_dir():
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
