"""What several machines have prepared of one corpus, brought together on one of them.

A machine with `--shard i/n` leaves a work folder in which its chunks are done. Merging puts
the files of all such folders into one, so what follows goes on as after an interruption: it
finds everything done, and what comes out is what one machine alone would have made.
"""

import contextlib
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dragoman.data import work
from dragoman.data.shares import Share
from dragoman.data.work import ENDING, Work
from dragoman.errors import InputError

MARKS = "part-*.json"
"""In a work folder in which a share is done."""


def finish(folder: Work, inputs: str, share: Share) -> None:
    """Record that this machine's share of these inputs is done."""
    mark = {"inputs": inputs, "part": share.number, "of": share.of}
    work.replace(folder.folder / f"part-{share.number}-{share.of}.json", json.dumps(mark).encode())


def merge(into: Work, inputs: str, folders: Sequence[Path]) -> None:
    """Bring the parts in `folders`, and in the work folder itself, together there.

    Args:
        into: The work folder to go on in.
        inputs: The digest that all parts must have.
        folders: The `--output` of each machine, or a folder above several of them.

    Raises:
        InputError: A folder holds no finished part, one of other data or settings, or a part is missing.
    """
    found: dict[int, Path] = {}
    number_of = 0
    for folder in (into.folder, *folders):
        parts = list(_parts(folder))
        if not parts and folder != into.folder:
            raise InputError(f"--merge {folder}: no part is finished there", "the --output of a run with --shard i/n")
        for path, mark in parts:
            if mark["inputs"] != inputs:
                raise InputError(
                    f"--merge {folder}: part {mark['part']} of {mark['of']} was made of other data or settings",
                    "the same options and the same files on every machine",
                )
            if number_of not in (0, mark["of"]):
                raise InputError(f"--merge {folder}: it is a part of {mark['of']}, others of {number_of}", "equal n")
            number_of = mark["of"]
            found[mark["part"]] = path
    missing = [str(Share(number, number_of)) for number in range(1, number_of + 1) if number not in found]
    if missing:
        raise InputError(f"--merge: parts are missing: {', '.join(missing)}", "name the folders of all machines")
    into.folder.mkdir(parents=True, exist_ok=True)
    for path in found.values():
        _take(path, into.folder)


def _parts(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Finished parts in or below a folder."""
    for mark in sorted(folder.rglob(MARKS)):
        with contextlib.suppress(OSError, ValueError):  # a mark that a power cut has damaged is none
            if mark.parent.suffix == ENDING:
                yield mark.parent, json.loads(mark.read_bytes())


def _take(part: Path, into: Path) -> None:
    """Give the files of a part a second name, or copy them from another disk."""
    for file in sorted(part.iterdir()):
        target = into / file.name
        if target.exists():
            continue
        try:
            target.hardlink_to(file)
        except OSError:
            copy = target.with_name(f"{target.name}.part")
            shutil.copyfile(file, copy)
            copy.replace(target)
