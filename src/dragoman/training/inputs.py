"""What a run starts from: directions, a base model in a folder, and the corpus for it.

A scratch model learns its vocabulary from the corpus, and the corpus is encoded with
that vocabulary; so this is the one place where the two meet. Both are found again by
the digest of what they were made from, so a second session makes neither.
"""

import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from dragoman.checkpoint.run_folder import CORPUS, corpus_files
from dragoman.config import RunConfig
from dragoman.data import corpus as corpus_data
from dragoman.data import prepare
from dragoman.data.corpus import Corpus
from dragoman.data.prepare import Selection
from dragoman.data.sources import Source, check_data, open_sources
from dragoman.errors import InputError
from dragoman.journal import Journal, Prepared, Warned
from dragoman.languages import Direction, parse_pair
from dragoman.model import nllb, scratch, vocabulary
from dragoman.model.vocabulary import Vocabulary
from dragoman.store.disk import Disk
from dragoman.store.record import CheckpointRecord

BASE = "dragoman/base"
BASE_KEY = "made_from.json"
REJECTED = "dragoman/rejected.tsv"
HIGH_UNKNOWN_RATE = 0.01
HOPELESS_UNKNOWN_RATE = 0.5


@dataclass(frozen=True)
class Inputs:
    """A base model's folder, its vocabulary and the corpus encoded with it."""

    base: Path
    vocabulary: Vocabulary
    corpus: Corpus
    from_scratch: bool


def directions_of(config: RunConfig) -> list[Direction]:
    """The directions to learn, each once.

    Raises:
        InputError: None, unknown or equal languages, a direction twice, or `--data` does not fit them.
    """
    if not config.data.language_pairs:
        raise InputError("--language-pairs is missing", "--language-pairs en-fr en-de")
    if not config.data.data:
        raise InputError(
            "--data is missing: where are the sentence pairs?",
            "--data en-fr=pairs.tsv (source<TAB>target), another file, or gettext:PACKAGE",
        )
    directions = [parse_pair(pair) for pair in config.data.language_pairs]
    for direction in directions:
        if directions.count(direction) > 1:
            raise InputError(f"--language-pairs names {direction} twice", "name each direction once")
    check_data(config.data.data, directions)
    return directions


def sources_of(config: RunConfig, direction: Direction) -> list[Source]:
    """The sources of one direction, opened but not read.

    Raises:
        InputError: None serves it, or one cannot be opened.
    """
    return open_sources(config.data.data, direction, on_bad_rows=config.data.on_bad_rows)


def check(config: RunConfig) -> None:
    """Look at data and base model of a run that begins, without reading them.

    Raises:
        InputError: A source serves no pair or cannot be opened, or the base model is not one.
    """
    directions = directions_of(config)
    for direction in directions:
        sources_of(config, direction)
    if scratch.preset(config.model.model) is None and (base := nllb.check_name(config.model.model)):
        vocabulary.load(base, _codes(directions))


def obtain(
    config: RunConfig, folder: Path, journal: Journal, disk: Disk, begun: CheckpointRecord | None = None
) -> Inputs:
    """Find or make the base model and the corpus of a run below its folder.

    Args:
        config: The whole configuration.
        folder: The run folder.
        journal: Told of the corpus.
        disk: Takes every change.
        begun: The whole checkpoint in the folder that training continues from: architecture and tokenizer are
            its own, and so is the corpus where the data is not at hand.

    Raises:
        DataError: The data cannot be read, or leaves nothing to train on.
        ModelError: The base model is missing or not usable.
    """
    started = time.monotonic()
    directions = directions_of(config)
    selecting = _Selecting(config, directions)
    base = folder / begun.folder if begun else _base(config, folder, selecting, disk)
    encoder = vocabulary.load(base, _codes(directions))
    corpus = _stored(folder, begun, selecting)
    reused = corpus is not None
    if corpus is None:
        corpus = prepare.find(folder / CORPUS, selecting.key, encoder)
        reused = corpus is not None
    if corpus is None:
        selection = selecting.selection
        disk.make_folders(folder / CORPUS)
        corpus = prepare.build(
            folder / CORPUS, selecting.key, selection, directions, encoder, config.data.max_tokens, disk
        )
        if selection.rejected:
            prepare.write_rejected(folder / REJECTED, selection.rejected, disk)
    else:
        corpus.verify()
    _judge_unknown(corpus, journal)
    journal.append(
        Prepared(
            corpus=corpus.digest,
            reused=reused,
            pairs=corpus.counts("train"),
            funnel=corpus.manifest["funnel"],
            unknown_rate=corpus.manifest["splits"]["train"]["unknown_rate"],
            seconds=time.monotonic() - started,
        )
    )
    return Inputs(base, encoder, corpus, scratch.preset(config.model.model) is not None)


@dataclass
class _Selecting:
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


def _base(config: RunConfig, folder: Path, selecting: _Selecting, disk: Disk) -> Path:
    """The base model of a run that begins: found, or built from the data."""
    sizes = scratch.preset(config.model.model)
    if sizes is None:
        return nllb.find(config.model.model, config.model.revision)
    base = folder / BASE
    made_from = {"inputs": selecting.key, "preset": config.model.model, "seed": config.training.seed}
    if not _is_made_from(base, made_from):
        _make_base(base, selecting.selection, sizes, made_from, disk)
    return base


def _stored(folder: Path, begun: CheckpointRecord | None, selecting: _Selecting) -> Corpus | None:
    """The corpus that a checkpoint was trained on, where the data that it was made from is not at hand.

    Raises:
        InputError: Neither is here.
    """
    if begun is None:
        return None
    try:
        for direction in selecting.directions:
            sources_of(selecting.config, direction)
        return None  # at hand: whether it is still the same is found out as at every start
    except InputError as missing:
        files = corpus_files(folder, begun.corpus)
        found = corpus_data.open_corpus(next(iter(files.values())).parent) if files else None
        if found is None:
            raise InputError(
                f"the prepared data of this run is neither here nor in its store, and {missing.message}",
                "--data with the files that the run was started with",
            ) from missing
        return found


def _codes(directions: Sequence[Direction]) -> set[str]:
    return {code for way in directions for code in (way.source, way.target)}


def _is_made_from(base: Path, made_from: dict[str, object]) -> bool:
    key = base / BASE_KEY
    return key.exists() and json.loads(key.read_text("utf-8")) == made_from


def _make_base(
    base: Path, selection: Selection, sizes: scratch.Preset, made_from: dict[str, object], disk: Disk
) -> None:
    """Build a scratch model elsewhere, then copy it to `base`; its key file comes last."""
    if base.exists():
        shutil.rmtree(base)
    with tempfile.TemporaryDirectory() as temporary:
        texts = scratch.texts((pair.source, pair.target) for pair in selection.splits["train"])
        scratch.build(Path(temporary), texts, sizes, seed=int(str(made_from["seed"])))
        disk.make_folders(base)
        for file in sorted(Path(temporary).iterdir()):
            disk.copy(file, base / file.name)
    disk.sync_folder(base)
    disk.replace(base / BASE_KEY, json.dumps(made_from).encode())


def _judge_unknown(corpus: Corpus, journal: Journal) -> None:
    """Warn of, or refuse, languages whose text the vocabulary cannot write.

    Raises:
        InputError: Most of a language is `<unk>`.
    """
    for code, rate in corpus.manifest["splits"]["train"]["unknown_rate"].items():
        if rate > HOPELESS_UNKNOWN_RATE:
            message = f"{rate:.0%} of the {code} tokens are <unk>: the model cannot write this text"
            raise InputError(f"--data: {message}", "check that the columns hold the languages you named")
        if rate > HIGH_UNKNOWN_RATE:
            journal.append(Warned(message=f"{rate:.1%} of the {code} tokens are <unk>: the model cannot learn them"))


def summary(corpus: Corpus) -> Sequence[tuple[str, int, int, int]]:
    """(direction, train, dev, test pairs) of each direction."""
    counts = [corpus.counts(split) for split in ("train", "dev", "test")]
    return [(name, counts[0][name], counts[1][name], counts[2][name]) for name in counts[0]]
