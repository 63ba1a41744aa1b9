"""Shares by temperature and by weight, rehearsed pairs on top, and the options that ask for them."""

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dragoman.config import RunConfig, from_flat
from dragoman.data import planning, replay
from dragoman.data.batch_plan import BatchPlan
from dragoman.data.mixing import Mix, Part, mix_of
from dragoman.errors import InputError
from dragoman.languages import Direction, parse_pair

FR, DE = parse_pair("en-fr"), parse_pair("en-de")
OLD = Direction("deu_Latn", "eng_Latn", is_replay=True)
COUNTS = {FR: 8000, DE: 1000}


def quotas(mix: Mix | None) -> list[int]:
    assert mix is not None
    return [part.quota for part in mix.parts]


def test_without_options_there_is_no_mix() -> None:
    assert mix_of(COUNTS, None, 1.0, {}) is None


@pytest.mark.parametrize(("temperature", "expected"), [(1.5, [7200, 1800]), (3.0, [6000, 3000]), (1e9, [4500, 4500])])
def test_a_temperature_brings_small_directions_forward(temperature: float, expected: list[int]) -> None:
    assert quotas(mix_of(COUNTS, None, temperature, {})) == expected


def test_weights_are_shares_of_an_epoch_that_is_as_long_as_before() -> None:
    assert quotas(mix_of(COUNTS, {FR: 1, DE: 2}, 1.0, {})) == [3000, 6000]


def test_what_is_rehearsed_comes_on_top() -> None:
    counts = {**COUNTS, OLD: 400}
    assert quotas(mix_of(counts, None, 1.0, {OLD: 0.1})) == [8000, 1000, 1000]
    assert quotas(mix_of(counts, {FR: 1, DE: 1}, 1.0, {OLD: 0.25})) == [4500, 4500, 3000]


def test_parts_stand_where_the_corpus_has_them() -> None:
    mix = mix_of({**COUNTS, OLD: 400}, None, 1.0, {OLD: 0.1})
    assert mix is not None
    assert [(part.first, part.num_pairs) for part in mix.parts] == [(0, 8000), (8000, 1000), (9000, 400)]


def test_the_mixed_order_never_changes_between_versions() -> None:
    # A run that was begun with this version must find its pairs again in every later one.
    plan = BatchPlan(9, 12, seed=1, mix=Mix((Part(0, 6, 4), Part(6, 3, 8))))
    assert plan.indices(0).tolist() == GOLDEN


GOLDEN = [8, 8, 5, 8, 6, 7, 3, 2, 4, 7, 6, 6]


def test_a_step_among_a_hundred_million_mixed_pairs_needs_no_list_of_them() -> None:
    mix = mix_of({FR: 9 * 10**7, DE: 10**7}, None, 5.0, {})
    plan = BatchPlan(10**8, 4096, seed=3, epochs=5, mix=mix)
    plan.indices(0)
    tracemalloc.start()
    try:
        chosen = plan.indices(98_765)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1_500_000
    assert len(chosen) == 4096
    german = np.count_nonzero(chosen >= 9 * 10**7)
    assert 1400 < german < 1800  # 39.2 %, within six sigma


# --- options -------------------------------------------------------------------------


def config(**options: Any) -> RunConfig:
    return from_flat({"language_pairs": ["en-fr", "en-de"], "data": ["gettext:django"]} | options)


def test_weights_name_directions_or_both_ways() -> None:
    learned = [FR, DE, DE.reversed]
    assert planning.weights_of(config(mix=["en-fr=2", "en--de=0.5"]), learned) == {FR: 2, DE: 0.5, DE.reversed: 0.5}
    assert planning.weights_of(config(), learned) is None


@pytest.mark.parametrize(
    ("mix", "complaint"),
    [
        (["en-fr=2"], "--mix leaves out eng_Latn-deu_Latn"),
        (["en-fr=2", "en-de=1", "en-it=1"], "eng_Latn-ita_Latn is not learned"),
        (["en-fr=2", "en-de=1", "en-fr=1"], "names eng_Latn-fra_Latn twice"),
        (["en-fr=0", "en-de=1"], "does not end in a weight above 0"),
        (["en-fr", "en-de=1"], "does not end in a weight above 0"),
        (["en-xx=1"], "--mix en-xx=1"),
    ],
)
def test_weights_that_cannot_be_meant_are_refused(mix: list[str], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        planning.weights_of(config(mix=mix), [FR, DE])


def test_weights_and_temperature_exclude_each_other() -> None:
    with pytest.raises(InputError, match="exclude each other"):
        planning.weights_of(config(mix=["en-fr=1", "en-de=1"], mix_temperature=2.0), [FR, DE])


def rehearsed(text: str) -> Direction:
    way = parse_pair(text)
    return Direction(way.source, way.target, is_replay=True)


def test_a_replay_entry_serves_its_own_directions_or_those_to_learn() -> None:
    data = config(replay=["de-en=old.tsv:0.1", "gettext:wagtail:0.2", "en--it=x.jsonl:0.05"]).data
    assert replay.replays(data) == [
        ("deu_Latn-eng_Latn=old.tsv", 0.1, (rehearsed("de-en"),)),
        ("gettext:wagtail", 0.2, (rehearsed("en-fr"), rehearsed("en-de"))),
        ("eng_Latn-ita_Latn=x.jsonl", 0.05, (rehearsed("en-it"), rehearsed("it-en"))),
    ]
    assert replay.entries_of(data, FR) == ["gettext:django"]
    assert replay.entries_of(data, rehearsed("en-de")) == ["gettext:wagtail"]


def test_the_directions_of_a_replay_entry_divide_its_share_as_they_have_pairs() -> None:
    data = config(replay=["gettext:wagtail:0.3", "en-fr=old.tsv:0.1"]).data
    counts = {FR: 7, DE: 7, rehearsed("en-fr"): 200, rehearsed("en-de"): 100}
    shares = replay.shares(data, counts)
    assert shares == {rehearsed("en-fr"): pytest.approx(0.3), rehearsed("en-de"): pytest.approx(0.1)}


@pytest.mark.parametrize(
    ("entries", "complaint"),
    [
        (["old.tsv"], "--replay old.tsv: it does not end in a share"),
        (["old.tsv:1"], "does not end in a share between 0 and 1"),
        (["old.tsv:0"], "does not end in a share between 0 and 1"),
        (["old.tsv:x"], "does not end in a share between 0 and 1"),
        ([":0.1"], "does not end in a share between 0 and 1"),
        (["a.tsv:0.5", "b.tsv:0.5"], "the shares add up to 1"),
        (["en-xx=a.tsv:0.5"], "--replay en-xx=a.tsv:0.5"),
    ],
)
def test_replay_that_cannot_be_meant_is_refused(entries: list[str], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        replay.check(config(replay=entries).data)


def test_a_missing_replay_file_is_named_as_such(tmp_path: Path) -> None:
    data = config(replay=[f"{tmp_path}/none.tsv:0.1"]).data
    with pytest.raises(InputError, match=r"--replay .*no file or folder"):
        replay.check(data)
    with pytest.raises(InputError, match=r"--replay .*no file or folder"):
        replay.open_for(data, rehearsed("en-fr"))
