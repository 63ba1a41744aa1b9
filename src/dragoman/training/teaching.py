"""The base model of a run that teaches languages: NLLB's, with their codes and characters.

It is made from the data, so it stands in the run folder, where a second session and
`dragoman evaluate` find it; the file that says what it was made from is written last.
"""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from dragoman.config import RunConfig
from dragoman.data import replay
from dragoman.data.corpus import Text
from dragoman.journal import Journal, LanguagesAdded, Warned
from dragoman.languages import parse_pairs
from dragoman.model import new_language, nllb, vocabulary
from dragoman.model.new_language import NewLanguage
from dragoman.store.disk import Disk

KEY = "made_from.json"


def taught(
    config: RunConfig,
    found: Path,
    base: Path,
    inputs: str,
    train: Callable[[], Iterable[Text]],
    journal: Journal,
    disk: Disk,
) -> Path:
    """The folder of a model that knows the new languages of the options: `base`, or `found` when it lacks nothing.

    Args:
        config: Languages and their relatives.
        found: The model as it was found.
        base: Where the taught one is made, if it is not there yet.
        inputs: Digest of the data.
        train: Gives the training pairs; asked only when the model has to be made.
        journal: Told of what is added.
        disk: Takes every change.

    Raises:
        InputError: A language has no relatives, and the model does not know it.
        ModelError: The model is not usable, or lacks a relative.
    """
    from dragoman.training import state, tensor_file

    languages = new_language.parse(config.data.new_language, config.data.like)
    made_from = {"inputs": inputs, "model": config.model.model, "revision": config.model.revision}
    made_from |= {"languages": [[language.code, *language.like] for language in languages]}
    if is_made_from(base, made_from):
        return base
    words = vocabulary.load(found, {code for language in languages for code in language.like})
    new_language.additions(words, languages, ())  # refuses what cannot be before all data is read
    added = new_language.additions(words, languages, _texts(train(), {language.code for language in languages}))
    if not added:
        return found
    model = nllb.load(found)
    vocabulary.check_codes(words, nllb.num_rows(model))
    new_language.extend_model(model, len(words), added)
    nllb.check(model, found)
    tokenizer = new_language.extend_tokenizer((found / "tokenizer.json").read_bytes(), added)
    if base.exists():
        shutil.rmtree(base)
    disk.make_folders(base)
    for name, content in nllb.model_files(model, found, tokenizer).items():
        disk.replace(base / name, content)
    disk.write(base / state.WEIGHTS, tensor_file.chunks(dict(nllb.weights(model)), {"format": "pt"}))
    finish(base, made_from, disk)
    journal.append(
        LanguagesAdded(
            languages={language.code: list(language.like) for language in languages},
            characters="".join(addition.token for addition in added if not addition.is_code),
            first_row=len(words),
            rows=nllb.num_rows(model),
        )
    )
    _warn_of_forgetting(config, languages, journal)
    return base


def _warn_of_forgetting(config: RunConfig, languages: Sequence[NewLanguage], journal: Journal) -> None:
    """A language begins as its relatives: what is not rehearsed in them is soon answered in it."""
    learned = [way for pair in config.data.language_pairs for way in parse_pairs(pair, config.data.new_codes)]
    trained = {code for way in (*learned, *replay.directions_of(config.data)) for code in (way.source, way.target)}
    for language in languages:
        if language.like and trained.isdisjoint(language.like):
            relatives = " or ".join(language.like)
            message = f"{language.code} begins as {relatives}, and no pair to train on is in it: the model forgets it"
            journal.append(Warned(message=f"{message}; rehearse it, such as --replay PAIR=FILE:0.25"))


def is_made_from(base: Path, made_from: dict[str, object]) -> bool:
    """Whether a whole base model of this origin is in the folder."""
    key = base / KEY
    return key.exists() and json.loads(key.read_text("utf-8")) == made_from


def finish(base: Path, made_from: dict[str, object], disk: Disk) -> None:
    """Declare a base model whole, and say what it was made from."""
    disk.sync_folder(base)
    disk.replace(base / KEY, json.dumps(made_from).encode())


def _texts(train: Iterable[Text], codes: set[str]) -> Iterator[str]:
    """All training texts in some languages."""
    for pair in train:
        if pair.direction.source in codes:
            yield pair.source
        if pair.direction.target in codes:
            yield pair.target
