"""Whatever texts are written come back, and whatever bytes are read, the answer is pairs or a DataError."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import polib
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dragoman.data.filters import Sample, clean, key, placeholders, split_of
from dragoman.data.sources import Pair, open_sources
from dragoman.errors import DataError
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
        entry = folder if file.suffix in (".po", ".mo") else str(file)
        (source,) = open_sources([entry], EN_FR, on_bad_rows=on_bad_rows)  # pyright: ignore[reportArgumentType]
        pairs = [(pair.source, pair.target) for pair in source.pairs()]
        assert source.rows.num_read == len(pairs) + source.rows.num_rejected
        for text in (text for pair in pairs for text in pair):
            text.encode("utf-8")
        return pairs


def refusal(name: str, content: bytes, on_bad_rows: str = "fail") -> str | None:
    """What the DataError says; None if the bytes are pairs."""
    try:
        read(name, content, on_bad_rows)
    except DataError as error:
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
        assert message is None or Path(name).name in message
        assert message is None or on_bad_rows == "fail" or name.startswith("fr/")

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
