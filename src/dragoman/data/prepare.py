"""From `--data` to a corpus: read and clean, choose, tokenise, write.

Reading and choosing look at text alone, tokenising needs the tokenizer; so they are two
functions, and a tokenizer can be learned from what the first one chose. Pairs stream: each
pass leaves its results in a work folder, chunk by chunk, and a preparation that was killed
goes on there. What is made does not depend on that, nor on the number of processes or machines.
"""

import hashlib
import itertools
import json
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from dragoman.config import DataConfig, is_of_session
from dragoman.data import choosing, cleaning, corpus, corpus_writer, encode, held_out, replay, work
from dragoman.data.assembling import assemble
from dragoman.data.choosing import Choice
from dragoman.data.cleaning import SPLITS, Cleaning
from dragoman.data.corpus import Corpus, Text
from dragoman.data.corpus_writer import SplitBlocks
from dragoman.data.filters import REASONS, Funnel, Split
from dragoman.data.progress import Progress
from dragoman.data.shares import ALL, Share
from dragoman.data.sources import Source
from dragoman.data.sources.rows import FileSource
from dragoman.data.tokenizing import Tokenizing, tokenize_all
from dragoman.data.work import Work
from dragoman.errors import DataError, InputError
from dragoman.languages import Direction
from dragoman.store.disk import Disk, part

VERSION = "3"
"""Raised whenever the same input would give another corpus."""


@dataclass(frozen=True)
class Texts(Collection[Text]):
    """The pairs of one split as text: read from the work folder each time, so they take no memory."""

    num_pairs: int
    stream: Callable[[], Iterator[Text]]

    def __len__(self) -> int:
        return self.num_pairs

    def __iter__(self) -> Iterator[Text]:
        return self.stream()

    def __contains__(self, item: object) -> bool:
        return any(text == item for text in self)


@dataclass
class Selection:
    """The chosen pairs of all directions, and what became of the others."""

    choice: Choice
    directions: tuple[Direction, ...]
    funnels: dict[str, Funnel]
    processes: int | None = None
    """For tokenising them."""
    progress: Progress = field(default_factory=Progress, repr=False)
    """Told how far that is."""
    owner: object = field(default=None, repr=False)
    """Of a temporary folder, which lives as long as the selection."""

    @property
    def splits(self) -> dict[Split, Texts]:
        """The pairs of each split; those to train on in the order of their sources."""
        return {split: Texts(self._count(split), lambda split=split: self._texts(split)) for split in SPLITS}

    def _count(self, split: Split) -> int:
        return sum(int(self.choice.counts(way)[SPLITS.index(split)]) for way in range(len(self.directions)))

    def _texts(self, split: Split) -> Iterator[Text]:
        for number, direction in enumerate(self.directions):
            for source, target in self.choice.texts(number, split):
                yield Text(source, target, direction)

    @property
    def rejected(self) -> Iterator[str]:
        """The rows that were skipped, as lines of rejected.tsv."""
        for chunk in self.choice.chunks:
            yield from work.facts(self.choice.folder.cleaned(chunk))["bad"]


def inputs_digest(data: DataConfig, directions: Sequence[Direction], seed: int) -> str:
    """Sha256 over everything that decides the selection: settings, seed and the bytes of every file."""
    digest = hashlib.sha256(VERSION.encode())
    places = {"data", "replay", "held_out"}
    settings = data.model_dump(mode="json", exclude=places.union(filter(is_of_session, DataConfig.model_fields)))
    digest.update(json.dumps([settings, [str(way) for way in directions], seed], sort_keys=True).encode())
    digest_of = cache(_digest_of)  # two directions may share a file
    opened = [(str(way), source) for way in directions for source in replay.open_for(data, way)]
    opened += [(f"held out {way}", source) for way, source in held_out.open_all(data, directions)]
    for use, source in opened:
        digest.update(f"{use} {_reading(source)} {len(source.files)}\n".encode())
        for file in source.files:
            digest.update(digest_of(file))
    return digest.hexdigest()


def _digest_of(file: Path) -> bytes:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").digest()


def _reading(source: Source) -> str:
    """What decides, besides the bytes of its files, which pairs a source gives."""
    is_swapped = isinstance(source, FileSource) and source.swapped
    return f"{type(source).__name__}{' swapped' if is_swapped else ''}"


def work_of(folder: Path, inputs: str) -> Work:
    """Where the preparation of these inputs is under way, beside the corpora in `folder`."""
    return Work(folder / f"{inputs[:16]}{work.ENDING}")


def select(
    data: DataConfig,
    directions: Sequence[Direction],
    seed: int,
    folder: Work | None = None,
    *,
    processes: int | None = None,
    share: Share = ALL,
    progress: Progress | None = None,
) -> Selection:
    """Read all sources and choose the pairs of each split.

    Args:
        data: The options.
        directions: All directions of the run.
        seed: Of the samples.
        folder: Where to work, or to go on; a temporary folder when left out.
        processes: At most so many; one for each core when left out.
        share: Look only at this machine's share of the pairs.
        progress: Told how far this is.

    Raises:
        DataError: A row cannot be read (and `on_bad_rows` is `fail`), or nothing is left to train on.
    """
    owner, progress = None, progress or Progress()
    if folder is None:
        owner = tempfile.TemporaryDirectory(prefix="dragoman-prepare-")
        folder = Work(Path(owner.name))
    ways = tuple(directions)
    try:
        chunks = cleaning.clean_all(Cleaning(data, ways, seed), folder, share, processes, progress)
        progress.begin("comparing")
        apart = held_out.hashes(data, ways)
        choice = choosing.choose(folder, chunks, len(ways), cleaning.same_of(data), data.max_samples, apart)
        funnels = [_funnel(choice, number) for number in range(len(ways))]
        for number, direction in enumerate(ways):
            if share == ALL and not choice.counts(number)[choosing.TRAIN]:
                raise _nothing_left(direction, funnels[number])
    except InputError:
        folder.clear()
        raise
    named = {str(way): funnel for way, funnel in zip(ways, funnels, strict=True)}
    return Selection(choice, ways, named, processes, progress, owner)


def _funnel(choice: Choice, direction: int) -> Funnel:
    funnel = Funnel(files=choice.folder.files(direction))
    for place in choice.places(direction):
        cleaning.add_facts(funnel, work.facts(choice.folder.cleaned(choice.chunks[place])))
    choosing.complete(funnel, choice, direction)
    return funnel


def _nothing_left(direction: Direction, funnel: Funnel) -> DataError:
    message = f"--data: no pair of {direction} is left to train on: {funnel.read:,} read"
    dropped = [(name, count) for name, count in funnel.rejected.most_common(3) if count]
    if not funnel.read:
        return DataError(message, "the files are empty, or hold other languages")
    if not dropped:
        held_out = funnel.read - funnel.bad_rows
        return DataError(f"{message}, {held_out:,} held out", "more pairs, or --dev-percent 0 --test-percent 0")
    message += "".join(f", {count:,} {name}" for name, count in dropped)
    return DataError(message, f"{dropped[0][0]} means: {REASONS[dropped[0][0]]}")


def find(folder: Path, inputs: str, encoder: encode.Encoder) -> Corpus | None:
    """The corpus made earlier from the same inputs with the same tokenizer, if it is there."""
    return corpus.open_corpus(folder / name_of(inputs, encoder))


def name_of(inputs: str, encoder: encode.Encoder) -> str:
    """A corpus's folder name: it depends on inputs, settings and tokenizer alone."""
    return hashlib.sha256(f"{corpus.FORMAT} {inputs} {encoder.digest()}".encode()).hexdigest()[:16]


def tokenize(selection: Selection, encoder: encode.Encoder, max_tokens: int) -> None:
    """Tokenise a selection, as far as that was not done before; the results stay in its work folder."""
    tokenizing, num_pairs = Tokenizing(encoder, max_tokens), sum(map(len, selection.splits.values()))
    selection.progress.begin("tokenising", num_pairs, kept=num_pairs)
    tokenize_all(selection.choice, selection.directions, tokenizing, selection.processes, selection.progress)


def build(
    folder: Path,
    inputs: str,
    selection: Selection,
    directions: Sequence[Direction],
    encoder: encode.Encoder,
    max_tokens: int,
    disk: Disk,
) -> Corpus:
    """Tokenise a selection and write it below `folder`.

    Raises:
        DataError: Every pair of a direction is longer than `max_tokens`.
    """
    tokenize(selection, encoder, max_tokens)
    selection.progress.begin("writing")
    assembled = assemble(selection.choice, len(directions), encoder)
    funnels = assembled.funnels(selection.funnels.values())
    for direction, count in zip(directions, assembled.num_train(), strict=True):
        if not count:
            selection.choice.folder.clear()
            raise DataError(f"--max-tokens {max_tokens}: no pair of {direction} is that short", "--max-tokens 256")
    facts: dict[str, Any] = {
        "inputs": inputs,
        "funnel": {str(way): funnel.to_json() for way, funnel in zip(directions, funnels, strict=True)},
    }
    splits: dict[Split, SplitBlocks] = {split: assembled.split(split) for split in SPLITS}
    return corpus_writer.write(
        folder / name_of(inputs, encoder), splits, assembled.used(), directions, encoder, facts, disk
    )


def clear(folder: Path) -> None:
    """Remove what preparations in `folder` have left that will not go on."""
    for left in folder.glob(f"*{work.ENDING}"):
        Work(left).clear()


def write_rejected(path: Path, selection: Selection, disk: Disk) -> None:
    """Write the rows that were skipped as TSV, if there are any: file, line, reason, row."""
    lines = (f"{line}\n".encode() for line in selection.rejected)
    if first := next(lines, None):
        disk.write(part(path), itertools.chain([first], lines))
        disk.rename(part(path), path)
        disk.sync_folder(path.parent)
