"""A model against its base and against doing nothing.

A fine-tuned model can be worse than the one it started from, so its score never stands
alone: beside it are the base's, and that of the source copied as it is.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from dragoman.data.corpus import Text
from dragoman.evaluation.decode import Request, decode
from dragoman.evaluation.score import Scores, score
from dragoman.languages import Direction
from dragoman.model.vocabulary import Vocabulary

if TYPE_CHECKING:
    from transformers import M2M100ForConditionalGeneration


@dataclass(frozen=True)
class Judged:
    """One system's hypotheses and scores per direction."""

    name: str
    hypotheses: list[str]
    scores: dict[str, Scores]

    @property
    def mean_chrf(self) -> float:
        """chrF++, averaged over the directions."""
        return sum(score.chrf for score in self.scores.values()) / len(self.scores)

    def to_json(self) -> dict[str, Any]:
        """Name, mean chrF++ and the scores of each direction."""
        scores = {direction: asdict(values) for direction, values in self.scores.items()}
        return {"system": self.name, "chrf": self.mean_chrf, "directions": scores}


def judge(name: str, hypotheses: list[str], pairs: Sequence[Text]) -> Judged:
    """Score one hypothesis per pair, for each direction on its own."""
    scores: dict[str, Scores] = {}
    for direction in directions_of(pairs):
        rows = [i for i, pair in enumerate(pairs) if pair.direction == direction]
        references = [pairs[i].target for i in rows]
        scores[str(direction)] = score([hypotheses[i] for i in rows], references, direction.target)
    return Judged(name, hypotheses, scores)


def judge_copy(pairs: Sequence[Text]) -> Judged:
    """The source as its own translation."""
    return judge("copy source", [pair.source for pair in pairs], pairs)


def judge_model(
    name: str,
    model: "M2M100ForConditionalGeneration",
    vocabulary: Vocabulary,
    pairs: Sequence[Text],
    num_beams: int,
) -> Judged:
    """What the model makes of the sources."""
    requests = [Request(pair.source, pair.direction) for pair in pairs]
    return judge(name, decode(model, vocabulary, requests, num_beams), pairs)


def directions_of(pairs: Sequence[Text]) -> list[Direction]:
    """The directions among the pairs, in order of appearance."""
    return list(dict.fromkeys(pair.direction for pair in pairs))
