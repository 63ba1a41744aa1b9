"""What a run has to do and writes: the guide's table corrected, checkpoints, bytes."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from dragoman import gpus
from dragoman.cli.app import run
from dragoman.config import RunConfig, from_flat
from dragoman.errors import InputError
from dragoman.estimate import guide, memory, speed
from dragoman.estimate.hours import hours_of, num_evaluations
from dragoman.estimate.measure import Measured
from dragoman.estimate.speed import Step
from dragoman.estimate.storage import num_saves, storage_of
from dragoman.estimate.work import Work, work_of
from dragoman.model.held import checkpoint_bytes
from dragoman.model.regime import Regime
from dragoman.model.sizes import KNOWN
from tests.support.runs import make_pairs

SMALL = "facebook/nllb-200-distilled-600M"
NLLB = KNOWN[SMALL]


def config(**options: Any) -> RunConfig:
    return from_flat({"language_pairs": ["en-fr", "en-de"], "max_samples": 20_000, "output": "nowhere"} | options)


# --- steps -----------------------------------------------------------------------------


def test_the_guides_table_is_corrected() -> None:
    rows = guide.corrected(from_flat({}))
    found = [(row.said.steps, row.epoch_steps, row.work.steps, row.hours[0][1].storage.saves) for row in rows]
    assert found == [
        (3_000, 2_500, 7_500, 15),
        (9_000, 9_375, 28_125, 57),
        (15_000, 15_625, 46_875, 94),
        (30_000, 31_250, 93_750, 188),
    ]


def test_samples_that_are_named_count_for_each_direction() -> None:
    work = work_of(config())
    assert (work.basis, work.num_pairs, work.pairs_per_step, work.steps) == ("samples", 40_000, 16, 7_500)
    assert work.target_tokens == 120_000 * 27


def test_rows_of_local_data_count_less_those_held_out(tmp_path: Path) -> None:
    data = make_pairs(tmp_path / "pairs.tsv", 500, seed=1)
    given = {"language_pairs": ["en-fr"], "data": [f"en-fr={data}"], "max_samples": None, "epochs": 1}
    work = work_of(config(**given, dev_percent=10, test_percent=10))
    assert (work.basis, work.num_pairs, work.steps) == ("rows", 400, 25)
    assert work_of(config(**(given | {"max_samples": 100}))).num_pairs == 100


def test_tokens_per_step_decide_its_pairs() -> None:
    work = work_of(config(batch_tokens=5_400), tokens_per_pair=27)
    assert (work.pairs_per_step, work.steps) == (200, 600)
    assert work.target_per_step == 5_400


def test_rehearsed_pairs_come_on_top() -> None:
    work = work_of(config(replay=["general.tsv:0.2"], epochs=1))
    assert (work.num_directions, work.pairs_seen, work.steps) == (4, 50_000, 3_125)


def test_nothing_is_guessed_of_data_that_is_not_here() -> None:
    with pytest.raises(InputError, match="how many pairs are there"):
        work_of(from_flat({"language_pairs": ["en-fr"], "output": "nowhere"}))
    with pytest.raises(InputError, match="--language-pairs is missing"):
        work_of(from_flat({}))


# --- checkpoints -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "seconds", "saves"),
    [
        (7_500, 0.1, 15),  # every 500 steps
        (7_501, 0.1, 16),  # and one at the end
        (7_500, 1.2, 15),  # 500 steps take just ten minutes
        (7_500, 1.3, 30),  # they take more: one between two of them
        (600, 60.0, 60),  # every ten minutes
        (3, 0.1, 1),
    ],
)
def test_a_run_saves_by_steps_or_minutes_whichever_is_first(steps: int, seconds: float, saves: int) -> None:
    assert num_saves(RunConfig(), steps, seconds) == saves


def test_the_saves_that_are_counted_are_those_of_a_clock() -> None:
    for step_seconds in (0.5, 1.7, 3.0, 11.0):
        for steps in (1, 499, 500, 501, 1_730):
            at, last = 0.0, 0.0
            counted = 0
            for step in range(1, steps + 1):
                at += step_seconds
                if step == steps or step % 500 == 0 or at - last >= 600:
                    counted, last = counted + 1, at
            # A save by minutes waits for the end of its step, so that a few fit in less.
            assert counted <= num_saves(RunConfig(), steps, step_seconds) <= counted * (1 + step_seconds / 600) + 1


def test_a_checkpoint_holds_all_weights_and_the_moments_of_what_is_trained() -> None:
    gigabytes = {
        "full": checkpoint_bytes(NLLB, Regime()),
        "active": checkpoint_bytes(NLLB, Regime(vocabulary="active")),
        "lora": checkpoint_bytes(NLLB, Regime(adapter="lora")),
    }
    found = {name: round(size / 1e9, 1) for name, size in gigabytes.items()}
    assert found == {"full": 7.4, "active": 5.6, "lora": 4.0}


def test_the_store_holds_one_more_than_are_kept_and_two_models() -> None:
    way = memory.as_configured(config(), memory.machine("t4", config()))
    stored = storage_of(config(keep=2), work_of(config()), NLLB, way.regime, 0.1)
    # Nothing is prepared, so any row of the vocabulary may be trained.
    assert stored.held.num_bytes == 3 * checkpoint_bytes(NLLB, Regime()) + 2 * stored.model_bytes
    prepared = dataclasses.replace(work_of(config()), rows=way.regime.active_rows, data_bytes=5)
    known = storage_of(config(keep=2), prepared, NLLB, way.regime, 0.1)
    assert known.held.num_bytes == 3 * known.checkpoint_bytes + 2 * known.model_bytes + 5
    slow = storage_of(config(upload_megabytes=1.0), work_of(config()), NLLB, way.regime, 0.1)
    assert slow.upload_seconds == stored.checkpoint_bytes / 1e6
    assert slow.uploads < slow.saves == stored.saves
    assert stored.lost_seconds == 50 + 2 * stored.upload_seconds


def test_the_dev_sample_is_scored_after_the_last_step_too() -> None:
    assert num_evaluations(RunConfig(), 1_000) == 2
    assert num_evaluations(RunConfig(), 1_001) == 3
    assert num_evaluations(from_flat({"eval_steps": 0}), 1_000) == 0
    assert num_evaluations(from_flat({"dev_percent": 0}), 1_000) == 0


# --- speed -------------------------------------------------------------------------------


@pytest.mark.parametrize(("gpu", "tokens_per_second"), [("t4", 968), ("h200-141", 3_984)])
def test_the_recipe_is_as_slow_as_it_was_reckoned_before(gpu: str, tokens_per_second: float) -> None:
    """The two figures come from another count of kernels, bytes and products than this one."""
    card, tokens = gpus.GPUS[gpu], 16 * 27
    seconds = speed.step_seconds(NLLB, Regime(precision=card.precision), card, speed.recipe_step(27))
    assert seconds.low < tokens / tokens_per_second < seconds.high
    assert tokens / seconds.middle == pytest.approx(tokens_per_second, rel=0.05)


@pytest.mark.parametrize(
    ("gpu", "pairs", "graphed", "least", "most"),
    [
        ("t4", 16, False, 2.3, 3.7),
        ("t4", 256, False, 6, 10),
        ("h200-141", 16, True, 8, 14),
        ("h200-141", 256, False, 25, 35),
    ],
)
def test_ours_is_as_much_faster_as_was_reckoned_before(
    gpu: str, pairs: int, graphed: bool, least: float, most: float
) -> None:
    card = gpus.GPUS[gpu]
    regime = Regime(vocabulary="active", precision=card.precision)
    recipe = speed.step_seconds(NLLB, Regime(precision=card.precision), card, speed.recipe_step(27))
    ours = speed.step_seconds(NLLB, regime, card, Step(1, 27.0 * pairs, 27.0 * pairs, graphed))
    assert least < (pairs / 16) * recipe.middle / ours.middle < most


def test_a_token_costs_six_operations_for_each_weight() -> None:
    matrices = sum(rows * columns for rows, columns in NLLB.matrices())
    assert speed.flops(NLLB, Regime(), Step(1, 1, 1)) == 6 * (matrices + 256_206 * 1024)
    frozen = Regime(adapter="lora")
    assert speed.flops(NLLB, frozen, Step(1, 1, 1)) < 0.7 * speed.flops(NLLB, Regime(), Step(1, 1, 1))


def test_what_was_measured_replaces_what_is_modelled() -> None:
    asked = config(threads=1)
    work = Work("samples", 2, 40_000, 16, 7_500, 120_000, 3_240_000, 3_240_000)
    way = memory.as_configured(asked, memory.machine("cpu", asked))
    measured = Measured("cpu", 30, 12_960, 100.0, 20.0, 0.5, 1.0)
    hours = hours_of(asked, work, way, measured)
    assert hours.training.low < 32_400 < hours.training.high
    assert hours.evaluating.middle == pytest.approx(15 * 20, rel=0.01)
    assert hours.saving.low == hours.storage.saves * 0.5
    assert hours.is_measured


# --- the command -------------------------------------------------------------------------


def test_without_a_run_the_guides_table_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["estimate"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:6] == ["2", "20,000", "3,000", "2,500", "7,500", "0.75"]
    assert run(["estimate", "--gpu", "t4,h200-141", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["guide"]
    assert [row["work"]["steps"] for row in rows] == [7_500, 28_125, 46_875, 93_750]
    assert set(rows[0]["gpus"]) == {"Tesla T4", "H200 141 GB"}
