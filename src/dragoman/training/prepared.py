"""`dragoman prepare`: everything up to the corpus, and a report on it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dragoman import host
from dragoman.checkpoint.log import RunLog
from dragoman.checkpoint.run_folder import JOURNAL, compare, stored_config
from dragoman.config import RunConfig
from dragoman.data import dump as dumping
from dragoman.data import planning, shares
from dragoman.data.corpus import Corpus
from dragoman.data.dump import Counted
from dragoman.errors import InputError
from dragoman.journal import Event, Journal
from dragoman.store.disk import Disk
from dragoman.training import inputs, opening
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
    mix: dict[str, int] | None
    """Pairs of each direction in an epoch; None when every training pair occurs once."""
    unknown_rate: dict[str, float]
    """Share of `<unk>` tokens per language."""
    unknown_characters: dict[str, list[tuple[str, int]]]
    """The characters behind them, the most frequent first, with counts."""


@dataclass(frozen=True)
class PartReport:
    """What one of several machines has prepared."""

    folder: Path
    part: str
    """Which part, as `i/n`."""
    read: int
    """Rows of this part."""
    kept: int
    """Pairs that are left of them; comparing all parts may drop more."""


def prepare_part(config: RunConfig, shard: str, echo: Callable[[Event], None] = lambda event: None) -> PartReport:
    """Prepare one machine's part of a corpus, `i/n`, in the run folder; `echo` gets every journal event.

    Raises:
        InputError: Options, data or model are wrong, or the folder holds another run.
    """
    share = shares.parse(shard)
    folder = opening.check(config)
    config = pinned(config, folder)
    compare(stored_config(folder), config, folder)
    inputs.check(config)
    host.be_gentle()
    with opening.opened_folder(folder, config.save.single_writer):
        selection = inputs.prepare_part(config, folder, Journal(folder / JOURNAL, echo), share)
    funnels = selection.funnels.values()
    return PartReport(folder, str(share), sum(one.read for one in funnels), sum(one.kept for one in funnels))


def prepare(
    config: RunConfig, merged: Sequence[Path] = (), echo: Callable[[Event], None] = lambda event: None
) -> Report:
    """Make, or find, the corpus of a run in its folder.

    Args:
        config: The whole configuration.
        merged: Folders in which other machines have prepared their parts.
        echo: Receives every journal event, for display.

    Raises:
        InputError: Options, data or model are wrong, a part is missing, or the folder holds another run.
    """
    folder = opening.check(config)
    config = pinned(config, folder)
    compare(stored_config(folder), config, folder)
    inputs.check(config)
    host.be_gentle()
    with opening.opened_folder(folder, config.save.single_writer) as store:
        begun = RunLog(store).newest
        journal = Journal(folder / JOURNAL, echo)
        corpus = inputs.obtain(config, folder, journal, store.disk, begun, merged).corpus
    return Report(
        corpus.folder,
        corpus.digest,
        corpus.manifest["funnel"],
        list(inputs.summary(corpus)),
        _mix(config, corpus),
        corpus.manifest["splits"]["train"]["unknown_rate"],
        corpus.unknown_characters,
    )


def _mix(config: RunConfig, corpus: Corpus) -> dict[str, int] | None:
    mix = planning.mix_for(config, corpus)
    if mix is None:
        return None
    return {str(way): part.quota for way, part in zip(corpus.directions, mix.parts, strict=True)}


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
