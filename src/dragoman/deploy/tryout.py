"""`dragoman download --test`: does this model translate at all, and otherwise than its base?

For every direction a few sentences that the model has never seen, one at a time, first by
the model and then by the one that it was tuned from. Only what no one would call a
translation fails: an empty text, one that goes round in circles, one in another language.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dragoman.data.corpus import Text
from dragoman.data.filters import langid
from dragoman.deploy import compare, translate
from dragoman.deploy.directions import directions_of
from dragoman.errors import CheckSaidNo, InputError, ModelError
from dragoman.evaluation import fitness
from dragoman.evaluation.fitness import Verdict
from dragoman.training import about
from dragoman.training.about import About


@dataclass(frozen=True)
class Tried:
    """One sentence, and what became of it."""

    pair: str
    """Its direction as the user writes it."""
    direction: str
    """The same in NLLB's codes."""
    number: int
    """Which sentence of its direction it is, from 1."""
    source: str
    translation: str
    reference: str
    """What a person wrote."""
    seconds: float
    """Time that the translation took."""
    language: str | None
    """Tag of the language that it is most likely in; None when nothing tells."""
    language_confidence: float | None
    """How sure that is, of 1."""
    verdict: Verdict
    base: str | None
    """What the base makes of it; None when there is no base, or it lacks a language."""
    base_seconds: float | None


@dataclass(frozen=True)
class Tryout:
    """All sentences of a test."""

    base: str | None
    """The model that is compared with; None when there is none."""
    sentences: list[Tried]

    def to_json(self) -> dict[str, Any]:
        """The answer for programs."""
        passed = all(tried.verdict == "ok" for tried in self.sentences)
        return {"passed": passed, "base": self.base, "sentences": [asdict(tried) for tried in self.sentences]}


def held_out(model: Path, count: int, pair: Sequence[str] = (), data: Sequence[str] = ()) -> list[Text]:
    """The sentences to try a model on: `count` of each direction.

    Args:
        model: Its folder.
        count: Sentences per direction.
        pair: Directions; left out: all that it learned.
        data: Entries as for `--data`; left out: the sentences that it brought along.

    Raises:
        InputError: There are none, or pairs or data are wrong.
    """
    told = about.read(model) or About()
    wanted = directions_of(pair, str(model)) or list(dict.fromkeys(text.direction for text in told.texts()))
    if data:
        texts = compare.pairs_of(data, wanted or directions_of(list((told.pairs or {}).values()), str(model)))
    else:
        texts = [text for text in told.texts() if text.direction in wanted]
    found = [text for way in wanted for text in [text for text in texts if text.direction == way][:count]]
    if missing := [way.short for way in wanted if way not in {text.direction for text in found}] or not found:
        what = f" for {' '.join(missing)}" if isinstance(missing, list) else ""
        raise InputError(
            f"{model} brings no held-out sentences{what}: what should it be tried on?",
            "--pair en-fr --data en-fr=test.tsv (its run kept its data out of the store, or was not dragoman's)",
        )
    return found


def base_of(model: Path, named: str | None, place: str) -> str | None:
    """The model to compare with; None when nobody knows one.

    Args:
        model: The folder of a model, which tells what it was tuned from, if that is on the Hub.
        named: What the user said.
        place: Where the model came from: of a run folder here the base may be in it.
    """
    told = about.read(model)
    return named or (told.base if told else "") or translate.base_of(place)


def try_out(model: Path, texts: Sequence[Text], base: str | None, num_beams: int, device: str) -> Tryout:
    """Translate the sentences with a model and with its base, each on its own.

    Args:
        model: Folder of the model.
        texts: Sentences and references.
        base: A model to compare with.
        num_beams: 1 is greedy.
        device: auto, cpu or cuda.

    Raises:
        ModelError: One of the models cannot be loaded, or does not know a language.
    """
    told = about.read(model) or About()
    ours = _translated(str(model), texts, num_beams, device)
    theirs = _translated(base, texts, num_beams, device, must_know=False) if base else [None] * len(texts)
    sentences: list[Tried] = []
    for text, done, other in zip(texts, ours, theirs, strict=True):
        assert done is not None
        language = langid.likeliest(done[0])
        sentences.append(
            Tried(
                pair=(told.pairs or {}).get(str(text.direction), text.direction.short),
                direction=str(text.direction),
                number=1 + sum(tried.direction == str(text.direction) for tried in sentences),
                source=text.source,
                translation=done[0],
                reference=text.target,
                seconds=done[1],
                language=language[0] if language else None,
                language_confidence=language[1] if language else None,
                verdict=fitness.judge(done[0], text),
                base=other[0] if other else None,
                base_seconds=other[1] if other else None,
            )
        )
    return Tryout(base, sentences)


def require(found: Tryout) -> None:
    """Insist that every sentence was translated.

    Raises:
        CheckSaidNo: Names each direction and sentence that was not, and in which way.
    """
    failed = [tried for tried in found.sentences if tried.verdict != "ok"]
    if failed:
        lines = [f"  {it.pair} sentence {it.number}: {it.verdict}: {it.source} → {it.translation}" for it in failed]
        count = f"{len(failed)} of {len(found.sentences)} sentences"
        hint = "train longer, or look at the data: dragoman prepare shows what was dropped, dragoman evaluate scores"
        raise CheckSaidNo("\n".join([f"--test: {count} failed", *lines]), hint)


def _translated(
    name: str, texts: Sequence[Text], num_beams: int, device: str, *, must_know: bool = True
) -> list[tuple[str, float] | None]:
    """Translation and seconds of each sentence; None for a direction that the model may lack and does."""
    translator = translate.load(name, device)
    answers: list[tuple[str, float] | None] = []
    is_warm = False
    for text in texts:
        try:
            translator.check(text.direction)
        except ModelError:
            if must_know:
                raise
            answers.append(None)
            continue
        if not is_warm:  # the first one pays for what is loaded then
            list(translator.translate([text.source], text.direction, num_beams))
            is_warm = True
        started = time.monotonic()
        (line,) = translator.translate([text.source], text.direction, num_beams)
        answers.append((line, time.monotonic() - started))
    return answers
