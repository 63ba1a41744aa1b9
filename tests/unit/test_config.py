from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dragoman.config import (
    FIELDS,
    SECTIONS,
    MachineConfig,
    RanksConfig,
    RunConfig,
    StoreConfig,
    differences,
    from_flat,
    may_change,
)

# A value of every field that differs from its default, as the user would write it in JSON.
OTHER: dict[str, Any] = {
    "language_pairs": ["en-fr"],
    "data": ["a.tsv"],
    "replay": ["a.tsv:0.1"],
    "held_out": ["a.tsv"],
    "max_samples": 7,
    "normalize": "nfkc",
    "normalize_target": "nllb",
    "min_script_percent": 50.0,
    "max_repeats": 3,
    "near_duplicates": "drop",
    "inline_tags": "keep",
    "langid": True,
    "langid_min_chars": 60,
    "dev_percent": 3.0,
    "test_percent": 4.0,
    "min_chars": 2,
    "max_chars": 99,
    "max_length_ratio": 3.0,
    "max_tokens": 64,
    "on_bad_rows": "skip",
    "prepare_processes": 2,
    "model": "scratch:tiny",
    "revision": "main",
    "new_language": ["tyv_Cyrl"],
    "like": ["kaz_Cyrl,kir_Cyrl"],
    "adapter": "lora",
    "lora_rank": 4,
    "static_shapes": True,
    "lora_alpha": 8.0,
    "lora_dropout": 0.1,
    "dropout": 0.2,
    "epochs": 1.5,
    "max_steps": 9,
    "mix": ["en-fr=2"],
    "mix_temperature": 5.0,
    "batch_size": 2,
    "gradient_accumulation": 3,
    "batch_tokens": 4096,
    "microbatch_tokens": 2048,
    "forward": "reference",
    "vocabulary": "full",
    "gradient_checkpointing": "on",
    "optimizer": "adafactor",
    "learning_rate": 1e-3,
    "schedule": "cosine",
    "warmup_steps": 5,
    "weight_decay": 0.0,
    "clip_norm": 2.0,
    "label_smoothing": 0.0,
    "precision": "bf16",
    "device": "cpu",
    "threads": 1,
    "deterministic": True,
    "seed": 2,
    "max_bad_steps": 3,
    "max_hours": 2.0,
    "platform": "colab",
    "deadline": "2026-11-30T08:00:00Z",
    "single_writer": True,
    "output": "runs/x",
    "save_steps": 10,
    "save_minutes": 1.0,
    "snapshot": "stream",
    "keep": 4,
    "resume": "must",
    "store": "s3://bucket/run",
    "hub_model_id": "USER/REPO",
    "resume_from_checkpoint": "USER/REPO",
    "take_over": True,
    "lease_minutes": 5.0,
    "drain_minutes": 1.0,
    "public": True,
    "store_data": "no",
    "upload_megabytes": 2.5,
    "commits_per_hour": 60,
    "eval_steps": 50,
    "eval_samples": 8,
    "num_beams": 3,
    "log_steps": 1,
    "devices": 2,
    "nodes": 2,
    "node_rank": 0,
    "main_address": "10.0.0.4:29500",
    "parallel": "fsdp",
    "offload": True,
    "max_restarts": 1,
}


def test_a_new_field_is_added_to_these_tests() -> None:
    assert set(OTHER) == set(FIELDS)
    assert all(value != RunConfig().flat()[name] for name, value in OTHER.items())


def test_no_two_sections_share_a_name() -> None:
    names = [name for model in SECTIONS.values() for name in model.model_fields]
    assert sorted(names) == sorted(FIELDS)


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_says_what_it_is(name: str) -> None:
    text = FIELDS[name][1].description
    assert text, f"{name} has no docstring: it would have no help"
    assert text.endswith("."), text


def test_the_digest_does_not_depend_on_the_process() -> None:
    # If this changes, every run of an earlier version is refused: raise a version instead.
    assert RunConfig().digest() == RunConfig().digest()
    assert from_flat(OTHER).digest() == from_flat(dict(reversed(OTHER.items()))).digest()
    assert len(RunConfig().digest()) == 64


@pytest.mark.parametrize("name", FIELDS)
def test_the_digest_changes_exactly_with_fields_that_may_not_change(name: str) -> None:
    changed = from_flat({name: OTHER[name]})
    assert (changed.digest() == RunConfig().digest()) == may_change(name)
    assert [row[0] for row in differences(RunConfig(), changed)] == ([] if may_change(name) else [name])


def test_what_may_change_does_not_touch_what_is_learned() -> None:
    free = {name for name in FIELDS if may_change(name)}
    saving = {"output", "save_steps", "save_minutes", "snapshot", "keep", "resume", "single_writer"}
    others = {"max_hours", "log_steps", "gradient_checkpointing", "prepare_processes"}
    sections = (StoreConfig, MachineConfig, RanksConfig)
    assert free == saving | others | {name for section in sections for name in section.model_fields}


def _values(name: str) -> st.SearchStrategy[Any]:
    """Values that fit a field: by its type, within the bounds that every field of that type accepts."""
    if name == "deadline":
        return st.none() | st.datetimes(min_value=datetime(1970, 1, 1)).map(
            lambda moment: f"{moment:%Y-%m-%dT%H:%M:%S}Z"
        )
    annotation = FIELDS[name][1].annotation
    arms = get_args(annotation) if type(None) in get_args(annotation) else (annotation,)
    some = [_of_type(arm) for arm in arms if arm is not type(None)]
    return st.one_of(st.none(), *some) if type(None) in arms else st.one_of(*some)


def _of_type(kind: Any) -> st.SearchStrategy[Any]:
    while get_origin(kind) not in (None, list, Literal):
        kind = get_args(kind)[0]  # Annotated[int, …]
    text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)
    if get_origin(kind) is Literal:
        return st.sampled_from(get_args(kind))
    if get_origin(kind) is list:
        return st.lists(text, max_size=3)
    plain: dict[Any, st.SearchStrategy[Any]] = {
        bool: st.booleans(),
        int: st.integers(20, 30),
        float: st.floats(0.01, 0.9) if kind is float else st.nothing(),
        str: text,
        Path: st.sampled_from(["runs/x", "/tmp/a b", "runs/ü"]),
    }
    return plain[kind]


FROM_ONE = {"max_length_ratio", "mix_temperature"}  # no fraction meets their bounds
some_values = st.fixed_dictionaries({}, optional={name: _values(name) for name in FIELDS if name not in FROM_ONE})


@given(some_values)
def test_flat_and_from_flat_undo_each_other(values: dict[str, Any]) -> None:
    config = from_flat(values)
    assert from_flat(config.flat()) == config
    assert config.given() == {name: config.flat()[name] for name in FIELDS if name in values}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", float("nan")),
        ("epochs", float("inf")),
        ("max_hours", float("inf")),
        ("output", ""),
        ("model", ""),
        ("data", [""]),
        ("batch_size", 0),
        ("learning_rate", 1.0),
        ("seed", 2**32),
        ("schedule", "Linear"),
        ("deadline", "2026-11-30T08:00:00"),
        ("deadline", "tomorrow"),
    ],
)
def test_values_that_no_run_can_have_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ValidationError):
        from_flat({name: value})


def test_a_deadline_is_the_same_instant_however_it_is_written() -> None:
    written = ["2026-11-30T08:00:00Z", "2026-11-30 09:00+01:00", "2026-11-30T03:00:00-05:00"]
    found = [from_flat({"deadline": text}).machine for text in written]
    assert {(machine.deadline, machine.deadline_time) for machine in found} == {("2026-11-30T08:00:00Z", 1796025600.0)}


def test_a_configuration_cannot_be_changed_or_extended() -> None:
    with pytest.raises(ValidationError):
        RunConfig().data.max_samples = 3  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ValidationError):
        RunConfig.model_validate({"data": {"max_sample": 3}})


def test_pairs_per_step_is_the_guides_16() -> None:
    assert RunConfig().pairs_per_step == 16


def test_a_run_does_not_store_what_belongs_to_one_session() -> None:
    """Else a run once started with --max-hours would stop again in every session."""
    config = from_flat({"max_hours": 0.1, "resume": "must", "output": "here", "keep": 7, "seed": 3})
    stored = yaml.safe_load(config.to_yaml(stored=True))
    assert not stored.keys() & {"max_hours", "resume", "output"}
    assert from_flat(stored) == from_flat({"keep": 7, "seed": 3})
