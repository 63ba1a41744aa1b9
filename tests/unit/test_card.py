"""The model card: what the Hub reads in it, what a person does, and that nothing in it is made up."""

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from dragoman.config import from_flat
from dragoman.data.corpus import open_corpus
from dragoman.languages import parse_pair
from dragoman.model import vocabulary
from dragoman.store.base import CARD
from dragoman.store.card import is_ours, seal
from dragoman.training import about, card
from dragoman.training.about import About
from dragoman.training.card import Facts
from tests.support.hub import HubStandIn, card_check
from tests.support.places import use_hub
from tests.support.shared import finished_run


def front(text: str) -> dict[str, Any]:
    """The YAML at the beginning of a card, as the Hub reads it."""
    begin, matter, _ = text.split("---\n", 2)
    assert begin == ""
    return yaml.safe_load(matter)


SCORES = {
    way: {"chrf": 41.26, "bleu": 20.5, "chrf_signature": "nc:6|nw:2", "bleu_signature": "tok:13a", "sentences": 100}
    for way in ("eng_Latn-fra_Latn", "deu_Latn-eng_Latn")
}
ABOUT = About(
    base="facebook/nllb-200-distilled-600M", commit="c" * 40, sentences=[("eng_Latn-fra_Latn", 'Say "yes".', "Oui.")]
)


def facts(*, scores: Any = SCORES, about: About = ABOUT, **options: Any) -> Facts:
    config = from_flat({"language_pairs": ["en-fr", "de-en"], "data": ["x.tsv"]} | options)
    return Facts(
        config=config,
        directions=[parse_pair(pair) for pair in config.data.language_pairs],
        pairs={"eng_Latn-fra_Latn": 1234, "deu_Latn-eng_Latn": 5},
        about=about,
        step=1500,
        total_steps=3000,
        pairs_per_step=16,
        scores=scores,
        computed_with={"device": "Tesla T4", "precision": "fp16", "threads": "", "torch": "2.13.0"},
        seconds=5400.0,
        sessions=3,
    )


def make(**options: Any) -> str:
    return card.text(facts(**options))


def checked(text: str) -> tuple[list[str], list[str]]:
    """What the Hub says to a card, through its own client."""
    with HubStandIn() as hub, pytest.MonkeyPatch.context() as patch:
        use_hub(hub, patch)
        ModelCard(text).validate()
    return card_check.checked(text, "model")


def test_a_model_that_wants_its_text_in_another_form_says_so() -> None:
    assert "in the form `nllb` first (`normalization.json`)" in make(normalize="nllb")
    assert "normalization" not in make()


def test_the_front_matter_says_what_the_hub_wants_to_know() -> None:
    found = front(make(hub_model_id="ada/run"))
    assert found["language"] == ["de", "en", "fr"]
    assert found["base_model"] == "facebook/nllb-200-distilled-600M"
    assert found["license"] == "cc-by-nc-4.0"
    assert (found["library_name"], found["pipeline_tag"]) == ("transformers", "translation")


def test_the_body_names_directions_progress_scores_training_and_how_to_go_on() -> None:
    text = make(hub_model_id="ada/run")
    for words in ("English → French", "1,234", "step 1,500 of 3,000", "dragoman resume hf://ada/run"):
        assert words in text
    for words in ("| en-fr | 41.3 | 20.5 | 100 |", "`nc:6|nw:2`", "`tok:13a`"):
        assert words in text
    for words in ("16 pairs each", "5e-05", "fp16", "Tesla T4", "1.5 h in 3 sessions", f"commit `{'c' * 40}`"):
        assert words in text
    assert 'src_lang="eng_Latn"' in text
    assert '"fra_Latn"' in text
    assert "no commercial use" in text


def test_scores_are_told_to_the_hub_with_what_they_were_measured_on() -> None:
    text = make(data=[f"Helsinki-NLP/opus-100@{'d' * 40}"], hub_model_id="ada/run")
    assert checked(text) == ([], [])
    found = ModelCard(text).data
    assert found.datasets == ["Helsinki-NLP/opus-100"]
    assert found.model_name == "run"
    results = {(it.dataset_config, it.metric_name): it for it in found.eval_results}
    assert results.keys() == {("en-fr", "chrF++"), ("en-fr", "BLEU"), ("de-en", "chrF++"), ("de-en", "BLEU")}
    french = results["en-fr", "chrF++"]
    assert (french.metric_value, french.metric_args) == (41.26, {"signature": "nc:6|nw:2"})
    assert (french.dataset_type, french.dataset_revision) == ("Helsinki-NLP/opus-100", "d" * 40)


@pytest.mark.parametrize(
    "options", [{}, {"scores": {}}, {"about": About()}, {"model": "scratch:tiny"}, {"data": ["a"]}]
)
def test_every_card_passes_the_checks_of_the_hub(options: dict[str, Any]) -> None:
    assert checked(make(**options)) == ([], [])


def test_weights_without_a_score_claim_none() -> None:
    text = make(scores={})
    assert "were not scored" in text
    assert "model-index" not in front(text)


@pytest.mark.parametrize("model", ["scratch:tiny", "./my/model", "/models/nllb"])
def test_a_base_that_is_not_on_the_hub_is_not_named_as_one(model: str) -> None:
    assert about.hub_id(from_flat({"model": model})) is None
    assert about.hub_id(from_flat({})) == "facebook/nllb-200-distilled-600M"
    assert "base_model" not in front(make(model=model, about=About()))


def test_a_model_from_scratch_is_not_called_a_derivative_of_nllb() -> None:
    assert "license" not in front(make(model="scratch:tiny"))
    assert "CC-BY-NC" not in make(model="scratch:tiny")


def test_a_run_carries_its_card_and_a_person_may_edit_it() -> None:
    stored = (finished_run() / CARD).read_bytes()
    assert is_ours(stored)
    assert front(stored.decode())["language"] == ["en", "fr"]
    assert not is_ours(stored.replace(b"French", b"french"))
    assert not is_ours(stored + b"\nmy own words\n")
    assert not is_ours(b"my own words\n")
    assert is_ours(seal("anything"))


def test_the_example_of_the_card_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = finished_run()
    text = (run / CARD).read_text("utf-8")
    (code,) = re.findall("```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(run)
    said, names = io.StringIO(), dict[str, Any]()
    with contextlib.redirect_stdout(said):
        exec(compile(code, "card", "exec"), names)
    assert names["output"][0, 1] == vocabulary.load(run).code_id("fra_Latn")
    assert said.getvalue().endswith("\n")
    told = about.read(run)
    assert told is not None
    assert told.sentences[0][1] in code


def test_a_model_tells_its_directions_and_sentences_that_it_never_saw() -> None:
    run = finished_run()
    told = about.read(run)
    assert told is not None
    assert told.pairs == {"eng_Latn-fra_Latn": "en-fr"}
    (corpus,) = [opened for path in (run / "dragoman/corpus").iterdir() if (opened := open_corpus(path))]
    assert 0 < len(told.texts()) <= about.NUM_SENTENCES
    assert set(told.texts()) <= set(corpus.texts("test"))


def test_where_the_data_stays_at_home_no_sentence_goes_along() -> None:
    run = finished_run()
    (corpus,) = [opened for path in (run / "dragoman/corpus").iterdir() if (opened := open_corpus(path))]
    for options in ({"public": True}, {"store_data": "no"}):
        told = about.of(from_flat({"language_pairs": ["en-fr"], **options}), run, corpus)
        assert told.pairs
        assert not told.sentences


def test_a_file_about_a_model_that_is_not_understood_is_passed_over(tmp_path: Path) -> None:
    assert about.read(tmp_path) is None
    for content in (
        "",
        "[]",
        '{"format": 2}',
        '{"format": 1, "sentences": [1]}',
        '{"format": 1, "sentences": [], "x": 1}',
    ):
        (tmp_path / about.FILE).write_text(content)
        assert about.read(tmp_path) is None, content


@pytest.mark.parametrize(
    ("written", "shown"), [("en-fr", "en-fr"), ("eng_Latn-fra_Latn", "eng_Latn-fra_Latn"), ("en--fr", "en-fr")]
)
def test_a_direction_is_called_as_the_user_wrote_it(written: str, shown: str) -> None:
    run = finished_run()
    (corpus,) = [opened for path in (run / "dragoman/corpus").iterdir() if (opened := open_corpus(path))]
    assert about.of(from_flat({"language_pairs": [written]}), run, corpus).pairs == {"eng_Latn-fra_Latn": shown}


def test_the_commit_of_the_base_is_that_of_the_cache_and_later_what_a_checkpoint_remembers(tmp_path: Path) -> None:
    run = finished_run()
    (corpus,) = [opened for path in (run / "dragoman/corpus").iterdir() if (opened := open_corpus(path))]
    config = from_flat({"language_pairs": ["en-fr"]})
    first = about.of(config, tmp_path / "models--a--b/snapshots" / ("c" * 40), corpus)
    assert (first.base, first.commit) == ("facebook/nllb-200-distilled-600M", "c" * 40)
    (tmp_path / about.FILE).write_bytes(first.to_json())
    assert about.of(config, tmp_path, corpus).commit == "c" * 40
