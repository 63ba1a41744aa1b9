"""The model card: what the Hub reads in it, what a person does, and that nothing in it is made up."""

from typing import Any

import pytest
import yaml

from dragoman.config import from_flat
from dragoman.languages import parse_pair
from dragoman.store.base import CARD
from dragoman.store.card import is_ours, seal
from dragoman.training import card
from tests.support.shared import finished_run


def front(text: str) -> dict[str, Any]:
    """The YAML at the beginning of a card, as the Hub reads it."""
    begin, matter, _ = text.split("---\n", 2)
    assert begin == ""
    return yaml.safe_load(matter)


def make(**options: Any) -> str:
    config = from_flat({"language_pairs": ["en-fr", "de-en"], "data": ["x.tsv"]} | options)
    ways = [parse_pair(pair) for pair in config.data.language_pairs]
    pairs = {"eng_Latn-fra_Latn": 1234, "deu_Latn-eng_Latn": 5}
    return card.text(config, ways, pairs, step=1500, total_steps=3000, chrf=41.26)


def test_a_model_that_wants_its_text_in_another_form_says_so() -> None:
    assert "in the form `nllb` first (`normalization.json`)" in make(normalize="nllb")
    assert "normalization" not in make()


def test_the_front_matter_says_what_the_hub_wants_to_know() -> None:
    found = front(make(hub_model_id="ada/run"))
    assert found["language"] == ["de", "en", "fr"]
    assert found["base_model"] == "facebook/nllb-200-distilled-600M"
    assert found["license"] == "cc-by-nc-4.0"
    assert (found["library_name"], found["pipeline_tag"]) == ("transformers", "translation")


def test_the_body_names_directions_progress_score_and_how_to_go_on() -> None:
    text = make(hub_model_id="ada/run")
    for words in ("English → French", "1,234", "step 1,500 of 3,000", "41.3 chrF++", "dragoman resume hf://ada/run"):
        assert words in text
    assert 'src_lang="eng_Latn"' in text
    assert '"fra_Latn"' in text
    assert "no commercial use" in text


@pytest.mark.parametrize("model", ["scratch:tiny", "./my/model", "/models/nllb"])
def test_a_base_that_is_not_on_the_hub_is_not_named_as_one(model: str) -> None:
    assert "base_model" not in front(make(model=model))


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
