"""Data of a language that NLLB lacks is found by its tags, as that of any other."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import ipc, parquet

from dragoman.cli.app import run as command
from dragoman.data.sources import check_data, open_sources
from dragoman.errors import InputError
from dragoman.languages import Direction

EN_TYV, EN_FR = Direction("eng_Latn", "tyv_Cyrl"), Direction("eng_Latn", "fra_Latn")
TYV_EN = Direction("tyv_Cyrl", "eng_Latn")
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


# --- every format, the tag written in every way, both directions -----------------------

TAGS = ["tyv", "tyv_Cyrl", "tyv-Cyrl", "tyv-RU", "TYV"]


def csv(folder: Path, tag: str) -> list[Path]:
    return [write(folder / "a.csv", f"{tag},fr,en\nбир,un,one\n")]


def tsv(folder: Path, tag: str) -> list[Path]:
    return [write(folder / "a.tsv", f"{tag}\tfr\ten\nбир\tun\tone\n")]


def json_lines(folder: Path, tag: str) -> list[Path]:
    return [write(folder / "a.jsonl", json.dumps({"translation": {"en": "one", "fr": "un", tag: "бир"}}))]


def tmx(folder: Path, tag: str) -> list[Path]:
    variants = "".join(
        f'<tuv xml:lang="{code}"><seg>{text}</seg></tuv>' for code, text in (("en", "one"), ("fr", "un"), (tag, "бир"))
    )
    return [write(folder / "a.tmx", f'<tmx version="1.4"><body><tu>{variants}</tu></body></tmx>')]


def xliff_1(folder: Path, tag: str) -> list[Path]:
    unit = "<body><trans-unit><source>one</source><target>{}</target></trans-unit></body>"
    files = "".join(
        f'<file source-language="en" target-language="{code}">{unit.format(text)}</file>'
        for code, text in ((tag, "бир"), ("fr", "un"))
    )
    return [write(folder / "a.xlf", f'<xliff version="1.2">{files}</xliff>')]


def xliff_2(folder: Path, tag: str) -> list[Path]:
    unit = "<unit><segment><source>one</source><target>бир</target></segment></unit>"
    return [write(folder / "a.xliff", f'<xliff version="2.0" srcLang="en" trgLang="{tag}"><file>{unit}</file></xliff>')]


def moses(folder: Path, tag: str) -> list[Path]:
    return [write(folder / "x.en", "one\n"), write(folder / f"x.{tag}", "бир\n")]


def zipped(folder: Path, tag: str) -> list[Path]:
    with zipfile.ZipFile(folder / "x.zip", "w") as archive:
        archive.writestr("x.en", "one\n")
        archive.writestr(f"x.{tag}", "бир\n")
        archive.writestr("x.fr", "un\n")
    return [folder / "x.zip"]


def translation_column(folder: Path, tag: str) -> list[Path]:
    parquet.write_table(pa.table({"translation": [{"en": "one", "fr": "un", tag: "бир"}]}), folder / "a.parquet")
    return [folder / "a.parquet"]


def named_columns(folder: Path, tag: str) -> list[Path]:
    parquet.write_table(pa.table({"id": [1], tag: ["бир"], "en": ["one"]}), folder / "a.parquet")
    return [folder / "a.parquet"]


def arrow(folder: Path, tag: str) -> list[Path]:
    table = pa.table({"en": ["one"], tag: ["бир"]})
    with ipc.new_file(str(folder / "a.arrow"), table.schema) as file:
        file.write_table(table)
    return [folder / "a.arrow"]


def catalogue(folder: Path, tag: str) -> list[Path]:
    text = f'msgid ""\nmsgstr "Language: {tag}\\nContent-Type: text/plain; charset=UTF-8\\n"\n\n'
    return [write(folder / "messages.po", text + 'msgid "one"\nmsgstr "бир"\n')]


def named_catalogue(folder: Path, tag: str) -> list[Path]:
    return [write(folder / f"{tag}.po", 'msgid "one"\nmsgstr "бир"\n')]


def catalogues(folder: Path, tag: str) -> list[Path]:
    write(folder / tag / "LC_MESSAGES/app.po", 'msgid "one"\nmsgstr "бир"\n')
    write(folder / "fr/LC_MESSAGES/app.po", 'msgid "one"\nmsgstr "un"\n')
    return [folder]


FORMATS = [csv, tsv, json_lines, tmx, xliff_1, xliff_2, moses, zipped, translation_column, named_columns, arrow]
FORMATS += [catalogue, named_catalogue, catalogues]


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("make", FORMATS, ids=lambda make: make.__name__)
def test_every_format_names_it(tmp_path: Path, make: Callable[[Path, str], list[Path]], tag: str) -> None:
    data = [str(path) for path in make(tmp_path, tag)]
    check_data(data, [EN_TYV, TYV_EN])
    assert pairs(data, EN_TYV) == [("one", "бир")]
    assert pairs(data, TYV_EN) == [("бир", "one")]


@pytest.mark.parametrize("make", FORMATS, ids=lambda make: make.__name__)
def test_a_dump_shows_it_with_its_code(tmp_path: Path, make: Callable[[Path, str], list[Path]]) -> None:
    data = [str(path) for path in make(tmp_path, "tyv-RU")]
    out = tmp_path / "pairs.jsonl"
    words = ["prepare", "--language-pairs", "en--tyv", "--new-language", "tyv_Cyrl", "--like", "kaz_Cyrl"]
    assert command([*words, "--data", *data, "--dump", str(out)]) == 0
    rows = [json.loads(line) for line in out.read_text("ascii").splitlines()]
    assert rows == [["one", "бир", "eng_Latn", "tyv_Cyrl"], ["бир", "one", "tyv_Cyrl", "eng_Latn"]]


@pytest.mark.parametrize("tag", ["tyv_Latn", "tyv-Latn-RU", "tuv", "ru-RU", "rus_Cyrl"])
def test_another_script_or_language_is_another_one(tmp_path: Path, tag: str) -> None:
    with pytest.raises(InputError, match="no tyv_Cyrl side"):
        pairs([str(path) for path in json_lines(tmp_path, tag)], EN_TYV)
    with pytest.raises(InputError, match="no tyv_Cyrl side"):
        pairs([str(path) for path in named_columns(tmp_path, tag)], EN_TYV)
    assert pairs([str(path) for path in tmx(tmp_path, tag)], EN_TYV) == []


def test_a_language_of_two_letters_and_one_without_a_name_are_named_as_well(tmp_path: Path) -> None:
    for tag, code in (("cv", "chv_Cyrl"), ("cv-RU", "chv_Cyrl"), ("qaa", "qaa_Latn"), ("zh-Latn", "zho_Latn")):
        for number, make in enumerate(FORMATS):
            folder = tmp_path / f"{tag}-{number}"
            folder.mkdir()
            data = [str(path) for path in make(folder, tag)]
            assert pairs(data, Direction("eng_Latn", code)) == [("one", "бир")], (make.__name__, tag)


def test_two_new_languages_in_one_file_are_told_apart(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "en,tyv,qaa_Latn\none,бир,eno\n")
    assert pairs([str(path)], EN_TYV) == [("one", "бир")]
    assert pairs([str(path)], Direction("qaa_Latn", "tyv_Cyrl")) == [("eno", "бир")]


def test_files_in_it_beside_others_serve_the_other_directions_too(tmp_path: Path) -> None:
    texts = {"en": "one\n", "fr": "un\n", "tyv": "бир\n", "chv": "пӗр\n"}
    data = [str(write(tmp_path / f"x.{tag}", text)) for tag, text in texts.items()]
    for order in (data, data[::-1]):
        assert pairs(order, EN_FR) == [("one", "un")]
        assert pairs(order, EN_TYV) == [("one", "бир")]
        assert pairs(order, Direction("tyv_Cyrl", "chv_Cyrl")) == [("бир", "пӗр")]


def test_an_ending_that_happens_to_be_a_language_is_none(tmp_path: Path) -> None:
    """`txt` is Citak, `doc` Southern Dong."""
    for name in ("notes.txt", "notes.doc"):
        with pytest.raises(InputError, match=r"cannot tell the format from '\.(txt|doc)'"):
            pairs([str(write(tmp_path / name, "one\n"))], EN_FR)


def test_a_catalogue_of_it_is_not_read_as_another_language(tmp_path: Path) -> None:
    header = catalogue(tmp_path, "tyv_RU")
    folder = write(tmp_path / "tyv/LC_MESSAGES/app.po", 'msgid "one"\nmsgstr "бир"\n')
    for path in (*header, folder):
        assert pairs([str(path)], EN_TYV) == [("one", "бир")]
        with pytest.raises(InputError, match="no entry serves"):
            pairs([str(path)], EN_FR)
