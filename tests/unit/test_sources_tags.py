"""Tags in data: loose where the command line is not, and still never two languages at once."""

import pytest

from dragoman.data.sources import tags


@pytest.mark.parametrize(
    ("tag", "code"),
    [
        ("EN-us", "eng_Latn"),
        ("en_XX", "eng_Latn"),
        ("fr-x-own", "fra_Latn"),
        ("FRE", "fra_Latn"),
        ("zh", "zho_Hans"),
        ("zh", "zho_Hant"),
        ("zh-TW", "zho_Hant"),
        ("ar-EG", "arb_Arab"),
        ("ku", "kmr_Latn"),
        ("no", "nob_Latn"),
        ("sr-Cyrl-ME", "srp_Cyrl"),
        ("id", "ind_Latn"),
        ("tyv", "tyv_Cyrl"),
        ("tyv-RU", "tyv_Cyrl"),
    ],
)
def test_a_tag_fits_each_language_that_it_may_mean(tag: str, code: str):
    assert tags.fits(tag, code)


@pytest.mark.parametrize(
    ("tag", "code"),
    [
        ("en", "fra_Latn"),
        ("zh-TW", "zho_Hans"),
        ("sr-Latn", "srp_Cyrl"),
        ("tyv-Latn", "tyv_Cyrl"),
        ("id", "eng_Latn"),
        ("translation", "eng_Latn"),
        ("en.US", "eng_Latn"),
        ("", "eng_Latn"),
    ],
)
def test_a_tag_fits_no_other_language(tag: str, code: str):
    assert not tags.fits(tag, code)


def test_of_several_tags_the_exact_and_general_one_is_picked():
    assert tags.pick(["pt_BR", "pt", "zh"], "por_Latn") == "pt"
    assert tags.pick(["zh", "zh-CN"], "zho_Hans") == "zh-CN"
    assert tags.pick(["en", "score"], "fra_Latn") is None
