"""What the Hub reads in a model card: the YAML in front of it, written by its own client."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import langcodes

from dragoman.data.sources import DataSetName
from dragoman.languages import Direction, name

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

    from dragoman.training.card import Facts

LICENCE = "cc-by-nc-4.0"
"""NLLB-200's own, which every model derived from it keeps: no commercial use."""
HELD_OUT = "held-out sentences of the training data"


def front_matter(facts: "Facts") -> str:
    """The YAML, without the lines of hyphens around it.

    Languages, licence, base and data sets as the Hub files them; and every score with what
    it was measured on, in the form of its `model-index`.
    """
    from huggingface_hub import ModelCardData

    codes = {code for way in facts.directions for code in (way.source, way.target)}
    data = ModelCardData(
        language=sorted({langcodes.standardize_tag(code.partition("_")[0]) for code in codes}),
        license=LICENCE if facts.is_derived else None,
        library_name="transformers",
        pipeline_tag="translation",
        tags=["nllb", "dragoman"],
        base_model=facts.about.base or None,
        datasets=sorted({data_set.repo_id for data_set in facts.data_sets}) or None,
        metrics=["chrf", "bleu"] if facts.scores else None,
        model_name=facts.name,
        eval_results=[result for way in facts.directions for result in _results(facts, way)] or None,
    )
    return data.to_yaml()


def _results(facts: "Facts", way: Direction) -> list["EvalResult"]:
    """chrF++ and BLEU of one direction; none where it was not measured."""
    from huggingface_hub import EvalResult

    score = facts.scores.get(str(way))
    if score is None:
        return []
    of = _only(facts.data_sets)
    return [
        EvalResult(
            task_type="translation",
            task_name=f"{name(way.source)} → {name(way.target)}",
            dataset_type=of.repo_id if of else "held-out",
            dataset_name=f"{HELD_OUT}, {score['sentences']:,} of them",
            dataset_config=way.short if of else str(way),
            dataset_revision=of.revision if of and of.is_pinned else None,
            metric_type=kind,
            metric_name=title,
            metric_value=round(score[kind], 2),
            metric_args={"signature": score[f"{kind}_signature"]},
        )
        for kind, title in (("chrf", "chrF++"), ("bleu", "BLEU"))
    ]


def _only(data_sets: Sequence[DataSetName]) -> DataSetName | None:
    return data_sets[0] if len(data_sets) == 1 else None
