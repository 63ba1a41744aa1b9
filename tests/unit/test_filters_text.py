"""Reasons that need a look into the text: script, repetition, language; and pairs that are nearly the same."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from dragoman.cli.app import run
from dragoman.config import DataConfig, from_flat
from dragoman.data import prepare
from dragoman.data.filters import REASONS, Limits, langid, near_key, reason
from dragoman.data.filters.placeholders import prose
from dragoman.data.filters.repetition import repeats
from dragoman.data.filters.script import is_in_script
from dragoman.languages import Direction, parse_pair, resolve
from tests.support.shared import catalogue

LIMITS = Limits.of(DataConfig(), parse_pair("en-ru"))


# --- prose ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Save %(name)s as {title}, 100 %", "Save as , 100 %"),
        ('See <a href="https://example.org/x">the notes</a>&nbsp;now.', "See the notes now."),
        ("Set class_name.allow_empty=True in settings.py or --max-pairs a@b.org.", "Set in or --max-pairs"),
        ("設定INSTALLED_APPSに追加", "設定 に追加"),
        ("and/or", ""),
        ("Done. Go on (really).", "Done. Go on (really)."),
    ],
)
def test_prose_is_text_without_what_nobody_translates(text: str, expected: str) -> None:
    assert prose(text) == expected


# --- script --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "code", "expected"),
    [
        ("Сохранить изменения", "rus_Cyrl", True),
        ("Save all the changes", "rus_Cyrl", False),
        ("Сохранить изменения", "eng_Latn", False),
        ("Podešavanja korisnika", "srp_Cyrl", False),
        ("Bluetooth", "rus_Cyrl", True),  # too few letters to say anything
        ("Bluetooth Low Energy выкл", "rus_Cyrl", True),  # a name with some letters beside it
        ("2024-01-01 — 100 % (+7) …", "rus_Cyrl", True),
        ("INSTALLED_APPS=django.contrib", "rus_Cyrl", True),
        ("変更を保存しますか", "jpn_Jpan", True),
        ("サーバー", "jpn_Jpan", True),
        ("保存所有更改并继续编辑这个页面", "zho_Hans", True),
        ("변경 사항을 저장하시겠습니까", "kor_Hang", True),
        ("すべての変更を保存しますか", "kor_Hang", False),
        ("تغییرات را ذخیره کنید", "pes_Arab", True),
        ("ᱥᱟᱱᱛᱟᱲᱤ ᱯᱟᱹᱨᱥᱤ ᱠᱟᱱᱟ", "sat_Beng", True),
        ("αποθήκευση αλλαγών", "eng_Latn", False),
        ("Ένα", "eng_Latn", True),
    ],
)
def test_a_text_is_mostly_in_its_script_or_not(text: str, code: str, expected: bool) -> None:
    assert is_in_script(text, code, 10.0) is expected


def test_every_code_of_nllb_has_a_script_that_unicode_knows() -> None:
    from dragoman.languages import CODES

    for code in CODES:
        assert is_in_script("12", code, 10.0)
        assert is_in_script("Ⴀ" * 20 + "α" * 20, code, 99.0) is False


def test_a_script_that_unicode_does_not_know_is_not_judged() -> None:
    assert is_in_script("Сохранить изменения", "xyz_Qabc", 10.0)


def test_no_least_share_judges_nothing() -> None:
    assert is_in_script("Save all the changes", "rus_Cyrl", 0.0)


# --- repetition ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no no no no no", False),
        ("no no no no no no", True),
        ("I am sorry, but I am sorry, but I am sorry, but I am sorry, but I am sorry, but I am sorry, but no", True),
        ("hahahahahaha", True),
        ("hahahahaha", False),
        ("noooooo", True),
        ("哈哈哈哈哈哈", True),
        ("1000000000", False),
        ("Name ........................ 7", False),
        ("- - - - - - - -", False),
        ("________", False),
        ("a b c d e f a b c d e f", False),
        ("1 1 1 1 1 1 1 1", False),
    ],
)
def test_the_same_more_than_five_times_in_a_row_is_a_repetition(text: str, expected: bool) -> None:
    assert repeats(text, 5) is expected


def test_a_repetition_on_both_sides_is_a_translation() -> None:
    assert reason("no " * 7, "нет " * 7, LIMITS) is None
    assert reason("no, not at all, never", "нет " * 7, LIMITS) == "repetition"
    assert reason("no, not at all, never", "нет " * 7, Limits()) is None


# --- near duplicates -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"), [("Page 1 of 12", "page 3 of 7"), ("Save…", "Save!"), ("Ａdd “%s”", "add %s"), ("A - b", "a b")]
)
def test_near_texts_have_the_same_words(one: str, other: str) -> None:
    assert near_key(one) == near_key(other)


def test_vowel_signs_are_letters() -> None:
    assert near_key("की") != near_key("का")
    assert near_key("کی") != near_key("کا")


@pytest.mark.parametrize("text", ["1", "2024-01-01", "…", "100 %"])
def test_numbers_alone_are_nothing_that_could_be_the_same(text: str) -> None:
    assert near_key(text) == ""


# --- language ------------------------------------------------------------------------

GERMAN = "Bitte geben Sie eine gültige E-Mail-Adresse ein und bestätigen Sie sie."


@pytest.mark.parametrize(
    ("text", "code", "expected"),
    [
        (GERMAN, "deu_Latn", False),
        (GERMAN, "fra_Latn", True),
        (GERMAN, "nld_Latn", True),
        (GERMAN[:30], "fra_Latn", False),  # too short
        (GERMAN, "bre_Latn", False),  # lingua does not know Breton
        (GERMAN, "kab_Latn", False),
        ("Velg hvilke felt som skal vises i listen over brukere og grupper", "dan_Latn", False),  # a close relative
        ('<a href="https://example.org/a/long/path">%(name)s</a> {title}', "fra_Latn", False),  # no prose
    ],
)
def test_only_a_sure_guess_that_is_no_relative_says_another_language(text: str, code: str, expected: bool) -> None:
    assert langid.is_other_language(text, code, 40) is expected


def test_codes_of_nllb_are_found_among_the_detectors_languages() -> None:
    known = langid.detector()[1]
    assert set(langid.KNOWN_AS.values()) <= known
    assert {code for group in langid.RELATIVES for code in group} <= known


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lingua", None)
    with pytest.raises(Exception, match=r"--langid needs the package lingua") as caught:
        langid.check()
    assert "dragoman[langid]" in getattr(caught.value, "hint", "")


# --- real text -----------------------------------------------------------------------

SAMPLED = ["fr", "de", "ru", "el", "ar", "he", "fa", "hi", "ja", "ko", "zh_Hans", "th"]


@pytest.mark.parametrize("locale", SAMPLED)
def test_true_pairs_are_hardly_ever_dropped(locale: str) -> None:
    limits = Limits.of(DataConfig(), Direction("eng_Latn", resolve(locale)))
    pairs = catalogue(locale)
    dropped = [pair for pair in pairs if reason(*pair, limits) in ("script", "repetition")]
    assert len(pairs) > 200
    assert len(dropped) <= 0.005 * len(pairs), dropped


@pytest.mark.parametrize(
    ("locale", "taken_for"), [("fr", "ru"), ("ru", "fr"), ("ja", "ko"), ("zh_Hans", "ko"), ("he", "ar"), ("en", "hi")]
)
def test_text_of_a_plain_length_in_another_script_is_dropped(locale: str, taken_for: str) -> None:
    code = resolve(taken_for)
    texts = [source for source, _ in catalogue("fr")] if locale == "en" else [text for _, text in catalogue(locale)]
    long = [text for text in map(prose, texts) if sum(map(str.isalpha, text)) >= 12]
    assert len(long) > 40
    caught = [text for text in long if not is_in_script(text, code, 10.0)]
    assert len(caught) >= 0.97 * len(long)


# --- from the command line -----------------------------------------------------------

ROWS = [
    ("Save your changes now.", "Enregistrez vos modifications."),
    ("Page 1 of 12", "Page 1 sur 12"),
    ("Page 2 of 12", "Page 2 sur 12"),
    ("1.", "2"),
    ("3.", "4"),
    ("Delete this page", "Удалить эту страницу"),
    ("I am sorry", "non " * 8),
    ("Please confirm your mail address before you go on.", GERMAN),
    *((f"the {word} is here", f"le {word} est ici") for word in ("cat", "dog", "bird", "house", "tree", "river")),
]


def prepared(folder: Path, capsys: pytest.CaptureFixture[str], *more: str) -> Any:
    rows = folder / "rows.tsv"
    rows.write_text("".join(f"{source}\t{target}\n" for source, target in ROWS), "utf-8")
    words = ["prepare", "--language-pairs", "en-fr", "--data", f"en-fr={rows}", "--model", "scratch:tiny"]
    words += ["--dev-percent", "0", "--test-percent", "0", "--output", str(folder / "run"), *more]
    assert run(words) == 0
    return capsys.readouterr().out


def test_every_reason_is_in_the_funnel_with_an_example(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = prepared(tmp_path, capsys, "--near-duplicates", "drop", "--langid", "--json")
    rejected = json.loads(shown)["funnel"]["eng_Latn-fra_Latn"]["rejected"]
    assert {name: entry["examples"][0][0] for name, entry in rejected.items()} == {
        "script": "Delete this page",
        "repetition": "I am sorry",
        "language": "Please confirm your mail address before you go on.",
        "near_duplicate": "Page 2 of 12",
    }
    assert all(entry["why"] == REASONS[name] for name, entry in rejected.items())
    text = prepared(tmp_path, capsys, "--near-duplicates", "drop", "--langid")
    assert f"{'near_duplicate':16}{1:>10}  {REASONS['near_duplicate']}" in text


def test_by_default_only_script_and_repetition_are_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = json.loads(prepared(tmp_path, capsys, "--json"))
    assert set(shown["funnel"]["eng_Latn-fra_Latn"]["rejected"]) == {"script", "repetition"}


def test_filters_can_be_switched_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = json.loads(prepared(tmp_path, capsys, "--min-script-percent", "0", "--max-repeats", "0", "--json"))
    assert not shown["funnel"]["eng_Latn-fra_Latn"]["rejected"]


def test_another_normalisation_is_another_corpus() -> None:
    directions = [parse_pair("en-fr")]
    digests = {
        prepare.inputs_digest(from_flat({"data": ["gettext:wtforms"]} | options).data, directions, 1)
        for options in ({}, {"normalize": "nllb"}, {"normalize_target": "nllb"}, {"max_repeats": 0}, {"langid": True})
    }
    assert len(digests) == 5
