"""Scores are sacrebleu's own, told with the signature that makes them comparable."""

import re

import pytest
import sacrebleu

from dragoman.data.corpus import Text
from dragoman.evaluation import report
from dragoman.evaluation.score import bleu_tokenizer, score
from dragoman.languages import CODES, parse_pair
from tests.support.shared import catalogue

FR, DE = parse_pair("en-fr"), parse_pair("en-de")
ZH = (["我喜欢猫和狗。", "今天天气很好"], ["我喜欢狗和猫。", "今天天气不好"])
JA = (["私は猫が好きです。", "今日はいい天気"], ["私は犬が好きです。", "今日は天気がいい"])


def test_scores_equal_a_direct_call_of_sacrebleu() -> None:
    pairs = [pair for pair in catalogue("fr") if len(pair[1]) > 40][:70]
    # Neither all right nor all wrong: every third is the source, the others lack their last word.
    hypotheses = [source if n % 3 == 0 else target.rsplit(" ", 1)[0] for n, (source, target) in enumerate(pairs)]
    references = [target for _, target in pairs]
    ours = score(hypotheses, references, "fra_Latn")
    assert ours.chrf == sacrebleu.corpus_chrf(hypotheses, [references], word_order=2).score
    assert ours.bleu == sacrebleu.corpus_bleu(hypotheses, [references]).score
    assert 20 < ours.bleu < ours.chrf < 95
    assert ours.sentences == 70


@pytest.mark.parametrize(
    ("code", "texts", "tokenizer"), [("zho_Hans", ZH, "zh"), ("zho_Hant", ZH, "zh"), ("jpn_Jpan", JA, "char")]
)
def test_scripts_without_spaces_have_their_own_tokens(
    code: str, texts: tuple[list[str], list[str]], tokenizer: str
) -> None:
    hypotheses, references = texts
    ours = score(hypotheses, references, code)
    assert ours.bleu == sacrebleu.corpus_bleu(hypotheses, [references], tokenize=tokenizer).score
    assert ours.bleu > 2 * sacrebleu.corpus_bleu(hypotheses, [references]).score
    assert f"tok:{tokenizer}" in ours.bleu_signature


def test_every_language_has_a_tokenizer_that_sacrebleu_knows() -> None:
    chosen = {code: bleu_tokenizer(code) for code in CODES}
    assert set(chosen.values()) == {"13a", "zh", "char"}
    assert chosen["fra_Latn"] == chosen["kor_Hang"] == chosen["hin_Deva"] == "13a"
    assert chosen["yue_Hant"] == "zh"
    assert chosen["tha_Thai"] == chosen["khm_Khmr"] == "char"


def test_signatures_hold_version_and_settings() -> None:
    ours = score(["a b"], ["a b"], "fra_Latn")
    assert f"version:{sacrebleu.__version__}" in ours.chrf_signature
    assert f"version:{sacrebleu.__version__}" in ours.bleu_signature
    assert re.search(r"nc:6\|nw:2", ours.chrf_signature), "chrF++ counts words up to two"
    assert "tok:13a" in ours.bleu_signature
    assert (round(ours.chrf, 6), ours.sentences) == (100, 1)


@pytest.mark.parametrize(("hypotheses", "references"), [(["a"], []), ([], []), (["a", "b"], ["a"])])
def test_numbers_that_differ_are_an_error(hypotheses: list[str], references: list[str]) -> None:
    with pytest.raises(ValueError, match="hypotheses for"):
        score(hypotheses, references, "fra_Latn")


def test_each_direction_is_judged_on_its_own_rows() -> None:
    pairs = [Text("a cat", "un chat", FR), Text("a dog", "ein Hund", DE), Text("a house", "une maison", FR)]
    judged = report.judge("some", ["un chat", "falsch", "une maison"], pairs)
    assert list(judged.scores) == ["eng_Latn-fra_Latn", "eng_Latn-deu_Latn"]
    french, german = judged.scores.values()
    assert (round(french.chrf), french.sentences, german.sentences) == (100, 2, 1)
    assert german.chrf < 20
    assert judged.mean_chrf == pytest.approx((french.chrf + german.chrf) / 2)
    assert judged.to_json()["directions"]["eng_Latn-deu_Latn"]["chrf"] == german.chrf


def test_copying_is_the_source_as_hypothesis() -> None:
    pairs = [Text("Menu principal", "Menu principal", FR), Text("Save", "Enregistrer", FR)]
    judged = report.judge_copy(pairs)
    assert judged.hypotheses == ["Menu principal", "Save"]
    assert 0 < judged.mean_chrf < 100
