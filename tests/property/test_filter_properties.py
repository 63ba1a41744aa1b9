"""The quick verdict over many pairs is the plain one over each, whatever the texts."""

import re
import unicodedata
from dataclasses import replace

import pytest
import regex
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dragoman.config import DataConfig
from dragoman.data.filters import Limits, key, placeholders, reason, reasons
from dragoman.data.filters.placeholders import prose
from dragoman.data.normalization import clean, one_spaced
from dragoman.languages import parse_pair

some = settings(max_examples=300, deadline=None)

WORDS = [
    "no",
    "нет",
    "ha",
    "é",
    "哈",
    "ー",
    "ª",
    "0",
    "12",
    "…",
    "--",
    "of the",
    "%s",
    "{name}",
    "<b>",
    "a_b.c",
    "ά",
    "𐐷",
]
SPACES = ["", " ", "  ", "\u00a0", "\u2028", "\x1f", "\n"]


@st.composite
def wordy(draw: st.DrawFn) -> str:
    """Few words, each or several of them many times, with and without space between."""
    parts: list[str] = []
    for _ in range(draw(st.integers(1, 3))):
        phrase = draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=7))
        space = draw(st.sampled_from(SPACES))
        parts += [space.join(phrase)] * draw(st.integers(1, 8))
    return draw(st.sampled_from(SPACES)).join(parts)


TEXTS = st.one_of(st.text(max_size=80), wordy())
PAIRS = st.lists(st.tuples(TEXTS.map(clean), TEXTS.map(clean)), max_size=6)
DIRECTIONS = st.sampled_from([parse_pair(pair) for pair in ("en-fr", "en-ru", "ja-el", "ar-zho_Hans")])


def plain(source: str, target: str, limits: Limits) -> str | None:
    """Each rule as it is defined, without any short cut."""
    shorter, longer = sorted((len(source), len(target)))
    if shorter < limits.min_chars:
        return "empty"
    if longer > limits.max_chars:
        return "length"
    if longer > 20 and longer > limits.max_length_ratio * shorter:
        return "ratio"
    if plain_key(source) == plain_key(target):
        return "identical"
    if placeholders(source) != placeholders(target):
        return "placeholder"
    way, times = limits.direction, limits.max_repeats
    assert way
    assert times
    if not (plain_script(source, way.source, limits) and plain_script(target, way.target, limits)):
        return "script"
    return "repetition" if plain_repeats(source, times) != plain_repeats(target, times) else None


def plain_key(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(unicodedata.normalize("NFC", folded).split())


def plain_script(text: str, code: str, limits: Limits) -> bool:
    script = {"jpn_Jpan": ("Hani", "Hira", "Kana"), "zho_Hans": ("Hani", "Bopo")}.get(code, (code[4:],))
    letters = [character for character in prose(text) if regex.match(r"\p{L}", character)]
    own = [any(regex.match(rf"\p{{scx={name}}}", letter) for name in script) for letter in letters]
    shared = [bool(regex.match(r"[\p{scx=Zyyy}\p{scx=Zinh}]", letter)) for letter in letters]
    num_other = sum(not (is_own or is_shared) for is_own, is_shared in zip(own, shared, strict=True))
    least = 50.0 if code.endswith("_Latn") else limits.min_script_percent
    return num_other < 10 or 100 * sum(own) >= least * (sum(own) + num_other)


def plain_repeats(text: str, times: int) -> bool:
    patterns = rf"(\w{{1,4}}?)\1{{{times}}}", rf"(?<!\S)(\S+(?: \S+){{0,5}}?)(?: \1){{{times}}}(?!\S)"
    found = (match.group(1) for pattern in patterns for match in re.finditer(pattern, text))
    return any(character.isalpha() for group in found for character in group)


@some
@given(PAIRS, DIRECTIONS.map(lambda way: Limits.of(DataConfig(), way)), st.integers(1, 6))
@example([("no " * 6 + "no", "not at all")], Limits.of(DataConfig(), parse_pair("en-fr")), 5)
@example([("so it is then", "да" * 6)], Limits.of(DataConfig(), parse_pair("en-ru")), 5)
@example([("the same to you", "αποθήκευση αλλαγών")], Limits.of(DataConfig(), parse_pair("en-fr")), 5)
def test_the_verdicts_over_many_pairs_are_the_plain_ones(
    pairs: list[tuple[str, str]], limits: Limits, times: int
) -> None:
    limits = replace(limits, max_repeats=times)
    sources, targets = [source for source, _ in pairs], [target for _, target in pairs]
    expected = [plain(source, target, limits) for source, target in pairs]
    assert list(reasons(sources, targets, limits)) == expected
    assert [reason(source, target, limits) for source, target in pairs] == expected


@pytest.mark.parametrize("times", [1, 2, 5])
def test_the_longest_that_may_repeat_and_the_fewest_letters_are_suspected_too(times: int) -> None:
    limits = Limits.of(DataConfig(max_repeats=times), parse_pair("en-ru"))
    words = " ".join(["a b c d e f"] * (times + 1))
    sources = ["so " + "abcd" * (times + 1), words, "abcdefghij", "abcdefghi"]
    targets = ["не так уж и коротко, как кажется"] * 2 + ["klmnopqrst", "klmnopqrs"]
    assert list(reasons(sources, targets, limits)) == ["repetition", "repetition", "script", None]


def test_what_is_switched_off_is_not_judged() -> None:
    pairs = [("Save all the changes", "No change at all, no"), ("not at all, never", "no " * 7 + "no")]
    ru = parse_pair("en-ru")

    def verdicts(limits: Limits) -> list[str | None]:
        return list(reasons([source for source, _ in pairs], [target for _, target in pairs], limits))

    assert verdicts(Limits(direction=ru, min_script_percent=10.0, max_repeats=5)) == ["script", "script"]
    assert verdicts(Limits(direction=ru, max_repeats=5)) == [None, "repetition"]
    assert verdicts(Limits(direction=ru)) == [None, None]
    assert list(reasons([], [], Limits(direction=ru, min_script_percent=10.0, max_repeats=5))) == []


@some
@given(TEXTS)
def test_one_space_between_words_and_a_key_are_what_split_and_join_give(text: str) -> None:
    assert one_spaced(text) == " ".join(text.split())
    assert key(text) == plain_key(text)
