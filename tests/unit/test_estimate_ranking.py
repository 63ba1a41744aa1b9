"""What platforms make of a run, which of them is taken, and what is said when none is."""

import json
from typing import Any

import pytest

from dragoman import platforms
from dragoman.cli.app import run
from dragoman.config import RunConfig, from_flat
from dragoman.errors import ExitCode, InputError
from dragoman.estimate import memory
from dragoman.estimate.measure import Measured
from dragoman.estimate.offers import Option, option_of
from dragoman.estimate.ranking import Budget, Ranking, rank
from dragoman.estimate.work import work_of

WORDS = ["--language-pairs", "en-fr", "--max-samples"]


def config(samples: int = 20_000, **options: Any) -> RunConfig:
    return from_flat({"language_pairs": ["en-fr"], "max_samples": samples, "output": "nowhere"} | options)


def ranked(samples: int = 20_000, budget: Budget | None = None, **options: Any) -> Ranking:
    asked = config(samples, **options)
    return rank(asked, work_of(asked), budget=budget or Budget())


def option(name: str, samples: int, gpu: str | None = None, **options: Any) -> Option:
    asked, place = config(samples, **options), platforms.find(name)
    offer = place.offer(gpu)
    way = memory.as_configured(asked, memory.machine(offer.gpu, asked))
    return option_of(asked, work_of(asked), place, offer, way)


# --- sessions, days, money -------------------------------------------------------------


def test_a_session_gives_less_than_its_limit() -> None:
    kaggle = option("kaggle", 20_000)
    assert kaggle.session_hours is not None
    assert 8.0 < kaggle.session_hours < 9 * 0.95
    assert option("space", 20_000).session_hours is None


def test_long_runs_take_several_sessions_and_a_quota_makes_them_weeks() -> None:
    short, long = option("kaggle", 20_000), option("kaggle", 9_000_000)
    assert (short.sessions.low, short.sessions.high, short.needs_nobody) == (1, 1, True)
    assert long.machine_hours.low > 30
    assert long.sessions.low > 30 / 9
    assert long.days.low > 7
    assert not long.needs_nobody
    assert "30 hours a week" in long.risks


def test_a_page_that_must_stay_open_needs_a_person() -> None:
    assert option("colab", 20_000).needs_nobody
    long = option("colab", 300_000)
    assert not long.needs_nobody
    assert "may end after 90 min without a person" in long.risks


def test_the_runs_own_deadline_ends_sessions_too() -> None:
    assert option("space", 5_000_000, max_hours=2.0).sessions.low > 10
    short = option("space", 20_000, max_hours=0.1)
    assert not short.is_possible


def test_a_machine_is_paid_by_the_hour_and_a_subscription_by_the_month() -> None:
    space = option("space", 20_000)
    assert space.usd.low == space.machine_hours.low * 0.40
    pro = option("colab", 20_000, "pro")
    assert pro.usd.low == pro.usd.high == 10
    assert option("colab", 300_000_000, "pro").usd.low > 10
    assert option("kaggle", 20_000).usd.high == 0


def test_what_was_measured_counts_wherever_the_same_gpu_is_let() -> None:
    asked = config()
    measured = Measured("t4", 30, 12_000, 3_000.0, 5.0, 1.0, 1.0)
    found = rank(asked, work_of(asked), measured=measured)
    assert {it.offer.gpu for it in found.options if it.hours.is_measured} == {"t4"}
    assert found.here is not None
    assert found.here[0].machine.name == "t4"
    unknown = rank(asked, work_of(asked), measured=Measured("NVIDIA B200", 30, 9, 9.0, 0.0, 0.0, 0.0))
    assert unknown.here is None
    assert not any(it.hours.is_measured for it in unknown.options)


# --- the order ---------------------------------------------------------------------------


def test_a_small_run_is_sent_where_it_costs_nothing() -> None:
    best = ranked().chosen()
    assert (best.platform.name, best.usd.high, best.needs_nobody) == ("kaggle", 0, True)


def test_two_gpus_that_bring_nothing_are_said_to_and_larger_steps_make_them_worth_it() -> None:
    def kaggle(**options: Any) -> Option:
        found = rank(config(**options), work_of(config(**options)), platforms=["kaggle"]).options
        return found[0]

    small, large, one = kaggle(), kaggle(batch_size=128), kaggle(devices=1)
    assert (small.way.team.ranks, small.way.parallel, one.way.team.ranks) == (2, "ddp", 1)
    assert small.gain is not None
    assert small.gain < 1
    assert small.hours.step.middle == pytest.approx(one.hours.step.middle / small.gain)
    assert small.hint.startswith("2×t4 bring no gain")
    assert large.gain is not None
    assert large.gain > small.gain
    assert one.hint == ""


def test_machines_with_fewer_gpus_or_without_a_network_are_not_possible() -> None:
    asked = config(devices=4)
    possible = {it.platform.name for it in rank(asked, work_of(asked)).options if it.is_possible}
    assert {"runpod", "vast", "sky"} <= possible
    assert "space" not in possible
    together = config(nodes=2)
    found = [it for it in rank(together, work_of(together)).options if it.is_possible]
    assert {it.platform.name for it in found} == {"lambda", "sky"}
    alone = next(it for it in ranked().options if it.platform.name == "sky" and it.offer.gpu == "t4")
    two = next(it for it in found if it.platform.name == "sky" and it.offer.gpu == "t4")
    assert two.usd.high == pytest.approx(2 * two.machine_hours.high * alone.offer.usd_per_hour)
    assert two.way.team.link == platforms.links()["network"]


def test_a_large_run_is_sent_where_nobody_has_to_look_after_it() -> None:
    found = ranked(2_000_000)
    best, free = found.chosen(), found.free
    assert best.needs_nobody
    assert best.usd.low > 0
    assert free is not None
    assert not free.needs_nobody
    rivals = [it for it in found.options if it.needs_nobody]
    assert best.usd.middle == min(it.usd.middle for it in rivals)
    assert "the cheapest of those" in found.reasons(best)


def test_machines_that_are_too_small_come_last_and_are_not_taken() -> None:
    found = ranked(model="facebook/nllb-200-3.3B")
    fits = [it.is_possible for it in found.options]
    assert fits == sorted(fits, reverse=True)
    assert not all(fits)
    assert found.chosen().way.fits


def test_a_machine_without_the_arithmetic_that_was_asked_for_is_left_out() -> None:
    found = ranked(precision="bf16")
    assert found.options
    assert "t4" not in {it.offer.gpu for it in found.options}


def test_a_budget_is_kept_even_if_the_machine_is_slow() -> None:
    asked, kept = config(2_000_000), ["space", "jobs"]
    best = rank(asked, work_of(asked), platforms=kept).chosen()
    # What it costs when it is fast is within this, what it costs when it is slow is not.
    limit = Budget(max_usd=best.usd.high - 0.01)
    assert best.usd.low < best.usd.high - 0.01
    with pytest.raises(InputError, match="too small a budget"):
        rank(asked, work_of(asked), platforms=kept, budget=limit, only=["t4"]).chosen()
    assert ranked(2_000_000, Budget(max_usd=0.0)).chosen().usd.high == 0
    soon = ranked(2_000_000, Budget(max_days=0.4)).chosen()
    assert soon.days.high <= 0.4


def test_a_budget_that_is_too_small_names_the_cheapest_and_the_soonest() -> None:
    with pytest.raises(InputError, match=r"--max-usd 0 --max-days 0.2: too small a budget; the cheapest is") as raised:
        ranked(2_000_000, Budget(max_usd=0.0, max_days=0.2)).chosen()
    assert "the soonest is" in raised.value.hint


def test_a_run_that_fits_nowhere_says_what_it_needs() -> None:
    asked = config(model="facebook/nllb-200-3.3B", vocabulary="full")
    with pytest.raises(InputError, match=r"fits nowhere: on a L4 it needs [\d.]+ GiB") as raised:
        rank(asked, work_of(asked), only=["l4"]).chosen()
    assert "dragoman estimate --memory" in raised.value.hint


# --- the command -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "fragments"),
    [
        ([*WORDS, "20000", "--gpu", "t5"], ["--gpu: t5 is not known", "did you mean t4?"]),
        ([*WORDS, "20000", "--gpu", "a100-40"], ["--gpu a100-40: no platform lets one", "a100-80"]),
        ([*WORDS, "20000", "--platform", "kagle"], ["kagle is no platform", "did you mean kaggle?"]),
        ([*WORDS, "2000000", "--max-usd", "0.1", "--max-days", "0.2"], ["too small a budget", "the cheapest is"]),
        ([*WORDS, "20000", "--max-usd", "-1"], ["--max-usd"]),
        ([*WORDS, "20000", "--model", "someone/else"], ["the size of someone/else is not known"]),
        (["--language-pairs", "en-fr"], ["how many pairs are there?", "--max-samples 20000"]),
        (["--language-pairs", "en-xx", "--max-samples", "9"], ["xx"]),
        (["--measure"], ["--measure: which run?"]),
    ],
)
def test_a_wrong_word_is_one_message_and_code_2(
    words: list[str], fragments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["estimate", *words]) == ExitCode.BAD_INPUT
    said = capsys.readouterr()
    assert said.out == ""
    assert [fragment for fragment in fragments if fragment not in said.err] == [], said.err
    assert said.err.count("error:") == 1


def test_a_person_reads_a_table_and_what_to_take(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["estimate", *WORDS, "20000", "--platform", "colab,kaggle", "space"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "20,000 pairs (if the data has as many as --max-samples), each 3 times" in lines[0]
    assert lines[1].startswith("3,750 steps of 16 pairs")
    marked = [line for line in lines if line.startswith("* ")]
    assert [line.split()[1:3] for line in marked] == [["kaggle", "2×t4"]]
    assert any(line.startswith("recommended: Kaggle NvidiaTeslaT4 (2×t4)") for line in lines)
    assert any("2×t4 bring no gain" in line and "--devices 1" in line for line in lines)
    assert all(len(line) <= 90 for line in lines if line.startswith(("* ", "  colab", "  kaggle", "  space")))


def test_a_program_reads_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["estimate", *WORDS, "20000", "--gpu", "t4", "cpu", "--max-usd", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == 2
    assert found["work"]["steps"] == 3_750
    assert found["recommended"]["platform"] == "kaggle"
    assert found["here"]["gpu"] == "cpu"
    pro = next(it for it in found["options"] if it["flavor"] == "pro")
    assert (pro["within_budget"], pro["usd"]) == (False, [10, 10])
    low, high = pro["seconds"]["training"]
    assert 0 < low < high
