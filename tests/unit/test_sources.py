"""Reading pairs: awkward files give the pairs a person sees in them, wrong ones a message and a way out."""

import gettext as stdlib_gettext
import importlib.util
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import polib
import pytest

from dragoman.data.sources import BadRow, Source, check_data, open_sources
from dragoman.data.sources.gettext import find_domains
from dragoman.errors import DataError, InputError
from dragoman.languages import Direction

EN_FR = Direction("eng_Latn", "fra_Latn")
FR_EN = Direction("fra_Latn", "eng_Latn")
EN_DE = Direction("eng_Latn", "deu_Latn")
DE_FR = Direction("deu_Latn", "fra_Latn")
BOM = b"\xef\xbb\xbf"
SKIP_HINT = "--on-bad-rows skip   (writes them to rejected.tsv)"


def write(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def only_source(entry: object, direction: Direction = EN_FR, **options: Any) -> Source:
    (source,) = open_sources([str(entry)], direction, **{"on_bad_rows": "fail", **options})
    return source


def texts(entry: object, direction: Direction = EN_FR, **options: Any) -> list[tuple[str, str]]:
    return [(pair.source, pair.target) for pair in only_source(entry, direction, **options).pairs()]


def message(entry: object, direction: Direction = EN_FR) -> str:
    """What the user is told when the whole entry is read."""
    with pytest.raises(InputError) as caught:
        texts(entry, direction)
    return str(caught.value)


# --- TSV -------------------------------------------------------------------------


def test_a_tsv_gives_its_columns_and_line_numbers(tmp_path: Path):
    file = write(tmp_path / "a.tsv", "one\tun\ntwo\tdeux")

    source = only_source(file)

    assert list(source.pairs()) == [("one", "un", 1), ("two", "deux", 2)]
    assert (source.name, source.files, source.rows.num_read) == (str(file), (file,), 2)


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\f", "\v", "\x1c", "\r", "\x00"])
def test_only_a_line_feed_ends_a_line(tmp_path: Path, separator: str):
    file = write(tmp_path / "a.tsv", f"o{separator}ne\tu{separator}n\ntwo\tdeux\n")

    assert texts(file) == [(f"o{separator}ne", f"u{separator}n"), ("two", "deux")]


def test_a_byte_order_mark_and_carriage_returns_are_not_content(tmp_path: Path):
    file = write(tmp_path / "a.tsv", BOM + b"one\tun\r\ntwo\tdeux\r\n")

    assert texts(file) == [("one", "un"), ("two", "deux")]


def test_only_one_carriage_return_and_only_the_first_mark_are_dropped(tmp_path: Path):
    file = write(tmp_path / "a.tsv", BOM + BOM + b"one\tun\r\r\n" + BOM + b"two\tdeux\n")

    assert texts(file) == [("\ufeffone", "un\r"), ("\ufefftwo", "deux")]


def test_quotation_marks_quote_nothing(tmp_path: Path):
    file = write(tmp_path / "a.tsv", '"one\t"un""\n"\tdeux\n')

    assert texts(file) == [('"one', '"un""'), ('"', "deux")]


@pytest.mark.parametrize("ending", ["", "\n", "\n\n\n", "\r\n\r\n"])
def test_empty_lines_at_the_end_are_no_rows(tmp_path: Path, ending: str):
    source = only_source(write(tmp_path / "a.tsv", "one\tun" + ending))

    assert len(list(source.pairs())) == source.rows.num_read == 1


def test_an_empty_side_is_left_to_the_filters(tmp_path: Path):
    assert texts(write(tmp_path / "a.tsv", "one\t\n\tdeux\n")) == [("one", ""), ("", "deux")]


@pytest.mark.parametrize(
    ("content", "line", "why"),
    [
        (b"a\tb\nx\ty\tz\n", 2, "3 columns, expected 2 (source<TAB>target)"),
        (b"a\tb\nalone\n", 2, "1 column, expected 2 (source<TAB>target)"),
        (b"a\tb\n\n\nc\td\n", 2, "an empty line between rows, expected 2 (source<TAB>target)"),
        (b"a\tb\ncaf\xe9\tx\n", 2, "byte 0xE9 at offset 7 of the file is not UTF-8"),
        (BOM + b"\xff\tx\n", 1, "byte 0xFF at offset 3 of the file is not UTF-8"),
        (b"a\tb\n" * 4011 + b"x\ty\tz\n", 4012, "3 columns, expected 2 (source<TAB>target)"),
    ],
)
def test_a_bad_tsv_row_is_refused_with_its_file_and_line(tmp_path: Path, content: bytes, line: int, why: str):
    file = write(tmp_path / "a.tsv", content)

    with pytest.raises(DataError) as caught:
        texts(file)

    assert caught.value.message == f"{file} line {line:,}: {why}"
    assert caught.value.hint == SKIP_HINT


def test_skipped_rows_are_counted_offered_and_the_first_are_kept(tmp_path: Path):
    file = write(tmp_path / "a.tsv", b"one\tun\nx\n\ntwo\tdeux\ny\t\xff\na\tb\tc\n\n")
    offered: list[BadRow] = []
    source = only_source(file, on_bad_rows="skip", offer=offered.append)

    assert [pair.where for pair in source.pairs()] == [1, 4]
    assert (source.rows.num_read, source.rows.num_rejected) == (6, 4)
    assert [(row.where, row.text) for row in offered] == [(2, "x"), (3, ""), (5, "y\t\\xff"), (6, "a\tb\tc")]
    assert source.rows.examples == offered[:3]


def test_reading_again_gives_the_same_pairs_and_counts_anew(tmp_path: Path):
    source = only_source(write(tmp_path / "a.tsv", "one\tun\nx\ntwo\tdeux\n"), on_bad_rows="skip")

    assert list(source.pairs()) == list(source.pairs())
    assert (source.rows.num_read, source.rows.num_rejected, len(source.rows.examples)) == (3, 1, 1)


def test_a_rejected_row_is_one_line_of_four_columns():
    row = BadRow(Path("a\tb.jsonl"), 1234, "broken", 'x\ty\\z\r\n"\ud800"')

    assert row.tsv() == 'a\\tb.jsonl\t1234\tbroken\tx\\ty\\\\z\\r\\n"\\ud800"'


# --- JSONL -----------------------------------------------------------------------


def jsonl(path: Path, *rows: object) -> Path:
    return write(path, "".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize(
    "row",
    [
        {"en": "one", "fr": "un"},
        {"fr": "un", "en": "one", "de": "eins", "id": 7, "similarity_score": 0.5},
        {"eng_Latn": "one", "fr-FR": "un"},
        {"id": "7", "translation": {"fr": "un", "en": "one"}},
        {"source": "one", "target": "un"},
        ["one", "un"],
    ],
)
def test_a_jsonl_row_has_any_of_the_usual_shapes(tmp_path: Path, row: object):
    assert texts(jsonl(tmp_path / "a.jsonl", row)) == [("one", "un")]


def test_named_languages_follow_the_direction_and_columns_follow_the_entry(tmp_path: Path):
    file = jsonl(tmp_path / "a.jsonl", {"en": "one", "fr": "un"}, ["two", "deux"], {"source": "six", "target": "six!"})

    swapped = texts(f"en-fr={file}", FR_EN)

    assert swapped == [("un", "one"), ("deux", "two"), ("six!", "six")]


def test_of_two_keys_for_one_language_the_general_one_is_read(tmp_path: Path):
    file = jsonl(tmp_path / "a.jsonl", {"en": "bus", "pt-BR": "ônibus", "pt": "autocarro"})

    assert texts(file, Direction("eng_Latn", "por_Latn")) == [("bus", "autocarro")]


def test_id_is_indonesian_only_where_indonesian_is_asked_for(tmp_path: Path):
    file = jsonl(tmp_path / "a.jsonl", {"id": "satu", "en": "one", "fr": "un"})

    assert texts(file) == [("one", "un")]
    assert texts(file, Direction("eng_Latn", "ind_Latn")) == [("one", "satu")]


def test_unicode_mark_carriage_return_and_empty_lines_are_fine_in_jsonl(tmp_path: Path):
    file = write(tmp_path / "a.jsonl", BOM + '["o\u2028ne", "\\ud83d\\ude00"]\r\n\n \t\r\n["two", "deux"]\n\n'.encode())

    source = only_source(file)

    assert list(source.pairs()) == [("o\u2028ne", "😀", 1), ("two", "deux", 4)]
    assert source.rows.num_read == 2


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ('{"en": "one", ', "broken JSON at column 15: Expecting property name enclosed in double quotes"),
        ("[" * 100_000, "JSON nested too deep"),
        ("[1" + "0" * 5000 + "]", "a number with thousands of digits"),
        ('{"en": "one", "de": "eins"}', 'no fra_Latn side among the keys "en", "de"'),
        ("{}", "no eng_Latn side among the keys (none)"),
        (json.dumps(dict.fromkeys("abcdefghij")), 'no eng_Latn side among the keys "a", "b", "c", "d", "e", "f", "g"'),
        ('{"en": "one", "fr": null}', '"fr" is null, expected text'),
        ('{"translation": {"en": 1, "fr": "un"}}', '"en" is a number, expected text'),
        ('{"source": "one", "target": {}}', '"target" is an object, expected text'),
        ('[["one"], "un"]', "item 1 is a list, expected text"),
        ('["one", true]', "item 2 is a boolean, expected text"),
        ('["one", "\\ud800"]', "item 2 holds half of a surrogate pair (a \\ud8… escape without its other half)"),
        ('["one"]', 'neither an object such as {"source": …, "target": …} nor [source, target]'),
        ('"one"', 'neither an object such as {"source": …, "target": …} nor [source, target]'),
        (b'["caf\xe9", "x"]', "byte 0xE9 at offset 19 of the file is not UTF-8"),
    ],
)
def test_a_bad_jsonl_row_is_refused_or_skipped(tmp_path: Path, row: str | bytes, why: str):
    row = row if isinstance(row, bytes) else row.encode()
    file = write(tmp_path / "a.jsonl", b'["one", "un"]\n' + row + b'\n["two", "deux"]\n')

    with pytest.raises(DataError) as caught:
        texts(file)

    assert caught.value.message.startswith(f"{file} line 2: {why}")
    assert caught.value.hint == SKIP_HINT
    assert texts(file, on_bad_rows="skip") == [("one", "un"), ("two", "deux")]


# --- gettext ---------------------------------------------------------------------

FRENCH = r"""# A header comment
msgid ""
msgstr ""
"Language: fr\n"
"Content-Type: text/plain; charset=UTF-8\n"
"Plural-Forms: nplurals=2; plural=(n > 1);\n"

msgid "one"
msgstr "un"

#, fuzzy
msgid "guess"
msgstr "devinette"

msgctxt "no message"
msgid ""
msgstr "nothing"

msgctxt "month"
msgid "may"
msgstr "mai"

msgid "empty"
msgstr ""

#, python-format
msgid "%d file"
msgid_plural "%d files"
msgstr[0] "%d fichier"
msgstr[1] "%d fichiers"

msgid "half"
msgid_plural "halves"
msgstr[0] "moitié"
msgstr[1] ""

msgid ""
"Two "
"lines\n"
"\"quoted\""
msgstr "Deux lignes\n« cité »"

#~ msgid "old"
#~ msgstr "vieux"
"""
FRENCH_PAIRS = [
    ("one", "un"),
    ("may", "mai"),
    ("%d file", "%d fichier"),
    ("%d files", "%d fichiers"),
    ("half", "moitié"),
    ('Two lines\n"quoted"', "Deux lignes\n« cité »"),
]


def catalogue(root: Path, locale: str, content: str, name: str = "app", ending: str = ".po") -> Path:
    return write(root / locale / "LC_MESSAGES" / f"{name}{ending}", content)


def one_message(translation: str, english: str = "one", context: str = "") -> str:
    context = f'msgctxt "{context}"\n' if context else ""
    return f'{context}msgid "{english}"\nmsgstr "{translation}"\n'


def compiled(po: Path) -> Path:
    """Write the .mo beside a .po."""
    polib.pofile(str(po)).save_as_mofile(str(po.with_suffix(".mo")))
    return po.with_suffix(".mo")


def test_a_catalogue_gives_its_translated_messages(tmp_path: Path):
    catalogue(tmp_path, "fr", FRENCH)

    assert texts(tmp_path) == FRENCH_PAIRS
    assert texts(tmp_path, FR_EN) == [(french, english) for english, french in FRENCH_PAIRS]


def test_a_compiled_catalogue_gives_the_same_messages(tmp_path: Path):
    po = catalogue(tmp_path, "fr", FRENCH)
    compiled(po)
    po.unlink()

    # msgfmt leaves out a plural with an empty form as a whole.
    assert sorted(texts(tmp_path)) == sorted(pair for pair in FRENCH_PAIRS if pair[0] != "half")


def test_beside_a_po_its_mo_is_not_read(tmp_path: Path):
    po = catalogue(tmp_path, "fr", one_message("périmé"))
    compiled(po)
    write(po, one_message("un"))

    source = only_source(tmp_path)

    assert (source.files, texts(tmp_path)) == ((po,), [("one", "un")])


def test_a_language_with_one_form_gives_only_the_singular(tmp_path: Path):
    catalogue(tmp_path, "ja", 'msgid "%d file"\nmsgid_plural "%d files"\nmsgstr[0] "%d 個"\n')

    assert texts(tmp_path, Direction("eng_Latn", "jpn_Jpan")) == [("%d file", "%d 個")]


def test_the_charset_of_the_header_counts(tmp_path: Path):
    header = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=ISO-8859-1\\n"\n\n'
    write(tmp_path / "fr/LC_MESSAGES/app.po", (header + one_message("été")).encode("latin-1"))

    assert texts(tmp_path) == [("one", "été")]


def test_two_translations_are_joined_over_message_context_and_form(tmp_path: Path):
    catalogue(tmp_path, "fr", one_message("pourrait", "may") + FRENCH)
    catalogue(
        tmp_path,
        "de",
        one_message("Mai", "may", "month")
        + one_message("eins")
        + one_message("alt", "old")
        + 'msgid "%d file"\nmsgid_plural "%d files"\nmsgstr[0] "%d Datei"\nmsgstr[1] "%d Dateien"\n',
    )
    catalogue(tmp_path, "fr", one_message("ailleurs"), name="other")

    assert texts(tmp_path, DE_FR) == [
        ("Mai", "mai"),
        ("eins", "un"),
        ("%d Datei", "%d fichier"),
        ("%d Dateien", "%d fichiers"),
    ]


def test_the_general_locale_is_taken_and_named(tmp_path: Path):
    for locale in ("pt_PT", "pt_BR", "pt", "pt_AO"):
        catalogue(tmp_path, locale, one_message(f"um {locale}"))
    for locale in ("pt_PT", "pt_BR"):
        catalogue(tmp_path, locale, one_message(f"dois {locale}", "two"), name="second")

    source = only_source(tmp_path, Direction("eng_Latn", "por_Latn"))

    assert [pair.target for pair in source.pairs()] == ["um pt", "dois pt_BR"]
    assert source.name == f"{tmp_path} (pt or pt_BR)"


@pytest.mark.parametrize(
    ("locale", "code"),
    [("zh_Hans", "zho_Hans"), ("zh_TW.Big5", "zho_Hant"), ("uz@latin", "uzn_Latn"), ("nb_NO", "nob_Latn")],
)
def test_locale_names_are_posix_names(tmp_path: Path, locale: str, code: str):
    catalogue(tmp_path, locale, one_message("x"))

    assert texts(tmp_path, Direction("eng_Latn", code)) == [("one", "x")]


def test_a_locale_that_names_no_one_language_serves_none(tmp_path: Path):
    for locale in ("zh", "sr@latin", "en_GB", "templates", "fr"):
        catalogue(tmp_path, locale, one_message("x"))

    text = message(tmp_path, EN_DE)

    assert text == (
        f"--data {tmp_path}: no catalogue serves eng_Latn-deu_Latn\n"
        "  try: other languages; the catalogues offer, besides eng_Latn: fra_Latn"
    )


def test_the_order_of_pairs_depends_on_paths_alone(tmp_path: Path):
    for folder in ("b", "a/z", "a/b", "c"):
        for name in ("two", "one"):
            catalogue(tmp_path / folder / "locale", "fr", one_message(f"{folder} {name}"), name)

    read = [target for _, target in texts(tmp_path)]

    assert read == ["a/b one", "a/b two", "a/z one", "a/z two", "b one", "b two", "c one", "c two"]


def test_a_package_is_read_without_being_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path / "explosive/__init__.py", "raise AssertionError('imported')")
    catalogue(tmp_path / "explosive/locale", "fr", one_message("un"))
    catalogue(tmp_path / "placid/locale", "fr", one_message("deux"))
    monkeypatch.syspath_prepend(tmp_path)

    sources = open_sources(["gettext:placid, explosive"], EN_FR, on_bad_rows="fail")

    assert [source.name for source in sources] == ["gettext:placid (fr)", "gettext:explosive (fr)"]
    assert [pair.target for source in sources for pair in source.pairs()] == ["deux", "un"]
    assert "explosive" not in sys.modules


def test_a_package_without_the_language_is_passed_over_if_another_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    catalogue(tmp_path / "french/locale", "fr", one_message("un"))
    catalogue(tmp_path / "german/locale", "de", one_message("eins"))
    monkeypatch.syspath_prepend(tmp_path)

    assert texts("gettext:french,german") == [("one", "un")]


def django_locales() -> Path:
    spec = importlib.util.find_spec("django")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0])


def test_django_gives_about_a_thousand_french_pairs():
    source = only_source("gettext:django")
    folders = {str(file.relative_to(django_locales()).parents[2]) for file in source.files}

    assert 900 < len(set(source.pairs())) < 2000
    assert {"conf/locale", "contrib/admin/locale", "contrib/auth/locale"} <= folders
    assert source.name == "gettext:django (fr)"


def test_the_standard_library_reads_the_same_from_djangos_compiled_catalogues(tmp_path: Path):
    expected: list[tuple[str, str]] = []
    for file in django_locales().rglob("fr/LC_MESSAGES/*.mo"):
        copy = tmp_path / file.relative_to(django_locales())
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
        with file.open("rb") as stream:
            translations = stdlib_gettext.GNUTranslations(stream)._catalog  # pyright: ignore
        for message_id, translation in translations.items():
            english, form = message_id if isinstance(message_id, tuple) else (message_id, 0)
            if english and form == 0:  # its keys hold the singular for every form
                expected.append((english.rpartition("\x04")[2], translation))

    read = texts(tmp_path)

    assert len(expected) > 900
    assert not set(expected) - set(read)
    # What is left over are the plurals.
    assert len(read) - len(expected) == sum("msgid_plural" in text for text in po_messages(tmp_path))


def po_messages(root: Path) -> list[str]:
    return [
        "msgid_plural" if entry.msgid_plural else ""
        for domain in find_domains(root)
        for entry in polib.mofile(str(domain.catalogues["fr"]))
    ]


# --- which entry serves which direction ------------------------------------------


def test_an_entry_tied_to_a_pair_serves_the_reverse_with_its_columns_swapped(tmp_path: Path):
    file = write(tmp_path / "a.tsv", "one\tun\n")

    assert texts(f"en-fr={file}") == [("one", "un")]
    assert texts(f"en-fr={file}", FR_EN) == [("un", "one")]
    assert only_source(f"en-fr={file}", FR_EN).name == f"{file} (columns swapped)"


def test_an_entry_of_its_own_comes_before_the_reverse_one(tmp_path: Path):
    forth = write(tmp_path / "forth.tsv", "one\tun\n")
    back = write(tmp_path / "back.tsv", "deux\ttwo\n")
    data = [f"en-fr={forth}", f"fr-en={back}"]

    def read(direction: Direction) -> list[str]:
        return [pair.source for source in open_sources(data, direction, on_bad_rows="fail") for pair in source.pairs()]

    assert (read(EN_FR), read(FR_EN)) == (["one"], ["deux"])


def test_a_bare_entry_serves_every_direction_beside_the_tied_ones(tmp_path: Path):
    bare = jsonl(tmp_path / "bare.jsonl", {"en": "one", "fr": "un", "de": "eins"})
    tied = write(tmp_path / "tied.tsv", "two\tdeux\n")
    data = [str(bare), f"eng_Latn-fra_Latn={tied}"]

    names = [[source.name for source in open_sources(data, way, on_bad_rows="fail")] for way in (EN_FR, EN_DE)]

    assert names == [[str(bare), str(tied)], [str(bare)]]


def test_a_path_may_hold_an_equals_sign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for name in ("run=1/lr=2.tsv", "no-pair=3.tsv", "v1.0=x.tsv"):
        write(tmp_path / name, "one\tun\n")
        assert texts(name) == texts(f"en-fr={name}") == texts(tmp_path / name) == [("one", "un")]


def test_a_tilde_is_the_home_folder_also_behind_a_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "a.tsv", "one\tun\n")

    assert texts("~/a.tsv") == texts("en-fr=~/a.tsv") == [("one", "un")]


def test_entries_that_serve_nothing_are_refused(tmp_path: Path):
    file = write(tmp_path / "a.tsv", "one\tun\n")
    data = [f"en-fr={file}", f"en-de={file}"]

    check_data(data, [EN_FR, EN_DE])
    check_data(data, [FR_EN, EN_DE])
    with pytest.raises(InputError) as caught:
        check_data(data, [EN_FR, FR_EN])

    assert caught.value.message == (
        f"--data en-de={file}: it serves none of --language-pairs eng_Latn-fra_Latn fra_Latn-eng_Latn"
    )


@pytest.mark.parametrize("row", ["one\tun", '["one", "un"]', '{"source": "one", "target": "un"}'])
def test_columns_without_languages_serve_one_direction_only(tmp_path: Path, row: str):
    file = write(tmp_path / ("a.tsv" if "\t" in row else "a.jsonl"), f"\n{row}\n")

    check_data([str(file)], [EN_FR])
    check_data([f"en-fr={file}"], [EN_FR, FR_EN])
    with pytest.raises(InputError) as caught:
        check_data([str(file)], [EN_FR, FR_EN])

    assert caught.value.hint == f"say which it holds: --data eng_Latn-fra_Latn={file}"


def test_rows_that_name_their_languages_and_catalogues_serve_many_directions(tmp_path: Path):
    plain = jsonl(tmp_path / "a.jsonl", {"en": "one", "fr": "un", "de": "eins"})
    nested = jsonl(tmp_path / "b.jsonl", {"source": 1, "target": 2, "translation": {"en": "one", "fr": "un"}})
    catalogue(tmp_path / "locale", "fr", FRENCH)

    check_data([str(plain), str(nested), str(tmp_path / "locale"), "gettext:django"], [EN_FR, FR_EN, EN_DE])


# --- what cannot be read ---------------------------------------------------------


def test_a_missing_file_suggests_its_neighbour(tmp_path: Path):
    write(tmp_path / "train.tsv", "")

    assert message(tmp_path / "trian.tsv") == (
        f"--data {tmp_path}/trian.tsv: there is no file or folder {tmp_path}/trian.tsv\n"
        f"  try: did you mean {tmp_path}/train.tsv?"
    )
    assert message(tmp_path / "zzz.tsv").endswith("try: check the path")
    assert f"there is no file or folder {tmp_path}/lr=2.tsv" in message(tmp_path / "lr=2.tsv")
    assert f"there is no folder {tmp_path}/nowhere" in message(tmp_path / "nowhere/train.tsv")


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ("en-zz=a.tsv", "--data en-zz=a.tsv: the pair before '=' is wrong: 'en-zz'"),
        ("en-zh=a.tsv", "the pair before '=' is wrong: 'en-zh': 'zh' may mean"),
        (
            "en-en=a.tsv",
            "--data en-en=a.tsv: the pair before '=' is wrong: 'en-en': source and target are both English",
        ),
        ("fr=a.tsv", "--data fr=a.tsv: the pair before '=' is wrong: 'fr' "),
        ("en-de=a.tsv", "--data en-de=a.tsv: no entry serves eng_Latn-fra_Latn\n  try: --data eng_Latn-fra_Latn=FILE"),
        ("gettext:no_such_thing", "no package no_such_thing is installed\n  try: pip install no_such_thing"),
        ("gettext:django.contrib", "'django.contrib' is not the name of a top-level package"),
        ("gettext:", "'' is not the name of a top-level package"),
        ("gettext:json", "the package json holds no <locale>/LC_MESSAGES/*.po or *.mo"),
        ("gettext:struct", "the package struct holds no"),
    ],
)
def test_a_wrong_entry_is_refused_by_name(entry: str, text: str):
    assert text in message(entry)


def test_the_hint_for_a_package_is_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    assert message("gettext:rest_framework").endswith("try: pip install djangorestframework")


def test_no_data_at_all_names_the_pair_and_the_flag():
    with pytest.raises(InputError, match="no --data for eng_Latn-fra_Latn"):
        open_sources([], EN_FR, on_bad_rows="fail")


def test_a_folder_without_catalogues_is_refused(tmp_path: Path):
    assert f"the folder {tmp_path} holds no gettext catalogues" in message(tmp_path)


@pytest.mark.parametrize("name", ["a.doc", "a", "a.txt"])
def test_an_unknown_format_is_refused_with_those_known(tmp_path: Path, name: str):
    text = message(write(tmp_path / name, "x"))

    assert f"cannot tell the format from '{Path(name).suffix}'; read are .arrow, .csv, " in text


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path):
    for name in ("a.tsv", "a.jsonl", "fr/LC_MESSAGES/a.po", "fr/LC_MESSAGES/a.mo"):
        # Linux refuses to read another process's memory at address 0, even to root.
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.symlink_to("/proc/self/mem")
        entry = file if file.parent == tmp_path else tmp_path
        assert f"{file}: cannot be read: Input/output error\n  try: check the file's permissions" in message(entry)
        file.unlink()


NO_TEXT_CHARSET = polib.POFile()
NO_TEXT_CHARSET.metadata = {"Content-Type": "text/plain; charset=base64"}
NO_TEXT_CHARSET.append(polib.POEntry(msgid="one", msgstr="un"))


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("a.mo", NO_TEXT_CHARSET.to_binary(), "a.mo: not a compiled gettext catalogue, or damaged"),
        ("a.po", b'msgid "one"\nmsgstr "un"\nnonsense\n', "a.po line 3: not a gettext catalogue"),
        ("a.po", b'msgid "one"\nmsgstr "\xe9"\n', "a.po: not in the charset that its header names"),
        ("a.mo", b"nonsense", "a.mo: not a compiled gettext catalogue, or damaged"),
        ("a.mo", b"", "a.mo: not a compiled gettext catalogue, or damaged"),
        ("a.mo", b"\xde\x12\x04\x95" + b"\xff" * 24, "a.mo: not a compiled gettext catalogue, or damaged"),
    ],
)
def test_a_damaged_catalogue_is_refused_with_its_name(tmp_path: Path, name: str, content: bytes, text: str):
    write(tmp_path / "fr/LC_MESSAGES" / name, content)

    assert f"{tmp_path}/fr/LC_MESSAGES/{text}" in message(tmp_path)


def test_a_charset_that_yields_no_unicode_text_makes_a_bad_row(tmp_path: Path):
    header = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-7\\n"\n\n'
    file = catalogue(tmp_path, "fr", header + one_message("+2AA-") + "\n" + one_message("deux", "two"))

    assert f"{file} line 4: the catalogue's charset gives half of a surrogate pair" in message(tmp_path)
    assert texts(tmp_path, on_bad_rows="skip") == [("two", "deux")]
