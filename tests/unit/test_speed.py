"""The speed bench: what it measures must be what its report says."""

import json
from pathlib import Path

import pytest
import torch

from bench import speed_report, speed_targets
from bench.speed_clock import Counts, Pair
from bench.speed_head import Holdings
from bench.speed_trainer import TrainerSide, by_length, num_steps, some_batches
from bench.speed_world import SCALES, Scale, build_tokenizer, spread
from dragoman.languages import CODES
from dragoman.model import scratch, vocabulary

SMALL = Scale("small", width=64, layers=1, pieces=60, languages=("fr",))
TEXTS = ["one house and two houses", "une maison et deux maisons", "the house is small", "la maison est petite"]


@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES.keys())
def test_every_scale_gives_the_vocabulary_the_share_it_has_in_the_600m(scale: Scale) -> None:
    assert scale.vocabulary_share() == pytest.approx(SCALES["600m"].vocabulary_share(), abs=1e-4)
    # NLLB-200-distilled-600M has 615 million parameters.
    assert SCALES["600m"].weights() == pytest.approx(615e6, rel=1e-3)


def test_the_pieces_lie_over_all_rows_and_read_the_same(tmp_path: Path) -> None:
    plain, wide = tmp_path / "plain", tmp_path / "wide"
    plain.mkdir()
    wide.mkdir()
    scratch.build_tokenizer(plain, TEXTS, SMALL.pieces)
    build_tokenizer(wide, TEXTS, SMALL)
    before, after = vocabulary.load(plain), vocabulary.load(wide, CODES)
    ids = [after.encode([text])[0] for text in TEXTS]
    assert [after.decode(row) for row in ids] == TEXTS
    assert [len(row) for row in ids] == [len(row) for row in before.encode(TEXTS)]
    used = sorted({token for row in ids for token in row})
    assert used[0] < 0.2 * SMALL.rows
    assert used[-1] > 0.8 * (SMALL.rows - len(CODES))
    assert len(after) == SMALL.rows - 2
    assert [after.code_id(code) for code in CODES] == list(range(SMALL.rows - 3 - len(CODES), SMALL.rows - 3))


def test_pieces_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    scratch.build_tokenizer(tmp_path, TEXTS, 60)
    with pytest.raises(ValueError, match="do not fit in 220 rows"):
        spread(json.loads((tmp_path / "tokenizer.json").read_text("utf-8")), 220)


def test_batches_by_length_hold_the_pairs_of_one_pass_and_are_drawn_from_all_of_it() -> None:
    pairs = [Pair([0] * (1 + index % 40), [index]) for index in range(400)]
    side = TrainerSide("", 16, by_length=True)
    batches = by_length(side, pairs, seed=3)
    assert sorted(pair.label_ids[0] for batch in batches for pair in batch) == list(range(400))
    assert num_steps(side, 16) == 4  # its speed depends on the length, so one batch would say little
    for seed in range(5):
        drawn = [len(pair.source_ids) for pair in some_batches(side, pairs, 1, 4, seed)]
        assert max(drawn[:16]) == 40
        assert len(drawn) == 16 * 5
        quarters = sorted(sum(drawn[start : start + 16]) / 16 for start in range(16, 80, 16))
        assert quarters[0] < 14
        assert quarters[-1] > 27


def test_the_share_of_padding_counts_positions() -> None:
    total = Counts(3, 4, 5, 10) + Counts(1, 4, 5, 10)
    assert total == Counts(4, 8, 10, 20)
    assert (total.source_padding, total.padding) == (0.5, 0.5)


def test_holdings_count_what_lives_at_once_and_not_what_is_ignored() -> None:
    kept = torch.ones(1000)
    holdings = Holdings()
    holdings.ignore(kept)
    with holdings:
        for _ in range(5):
            doubled = kept * 2
            both = doubled + kept
            del doubled, both
        result = kept + 1
    assert holdings.peak() == 8000
    holdings.ignore(result)
    assert holdings.peak() == 8000
    assert Holdings().peak() == 0


def side(name: str, precision: str, pairs: int, ratios: list[float]) -> dict[str, object]:
    rounds = [
        {"tokens_per_second": ratio * base, "source_tokens": 1, "source_positions": 2}
        | {"target_tokens": 3, "target_positions": 4, "gpu_bytes": 0}
        for ratio, base in zip(ratios, (100.0, 50.0, 200.0), strict=True)
    ]
    middle = sorted(ratios)[1]
    row = {"name": name, "precision": precision, "pairs_per_step": pairs, "failure": "", "rounds": rounds}
    return row | {"median": middle * 100, "ratio": middle, "ratios": ratios}


def test_a_target_is_judged_by_the_best_side_that_counts_for_it() -> None:
    sides = [
        side("recipe", "fp32", 16, [1.0, 1.0, 1.0]),
        side("recipe max_length", "fp32", 16, [0.5, 0.5, 0.5]),
        side("expert bf16 128 by length", "bf16", 128, [9.0, 9.0, 9.0]),
        side("dragoman packed", "fp32", 16, [2.0, 3.0, 2.9]),
        side("dragoman active bf16 16", "bf16", 16, [8.0, 8.0, 8.0]),
        side("dragoman active bf16 128", "bf16", 128, [5.0, 5.5, 5.6]),
    ]
    heads = {"torch": [{"extra_bytes": 1000}], "dragoman, chunked": [{"extra_bytes": 140}]}
    parts = {"ladder": {"sides": sides}, "head": {"sides": heads}}
    rows = {row[0]: row[3:] for row in speed_targets.rows({"device": "cpu"}, parts)}
    assert rows["same pairs per step, fp32, over the recipe"] == ["2.90x", "dragoman packed", "yes"]
    assert rows['the same, over `padding="max_length"` 128'] == ["5.80x", "dragoman packed", "no"]
    assert rows["bf16 and larger token batches, over the recipe"] == ["5.50x", "dragoman active bf16 128", "no"]
    assert rows["memory of the loss head, over torch's"] == ["0.14x", "dragoman, chunked", "yes"]
    assert rows["padding"] == ["not measured", "", ""]


def test_a_report_says_what_was_not_run() -> None:
    versions = {"torch": "2"}
    facts = {"date": "2026-01-01", "device": "cpu", "device_name": "cpu", "processor": "p", "threads": 1}
    text = speed_report.text({"facts": facts | {"versions": versions, "commit": "c"}, "parts": {}})
    assert "- A GPU: no figure here says anything about one." in text
    assert "- The part `600m` was not run." in text
