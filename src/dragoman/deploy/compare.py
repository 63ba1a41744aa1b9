"""`dragoman evaluate`: a model, its base and the copied source on the same pairs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dragoman.data import sources
from dragoman.data.corpus import Text
from dragoman.data.filters import Sample, clean
from dragoman.data.normalization import Normalization
from dragoman.data.sources import InlineTags, Pair
from dragoman.deploy import corpora, translate
from dragoman.deploy.directions import directions_of
from dragoman.errors import CheckSaidNo, InputError
from dragoman.evaluation import report
from dragoman.evaluation.report import Judged
from dragoman.languages import Direction


@dataclass(frozen=True)
class Comparison:
    """Systems judged on the same pairs; the tuned model is the last."""

    pairs: list[Text]
    systems: list[Judged]

    def to_json(self) -> dict[str, Any]:
        """The mean chrF++ and scores of every system."""
        return {"pairs": len(self.pairs), "systems": [system.to_json() for system in self.systems]}


def compare(
    model: str,
    pair: Sequence[str],
    data: Sequence[str],
    base: str | None,
    num_beams: int,
    max_samples: int | None,
    device: str,
    inline_tags: InlineTags = "strip",
) -> Comparison:
    """Judge a model, its base and the copied source.

    Args:
        model: A run folder, a model folder or a Hub id.
        pair: Directions; may be left out for a run folder.
        data: Entries as for `--data`; left out: the test split of the run.
        base: Another model; left out: the one that the run started from, if `model` is a run folder.
        num_beams: 1 is greedy.
        max_samples: Pairs per direction; None takes all.
        device: auto, cpu or cuda.
        inline_tags: Of segments of TMX and XLIFF in `data`.

    Raises:
        InputError: Pairs, data or models are wrong.
    """
    pairs = _limited(_pairs(model, directions_of(pair, model), data, inline_tags), max_samples)
    base = base or translate.base_of(model)
    systems = [report.judge_copy(pairs)]
    for name, where in (("base", base), ("tuned", model)):
        if where is None:
            continue
        translator = translate.load(where, device)
        for direction in report.directions_of(pairs):
            translator.check(direction)
        # The test split of a run is normalised as it was trained; doing it twice could change it.
        own = [_as_wanted(pair, translator.normalization) for pair in pairs] if data else pairs
        systems.append(report.judge_model(name, translator.model, translator.vocabulary, own, num_beams))
    return Comparison(pairs, systems)


def _as_wanted(pair: Text, form: Normalization) -> Text:
    """The pair with its source as one model wants it; the reference is the same for all."""
    return pair._replace(source=form.of_source(pair.source))


def require(comparison: Comparison, chrf: float | None) -> None:
    """Insist on a mean chrF++ of the tuned model.

    Raises:
        CheckSaidNo: It is lower.
    """
    reached = comparison.systems[-1].mean_chrf
    if chrf is not None and reached < chrf:
        raise CheckSaidNo(f"--require {chrf:g}: the model reaches only {reached:.1f} chrF++")


def _pairs(model: str, directions: list[Direction], data: Sequence[str], inline_tags: InlineTags) -> list[Text]:
    if data:
        pairs = pairs_of(data, directions, inline_tags)
    else:
        pairs = [text for text in _test_split(model) if not directions or text.direction in directions]
    if not pairs:
        where = "--data" if data else f"the test split of {model}"
        raise InputError(f"{where} holds no pair to score", "another --pair or --data")
    return pairs


def pairs_of(data: Sequence[str], directions: Sequence[Direction], inline_tags: InlineTags = "strip") -> list[Text]:
    """All pairs of `--data` in some directions, cleaned.

    Raises:
        InputError: No direction, or the data does not fit or cannot be read.
    """
    if not directions:
        raise InputError("--pair is missing: which languages does --data hold?", "--pair en-fr")
    sources.check_data(data, directions)
    return [text for direction in directions for text in _read(data, direction, inline_tags)]


def _read(data: Sequence[str], direction: Direction, inline_tags: InlineTags) -> list[Text]:
    opened = sources.open_sources(data, direction, on_bad_rows="fail", inline_tags=inline_tags)
    rows = (Text(clean(pair.source), clean(pair.target), direction) for source in opened for pair in source.pairs())
    return [row for row in rows if row.source and row.target]


def _test_split(model: str) -> list[Text]:
    found = corpora.trained_on(Path(model).expanduser())
    if found is None:
        raise InputError(f"{model} is no run folder: what should it be scored on?", "--pair en-fr --data test.tsv")
    return found.texts("test")


def _limited(pairs: list[Text], max_samples: int | None) -> list[Text]:
    """A uniform sample of each direction, always the same, in the order of `pairs`."""
    kept: list[Text] = []
    for direction in report.directions_of(pairs):
        sample = Sample(max_samples, 0, direction)
        for row, pair in enumerate(pairs):
            if pair.direction == direction:
                sample.add(Pair(pair.source, pair.target, row))
        kept.extend(pairs[drawn.where] for drawn in sample.pairs())
    return kept
