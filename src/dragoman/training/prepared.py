"""`dragoman prepare`: everything up to the corpus, and a report on it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dragoman import host
from dragoman.checkpoint.log import RunLog
from dragoman.checkpoint.run_folder import JOURNAL, compare, stored_config
from dragoman.config import RunConfig
from dragoman.data import dump as dumping
from dragoman.data.dump import Counted
from dragoman.errors import InputError
from dragoman.journal import Journal
from dragoman.store.disk import Disk
from dragoman.training import inputs, session
from dragoman.training.pinning import pinned


@dataclass(frozen=True)
class Report:
    """What became of the data."""

    folder: Path
    digest: str
    funnel: dict[str, Any]
    """Per direction, as `Funnel.to_json`."""
    pairs: list[tuple[str, int, int, int]]
    """(direction, train, dev, test)."""
    unknown_rate: dict[str, float]
    """Share of `<unk>` tokens per language."""


def prepare(config: RunConfig) -> Report:
    """Make, or find, the corpus of a run in its folder.

    Raises:
        InputError: Options, data or model are wrong, or the folder holds another run.
    """
    folder = session.check(config)
    config = pinned(config, folder)
    compare(stored_config(folder), config, folder)
    inputs.check(config)
    host.be_gentle()
    with session.opened_folder(folder, config.save.single_writer) as store:
        begun = RunLog(store).newest
        corpus = inputs.obtain(config, folder, Journal(folder / JOURNAL), store.disk, begun).corpus
    return Report(
        corpus.folder,
        corpus.digest,
        corpus.manifest["funnel"],
        list(inputs.summary(corpus)),
        corpus.manifest["splits"]["train"]["unknown_rate"],
    )


def dump(config: RunConfig, path: Path) -> list[Counted]:
    """Write every pair of a run as it is read, and nothing else.

    Raises:
        InputError: Languages or data are wrong, or the file cannot be written.
    """
    directions = inputs.directions_of(config)
    try:
        return dumping.dump(config.data, directions, path.expanduser(), Disk())
    except OSError as error:
        raise InputError(f"--dump {path}: cannot be written: {error.strerror}", "another path") from error
