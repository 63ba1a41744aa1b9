"""Data of a language that NLLB lacks is found by its tags, as that of any other."""

import json
from pathlib import Path

import pytest

from dragoman.data.sources import check_data, open_sources
from dragoman.errors import InputError
from dragoman.languages import Direction

EN_TYV, EN_FR = Direction("eng_Latn", "tyv_Cyrl"), Direction("eng_Latn", "fra_Latn")
EN_HSB = Direction("eng_Latn", "hsb_Latn")


def pairs(data: list[str], direction: Direction) -> list[tuple[str, str]]:
    return [
        (pair.source, pair.target) for one in open_sources(data, direction, on_bad_rows="fail") for pair in one.pairs()
    ]


def test_entries_are_tied_to_it_by_language_or_code(tmp_path: Path) -> None:
    french, tuvan = tmp_path / "fr.tsv", tmp_path / "tyv.tsv"
    french.write_text("one\tun\n")
    tuvan.write_text("one\tбир\n")
    for prefix in ("en-tyv", "en-tyv_Cyrl", "tyv-en"):
        data = [f"en-fr={french}", f"{prefix}={tuvan}"]
        check_data(data, [EN_FR, EN_TYV])
        expected = [("бир", "one")] if prefix == "tyv-en" else [("one", "бир")]
        assert pairs(data, EN_TYV) == expected
        assert pairs(data, EN_FR) == [("one", "un")]


def test_without_the_language_its_entry_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tyv.tsv").write_text("one\tбир\n")
    with pytest.raises(InputError, match="NLLB-200 has no Tuvinian"):
        check_data([f"en-tyv={tmp_path / 'tyv.tsv'}"], [EN_FR])


def test_a_misspelt_pair_is_no_new_language(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("one\tun\n")
    with pytest.raises(InputError, match="the pair before '=' is wrong"):
        pairs([f"en-fra_Lant={tmp_path / 'a.tsv'}"], EN_FR)


@pytest.mark.parametrize("key", ["tyv", "tyv_Cyrl", "tyv-Cyrl"])
def test_json_lines_name_it(tmp_path: Path, key: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"translation": {"en": "one", key: "бир", "fr": "un"}}))
    assert pairs([str(path)], EN_TYV) == [("one", "бир")]
    assert pairs([str(path)], EN_FR) == [("one", "un")]


def test_catalogues_of_it_are_found() -> None:
    """Django is translated into Upper Sorbian, which NLLB lacks."""
    found = pairs(["gettext:django"], EN_HSB)
    assert len(found) > 200
    assert any("ł" in target for _, target in found)
