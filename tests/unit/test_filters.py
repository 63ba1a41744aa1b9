"""What is dropped and why, what is the same text, and how the report reads."""

import json

import pytest

from dragoman.data.filters import (
    REASONS,
    Funnel,
    Limits,
    Sample,
    clean,
    key,
    placeholders,
    reason,
    sample_priority,
    split_of,
)
from dragoman.data.sources import Pair, open_sources
from dragoman.data.sources.rows import FileCount
from dragoman.languages import Direction

EN_FR = Direction("eng_Latn", "fra_Latn")
EN_DE = Direction("eng_Latn", "deu_Latn")
LIMITS = Limits()


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("  a \t b\r\n\nc  ", "a b c"),
        ("a\u00a0b\u202fc\u2028d\u3000e\x85f\x0cg", "a b c d e f g"),
        ("cafe\u0301", "café"),
        ("ﬁ ２ A", "ﬁ ２ A"),
        ("zero\u200bwidth", "zero\u200bwidth"),
        (" \n ", ""),
    ],
)
def test_cleaning_composes_characters_and_joins_white_space(text: str, cleaned: str):
    assert clean(text) == cleaned


@pytest.mark.parametrize(
    ("one", "other"), [("Ｆｕｌｌ", "full"), ("STRASSE", "straße"), ("a\n B", "A b"), ("½", "1⁄2")]
)
def test_a_key_ignores_case_width_and_white_space(one: str, other: str):
    assert key(one) == key(other)
    assert key(one) != key(other + "!")


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ("one", "un", None),
        ("", "un", "empty"),
        ("one", "", "empty"),
        ("a" * 1050, "b" * 1050, None),
        ("a" * 1051, "b" * 1050, "length"),
        ("a" * 1050, "b" * 1051, "length"),
        ("a" * 90, "b" * 10, None),
        ("a" * 91, "b" * 10, "ratio"),
        ("b" * 10, "a" * 91, "ratio"),
        ("OK", "In Ordnung, machen w", None),  # 20 characters: too short to be judged
        ("OK", "In Ordnung, machen wir", "ratio"),
        ("Bug fix", "bug  fix", "identical"),
        ("%s items", "éléments", "placeholder"),
        ("%(a)s of %(b)s", "%(b)s von %(a)s", None),
    ],
)
def test_a_pair_is_dropped_for_the_first_reason_that_applies(source: str, target: str, expected: str | None):
    assert reason(source, target, LIMITS) == expected


def test_limits_are_the_callers():
    limits = Limits(min_chars=3, max_chars=30, max_length_ratio=2.0)

    assert reason("ab", "abcd", limits) == "empty"
    assert reason("a" * 31, "b" * 20, limits) == "length"
    assert reason("a" * 30, "b" * 14, limits) == "ratio"
    assert reason("a" * 30, "b" * 15, limits) is None


def test_every_reason_given_is_described():
    given = {reason("", "a", LIMITS), reason("a" * 2000, "b", LIMITS), reason("a" * 99, "b", LIMITS)}
    given |= {reason("a", "a", LIMITS), reason("%s", "b", LIMITS)}

    assert given == {"empty", "length", "ratio", "identical", "placeholder"}
    assert given < REASONS.keys()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("%s and %d and %.2f and %-10s and %02X", ["%s", "%d", "%f", "%s", "%x"]),
        ("%2$s before %1$s, %u %ld %5.1lf", ["%s", "%s", "%d", "%d", "%f"]),
        ("%(name)s %(count)d %(size).1f %(name)s", ["%(name)", "%(count)", "%(size)", "%(name)"]),
        (
            "{} {0} {name} {0.attr} {items[0]} {x!r:>10} {n:,}",
            ["{}", "{0}", "{name}", "{0.attr}", "{items[0]}", "{x}", "{n}"],
        ),
        ("100% de, 100 % de, 100%ige, 50%-discount, 5 % sure, %", []),
        ("%% %%s %%(name)s 100%%", []),
        ("Invalid %-encoding", []),
        ("{{ name }} {{0}} {a b} { x } \\x{...} {…}", []),
        ("${shell} %{count}", ["{shell}", "{count}"]),
    ],
)
def test_placeholders_are_told_from_text(text: str, expected: list[str]):
    assert sorted(placeholders(text).elements()) == sorted(expected)


def test_a_percent_sign_or_another_order_is_no_difference():
    for source, target in (
        ("100% of %s", "100 % de %s"),
        ("100%% of %s", "%s zu 100 %%"),
        ("%s of %s", "%2$s von %1$s"),
        ("100% full", "100%ig voll"),
        ("{a} in {b}", "{b} : {a}"),
    ):
        assert reason(source, target, LIMITS) is None


@pytest.mark.parametrize(
    "direction", [EN_FR, EN_DE, Direction("eng_Latn", "spa_Latn"), Direction("eng_Latn", "jpn_Jpan")]
)
def test_djangos_translations_almost_all_pass_the_placeholder_filter(direction: Direction):
    (source,) = open_sources(["gettext:django"], direction, on_bad_rows="fail")
    pairs = [(clean(pair.source), clean(pair.target)) for pair in source.pairs()]
    with_placeholders = [pair for pair in pairs if placeholders(pair[0])]
    dropped = [pair for pair in pairs if reason(*pair, LIMITS) == "placeholder"]

    assert len(with_placeholders) > 150
    # Django's catalogues are checked by msgfmt; what differs are singulars that spell out "one".
    assert len(dropped) <= 0.05 * len(with_placeholders), dropped


# --- many pairs ------------------------------------------------------------------


def test_the_split_of_a_sentence_is_forever():
    """These hold for every release: a corpus prepared later must not leak into an old test set."""
    sides = {text: split_of(text, 10, 20) for text in ("one", "two", "three", "four", "five", "six", "seven", "eight")}

    assert sides == SIDES


SIDES = {
    "one": "train",
    "two": "dev",
    "three": "train",
    "four": "train",
    "five": "train",
    "six": "train",
    "seven": "train",
    "eight": "test",
}


def test_split_shares_are_per_cent():
    sides = [split_of(f"sentence {number}", dev_percent=2, test_percent=5) for number in range(20_000)]

    assert 300 < sides.count("dev") < 500
    assert 850 < sides.count("test") < 1150
    assert {split_of(str(number), 0, 0) for number in range(500)} == {"train"}
    assert {split_of(str(number), 40, 60) for number in range(500)} == {"dev", "test"}


def test_a_larger_dev_share_takes_nothing_from_the_test_set():
    for number in range(2_000):
        if split_of(str(number), 1, 5) == "test":
            assert split_of(str(number), 40, 5) == "test"


def pairs(num_pairs: int) -> list[Pair]:
    return [Pair(f"source {number}", f"target {number}", number) for number in range(num_pairs)]


def drawn(num_pairs: int | None, shown: list[Pair], seed: int = 1, direction: Direction = EN_FR) -> list[Pair]:
    sample = Sample(num_pairs, seed, direction)
    for pair in shown:
        sample.add(pair)
    return sample.pairs()


def test_a_sample_has_its_size_and_the_order_of_the_source():
    sample = drawn(100, pairs(1000))

    assert len(sample) == 100
    assert sample == sorted(sample, key=lambda pair: pair.where)


@pytest.mark.parametrize("num_pairs", [None, 1000, 5000])
def test_a_sample_of_everything_is_everything(num_pairs: int | None):
    assert drawn(num_pairs, pairs(1000)) == pairs(1000)


def test_another_seed_or_direction_is_another_sample():
    samples = [drawn(100, pairs(1000), *args) for args in ((1, EN_FR), (2, EN_FR), (1, EN_DE))]

    for one in samples:
        for other in samples:
            assert one is other or len(set(one) & set(other)) < 30


def test_a_smaller_sample_is_part_of_a_larger_one():
    assert set(drawn(50, pairs(1000))) < set(drawn(200, pairs(1000)))


def test_of_equal_pairs_the_first_are_drawn():
    shown = [Pair("same", "même", where) for where in range(10)]

    assert [pair.where for pair in drawn(3, shown)] == [0, 1, 2]


def test_every_part_of_the_source_is_drawn_alike():
    """A hundred seeds draw 100 of 1,000: each tenth of the source gets its 1,000 within four sigma."""
    tenths = [0] * 10
    for seed in range(100):
        for pair in drawn(100, pairs(1000), seed):
            tenths[pair.where // 100] += 1

    assert sum(tenths) == 10_000
    assert all(880 < tenth < 1120 for tenth in tenths), tenths


def test_priorities_are_those_of_every_release():
    assert sample_priority(1, EN_FR, "One", "Un") == sample_priority(1, EN_FR, " one", "un ") == PRIORITY


PRIORITY = 0x54A4E6C1E229EC4D


# --- the report ------------------------------------------------------------------


def test_the_funnel_adds_up_and_keeps_the_first_examples():
    funnel = Funnel(read=10_000, bad_rows=3, files=[FileCount("a.tsv", 10_000, 3)])
    for number in range(5):
        funnel.reject("identical", f"a{number}", f"A{number}")
    funnel.reject("length", "x" * 2000, "y")
    funnel.rejected["not_sampled"] += 4000

    assert funnel.kept == 5991
    assert json.loads(json.dumps(funnel.to_json())) == {
        "read": 10_000,
        "bad_rows": 3,
        "files": [{"file": "a.tsv", "read": 10_000, "bad_rows": 3}],
        "rejected": {
            "length": {"pairs": 1, "why": REASONS["length"], "examples": [["x" * 119 + "…", "y"]]},
            "identical": {
                "pairs": 5,
                "why": REASONS["identical"],
                "examples": [["a0", "A0"], ["a1", "A1"], ["a2", "A2"]],
            },
            "not_sampled": {"pairs": 4000, "why": REASONS["not_sampled"], "examples": []},
        },
        "kept": 5991,
    }
