"""CSV, TSV with a header, Parquet and Arrow: awkward files give the pairs a person sees in them."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import ipc, parquet

from dragoman.data.sources import BadRow, check_data, open_sources
from dragoman.errors import DataError, InputError
from dragoman.languages import Direction

EN_FR = Direction("eng_Latn", "fra_Latn")
FR_EN = Direction("fra_Latn", "eng_Latn")
EN_ZH = Direction("eng_Latn", "zho_Hans")
BOM = b"\xef\xbb\xbf"


def read(entry: object, direction: Direction = EN_FR, **options: Any) -> list[tuple[str, str, int]]:
    opened = open_sources([str(entry)], direction, **{"on_bad_rows": "fail", **options})
    return [tuple(pair) for source in opened for pair in source.pairs()]


def texts(entry: object, direction: Direction = EN_FR, **options: Any) -> list[tuple[str, str]]:
    return [(source, target) for source, target, _ in read(entry, direction, **options)]


def message(entry: object, direction: Direction = EN_FR, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(entry, direction, **options)
    return str(caught.value)


def write(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# --- CSV -------------------------------------------------------------------------


def test_csv_quotes_hold_commas_newlines_and_quotes(tmp_path: Path):
    file = write(tmp_path / "a.csv", 'plain,uni\r\n"a, ""b""\nc",d\r\n\n"e\u2028f\x85","g\r\nh"\r\nq"uote,l\'\n')

    assert read(file) == [
        ("plain", "uni", 1),
        ('a, "b"\nc', "d", 2),
        ("e\u2028f\x85", "g\r\nh", 5),
        ('q"uote', "l'", 7),
    ]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("en,fr", ("a", "b")),
        ("FR,EN-us", ("b", "a")),
        ("source,target", ("a", "b")),
        ("Target, Source", ("b", "a")),
        ("eng_Latn,fr_FR,score", ("a", "b")),
        ('"en","fr"', ("a", "b")),
    ],
)
def test_a_first_row_that_names_the_sides_is_a_header(tmp_path: Path, header: str, expected: tuple[str, str]):
    extra = ",0.5" * (header.count(",") - 1)
    assert texts(write(tmp_path / "a.csv", BOM + f"{header}\r\na,b{extra}\r\n".encode())) == [expected]


def test_without_a_header_the_first_two_columns_count(tmp_path: Path):
    file = write(tmp_path / "a.csv", "en,de\none,un,more\n")
    assert texts(file) == [("en", "de"), ("one", "un")]
    assert texts(f"en-fr={file}", FR_EN) == [("de", "en"), ("un", "one")]


def test_columns_that_name_languages_follow_the_direction_and_others_the_entry(tmp_path: Path):
    named = write(tmp_path / "a.csv", "en,fr\none,un\n")
    columns = write(tmp_path / "b.csv", "source,target\none,un\n")
    assert texts(f"en-fr={named}", FR_EN) == texts(f"en-fr={columns}", FR_EN) == [("un", "one")]
    check_data([str(named)], [EN_FR, FR_EN])
    with pytest.raises(InputError, match="two columns that name no languages"):
        check_data([str(columns)], [EN_FR, FR_EN])


@pytest.mark.parametrize(
    ("rows", "line", "why"),
    [
        (b"a,b\nalone\n", 2, "1 column, expected 2 or more (source,target)"),
        (b'a,b\n"x\ny",\xff\n', 2, "its bytes are not UTF-8"),
        (b'a,b\n"x"y,z\n', 2, "not CSV: ',' expected after '\"'"),
    ],
)
def test_a_bad_csv_row_is_refused_or_skipped(tmp_path: Path, rows: bytes, line: int, why: str):
    file = write(tmp_path / "a.csv", rows + b"c,d\n")
    assert message(file).startswith(f"{file} line {line}: {why}")
    offered: list[BadRow] = []
    assert texts(file, on_bad_rows="skip", offer=offered.append) == [("a", "b"), ("c", "d")]
    assert [row.where for row in offered] == [line]


@pytest.mark.parametrize("rest", ["b", "b\n" * 100_000])
def test_a_quote_without_end_is_refused_whatever_is_done_with_bad_rows(tmp_path: Path, rest: str):
    file = write(tmp_path / "a.csv", f'a,b\n"open,{rest}')
    assert f"{file} line 2: a row that begins here has a quote without end" in message(file, on_bad_rows="skip")


# --- TSV with a header -----------------------------------------------------------


def test_a_tsv_may_have_a_header_too(tmp_path: Path):
    file = write(tmp_path / "a.tsv", "id\tfr\ten\n1\tun\tone\n2\tdeux\n")
    assert texts(file, on_bad_rows="skip") == [("one", "un")]
    assert f"{file} line 3: 2 columns, expected 3 as in the header" in message(file)
    assert texts(write(tmp_path / "b.tsv", "source\ttarget\none\tun\n")) == [("one", "un")]


@pytest.mark.parametrize("name", ["a.tsv.gz", "a.csv.gz", "a.jsonl.gz"])
def test_gzip_is_unpacked_and_a_truncated_one_refused(tmp_path: Path, name: str):
    row = {"a.tsv.gz": "one\tun\n", "a.csv.gz": "one,un\n", "a.jsonl.gz": '["one", "un"]\n'}[name]
    packed = gzip.compress(row.encode() * 5000)
    assert texts(write(tmp_path / name, packed)) == [("one", "un")] * 5000
    file = write(tmp_path / name, packed[:-20])
    assert f"{file}: damaged or truncated" in message(file, on_bad_rows="skip")
    assert texts(write(tmp_path / name, row)) == [("one", "un")], "unpacked on its way here"


def test_a_file_that_expands_without_lines_is_refused(tmp_path: Path):
    file = write(tmp_path / "a.tsv.gz", gzip.compress(b"x" * (17 << 20)))
    assert f"{file} line 1: longer than 16 MB" in message(file)


# --- JSONL keys ------------------------------------------------------------------


def test_a_tag_of_several_languages_serves_the_one_that_is_asked_for(tmp_path: Path):
    file = write(tmp_path / "a.jsonl", json.dumps({"translation": {"en": "one", "zh": "一", "zh-TW": "壹"}}))
    assert texts(file, EN_ZH) == [("one", "一")]
    assert texts(file, Direction("eng_Latn", "zho_Hant")) == [("one", "壹")]


# --- Parquet and Arrow -----------------------------------------------------------


def table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows)


def write_table(path: Path, rows: pa.Table, **options: Any) -> Path:
    if path.suffix == ".parquet":
        parquet.write_table(rows, path, **options)
    else:
        new = ipc.new_file if path.suffix == ".feather" else ipc.new_stream
        with pa.OSFile(str(path), "wb") as sink, new(sink, rows.schema) as writer:
            writer.write_table(rows)
    return path


FILES = ["a.parquet", "a.arrow", "a.feather"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "row",
    [
        {"translation": {"fr": "un", "en": "one"}, "id": 7},
        {"id": "7", "en": "one", "fr_FR": "un", "de": "eins"},
        {"score": 0.5, "source": "one", "target": "un"},
    ],
)
def test_rows_with_named_columns_are_read(tmp_path: Path, name: str, row: dict[str, Any]):
    file = write_table(tmp_path / name, table([row] * 3000))
    assert read(file) == [("one", "un", number) for number in range(1, 3001)]


def test_columns_follow_direction_or_entry(tmp_path: Path):
    named = write_table(tmp_path / "a.parquet", table([{"en": "one", "fr": "un"}]))
    columns = write_table(tmp_path / "b.parquet", table([{"source": "one", "target": "un"}]))
    assert texts(named, FR_EN) == texts(f"en-fr={columns}", FR_EN) == [("un", "one")]
    check_data([str(named)], [EN_FR, FR_EN])
    with pytest.raises(InputError, match="two columns that name no languages"):
        check_data([str(columns)], [EN_FR, FR_EN])


@pytest.mark.parametrize("name", FILES)
def test_a_row_without_text_is_bad(tmp_path: Path, name: str):
    rows = table([{"en": "one", "fr": "un"}, {"en": "two", "fr": None}, {"en": "six", "fr": "six"}])
    file = write_table(tmp_path / name, rows)
    assert message(file).startswith(f'{file} line 2: "fr" is null, expected text')
    assert texts(file, on_bad_rows="skip") == [("one", "un"), ("six", "six")]


@pytest.mark.parametrize("name", FILES)
def test_bytes_that_are_no_utf8_make_one_bad_row(tmp_path: Path, name: str):
    rows = pa.table({"en": pa.array([b"a", b"b", b"c"]), "fr": pa.array([b"x", b"\xff", b"z"])})
    as_text = pa.table({name: pa.array(rows[name].combine_chunks()).view(pa.string()) for name in ("en", "fr")})
    file = write_table(tmp_path / name, as_text)
    assert texts(file, on_bad_rows="skip") == [("a", "x"), ("c", "z")]


@pytest.mark.parametrize("name", FILES)
def test_a_missing_column_is_named_with_those_that_are_there(tmp_path: Path, name: str):
    file = write_table(tmp_path / name, table([{"en": "one", "de": "eins"}]))
    assert message(file).startswith(f"{file}: no fra_Latn side among the columns en, de")
    nested = write_table(tmp_path / name, table([{"translation": {"en": "one", "de": "eins"}}]))
    assert "no fra_Latn side among the columns translation.en, translation.de" in message(nested)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("keep", [0, 1, 10, 100, -1, -10])
def test_a_truncated_file_is_refused_with_its_name(tmp_path: Path, name: str, keep: int):
    file = write_table(tmp_path / name, table([{"en": f"one {n}", "fr": f"un {n}"} for n in range(2000)]))
    write(file, file.read_bytes()[:keep])
    assert str(file) in message(file, on_bad_rows="skip")
