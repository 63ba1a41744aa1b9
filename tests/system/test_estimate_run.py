"""What is estimated of a run, against the run itself: steps, tokens, saves, bytes; and forty real steps."""

import json
from pathlib import Path
from typing import Any

import pytest

from dragoman.cli.app import run as command
from dragoman.config import RunConfig, from_flat
from dragoman.errors import InputError
from dragoman.estimate import measure as measuring
from dragoman.estimate import memory
from dragoman.estimate.hours import hours_of, num_evaluations
from dragoman.estimate.measure import LAST_STEPS, STEPS, WARM_STEPS, measure
from dragoman.estimate.work import corpus_of, directions_of, work_of
from dragoman.journal import read
from tests.support.runs import flags, make_pairs


def options(folder: Path, **more: Any) -> dict[str, Any]:
    """Of a tiny run of one epoch and a half."""
    data = folder / "pairs.tsv"
    if not data.exists():
        make_pairs(data, 120, seed=1)
    given = {
        "language_pairs": ["en-fr"],
        "data": [f"en-fr={data}"],
        "model": "scratch:tiny",
        "epochs": 1.5,
        "batch_size": 4,
        "gradient_accumulation": 2,
        "save_steps": 10,
        "eval_steps": 10,
        "eval_samples": 2,
        "log_steps": 1,
        "device": "cpu",
        "threads": 1,
        "output": str(folder / "run"),
    }
    return given | more


def kinds(folder: Path) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for event in read(folder / "dragoman/journal.jsonl"):
        found.setdefault(event["kind"], []).append(event)
    return found


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"max_samples": 50, "epochs": 2.0},
        {"batch_tokens": 100},
        {"language_pairs": ["en-fr", "fr-en"], "mix_temperature": 5.0, "replay": ["en-fr={other}:0.2"]},
    ],
    ids=["epochs", "samples", "tokens", "mix"],
)
def test_the_steps_of_a_prepared_run_are_those_that_are_trained(tmp_path: Path, more: dict[str, Any]) -> None:
    other = make_pairs(tmp_path / "other.tsv", 30, seed=2)
    more = more | {"replay": [text.format(other=other) for text in more.get("replay", [])]}
    given = options(tmp_path, **more)
    config = from_flat(given)
    assert command(["prepare", *flags(given)]) == 0
    work = work_of(config)
    assert work.basis == "corpus"
    assert command(["train", *flags(given)]) == 0
    happened = kinds(tmp_path / "run")
    started, steps = happened["session_started"][0], happened["step"]
    assert work.steps == started["total_steps"] == steps[-1]["step"]
    assert work.pairs_per_step == started["pairs_per_step"]
    tokens = sum(it["target_tokens"] for it in steps)
    assert work.target_tokens == pytest.approx(tokens, rel=0.03)
    if config.training.epochs == 2.0:  # every pair twice
        assert round(work.target_tokens) == tokens
    way = memory.as_configured(config, memory.machine("cpu", config), work.rows)
    hours = hours_of(config, work, way)
    assert hours.storage.saves <= len(happened["saved"])  # those of a best model are not foreseen
    largest = max(it["num_bytes"] for it in happened["saved"])
    small = 600_000  # tokenizer, configuration, state
    assert hours.storage.checkpoint_bytes * 0.8 - small < largest < hours.storage.checkpoint_bytes + small
    assert num_evaluations(config, work.steps) == len(happened["evaluated"])


def test_a_run_that_is_named_alone_is_reckoned_with_its_own_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = options(tmp_path)
    assert command(["train", *flags(given)]) == 0
    capsys.readouterr()
    assert command(["estimate", "--output", given["output"], "--gpu", "cpu", "--json"]) == 0
    work = json.loads(capsys.readouterr().out)["work"]
    assert work["steps"] == kinds(tmp_path / "run")["session_started"][0]["total_steps"]


def test_a_corpus_of_other_samples_or_other_bytes_does_not_count(tmp_path: Path) -> None:
    given = options(tmp_path)
    assert command(["prepare", *flags(given)]) == 0
    config = from_flat(given)
    assert corpus_of(config, directions_of(config)) is not None
    fewer = from_flat(given | {"max_samples": 20})
    assert corpus_of(fewer, directions_of(fewer)) is None
    assert work_of(fewer).num_pairs == 20
    make_pairs(tmp_path / "pairs.tsv", 130, seed=3)
    assert corpus_of(config, directions_of(config)) is None
    (tmp_path / "pairs.tsv").unlink()
    assert corpus_of(config, directions_of(config)) is not None


# --- forty real steps ------------------------------------------------------------------


def test_real_steps_are_timed_where_nothing_of_the_run_is_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = options(tmp_path, store=str(tmp_path / "store"), max_hours=0.0001)
    config = from_flat(given)
    assert command(["prepare", *flags(given)]) == 0
    before = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*"))
    monkeypatch.setenv("DRAGOMAN_STORE", str(tmp_path / "another"))
    found = measure(config, corpus_of(config, directions_of(config)))
    assert sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*")) == before
    assert (found.machine, found.steps) == ("cpu", STEPS)
    assert found.tokens_per_second > 0
    assert found.evaluation_seconds > 0
    assert found.save_seconds >= 0
    steps = STEPS * 8 * 7  # pairs of a step, tokens of a pair
    assert 0.7 * steps < found.target_tokens < 1.6 * steps


def test_what_the_child_complains_of_is_what_the_user_reads(tmp_path: Path) -> None:
    config = from_flat(options(tmp_path, data=[f"en-fr={tmp_path / 'nothing.tsv'}"]))
    with pytest.raises(InputError, match=r"^--measure: --data .*nothing\.tsv") as raised:
        measure(config, None)
    assert "error:" not in raised.value.message
    assert raised.value.hint


def test_the_run_is_cut_short_and_has_no_store() -> None:
    config = from_flat({"language_pairs": ["en-fr"], "hub_model_id": "USER/REPO", "keep": 5, "eval_steps": 0})
    child = measuring.child_config(config, Path("elsewhere"))
    assert child.store == RunConfig().store
    assert child.training.max_steps == WARM_STEPS + STEPS + LAST_STEPS
    assert child.evaluation.eval_steps == 0
    assert child.data == config.data


@pytest.mark.parametrize(
    ("device", "names", "machine"),
    [
        ("cpu", ["Tesla T4"], "cpu"),
        ("cuda:0", ["Tesla T4"], "t4"),
        ("cuda:1", ["Tesla T4", "NVIDIA A100-SXM4-80GB"], "a100-80"),
        ("cuda:0", ["NVIDIA B200"], "NVIDIA B200"),
        ("cuda:0", [], "cuda:0"),
    ],
)
def test_a_gpu_is_named_as_the_options_name_it(device: str, names: list[str], machine: str) -> None:
    events: list[dict[str, Any]] = [
        {"kind": "prepared", "time": 1.0},
        {"kind": "session_started", "time": 3.0, "device": device},
        *({"kind": "step", "step": step, "target_tokens": 50, "seconds": 0.5} for step in range(5, 41, 5)),
        {"kind": "saved", "waited_seconds": 0.25},
        {"kind": "saved", "waited_seconds": 9.0},
    ]
    found = measuring.measured(events, names)
    assert (found.machine, found.target_tokens, found.tokens_per_second) == (machine, 300, 100.0)
    assert (found.save_seconds, found.load_seconds, found.evaluation_seconds) == (0.25, 2.0, 0.0)
