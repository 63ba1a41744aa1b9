"""The settings of a run, from nothing but its store."""

import tempfile
from pathlib import Path

from dragoman.checkpoint.log import RunLog
from dragoman.checkpoint.run_folder import read_config
from dragoman.config import RunConfig
from dragoman.errors import Damaged, InputError
from dragoman.store.record import TRAINING

CONFIG = f"{TRAINING}config.yaml"
"""Where a checkpoint holds them."""


def stored_settings(log: RunLog) -> RunConfig:
    """The settings of the run in a store, from its newest checkpoint that gives them.

    Raises:
        InputError: There is no checkpoint.
        Damaged: None of them gives them.
        StoreUnavailable: The store cannot be read.
    """
    damage: Damaged | None = None
    for checkpoint in log.checkpoints:
        with tempfile.TemporaryDirectory() as temporary:
            try:
                log.store.fetch(checkpoint, [CONFIG], Path(temporary))
            except Damaged as error:
                damage = damage or error
                continue
            return read_config(Path(temporary) / CONFIG)
    if damage:
        raise damage
    if log.run:
        raise InputError(f"{log.store}: the run here has no checkpoint yet", "start it again with dragoman train")
    raise InputError(f"{log.store}: there is no run here", "the folder of a run, or the URL of its store")
