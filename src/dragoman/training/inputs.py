"""What a run starts from: directions, a base model in a folder, and the corpus for it.

A scratch model learns its vocabulary from the corpus, and the corpus is encoded with
that vocabulary; so this is the one place where the two meet. Both are found again by
the digest of what they were made from, so a second session makes neither.
"""

import itertools
import math
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
from dragoman.data import held_out, parts, prepare, replay
from dragoman.data.corpus import Corpus
from dragoman.data.prepare import Selection
from dragoman.data.progress import Progress
from dragoman.data.shares import ALL, Share
from dragoman.data.sources import Source, check_data
from dragoman.data.work import Work
from dragoman.errors import InputError, UnknownLanguageError
from dragoman.journal import Journal, Prepared, Warned
from dragoman.languages import Direction, parse_pairs
from dragoman.model import new_language, nllb, scratch, vocabulary
from dragoman.model.new_language import NewLanguage
from dragoman.model.vocabulary import Vocabulary
from dragoman.store.disk import Disk
from dragoman.store.record import CheckpointRecord
from dragoman.training import teaching

BASE = "dragoman/base"
REJECTED = "dragoman/rejected.tsv"
SCRATCH_PAIRS = 500_000
"""A model from scratch learns its tokenizer from at most so many pairs, evenly from all: it holds them in memory."""

HIGH_UNKNOWN_RATE = 0.01
HOPELESS_UNKNOWN_RATE = 0.5


@dataclass(frozen=True)
class Inputs:
    """A base model's folder, its vocabulary and the corpus encoded with it."""

    base: Path
    vocabulary: Vocabulary
    corpus: Corpus
    may_guess: bool
    """Whether the model need not be better than guessing before the first step."""


def directions_of(config: RunConfig) -> list[Direction]:
    """The directions to learn, each once.

    Raises:
        InputError: None, unknown or equal languages, a direction twice, or `--data` or `--new-language` does not fit
            them.
    """
    taught = new_language.parse(config.data.new_language, config.data.like)
    if not config.data.language_pairs:
        raise InputError("--language-pairs is missing", "--language-pairs en-fr en-de")
    if not config.data.data:
        raise InputError(
            "--data is missing: where are the sentence pairs?",
            "--data en-fr=pairs.tsv (source<TAB>target), another file, or gettext:PACKAGE",
        )
    directions = [direction for pair in config.data.language_pairs for direction in _parsed(pair, taught)]
    for direction in directions:
        if directions.count(direction) > 1:
            raise InputError(f"--language-pairs names {direction} twice", "name each direction once")
    _check_taught(config, taught, directions)
    check_data(config.data.data, directions)
    return directions


def with_replay(config: RunConfig) -> list[Direction]:
    """The directions to learn, then those to rehearse.

    Raises:
        InputError: As `directions_of`, and for `--replay`.
    """
    learned = directions_of(config)
    replay.check(config.data)
    return [*learned, *replay.directions_of(config.data)]


def _parsed(pair: str, taught: Sequence[NewLanguage]) -> list[Direction]:
    try:
        return parse_pairs(pair, tuple(language.code for language in taught))
    except UnknownLanguageError as error:
        if not error.candidates:
            error.hint = f"{error.hint}; another is taught: --new-language tyv_Cyrl --like kaz_Cyrl,kir_Cyrl"
        raise


def _check_taught(config: RunConfig, taught: Sequence[NewLanguage], directions: Sequence[Direction]) -> None:
    """Look whether new languages are used, and can be: a model from scratch has no relatives."""
    if config.data.like and not taught:
        raise InputError("--like is for --new-language, which is missing", "--new-language tyv_Cyrl")
    if taught and scratch.preset(config.model.model):
        hint = "a model of NLLB-200, or the code of any language it knows"
        raise InputError(f"--new-language: {config.model.model} knows no languages to begin from", hint)
    for language in taught:
        if language.code not in _codes(directions):
            message = f"--new-language {language.code}: no direction of --language-pairs has it"
            raise InputError(message, f"--language-pairs en-{language.code}")


def sources_of(config: RunConfig, direction: Direction) -> list[Source]:
    """The sources of one direction, opened but not read.

    Raises:
        InputError: None serves it, or one cannot be opened.
    """
    return replay.open_for(config.data, direction)


def check(config: RunConfig) -> None:
    """Look at data and base model of a run that begins, without reading them.

    Raises:
        InputError: A source serves no pair or cannot be opened, or the base model is not one.
    """
    directions = with_replay(config)
    for direction in directions:
        sources_of(config, direction)
    held_out.open_all(config.data, directions)
    if scratch.preset(config.model.model) is None and (base := nllb.check_name(config.model.model)):
        taught = new_language.parse(config.data.new_language, config.data.like)
        known = vocabulary.load(base, _codes(directions) - {language.code for language in taught})
        new_language.additions(known, taught, ())


def prepare_part(config: RunConfig, folder: Path, journal: Journal, share: Share) -> Selection:
    """Do one machine's share of the preparation, as far as that needs no other machine.

    A model from scratch learns its tokenizer from all of the data, and one that is taught a language its new
    characters, so their pairs are not tokenised here.

    Args:
        config: The whole configuration.
        folder: The run folder; the part is left in it.
        journal: Told how far it is.
        share: Which part.

    Raises:
        DataError: The data cannot be read.
        ModelError: The base model is missing or not usable.
    """
    directions = with_replay(config)
    selecting = _Selecting(config, directions, folder / CORPUS, journal, share)
    selection = selecting.selection
    if scratch.preset(config.model.model) is None and not config.data.new_language:
        base = nllb.find(config.model.model, config.model.revision)
        prepare.tokenize(selection, vocabulary.load(base, _codes(directions)), config.data.max_tokens)
    parts.finish(selecting.work, selecting.key, share)
    return selection


def obtain(
    config: RunConfig,
    folder: Path,
    journal: Journal,
    disk: Disk,
    begun: CheckpointRecord | None = None,
    merged: Sequence[Path] = (),
) -> Inputs:
    """Find or make the base model and the corpus of a run below its folder.

    Args:
        config: The whole configuration.
        folder: The run folder.
        journal: Told of the corpus, and how far it is.
        disk: Takes every change.
        begun: The whole checkpoint in the folder that training continues from: architecture and tokenizer are
            its own, and so is the corpus where the data is not at hand.
        merged: Folders in which other machines have done their parts of the preparation.

    Raises:
        DataError: The data cannot be read, or leaves nothing to train on.
        ModelError: The base model is missing or not usable.
    """
    started = time.monotonic()
    directions = with_replay(config)
    selecting = _Selecting(config, directions, folder / CORPUS, journal)
    if merged:
        parts.merge(selecting.work, selecting.key, merged)
    base = folder / begun.folder if begun else _base(config, folder, selecting, journal, disk)
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
        prepare.write_rejected(folder / REJECTED, selection, disk)
    else:
        corpus.verify()
    prepare.clear(folder / CORPUS)
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
    may_guess = scratch.preset(config.model.model) is not None or bool(config.data.new_language)
    return Inputs(base, encoder, corpus, may_guess)


@dataclass
class _Selecting:
    """The data of a run, read only when somebody asks."""

    config: RunConfig
    directions: list[Direction]
    folder: Path
    """Of the corpora."""
    journal: Journal
    """Told how far the reading is."""
    share: Share = ALL

    @cached_property
    def key(self) -> str:
        """Digest of everything that decides the selection; reads every file."""
        return prepare.inputs_digest(self.config.data, self.directions, self.config.training.seed)

    @property
    def work(self) -> Work:
        """Where the data is prepared."""
        return prepare.work_of(self.folder, self.key)

    @cached_property
    def selection(self) -> Selection:
        """The pairs of each split."""
        data, seed = self.config.data, self.config.training.seed
        return prepare.select(
            data,
            self.directions,
            seed,
            self.work,
            processes=data.prepare_processes,
            share=self.share,
            progress=Progress(self.journal.append),
        )


def _base(config: RunConfig, folder: Path, selecting: _Selecting, journal: Journal, disk: Disk) -> Path:
    """The base model of a run that begins: found, perhaps taught new languages, or built from the data."""
    sizes, base = scratch.preset(config.model.model), folder / BASE
    if sizes is None:
        found = nllb.find(config.model.model, config.model.revision)
        if not config.data.new_language:
            return found
        return teaching.taught(
            config, found, base, selecting.key, lambda: selecting.selection.splits["train"], journal, disk
        )
    made_from = {"inputs": selecting.key, "preset": config.model.model, "seed": config.training.seed}
    if not teaching.is_made_from(base, made_from):
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


def _make_base(
    base: Path, selection: Selection, sizes: scratch.Preset, made_from: dict[str, object], disk: Disk
) -> None:
    """Build a scratch model elsewhere, then copy it to `base`; its key file comes last."""
    if base.exists():
        shutil.rmtree(base)
    with tempfile.TemporaryDirectory() as temporary:
        pairs = selection.splits["train"]
        step = math.ceil(len(pairs) / SCRATCH_PAIRS)
        texts = scratch.texts((pair.source, pair.target) for pair in itertools.islice(pairs, 0, None, step))
        scratch.build(Path(temporary), texts, sizes, seed=int(str(made_from["seed"])))
        disk.make_folders(base)
        for file in sorted(Path(temporary).iterdir()):
            disk.copy(file, base / file.name)
    teaching.finish(base, made_from, disk)


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
            characters = " ".join(character for character, _ in corpus.unknown_characters.get(code, ()))
            message = f"{rate:.1%} of the {code} tokens are <unk>: the model cannot learn them"
            journal.append(Warned(message=f"{message}; most often: {characters}" if characters else message))


def summary(corpus: Corpus) -> Sequence[tuple[str, int, int, int]]:
    """(direction, train, dev, test pairs) of each direction."""
    counts = [corpus.counts(split) for split in ("train", "dev", "test")]
    return [(name, counts[0][name], counts[1][name], counts[2][name]) for name in counts[0]]
