"""The model that a run starts from: found, built from the data, or found and taught new languages.

What is made stands in the run folder, so that a second session and `dragoman evaluate` find
it again; the file that says what it was made from is written last.
"""

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from dragoman.config import RunConfig
from dragoman.data import prepare
from dragoman.data.prepare import Selection
from dragoman.journal import Journal, LanguagesAdded
from dragoman.languages import Direction
from dragoman.model import new_language, nllb, scratch, vocabulary
from dragoman.model.new_language import NewLanguage
from dragoman.store.disk import Disk
from dragoman.training import state

BASE = "dragoman/base"
BASE_KEY = "made_from.json"


@dataclass
class Selecting:
    """The data of a run, read only when somebody asks."""

    config: RunConfig
    directions: list[Direction]

    @cached_property
    def key(self) -> str:
        """Digest of everything that decides the selection; reads every file."""
        return prepare.inputs_digest(self.config.data, self.directions, self.config.training.seed)

    @cached_property
    def selection(self) -> Selection:
        """The pairs of each split."""
        return prepare.select(self.config.data, self.directions, self.config.training.seed)

    def texts(self, code: str) -> list[str]:
        """All training texts in one language."""
        found: list[str] = []
        for pair in self.selection.splits["train"]:
            found += [pair.source] * (pair.direction.source == code) + [pair.target] * (pair.direction.target == code)
        return found


def obtain(config: RunConfig, folder: Path, selecting: Selecting, journal: Journal, disk: Disk) -> Path:
    """The folder of the base model of a run that begins.

    Args:
        config: The whole configuration.
        folder: The run folder.
        selecting: The run's data.
        journal: Told of languages that are added.
        disk: Takes every change.

    Raises:
        InputError: A new language has no relatives.
        ModelError: There is no such model, or it is not usable.
    """
    model, base = config.model, folder / BASE
    if sizes := scratch.preset(model.model):
        made_from: dict[str, object] = {"inputs": selecting.key, "preset": model.model, "seed": config.training.seed}
        if not _is_made_from(base, made_from):
            _build(base, selecting, sizes, config.training.seed, disk)
            _finish(base, made_from, disk)
        return base
    found = nllb.find(model.model, model.revision)
    if not model.new_language:
        return found
    taught = new_language.parse(model.new_language, model.like)
    made_from = {"inputs": selecting.key, "model": model.model, "revision": model.revision}
    made_from["languages"] = [asdict(language) for language in taught]
    made_from = json.loads(json.dumps(made_from))
    if _is_made_from(base, made_from):
        return base
    if not _teach(found, base, taught, selecting, journal, disk):
        return found
    _finish(base, made_from, disk)
    return base


def _is_made_from(base: Path, made_from: dict[str, object]) -> bool:
    key = base / BASE_KEY
    return key.exists() and json.loads(key.read_text("utf-8")) == made_from


def _finish(base: Path, made_from: dict[str, object], disk: Disk) -> None:
    disk.sync_folder(base)
    disk.replace(base / BASE_KEY, json.dumps(made_from).encode())


def _build(base: Path, selecting: Selecting, sizes: scratch.Preset, seed: int, disk: Disk) -> None:
    """Build a scratch model elsewhere, then copy it to `base`."""
    if base.exists():
        shutil.rmtree(base)
    with tempfile.TemporaryDirectory() as temporary:
        texts = scratch.texts((pair.source, pair.target) for pair in selecting.selection.splits["train"])
        scratch.build(Path(temporary), texts, sizes, seed)
        disk.make_folders(base)
        for file in sorted(Path(temporary).iterdir()):
            disk.copy(file, base / file.name)


def _teach(
    found: Path,
    base: Path,
    taught: Sequence[NewLanguage],
    selecting: Selecting,
    journal: Journal,
    disk: Disk,
) -> bool:
    """Write the model of `found` with codes and characters of new languages; False when it lacks none."""
    words = vocabulary.load(found, {code for language in taught for code in language.like})
    new_language.additions(words, taught, {language.code: () for language in taught})  # before all data is read
    texts = {language.code: selecting.texts(language.code) for language in taught}
    added = new_language.additions(words, taught, texts)
    if not added:
        return False
    model, first = nllb.load(found), len(words)
    vocabulary.check_codes(words, nllb.num_rows(model))
    new_language.extend_model(model, first, added)
    nllb.check(model, found)
    tokenizer = new_language.extend_tokenizer((found / "tokenizer.json").read_bytes(), added)
    if base.exists():
        shutil.rmtree(base)
    disk.make_folders(base)
    for name, content in nllb.model_files(model, found, tokenizer).items():
        disk.replace(base / name, content)
    disk.write(base / state.WEIGHTS, state.safetensors_chunks(dict(nllb.weights(model)), {"format": "pt"}))
    journal.append(
        LanguagesAdded(
            languages={language.code: list(language.like) for language in taught},
            characters="".join(addition.token for addition in added if not addition.is_code),
            first_row=first,
            rows=nllb.num_rows(model),
        )
    )
    return True
