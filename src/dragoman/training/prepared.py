"""`dragoman prepare`: everything up to the corpus, and a report on it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dragoman import host
from dragoman.checkpoint.log import RunLog
from dragoman.checkpoint.run_folder import JOURNAL, compare, stored_config
from dragoman.config import RunConfig
from dragoman.data.corpus import Corpus
from dragoman.journal import Journal
from dragoman.training import inputs, mixture, session


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


def prepare(config: RunConfig) -> Report:
    """Make, or find, the corpus of a run in its folder.

    Raises:
        InputError: Options, data or model are wrong, or the folder holds another run.
    """
    folder = session.check(config)
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
        _mix(config, corpus),
        corpus.manifest["splits"]["train"]["unknown_rate"],
    )


def _mix(config: RunConfig, corpus: Corpus) -> dict[str, int] | None:
    mix = mixture.mix_for(config, corpus)
    if mix is None:
        return None
    return {str(way): part.quota for way, part in zip(corpus.directions, mix.parts, strict=True)}
