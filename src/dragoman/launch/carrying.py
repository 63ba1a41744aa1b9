"""What a machine needs of this one: data files that lie here, and packages that the run reads or uses.

Data on the Hub and catalogues of installed packages need no carrying. Relative paths keep
their names, so that a run that began here is the same run there.
"""

from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from dragoman.config import DataConfig, RunConfig
from dragoman.data.sources import entries
from dragoman.data.sources.entries import GETTEXT_PREFIX, Entry
from dragoman.data.sources.gettext import DISTRIBUTIONS
from dragoman.errors import InputError
from dragoman.store.address import OBJECTS

FILES = "files"
"""Where the run's working folder is on the machine, beside its run file; data files of this machine lie in it."""
MOST_BYTES = 200_000_000
"""What is carried at most; more belongs where it can be fetched from."""


class Carried(NamedTuple):
    """The data of a run, as the machine will find it."""

    data: DataConfig
    """With the paths that it has there."""
    files: dict[str, bytes]
    """By path in the working folder."""


def carry(data: DataConfig) -> Carried:
    """Read the data files of this machine, and name them as they will be named there.

    Raises:
        InputError: One is not there, or all are too many bytes.
    """
    packing = _Packing(data.new_codes)
    here = [packing.text(text) for text in data.data]
    rehearsed = [packing.replay(text) for text in data.replay]
    given = {"data": here, "replay": rehearsed}
    changed = {name: value for name, value in given.items() if value != getattr(data, name)}
    return Carried(data.model_copy(update=changed), {name: path.read_bytes() for name, path in packing.files.items()})


def extras(config: RunConfig) -> list[str]:
    """Which extras of this package the run needs."""
    return [
        *["s3"] * (config.store.url or "").startswith(OBJECTS),
        *["langid"] * config.data.langid,
        *["lora"] * (config.model.adapter == "lora"),
        *["8bit"] * (config.training.optimizer == "adamw8bit"),
    ]


def catalogue_packages(data: DataConfig) -> list[str]:
    """The distributions whose catalogues are read, in the version that is installed here, if one is."""
    texts = [*data.data, *(text.rpartition(":")[0] for text in data.replay)]
    found = [entry for text in texts for entry in entries.parse([text], data.new_codes)]
    names = [name for entry in found if entry.place.startswith(GETTEXT_PREFIX) for name in entries.packages(entry)]
    return [_pinned(DISTRIBUTIONS.get(name, name)) for name in dict.fromkeys(names)]


def _pinned(name: str) -> str:
    try:
        return f"{name}=={metadata.version(name)}"
    except metadata.PackageNotFoundError:
        return name


class _Packing:
    """Gives every file its name on the machine."""

    def __init__(self, new: Sequence[str]) -> None:
        self.files: dict[str, Path] = {}
        self._new, self._folders, self._num_bytes = new, dict[Path, str](), 0

    def text(self, text: str) -> str:
        """An entry of `--data`, with the path that it has there."""
        [entry] = entries.parse([text], self._new)
        if entry.place.startswith(GETTEXT_PREFIX) or entries.data_set_of(entry):
            return text
        tie = f"{text.partition('=')[0]}=" if entry.direction else ""
        return f"{tie}{self._place(entry)}"

    def replay(self, text: str) -> str:
        """An entry of `--replay`; its share stands behind the last colon."""
        entry, colon, share = text.rpartition(":")
        return f"{self.text(entry)}{colon}{share}" if colon else text

    def _place(self, entry: Entry) -> str:
        path = entries.existing_path(entry)
        lies = next(above for above in (path, *path.parents) if above.exists())  # an archive, for what is in one
        name = self._name(lies)
        for found in _files(lies):
            self._num_bytes += found.stat().st_size
            if self._num_bytes > MOST_BYTES:
                raise InputError(
                    f"--data {entry.text}: more than {MOST_BYTES / 1e6:.0f} MB of data files cannot be carried along",
                    "put them into a private data set on the Hub, and name it: --data USER/NAME",
                )
            self.files[str(PurePosixPath(name, found.relative_to(lies).as_posix()))] = found
        return str(PurePosixPath(name, path.relative_to(lies).as_posix()))

    def _name(self, path: Path) -> str:
        if not path.is_absolute() and ".." not in path.parts:
            return path.as_posix()
        folder = path.absolute().parent
        number = len(self._folders) + 1
        above = self._folders.setdefault(folder, "data" if number == 1 else f"data{number}")
        return f"{above}/{path.name}"


def _files(path: Path) -> Iterator[Path]:
    """A file, or all files below a folder."""
    return iter([path]) if path.is_file() else (found for found in sorted(path.rglob("*")) if found.is_file())
