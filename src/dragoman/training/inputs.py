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
from pathlib import Path

from dragoman.config import RunConfig
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

CORPUS = "dragoman/corpus"
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
            "--data en-fr=pairs.tsv (source<TAB>target), a .jsonl file, or gettext:PACKAGE",
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


def obtain(config: RunConfig, folder: Path, journal: Journal, disk: Disk, *, begun: bool = False) -> Inputs:
    """Find or make the base model and the corpus of a run below its folder.

    Args:
        config: The whole configuration.
        folder: The run folder.
        journal: Told of the corpus.
        disk: Takes every change.
        begun: The run has a checkpoint; so a scratch model that is there stays, even if the data has changed.

    Raises:
        DataError: The data cannot be read, or leaves nothing to train on.
        ModelError: The base model is missing or not usable.
    """
    started = time.monotonic()
    directions = directions_of(config)
    codes = {code for way in directions for code in (way.source, way.target)}
    key = prepare.inputs_digest(config.data, directions, config.training.seed)
    selection: Selection | None = None
    sizes = scratch.preset(config.model.model)
    if sizes is None:
        base = nllb.find(config.model.model, config.model.revision)
    else:
        base = folder / BASE
        made_from = {"inputs": key, "preset": config.model.model, "seed": config.training.seed}
        if not _is_made_from(base, made_from) and not (begun and (base / BASE_KEY).exists()):
            selection = prepare.select(config.data, directions, config.training.seed)
            _make_base(base, selection, sizes, made_from, disk)
    encoder = vocabulary.load(base, codes)
    corpus = prepare.find(folder / CORPUS, key, encoder)
    reused = corpus is not None
    if corpus is None:
        selection = selection or prepare.select(config.data, directions, config.training.seed)
        disk.make_folders(folder / CORPUS)
        corpus = prepare.build(folder / CORPUS, key, selection, directions, encoder, config.data.max_tokens, disk)
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
    return Inputs(base, encoder, corpus, sizes is not None)


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
