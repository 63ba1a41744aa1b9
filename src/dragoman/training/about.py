"""What a model tells of itself, for whoever tries it on a machine where its run never was.

`dragoman.json` stands beside the weights: which model it was tuned from, which directions
it learned, and for each a few sentences that it never saw. The sentences are left out
where the data stays out of the store.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from dragoman.config import RunConfig
from dragoman.data.corpus import Corpus, Text, read_texts
from dragoman.data.filters.placeholders import prose
from dragoman.languages import Direction, parse_pairs
from dragoman.model import scratch

FILE = "dragoman.json"
FORMAT = 1
NUM_SENTENCES = 20
"""Held-out sentences of each direction that go with the model."""
LOOKED_AT = 500
"""From so many of each direction they are chosen."""
MIN_CHARS, MAX_CHARS = 30, 200
"""Prose of this length is preferred: long enough to tell the language of a translation, short enough to read."""


@dataclass(frozen=True)
class About:
    """What stands in the file."""

    base: str = ""
    """Hub id of the model that this one was tuned from; empty when it was made or lies on one machine."""
    commit: str = ""
    """The base's commit on the Hub; empty where it is not known."""
    pairs: Mapping[str, str] | None = None
    """Every direction that was learned, by its codes, as the user wrote it."""
    sentences: Sequence[tuple[str, str, str]] = ()
    """Direction, source and reference of each held-out sentence."""

    def to_json(self) -> bytes:
        """The file."""
        return json.dumps({"format": FORMAT, **asdict(self)}, ensure_ascii=False, indent=1).encode()

    def texts(self) -> list[Text]:
        """The sentences, by direction."""
        return [Text(source, reference, _direction(way)) for way, source, reference in self.sentences]


def of(config: RunConfig, base: Path, corpus: Corpus) -> About:
    """What is told of the models of a run.

    Args:
        config: The run's.
        base: Folder of the base model, or of the checkpoint that the run continues from.
        corpus: The run's.
    """
    learned = [way for way in corpus.directions if not way.is_replay]
    return About(
        hub_id(config) or "",
        _commit(base),
        {str(way): name for way, name in _as_written(config, learned).items()},
        _held_out(corpus, learned) if config.store.keeps_data else (),
    )


def read(folder: Path) -> About | None:
    """What the model in a folder tells of itself; None when it tells nothing that is understood."""
    try:
        told = json.loads((folder / FILE).read_text("utf-8"))
        if told.pop("format") != FORMAT:
            return None
        told["sentences"] = [(way, source, reference) for way, source, reference in told["sentences"]]
        return About(**told)
    except (OSError, ValueError, LookupError, TypeError):
        return None


def hub_id(config: RunConfig) -> str | None:
    """The Hub id of the model that a run starts from; None when that is made or lies in a folder."""
    name = config.model.model
    is_local = name.count("/") != 1 or name.startswith((".", "/", "~")) or Path(name).is_dir()
    return None if scratch.preset(name) or is_local else name


def _commit(base: Path) -> str:
    """The commit of a base model in the Hub's cache, or what a checkpoint of the run remembers of it."""
    if base.parent.name == "snapshots":
        return base.name
    remembered = read(base)
    return remembered.commit if remembered else ""


def _as_written(config: RunConfig, learned: Sequence[Direction]) -> dict[Direction, str]:
    names = {way: way.short for way in learned}
    for word in config.data.language_pairs:
        ways = parse_pairs(word, config.data.new_codes)
        if len(ways) == 1 and ways[0] in names:
            names[ways[0]] = word
    return names


def _held_out(corpus: Corpus, learned: Sequence[Direction]) -> list[tuple[str, str, str]]:
    """The first sentences of each direction, in the order of a hash; of the test split where it has some."""
    found: dict[str, list[Text]] = {str(way): [] for way in learned}
    for split in ("test", "dev"):
        missing = {name for name, texts in found.items() if not texts}
        for text in read_texts(corpus.folder / f"{split}.jsonl"):
            if (name := str(text.direction)) in missing and len(found[name]) < LOOKED_AT:
                found[name].append(text)
    for texts in found.values():
        texts.sort(key=lambda text: not MIN_CHARS <= len(prose(text.source)) <= MAX_CHARS)
    return [(name, *text[:2]) for name, texts in found.items() for text in texts[:NUM_SENTENCES]]


def _direction(codes: str) -> Direction:
    source, _, target = codes.partition("-")
    return Direction(source, target)
