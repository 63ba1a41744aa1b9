"""The folder of a preparation under way: what one process has done, for those that go on.

A chunk is so many rows of one source as one process takes at once. Where chunks begin
depends on the data alone, so a killed preparation, another number of processes and another
machine all find the same ones. Each file appears whole or not at all. It is never fsynced: what is
lost is made again, and a checksum tells one that a power cut has damaged.
"""

import contextlib
import json
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dragoman import host
from dragoman.data.sources.rows import FileCount

ENDING = ".work"
"""Behind the name of such a folder."""


class Chunk(NamedTuple):
    """Which rows: the `number`-th chunk of a source of a direction, all counted from 0."""

    direction: int
    source: int
    number: int

    def __str__(self) -> str:
        return f"{self.direction:03}-{self.source:05}-{self.number:06}"


@dataclass(frozen=True)
class Work:
    """Names of the files."""

    folder: Path

    def cleaned(self, chunk: Chunk) -> Path:
        """The pairs of a chunk that are good in themselves."""
        return self.folder / f"cleaned-{chunk}.npz"

    def encoded(self, chunk: Chunk, tokenizer: str) -> Path:
        """The token ids of those that are kept."""
        return self.folder / f"encoded-{tokenizer[:16]}-{chunk}.npz"

    def ended(self, direction: int, source: int) -> Path:
        """How many chunks a source has; there once it was read to its end."""
        return self.folder / f"ended-{direction:03}-{source:05}.json"

    def num_chunks(self, direction: int, source: int) -> int | None:
        """Chunks of a source; None while nobody has read it to its end."""
        try:
            return int(json.loads(self.ended(direction, source).read_bytes())["chunks"])
        except (OSError, ValueError, LookupError, TypeError):
            return None

    def write_ended(self, direction: int, source: int, chunks: int, files: Sequence[FileCount]) -> None:
        """Record that a source has so many chunks, and what its files gave."""
        ended = {"chunks": chunks, "files": [count._asdict() for count in files]}
        replace(self.ended(direction, source), json.dumps(ended).encode())

    def files(self, direction: int) -> list[FileCount]:
        """What each file of the sources of a direction gave, in their order."""
        paths = sorted(self.folder.glob(f"ended-{direction:03}-*.json"))
        return [FileCount(**count) for path in paths for count in json.loads(path.read_bytes()).get("files", [])]

    def clear(self) -> None:
        """Remove the folder, and the one above when nothing else is in it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.folder.parent.rmdir()


def replace(path: Path, data: bytes) -> None:
    """Give a small file its content at once."""
    part = _part(path)
    part.write_bytes(data)
    part.replace(path)


def save(path: Path, facts: dict[str, Any], **arrays: NDArray[Any]) -> None:
    """Write arrays and facts; the file appears whole or not at all."""
    part = _part(path)
    with part.open("wb") as file:
        np.savez(file, allow_pickle=False, facts=np.frombuffer(json.dumps(facts).encode(), np.uint8), **arrays)
    part.replace(path)


def load(path: Path, *names: str) -> list[NDArray[Any]]:
    """Some arrays of a file that `save` wrote."""
    with np.load(path) as content:
        return [content[name] for name in names]


def facts(path: Path) -> dict[str, Any]:
    """The facts of a file that `save` wrote."""
    return json.loads(load(path, "facts")[0].tobytes())


def is_whole(path: Path) -> bool:
    """Whether the file is there and every byte as it was written."""
    try:
        with zipfile.ZipFile(path) as content:
            return content.testzip() is None
    except (OSError, zipfile.BadZipFile, EOFError):
        return False


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.{host.process_id()}.part")
