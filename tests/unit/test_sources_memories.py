"""Moses, TMX, XLIFF and single catalogues: awkward files give the pairs a person sees in them."""

import gzip
import zipfile
from pathlib import Path
from typing import Any

import polib
import pytest

from dragoman.data.sources import open_sources
from dragoman.errors import DataError, InputError
from dragoman.languages import Direction

EN_FR = Direction("eng_Latn", "fra_Latn")
FR_EN = Direction("fra_Latn", "eng_Latn")
EN_DE = Direction("eng_Latn", "deu_Latn")


def texts(*entries: object, direction: Direction = EN_FR, **options: Any) -> list[tuple[str, str]]:
    opened = open_sources([str(entry) for entry in entries], direction, **{"on_bad_rows": "fail", **options})
    return [(pair.source, pair.target) for source in opened for pair in source.pairs()]


def message(*entries: object, direction: Direction = EN_FR, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        texts(*entries, direction=direction, **options)
    return str(caught.value)


def write(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# --- Moses -----------------------------------------------------------------------

ENGLISH = b'\xef\xbb\xbfone\r\ntwo\xe2\x80\xa8lines\n\n"quoted"\tx\nlast'
FRENCH = "un\ndeux\x85lignes\n\n« cité »\ndernier\n".encode()
MOSES = [
    ("one", "un"),
    ("two\u2028lines", "deux\x85lignes"),
    ("", ""),
    ('"quoted"\tx', "« cité »"),
    ("last", "dernier"),
]


def moses(tmp_path: Path, english: bytes = ENGLISH, french: bytes = FRENCH) -> tuple[Path, Path]:
    return write(tmp_path / "x.en", english), write(tmp_path / "x.fr", french)


def test_two_files_are_one_pair_in_either_order_and_direction(tmp_path: Path):
    english, french = moses(tmp_path)
    assert texts(english, french) == texts(french, english) == MOSES
    assert texts(english, french, direction=FR_EN) == [(target, source) for source, target in MOSES]
    (source,) = open_sources([str(english), str(french)], EN_FR, on_bad_rows="fail")
    assert (source.files, source.name) == ((english, french), f"{english} and {french}")


@pytest.mark.parametrize("ending", [".gz", ".zip"])
def test_each_file_may_be_compressed(tmp_path: Path, ending: str):
    files: list[Path] = []
    for plain in moses(tmp_path):
        packed = tmp_path / "packed" / f"{plain.name}{ending}"
        packed.parent.mkdir(exist_ok=True)
        if ending == ".gz":
            packed.write_bytes(gzip.compress(plain.read_bytes()))
        else:
            with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.write(plain, plain.name)
        files.append(packed)
    assert texts(*files) == MOSES


def test_a_zip_of_both_files_is_a_pair(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "en-fr.txt.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("LICENSE", "free")
        archive.writestr("Books.en-fr.en", ENGLISH)
        archive.writestr("Books.en-fr.fr", FRENCH)
        archive.writestr("Books.en-fr.ids", "1")
    assert texts(tmp_path / "en-fr.txt.zip") == MOSES
    assert texts(tmp_path / "en-fr.txt.zip/Books.en-fr.fr", tmp_path / "en-fr.txt.zip/Books.en-fr.en") == MOSES
    (source,) = open_sources([str(tmp_path / "en-fr.txt.zip")], EN_FR, on_bad_rows="fail")
    assert source.files == (tmp_path / "en-fr.txt.zip",)


def test_several_pairs_and_other_files_are_concatenated(tmp_path: Path):
    english, french = moses(tmp_path)
    other = write(tmp_path / "y.en", "red\n"), write(tmp_path / "y.fr", "rouge\n")
    tsv = write(tmp_path / "z.tsv", "blue\tbleu\n")
    assert texts(english, other[0], tsv, french, other[1]) == [*MOSES, ("red", "rouge"), ("blue", "bleu")]


def test_files_in_three_languages_serve_two_directions(tmp_path: Path):
    english, french = moses(tmp_path)
    german = write(tmp_path / "x.deu_Latn", "eins\nzwei\n\nZitat\nletzte\n")
    assert texts(english, french, german) == MOSES
    assert texts(english, french, german, direction=EN_DE)[0] == ("one", "eins")


@pytest.mark.parametrize("lost", [0, 3, 7])
def test_unequal_numbers_of_lines_are_refused_with_the_first_suspicious_line(tmp_path: Path, lost: int):
    lengths = [3, 40, 8, 90, 15, 60, 5, 120, 30, 10]
    english = [b"e" * length for length in lengths]
    french = [b"f" * (length + 1) for length in lengths]
    del french[lost]
    files = moses(tmp_path, b"\n".join(english) + b"\n", b"\n".join(french) + b"\n")
    for option in ("fail", "skip"):
        text = message(*files, on_bad_rows=option)
        assert f"{files[0]} has 10 lines and {files[1]} has 9" in text
        assert f"the first suspicious one is line {lost + 1}" in text


def test_a_line_that_is_no_utf8_is_a_bad_row_of_its_file(tmp_path: Path):
    files = moses(tmp_path, b"one\ntwo\nsix\n", b"un\n\xff\nsix\n")
    assert message(*files).startswith(f"{files[1]} line 2: byte 0xFF at offset 3 of the file is not UTF-8")
    assert texts(*files, on_bad_rows="skip") == [("one", "un"), ("six", "six")]


def test_one_side_alone_is_refused_with_the_name_of_the_other(tmp_path: Path):
    english, french = moses(tmp_path)
    assert f"try: name both: {english} {french}" in message(english)
    assert "there is no file or folder" in message(english, tmp_path / "x.de", direction=EN_DE)
    assert "no entry serves eng_Latn-deu_Latn" in message(english, french, direction=EN_DE)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no zip at all", b"PK\x05\x06" + b"\xff" * 18])
def test_a_damaged_zip_is_refused_by_name(tmp_path: Path, content: bytes):
    file = write(tmp_path / "a.zip", content)
    assert f"{file}: damaged or truncated" in message(file)


# --- TMX -------------------------------------------------------------------------


def tmx(*units: str, head: str = '<?xml version="1.0" encoding="UTF-8"?>') -> str:
    return f'{head}\n<tmx version="1.4"><header srclang="en"/><body>\n{"".join(units)}</body></tmx>'


def unit(**variants: str) -> str:
    sides = (f'<tuv xml:lang="{tag.replace("_", "-")}"><seg>{text}</seg></tuv>' for tag, text in variants.items())
    return f"<tu>{''.join(sides)}</tu>\n"


def test_every_combination_of_variants_is_a_pair_and_other_languages_are_none(tmp_path: Path):
    three = unit(de="eins", EN_us="one", fr="un", FR_ca="une", en="a")
    file = write(tmp_path / "a.tmx", tmx(three, unit(en="two", de="zwei"), unit(en="six", fr="")))
    assert texts(file) == [("one", "un"), ("one", "une"), ("a", "un"), ("a", "une"), ("six", "")]
    assert texts(file, direction=EN_DE) == [("one", "eins"), ("a", "eins"), ("two", "zwei")]
    (source,) = open_sources([str(file)], EN_FR, on_bad_rows="fail")
    assert [pair.where for pair in source.pairs()] == [3, 3, 3, 3, 5]


def test_codes_of_other_formats_are_dropped_and_marked_text_is_kept(tmp_path: Path):
    inline = (
        'a<bpt i="1">&lt;b&gt;<sub>no</sub></bpt>b<ept i="1">no</ept>c<it pos="begin">no</it>d<ph>no</ph>e<ut>no</ut>'
        "<hi>f<hi>g<ph>no</ph></hi>h</hi> <!-- no -->&amp;&#233;<![CDATA[<i>]]>\n j<x/><sub>no</sub>"
    )
    file = write(tmp_path / "a.tmx", tmx(unit(en=inline, fr="un")))
    assert texts(file) == [("abcdefgh &é<i>\n j", "un")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "iso-8859-1"])
@pytest.mark.parametrize("name", ["a.tmx", "a.tmx.gz"])
def test_encodings_and_gzip_are_read(tmp_path: Path, encoding: str, name: str):
    declared = encoding.removesuffix("-sig").removesuffix("-le")
    text = tmx(unit(en="tea", fr="thé"), head=f'<?xml version="1.0" encoding="{declared}"?>')
    content = text.encode(encoding)
    assert texts(write(tmp_path / name, gzip.compress(content))) == [("tea", "thé")]
    assert texts(write(tmp_path / name, content)) == [("tea", "thé")]


def test_a_document_type_is_neither_fetched_nor_needed(tmp_path: Path):
    head = '<?xml version="1.0"?>\n<!DOCTYPE tmx SYSTEM "tmx14.dtd">'
    assert texts(write(tmp_path / "a.tmx", tmx(unit(en="one", fr="un"), head=head))) == [("one", "un")]


BOMB = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))


@pytest.mark.parametrize("entity", ["&e;", "&a9;", "&local;"])
@pytest.mark.parametrize("place", ["text", "attribute", "head"])
def test_a_file_that_uses_entities_is_refused_and_gives_nothing_away(tmp_path: Path, entity: str, place: str):
    secret = write(tmp_path / "secret", "hunter2")
    if entity == "&e;" and place == "attribute":
        pytest.skip("no XML: an attribute cannot refer to another file")
    declared = f'<!ENTITY a0 "xxxxxxxxxx">{BOMB}<!ENTITY local "text"><!ENTITY e SYSTEM "{secret.as_uri()}">'
    text = tmx(unit(en=entity if place == "text" else "one", fr="un"), head=f"<!DOCTYPE tmx [{declared}]>")
    if place == "attribute":
        text = text.replace("<seg>", f'<seg x="{entity}">')
    if place == "head":
        text = text.replace("<body>", f"<note>{entity}</note><body>")
    file = write(tmp_path / "a.tmx", text)
    if entity == "&a9;" or place == "text":
        assert message(file).startswith(str(file))
        assert "hunter2" not in message(file)
    else:
        assert texts(file) == [("one", "un")]


@pytest.mark.parametrize("keep", [0, 10, 60, 100, 200, -8, -2])
def test_a_truncated_memory_is_refused_by_name(tmp_path: Path, keep: int):
    file = write(tmp_path / "a.tmx", tmx(unit(en="one", fr="un") * 3)[:keep])
    assert str(file) in message(file, on_bad_rows="skip")


def test_another_document_is_refused_by_its_root(tmp_path: Path):
    assert "its root is <html>, expected <tmx>" in message(write(tmp_path / "a.tmx", "<html><body/></html>"))


def test_a_unit_without_end_is_refused(tmp_path: Path):
    file = write(tmp_path / "a.tmx", tmx("<tu>" + '<tuv xml:lang="de"/>' * 100_000 + "</tu>"))
    assert f"{file} line 3: a unit of over 100,000 elements" in message(file)


# --- XLIFF -----------------------------------------------------------------------


def xliff_1(*units: str, source: str = "en-US", target: str = 'target-language="fr"') -> str:
    return f'<file source-language="{source}" {target} original="a"><body><group>{"".join(units)}</group></body></file>'


def whole_1(*files: str) -> str:
    return f'<xliff version="1.2" xmlns="urn:oasis:names:tc:xliff:document:1.2">{"".join(files)}</xliff>'


def trans(source: str, target: str, state: str = "", more: str = "") -> str:
    attribute = f' state="{state}"' if state else ""
    return f"<trans-unit id='1'><source>{source}</source><target{attribute}>{target}</target>{more}</trans-unit>"


def test_of_xliff_1_finished_translations_count(tmp_path: Path):
    states = ["", "translated", "signed-off", "final", "new", "needs-translation", "needs-review-translation", "x-own"]
    units = [trans(state or "none", "t", state) for state in states]
    more = [trans("empty", ""), trans("blank", "<x id='1'/> "), "<trans-unit id='2'><source>s</source></trans-unit>"]
    file = write(tmp_path / "a.xlf", whole_1(xliff_1(*units, *more)))
    assert [source for source, _ in texts(file)] == ["none", "translated", "signed-off", "final"]


def test_suggestions_and_files_in_other_languages_are_ignored(tmp_path: Path):
    other = xliff_1(trans("no", "nein"), target='target-language="de"')
    suggestion = "<alt-trans><source>no</source><target>non</target></alt-trans>"
    file = write(tmp_path / "a.xliff", whole_1(other, xliff_1(trans("one", "un", more=suggestion)), other))
    assert texts(file) == [("one", "un")]
    assert texts(file, direction=FR_EN) == [("un", "one")]
    without = write(tmp_path / "b.xlf", whole_1(xliff_1(trans("one", "un"), target=""), xliff_1(source="de")))
    assert texts(without) == [("one", "un")]


def test_inline_elements_of_xliff(tmp_path: Path):
    source = 'a<g id="1">b<x id="2"/><mrk mtype="seg">c</mrk></g><ph id="3">no</ph><bpt id="4">no<sub>no</sub></bpt>d'
    file = write(tmp_path / "a.xlf", whole_1(xliff_1(trans(source, "<it id='1'>no</it>un"))))
    assert texts(file) == [("abcd", "un")]


WRITTEN = (
    'Press &lt;b&amp;&gt;: a<!-- no --><g id="1" ctype="x&amp;y">b<x id="2"/></g>'
    "<ph id='3' equiv-text='\"%s\"'>no<sub>no</sub></ph><ept i='1'>&lt;/b&gt;</ept>d"
)
KEPT = 'Press <b&>: a<g id="1" ctype="x&amp;y">b<x id="2"/></g><ph id="3" equiv-text="&quot;%s&quot;"/><ept i="1"/>d'


def test_tags_are_kept_as_text_when_asked_for(tmp_path: Path):
    """As they are written, with what is in them as text, but without the codes of another format."""
    for file in (
        write(tmp_path / "a.tmx", tmx(unit(en=WRITTEN, fr="<hi>un</hi>"))),
        write(tmp_path / "a.xlf", whole_1(xliff_1(trans(WRITTEN, "<hi>un</hi>"), trans("blank", "<x id='1'/> ")))),
    ):
        assert texts(file, inline_tags="keep") == [(KEPT, "<hi>un</hi>")]
        assert texts(file) == [("Press <b&>: abd", "un")]


def test_xliff_2_has_its_languages_at_the_root_and_states_at_segments(tmp_path: Path):
    def segment(source: str, state: str = "") -> str:
        attribute = f' state="{state}"' if state else ""
        return f"<segment{attribute}><source>{source}</source><target>t</target></segment>"

    match = "<m:matches><m:match ref='#1'><source>no</source><target>non</target></m:match></m:matches>"
    states = ["", "translated", "reviewed", "final", "initial"]
    segments = "".join(segment(f"<pc id='1'>{state or 'none'}</pc><ph id='2'/>", state) for state in states)
    ignorable = "<ignorable><source> </source><target> </target></ignorable>"
    file = write(
        tmp_path / "a.xlf",
        '<xliff xmlns="urn:oasis:names:tc:xliff:document:2.0" xmlns:m="urn:oasis:names:tc:xliff:matches:2.0" '
        f'version="2.1" srcLang="en" trgLang="fr-CA"><file id="f"><unit id="u">{match}{segments}{ignorable}</unit>'
        "</file></xliff>",
    )
    assert [source for source, _ in texts(file)] == ["none", "translated", "reviewed", "final"]
    assert not texts(file, direction=EN_DE)


# --- PO and MO as files ------------------------------------------------------------

PO = r"""msgid ""
msgstr ""
"Language: fr_CA\n"
"Content-Type: text/plain; charset=ISO-8859-1\n"

msgctxt "dropped"
msgid "tea"
msgstr "thé"

#, fuzzy
msgid "guess"
msgstr "devinette"

msgid "%d cup"
msgid_plural "%d cups"
msgstr[0] "%d tasse"
msgstr[1] "%d tasses"
msgstr[2] "%d de plus"
"""
PO_PAIRS = [("tea", "thé"), ("%d cup", "%d tasse"), ("%d cups", "%d tasses")]


def test_a_catalogue_can_be_named_itself(tmp_path: Path):
    po = write(tmp_path / "app.po", PO.encode("latin-1"))
    mo = tmp_path / "app.mo"
    polib.pofile(str(po)).save_as_mofile(str(mo))
    assert texts(po) == PO_PAIRS
    assert sorted(texts(mo)) == sorted(PO_PAIRS)
    assert texts(po, direction=FR_EN) == [(target, source) for source, target in PO_PAIRS]
    assert "no entry serves eng_Latn-deu_Latn" in message(po, direction=EN_DE)
    assert texts(f"en-de={po}", direction=EN_DE) == PO_PAIRS


@pytest.mark.parametrize("name", ["de.po", "de_AT.po", "de/LC_MESSAGES/app.po"])
def test_without_a_header_the_name_says_the_language(tmp_path: Path, name: str):
    file = write(tmp_path / name, 'msgid "one"\nmsgstr "eins"\n')
    assert texts(file, direction=EN_DE) == [("one", "eins")]
    assert "no entry serves" in message(file)


def test_a_long_catalogue_is_read_in_blocks_with_its_own_line_numbers(tmp_path: Path):
    entries = [f'#: a.c:{n}\nmsgid "m {n}\u2028"\n\nmsgstr ""\n"t\x85 {n}"\n\n' for n in range(3000)]
    file = write(tmp_path / "fr.po", "".join(entries))
    (source,) = open_sources([str(file)], EN_FR, on_bad_rows="fail")
    pairs = list(source.pairs())
    assert [(pair.source, pair.target) for pair in pairs] == [(f"m {n}\u2028", f"t\x85 {n}") for n in range(3000)]
    assert [pair.where for pair in pairs] == [6 * n + 1 for n in range(3000)]
    write(file, "".join(entries) + "nonsense\n")
    with pytest.raises(DataError, match=f"{file} line 18,001: not a gettext catalogue"):
        texts(file)
