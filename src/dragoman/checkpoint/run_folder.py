"""What a run folder holds besides the checkpoints of its store, and where."""

import json
import re
from pathlib import Path

import yaml
from pydantic import ValidationError

from dragoman.config import RunConfig, differences, from_flat
from dragoman.errors import ConfigMismatch, InputError

CONFIG = "dragoman/config.yaml"
JOURNAL = "dragoman/journal.jsonl"
CORPUS = "dragoman/corpus"
CORPUS_MANIFEST = "corpus.json"


def run_folder(config: RunConfig) -> Path:
    """`--output`, or a name made of pairs and model, so that the same command finds its run again."""
    if config.save.output:
        return config.save.output.expanduser()
    words = "+".join(config.data.language_pairs) + "-" + config.model.model.rstrip("/").rsplit("/", 1)[-1]
    return Path("runs") / re.sub(r"[^\w.+-]+", "-", words)


def stored_config(folder: Path) -> RunConfig | None:
    """The configuration of the run in `folder`; None when there is none.

    Raises:
        InputError: The file is damaged.
    """
    path = folder / CONFIG
    return read_config(path) if path.exists() else None


def read_config(path: Path) -> RunConfig:
    """The configuration that a run has stored at `path`.

    Raises:
        InputError: The file is damaged.
    """
    try:
        return from_flat(yaml.safe_load(path.read_text("utf-8")))
    except (yaml.YAMLError, ValidationError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a run's configuration: {error}", "restore the file") from None


def compare(stored: RunConfig | None, config: RunConfig, where: object) -> None:
    """Refuse to continue a run with settings that would make it another run.

    Args:
        stored: Those that it was started with.
        config: Those that are asked for.
        where: The folder or store that holds the run.

    Raises:
        ConfigMismatch: Shows every difference.
    """
    if stored is None or not (changed := differences(stored, config)):
        return
    lines = [f"  --{name.replace('_', '-')}: {old} → {new}" for name, old, new in changed]
    raise ConfigMismatch(
        f"{where} holds a run with other settings:\n" + "\n".join(lines),
        f"dragoman resume {where} (keeps its settings), or another --output for a new run",
    )


def corpus_files(folder: Path, digest: str) -> dict[str, Path]:
    """The files of the prepared corpus with that digest, by their path in the folder; none when it is not there."""
    for manifest in (folder / CORPUS).glob(f"*/{CORPUS_MANIFEST}"):
        if json.loads(manifest.read_bytes()).get("digest") == digest:
            files = (path for path in sorted(manifest.parent.iterdir()) if path.is_file())
            return {path.relative_to(folder).as_posix(): path for path in files}
    return {}
