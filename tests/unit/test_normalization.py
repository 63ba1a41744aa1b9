"""How text is written: three forms, one function for all who use them, and a record beside the weights."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.config import Form, from_flat
from dragoman.data.normalization import FILE, Normalization, normalized
from dragoman.errors import ModelError
from tests.support.shared import catalogue


@pytest.mark.parametrize(
    ("form", "text", "written"),
    [
        ("nfc", " cafe\u0301 \n“ﬁ” ２", "café “ﬁ” ２"),
        ("nfkc", " cafe\u0301 \n“ﬁ” ２", "café “fi” 2"),
        ("nllb", " cafe\u0301 \n“ﬁ” ２", 'café "fi" 2'),
        ("nllb", "„so“ – ‘so’… «\u00a0so\u00a0»", '"so" - \'so\'... "so"'),
        ("nllb", "co\u00adoperate \u200eleft\u200f \x07bell \ufeff", "cooperate left bell"),
        ("nllb", "ไทย\u200bไทย", "ไทย ไทย"),
        ("nllb", "می\u200cخواهم क\u094d\u200dष", "می\u200cخواهم क\u094d\u200dष"),
        ("nllb", "%(name)s (“%(count)d”) 5 %", '%(name)s ("%(count)d") 5%'),
    ],
)
def test_a_text_is_written_in_a_form(form: Form, text: str, written: str) -> None:
    assert normalized(text, form) == written


@pytest.mark.parametrize("form", ["nfc", "nfkc"])
@given(text=st.text())
def test_unicode_forms_change_nothing_the_second_time(form: Form, text: str) -> None:
    assert normalized(normalized(text, form), form) == normalized(text, form)


@given(st.text())
def test_any_text_can_be_written_as_nllbs_own(text: str) -> None:
    written = normalized(text, "nllb")
    assert written == " ".join(written.split())
    assert not set(written) & set("“”„‘’«»…\u00ad\u200b\x07\ufeff")


def test_what_moses_makes_of_real_text_is_what_sacremoses_makes_of_it() -> None:
    """Idle rules are passed over here; that must change nothing."""
    from sacremoses import MosesPunctNormalizer

    moses = MosesPunctNormalizer(lang="en")
    texts = [text for pair in catalogue("fr") for text in pair if "%(" not in text and text.isprintable()]
    assert len(texts) > 300
    for text in texts:
        assert normalized(text, "nllb") == normalized(moses.normalize(text), "nfkc")


def test_the_target_side_may_differ() -> None:
    def of(**options: str) -> Normalization:
        return Normalization.of(from_flat(options).data)

    assert of() == Normalization("nfc", "nfc")
    assert of(normalize="nllb") == Normalization("nllb", "nllb")
    form = of(normalize="nllb", normalize_target="nfc")
    assert (form.of_source("“so”"), form.of_target("“so”")) == ('"so"', "“so”")


@pytest.mark.parametrize("form", [Normalization(), Normalization("nllb", "nfkc")])
def test_the_record_in_a_folder_reads_back(tmp_path: Path, form: Normalization) -> None:
    assert Normalization.of_folder(tmp_path) is None
    (tmp_path / FILE).write_bytes(form.to_json())
    assert Normalization.of_folder(tmp_path) == form


@pytest.mark.parametrize(
    "content",
    [b"{", b"[]", b'{"format": 1}', b'{"format": 2, "source": "nfc", "target": "nfc"}']
    + [json.dumps({"format": 1, "source": "nfc", "target": form}).encode() for form in ("rot13", 7, None, [])],
)
def test_a_record_that_is_not_understood_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(ModelError, match="normalised"):
        Normalization.of_folder(tmp_path)
