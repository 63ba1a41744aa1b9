"""Data sets on the Hub, tied to the commit that a run was begun with.

The commit stands in the run's own settings, which travel with every checkpoint: whoever
continues the run, on whichever machine, reads the same bytes.
"""

from collections.abc import Sequence
from pathlib import Path

from dragoman.checkpoint.run_folder import stored_config
from dragoman.config import DataConfig, RunConfig
from dragoman.data.sources import pinned as pinned_entries


def pinned(config: RunConfig, folder: Path) -> RunConfig:
    """The configuration with a commit behind every data set: that of the run in `folder`, else the newest.

    Raises:
        DataError: The Hub does not tell the newest, and was never asked before.
    """
    return like(config, stored_config(folder))


def like(config: RunConfig, stored: RunConfig | None) -> RunConfig:
    """The same, with the commits of a run whose settings are `stored`.

    Raises:
        DataError: As `pinned`.
    """
    before = stored.data if stored else DataConfig(data=[])
    places = {
        "data": pinned_entries(config.data.data, before.data),
        "held_out": pinned_entries(config.data.held_out, before.held_out),
        "replay": _with_shares(config.data.replay, before.replay),
    }
    if all(getattr(config.data, name) == entries for name, entries in places.items()):
        return config
    return config.model_copy(update={"data": config.data.model_copy(update=places)})


def _with_shares(replay: Sequence[str], stored: Sequence[str]) -> list[str]:
    """Entries of `--replay`, pinned in front of their shares."""
    begun_with = [text.rpartition(":")[0] for text in stored]
    found: list[str] = []
    for text in replay:
        entry, colon, share = text.rpartition(":")
        found.append(f"{pinned_entries([entry], begun_with)[0]}{colon}{share}" if entry else text)
    return found
