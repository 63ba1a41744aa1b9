"""A language that NLLB does not know: which tokens it gets, where, and as what they begin."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from dragoman.errors import InputError, ModelError
from dragoman.languages import CODES
from dragoman.model import new_language, nllb, vocabulary
from dragoman.model.new_language import Addition, NewLanguage, extend_model, extend_tokenizer, parse
from dragoman.model.vocabulary import Vocabulary
from tests.support.shared import catalogue, catalogue_vocabulary, prepared

TUVAN = NewLanguage("tyv_Cyrl", ("kaz_Cyrl", "kir_Cyrl"))
SORBIAN = NewLanguage("hsb_Latn", ("ces_Latn",))
TEXTS = ["łodź ꙮ", "łoł Ł"]
"""ł is WITH STROKE, ź decomposes, Ł is the other case of a letter with a stroke, ꙮ is like nothing."""


def added(languages: list[NewLanguage], *texts: str) -> list[Addition]:
    return new_language.additions(catalogue_vocabulary(), languages, iter(texts))


def extended(folder: Path, words: Vocabulary, additions: list[Addition]) -> Vocabulary:
    content = extend_tokenizer((words.folder / "tokenizer.json").read_bytes(), additions)
    for name, file in vocabulary.files(words.folder, content).items():
        (folder / name).write_bytes(file)
    return vocabulary.load(folder, CODES)


def test_codes_come_first_then_missing_characters_by_frequency() -> None:
    found = added([TUVAN, SORBIAN], *TEXTS)
    assert [addition.token for addition in found] == ["tyv_Cyrl", "hsb_Latn", "ł", "Ł", "ź", "ꙮ"]
    assert [addition.is_code for addition in found] == [True, True, False, False, False, False]


def test_a_code_begins_as_the_mean_of_its_relatives() -> None:
    words = catalogue_vocabulary()
    [code] = added([TUVAN], "abc")
    assert code.like == {words.code_id("kaz_Cyrl"): 0.5, words.code_id("kir_Cyrl"): 0.5}


def test_a_character_begins_as_the_letter_that_it_is_written_upon() -> None:
    known = catalogue_vocabulary().pieces()
    like = {addition.token: addition.like for addition in added([SORBIAN], *TEXTS)}
    assert like["ł"] == {known["l"]: 1.0}
    assert like["ź"] == {known["z"]: 1.0}
    assert like["Ł"] == {known["L"]: 1.0}


def test_a_character_like_no_other_begins_as_the_pieces_beside_it() -> None:
    words = catalogue_vocabulary()
    usual = {addition.token: addition.like for addition in added([SORBIAN], *TEXTS)}["ꙮ"]
    assert sum(usual.values()) == pytest.approx(1)
    assert words.unk not in usual
    seen = {token for ids in words.encode(TEXTS) for token in ids} - {words.unk}
    assert set(usual) == seen


def test_texts_of_a_new_language_have_no_unknown_tokens_and_all_others_are_as_they_were(tmp_path: Path) -> None:
    before = catalogue_vocabulary()
    after = extended(tmp_path, before, added([TUVAN, SORBIAN], *TEXTS))
    assert before.unk in before.encode(TEXTS)[0]
    assert not any(after.unk in ids for ids in after.encode(TEXTS))
    assert [after.decode(ids) for ids in after.encode(TEXTS)] == TEXTS
    others = [text for pair in catalogue("fr") + catalogue("ar") for text in pair]
    assert after.encode(others) == before.encode(others)
    assert [after.code_id(code) for code in CODES] == [before.code_id(code) for code in CODES]
    assert after.code_id("tyv_Cyrl") == len(before) == after.first_new == before.first_new
    assert after.new_codes == vocabulary.taught(tmp_path) == ("tyv_Cyrl", "hsb_Latn")


def test_what_the_normaliser_writes_otherwise_is_not_missing(tmp_path: Path) -> None:
    content = json.loads((catalogue_vocabulary().folder / "tokenizer.json").read_bytes())
    (tmp_path / "tokenizer.json").write_text(json.dumps(content | {"normalizer": {"type": "NFKC"}}))
    found = new_language.additions(vocabulary.load(tmp_path), [SORBIAN], ["ﬁn ł"])
    assert [addition.token for addition in found] == ["hsb_Latn", "ł"]


@pytest.mark.parametrize("apart", [False, True])
def test_transformers_gives_every_token_the_same_id(tmp_path: Path, apart: bool) -> None:
    """Also where the codes were no pieces of the model, as newer converters of NLLB write it."""
    from transformers import AutoTokenizer

    words = catalogue_vocabulary()
    if apart:
        content = json.loads((words.folder / "tokenizer.json").read_bytes())
        codes = {token["content"] for token in content["added_tokens"][4:]}
        content["model"]["vocab"] = {token: i for token, i in content["model"]["vocab"].items() if token not in codes}
        (tmp_path / "apart").mkdir()
        (tmp_path / "apart/tokenizer.json").write_text(json.dumps(content))
        words = vocabulary.load(tmp_path / "apart", CODES)
    ours = extended(tmp_path, words, added([SORBIAN], *TEXTS))
    theirs = AutoTokenizer.from_pretrained(tmp_path, src_lang="hsb_Latn", tgt_lang="eng_Latn")
    assert theirs.get_vocab() == ours.tokenizer.get_vocab()
    assert len(theirs) == len(ours)
    expected = [ours.code_id("hsb_Latn"), *ours.encode(TEXTS)[0], ours.eos]
    assert theirs(TEXTS[0])["input_ids"] == expected
    theirs.save_pretrained(tmp_path / "again")
    assert vocabulary.load(tmp_path / "again").tokenizer.get_vocab() == ours.tokenizer.get_vocab()


def test_rows_are_appended_and_none_that_was_there_moves() -> None:
    model: Any = nllb.load(prepared().made.base)
    before = model.model.shared.weight.detach().clone()
    first = len(before) - 2
    additions = [Addition("x", True, {4: 0.5, 6: 0.5}), *(Addition(c, False, {9: 1.0}) for c in "abc")]
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    extend_model(model, first, additions)
    assert torch.rand(3).equal(expected), "the process's random numbers were used"
    after = model.model.shared.weight
    nllb.check(model, Path())
    assert nllb.num_rows(model) == len(after) == first + 4, "the two spare rows are the first"
    assert after[:first].equal(before[:first])
    torch.testing.assert_close(after[first], (before[4] + before[6]) / 2)
    assert after[first + 3].equal(before[9])


def test_spare_rows_are_enough_for_two() -> None:
    model: Any = nllb.load(prepared().made.base)
    rows = nllb.num_rows(model)
    extend_model(model, rows - 2, [Addition("x", True, {4: 1.0})])
    assert nllb.num_rows(model) == rows


def test_what_the_model_knows_is_not_added_again(tmp_path: Path) -> None:
    words = extended(tmp_path, catalogue_vocabulary(), added([SORBIAN], *TEXTS))
    again = new_language.additions(words, [NewLanguage("hsb_Latn", ())], [*TEXTS, "ą"])
    assert [addition.token for addition in again] == ["ą"]


def test_the_command_line_names_relatives_for_one_or_for_all() -> None:
    assert parse(["tyv_Cyrl"], ["kaz_Cyrl,ky"]) == [TUVAN]
    assert parse(["tyv_Cyrl"], ["kk", "kir_Cyrl"]) == [TUVAN]
    assert parse(["tyv_Cyrl=kaz_Cyrl,kir_Cyrl", "hsb_Latn"], ["cs"]) == [TUVAN, SORBIAN]
    assert parse(["hsb_Latn"], []) == [NewLanguage("hsb_Latn", ())]


@pytest.mark.parametrize(
    ("names", "like", "message"),
    [
        (["kaz_Cyrl"], ["kir_Cyrl"], "NLLB-200 knows kaz_Cyrl"),
        (["tyv"], ["kir_Cyrl"], "is not a code"),
        (["tyv-Cyrl"], ["kir_Cyrl"], "is not a code"),
        (["tyv_Cyrk"], ["kir_Cyrl"], "there is no script Cyrk"),
        (["tyv_Cyrl", "tyv_Cyrl=kk"], ["kk"], "twice"),
        (["tyv_Cyrl=kk"], ["kk"], "names its own relatives"),
        (["tyv_Cyrl"], ["xx"], "--like: 'xx'"),
        (["tyv_Cyrl=zh"], [], "--new-language tyv_Cyrl=zh: 'zh' may mean"),
    ],
)
def test_what_cannot_be_meant_is_refused(names: list[str], like: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message.replace("(", "\\(")):
        parse(names, like)


def test_a_new_language_needs_a_relative_that_the_model_knows(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no relative is named"):
        added([NewLanguage("hsb_Latn", ())])
    content = (catalogue_vocabulary().folder / "tokenizer.json").read_text("utf-8").replace("ces_Latn", "cez_Latn")
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ModelError, match="ces_Latn is missing"):
        new_language.additions(vocabulary.load(tmp_path), [SORBIAN], ["a"])
