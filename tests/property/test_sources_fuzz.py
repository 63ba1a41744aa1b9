"""Whatever texts are written come back, and whatever bytes are read, the answer is pairs or a DataError."""

import csv
import gzip
import io
import json
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import polib
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lxml import etree
from pyarrow import ipc, parquet

from dragoman.data.filters import Sample, clean, key, placeholders, split_of
from dragoman.data.sources import Pair, open_sources
from dragoman.errors import InputError
from dragoman.languages import Direction

EN_FR = Direction("eng_Latn", "fra_Latn")
BOM = "\ufeff"

any_text = st.text(st.characters(exclude_categories=["Cs"]))
cell = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\t\n"))
rows = st.lists(st.tuples(cell, cell), max_size=20)


def read(name: str, content: bytes, on_bad_rows: str = "fail") -> list[tuple[str, str]]:
    with TemporaryDirectory() as folder:
        file = Path(folder, name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        entries = [folder if file.suffix in (".po", ".mo") else str(file)]
        if file.suffix == ".en":
            # The fuzzed bytes are both sides: what comes before the first NUL and what comes after it.
            english, _, french = content.partition(b"\0")
            file.write_bytes(english)
            file.with_suffix(".fr").write_bytes(french)
            entries.append(str(file.with_suffix(".fr")))
        (source,) = open_sources(entries, EN_FR, on_bad_rows=on_bad_rows)  # pyright: ignore[reportArgumentType]
        pairs = [(pair.source, pair.target) for pair in source.pairs()]
        assert source.rows.num_read == len(pairs) + source.rows.num_rejected
        for text in (text for pair in pairs for text in pair):
            text.encode("utf-8")
        return pairs


def refusal(name: str, content: bytes, on_bad_rows: str = "fail") -> str | None:
    """What the refusal says; None if the bytes are pairs."""
    try:
        read(name, content, on_bad_rows)
    except InputError as error:
        return error.message
    return None


def as_written(row: tuple[str, str]) -> tuple[str, str]:
    """A CR at the end of a line belongs to the line end."""
    return row[0], row[1].removesuffix("\r")


@given(rows, st.sampled_from(["\n", "\r\n"]), st.booleans())
@example([("a\u2028b", '"c\x85')], "\n", False)
@example([(BOM, "\r\r")], "\n", False)
def test_what_is_written_as_tsv_is_read_back(rows: list[tuple[str, str]], newline: str, marked: bool):
    content = (BOM if marked else "") + "".join(f"{source}\t{target}{newline}" for source, target in rows)

    expected = rows if newline == "\r\n" else [as_written(row) for row in rows]
    if not marked and content.startswith(BOM):
        expected[0] = (expected[0][0].removeprefix(BOM), expected[0][1])
    assert read("a.tsv", content.encode()) == expected


@given(st.lists(st.tuples(any_text, any_text), max_size=20), st.booleans())
def test_what_is_written_as_jsonl_is_read_back(rows: list[tuple[str, str]], ascii_only: bool):
    shapes = [
        lambda source, target: {"en": source, "fr": target},
        lambda source, target: {"translation": {"fr": target, "en": source}},
        lambda source, target: {"source": source, "target": target},
        lambda source, target: [source, target],
    ]
    lines = [json.dumps(shapes[i % 4](*row), ensure_ascii=ascii_only) + "\n" for i, row in enumerate(rows)]

    assert read("a.jsonl", "".join(lines).encode()) == rows


@given(st.lists(st.tuples(any_text, any_text), min_size=1, max_size=20), st.sampled_from(["\n", "\r\n"]), st.booleans())
@example([("a\rb", 'c"\n"'), (",", "\u2028")], "\r\n", True)
def test_what_is_written_as_csv_is_read_back(rows: list[tuple[str, str]], newline: str, marked: bool):
    text = io.StringIO()
    # The csv module would write a lone CR without quotes, where it ends a row.
    csv.writer(text, lineterminator=newline, quoting=csv.QUOTE_ALL).writerows([("source", "target"), *rows])

    assert read("a.csv", ((BOM if marked else "") + text.getvalue()).encode()) == rows


line = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\0")).filter(
    lambda text: not text.startswith(BOM)
)


@given(st.lists(st.tuples(line, line), max_size=20), st.sampled_from(["\n", "\r\n"]))
def test_what_is_written_as_moses_files_is_read_back(rows: list[tuple[str, str]], newline: str):
    sides = ["".join(row[side] + newline for row in rows).encode() for side in (0, 1)]

    assert read("a.en", b"\0".join(sides)) == rows


@given(st.lists(st.tuples(line, line), min_size=1, max_size=20), st.data())
def test_a_lost_line_is_never_a_shifted_alignment(rows: list[tuple[str, str]], data: st.DataObject):
    sides = [[row[side] + "\n" for row in rows] for side in (0, 1)]
    del sides[data.draw(st.sampled_from([0, 1]))][data.draw(st.integers(0, len(rows) - 1))]
    for option in ("fail", "skip"):
        message = refusal("a.en", b"\0".join("".join(side).encode() for side in sides), option)
        assert message is not None
        assert f"has {len(rows):,}" in message


# XML has no other control characters, and gives back CR as LF.
xml_text = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"))


@given(st.lists(st.tuples(xml_text, xml_text), max_size=10), st.sampled_from(["utf-8", "utf-16"]), st.booleans())
def test_what_is_written_as_tmx_is_read_back(rows: list[tuple[str, str]], encoding: str, packed: bool):
    root = etree.Element("tmx", version="1.4")
    body = etree.SubElement(root, "body")
    for source, target in rows:
        unit = etree.SubElement(body, "tu")
        for tag, text in (("de", "x"), ("fr-FR", target), ("EN", source)):
            variant = etree.SubElement(unit, "tuv", {"{http://www.w3.org/XML/1998/namespace}lang": tag})
            segment = etree.SubElement(variant, "seg")
            segment.text = text
            etree.SubElement(segment, "ph").text = "dropped"
    content = etree.tostring(root, encoding=encoding, xml_declaration=True)

    assert read("a.tmx", gzip.compress(content) if packed else content) == rows


@given(st.lists(st.tuples(any_text, any_text), max_size=20), st.sampled_from(["a.parquet", "a.arrow", "a.feather"]))
def test_what_is_written_as_columns_is_read_back(rows: list[tuple[str, str]], name: str):
    assert read(name, columnar(name, rows)) == rows


def columnar(name: str, rows: list[tuple[str, str]]) -> bytes:
    struct = pa.struct([("en", pa.string()), ("fr", pa.string())])
    column = pa.array([{"en": source, "fr": target} for source, target in rows], type=struct)
    table = pa.table({"translation": column})
    sink = io.BytesIO()
    if name == "a.parquet":
        parquet.write_table(table, sink)
    else:
        with (ipc.new_file if name == "a.feather" else ipc.new_stream)(sink, table.schema) as writer:
            writer.write_table(table)
    return sink.getvalue()


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.feather", "a.tsv.gz", "a.zip"])
def test_damaged_bytes_of_a_binary_file_are_pairs_or_a_data_error(name: str):
    @settings(max_examples=150, deadline=None)
    @given(rows, st.data())
    def check(rows: list[tuple[str, str]], data: st.DataObject):
        whole = bytearray(packed(name, rows))
        for _ in range(data.draw(st.integers(1, 3))):
            whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
        content = bytes(whole[: data.draw(st.integers(0, len(whole)))]) if data.draw(st.booleans()) else bytes(whole)
        message = refusal(name, content, "skip")
        assert message is None or name in message

    check()


def packed(name: str, rows: list[tuple[str, str]]) -> bytes:
    lines = "".join(f"{source}\t{target}\n" for source, target in rows).encode()
    if name == "a.tsv.gz":
        return gzip.compress(lines)
    if name == "a.zip":
        sink = io.BytesIO()
        with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.tsv", lines)
        return sink.getvalue()
    return columnar(name, rows)


@given(st.lists(st.tuples(any_text.filter(bool), any_text.filter(bool)), max_size=10, unique_by=lambda row: row[0]))
def test_what_polib_writes_is_read_back(rows: list[tuple[str, str]]):
    # polib reads files with universal newlines and takes a NUL in a .mo for the plural; no tool writes either.
    rows = [row for row in rows if not set("\r\x00\x04") & set(row[0] + row[1])]
    catalogue = polib.POFile()
    catalogue.metadata = {"Content-Type": "text/plain; charset=UTF-8"}
    for source, target in rows:
        catalogue.append(polib.POEntry(msgid=source, msgstr=target))

    assert sorted(read("fr/LC_MESSAGES/a.mo", catalogue.to_binary())) == sorted(rows)


ALPHABETS = {
    "a.tsv": [b"\t", b"\n", b"\r", b"a", b"\xc3", b"\xa9", b"\xef\xbb\xbf"],
    "a.csv": [
        *(b",", b'"', b'""', b"\n", b"\r", b"\r\n", b"a"),
        *(b"\xc3", b"\xef\xbb\xbf", b"en,fr\n", b"source,target\n"),
    ],
    "a.en": [b"\0", b"\n", b"\r", b"a", b"\xc3", b"\xa9", b"\xef\xbb\xbf", b"\x85", b"\n\n"],
    "a.tmx": [
        *(
            b"<tmx>",
            b"<body>",
            b"<tu>",
            b"<tuv xml:lang='en'>",
            b"<tuv lang='FR-ca'>",
            b"<seg>",
            b"a",
            b"&amp;",
            b"&e;",
        ),
        *(b"</seg></tuv>", b"</tu>", b"</body></tmx>", b"<ph>", b"</ph>", b"<hi>", b"</hi>", b"<!--", b"-->", b"\xff"),
        *(b"<?xml version='1.0' encoding='utf-16'?>", b"<!DOCTYPE tmx [<!ENTITY e '&e;'>]>", b"\xff\xfe", b"\0"),
        b"<tu><tuv xml:lang='en'><seg>a</seg></tuv><tuv xml:lang='fr'><seg>b</seg></tuv></tu>",
    ],
    "a.xlf": [
        *(b"<xliff srcLang='en' trgLang='fr'>", b"<xliff>", b"</xliff>", b"<file source-language='en'>", b"</file>"),
        *(b"<trans-unit>", b"</trans-unit>", b"<segment state='final'>", b"</segment>", b"<source>a</source>", b"\xff"),
        *(b"<target state='new'>b</target>", b"<target>b</target>", b"<target/>", b"<mrk>", b"</mrk>", b"&e;", b"a"),
    ],
    "a.parquet": [b"PAR1", b"\0\0\0\0", b"\x15\0", b"\x19", b"\xff"],
    "a.arrow": [b"ARROW1\0\0", b"\xff\xff\xff\xff\0\0\0\0", b"\xff\xff\xff\xff", b"\x10\0\0\0", b"\0\0"],
    "a.jsonl": [
        *(b"[", b"]", b"{", b"}", b'"', b":", b",", b"\n", b"\\ud800", b"\xff", b"1e999", b"NaN", b"null", b"true"),
        *(b'"en"', b'"fr"', b'"source"', b'"target"', b'"translation":', b'["a","b"]', b'{"en":"a","fr":"b"}'),
    ],
    "fr/LC_MESSAGES/a.po": [
        *(b"\n", b'"', b"\\", b"#, fuzzy\n", b"#~ ", b"#| ", b"#: a:1\n", b"\xff", b'msgid "a"\n', b'msgstr "b"\n'),
        *(
            b'msgid ""\n',
            b'msgctxt "c"\n',
            b'msgid_plural "as"\n',
            b'msgstr[0] "b"\n',
            b'msgstr[x] "c"\n',
            b'msgstr "+2AA-"\n',
        ),
        *(
            b'"Content-Type: text/plain; charset=%s\\n"\n' % name
            for name in (b"utf-7", b"base64", b"utf-16", b"x", b"idna")
        ),
    ],
    "fr/LC_MESSAGES/a.mo": [
        *(
            b"\xde\x12\x04\x95",
            b"\x95\x04\x12\xde",
            b"\0\0\0\0",
            b"\1\0\0\0",
            b"\x1c\0\0\0",
            b"\x24\0\0\0",
            b"\x2c\0\0\0",
        ),
        *(b"\xff", b"a\0b", b"\x04", b"Content-Type: text/plain; charset=utf-7\n", b"charset", b":", b"\n"),
    ],
}


@pytest.mark.parametrize("name", ALPHABETS)
@pytest.mark.parametrize("on_bad_rows", ["fail", "skip"])
def test_bytes_of_any_kind_are_pairs_or_a_data_error(name: str, on_bad_rows: str):
    pieces = st.lists(st.sampled_from(ALPHABETS[name]) | st.binary(max_size=4), max_size=30).map(b"".join)

    @settings(max_examples=300, deadline=None)
    @given(pieces | st.binary())
    def check(content: bytes):
        message = refusal(name, content, on_bad_rows)
        assert message is None or any(file in message for file in (Path(name).name, "a.fr"))
        # Lines without structure are rows, bad ones at worst.
        assert message is None or on_bad_rows == "fail" or name not in ("a.tsv", "a.jsonl")

    check()


@given(rows.filter(lambda rows: len(rows) > 0), st.data())
def test_a_damaged_byte_of_a_compiled_catalogue_is_pairs_or_a_data_error(
    rows: list[tuple[str, str]], data: st.DataObject
):
    catalogue = polib.POFile()
    for source, target in rows:
        catalogue.append(polib.POEntry(msgid=source, msgstr=target))
    content = bytearray(catalogue.to_binary())
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    message = refusal("fr/LC_MESSAGES/a.mo", bytes(content[: data.draw(st.integers(0, len(content)))]))
    assert message is None or "a.mo" in message


@given(any_text)
def test_cleaning_again_changes_nothing(text: str):
    assert clean(clean(text)) == clean(text)
    assert key(clean(text)) == key(text)
    assert not set("\n\t\r\u2028\x85") & set(key(text))


@given(st.text("%s(d)f {}0a.$:-!r[]1", max_size=40))
def test_counting_placeholders_of_any_text_ends(text: str):
    assert sum(placeholders(text).values()) <= text.count("%") + text.count("{")


@given(any_text, st.floats(0, 40), st.floats(0, 40), st.sampled_from([str.upper, str.lower, "  {}\n".format]))
def test_equal_sources_are_never_on_two_sides(text: str, dev: float, test: float, change: object):
    other = change(text)  # pyright: ignore
    if key(other) == key(text):
        assert split_of(other, dev, test) == split_of(text, dev, test)


@given(st.lists(st.tuples(any_text, any_text), max_size=30), st.integers(0, 40), st.randoms())
def test_a_sample_does_not_depend_on_the_order_of_the_source(
    rows: list[tuple[str, str]], num_pairs: int, random: object
):
    first = {tuple(map(key, row)): Pair(*row, where) for where, row in reversed(list(enumerate(rows)))}
    shown = sorted(first.values(), key=lambda pair: pair.where)

    def drawn(pairs: list[Pair]) -> list[Pair]:
        sample = Sample(num_pairs, 7, EN_FR)
        for pair in pairs:
            sample.add(pair)
        return sample.pairs()

    shuffled = list(shown)
    random.shuffle(shuffled)  # pyright: ignore
    assert sorted(drawn(shuffled)) == sorted(drawn(shown))
    assert len(drawn(shown)) == min(num_pairs, len(shown))
