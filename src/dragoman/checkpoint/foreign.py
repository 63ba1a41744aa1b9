"""A model on the Hub that no run of dragoman published: there are no records, so the Hub's own hashes must do.

As with a run, the folder gets its name when all is there.
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from dragoman.errors import InputError
from dragoman.store import probe
from dragoman.store.address import HUB, Access
from dragoman.store.disk import Disk, part

WANTED = ("*.json", "*.safetensors", "*.model", "README.md", "LICENSE*")
"""Files of a model, at the root of its repository."""
OLD_WEIGHTS = "pytorch_model*.bin"
"""The weights, where there are none in safetensors."""


@dataclass(frozen=True)
class Foreign:
    """What came of it."""

    url: str
    """The repository."""
    folder: Path
    """Where the files are now."""
    num_files: int
    num_bytes: int

    def to_json(self) -> dict[str, Any]:
        """The answer for programs, with the fields of a run's model that mean something here."""
        named = {"schema": 1, "url": self.url, "output": str(self.folder)}
        return named | {"num_files": self.num_files, "num_bytes": self.num_bytes}


def download(url: str, output: Path, access: Access, *, no_run: InputError, disk: Disk | None = None) -> Foreign:
    """Bring the model at the root of a Hub repository, each file compared with the hash that the Hub states.

    Args:
        url: `hf://USER/REPO`.
        output: A folder that is not there, or is empty.
        access: Told of bytes that arrive.
        no_run: Why it was not taken for a run; raised where it is no model either.
        disk: Takes every change.

    Raises:
        InputError: The repository holds no model, or the folder holds something.
        Damaged: Bytes are not what the Hub says that they are.
        StoreUnavailable: The Hub failed.
    """
    from dragoman.store.hub import HubStore

    disk, output = disk or Disk(), output.expanduser().absolute()
    store = HubStore(url.removeprefix(HUB), disk=disk)
    store.progress = access.progress
    there = store.root_files()
    names = [name for name in there if any(fnmatchcase(name, pattern) for pattern in WANTED)]
    if not any(name.endswith(".safetensors") for name in names):
        names += [name for name in there if fnmatchcase(name, OLD_WEIGHTS)]
    if "config.json" not in names:
        raise no_run
    if output.is_dir() and any(output.iterdir()):
        raise InputError(f"{output}: holds something already", "another --output, or remove that folder")
    growing = part(output)
    with probe.refusing(output):
        disk.make_folders(growing)
    store.bring(names, growing)
    disk.rename(growing, output)
    disk.sync_folder(output.parent)
    sizes = [(output / name).stat().st_size for name in names]
    return Foreign(url, output, len(sizes), sum(sizes))
