"""`dragoman estimate --memory`: what fits on which GPU, in a table and as JSON, before anything is rented."""

import json
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from dragoman import gpus, host
from dragoman.cli.app import run
from dragoman.config import from_flat
from dragoman.errors import ExitCode, InputError
from dragoman.estimate.memory import MODELS, Way, ways

WAYS = ["active", "full", "active 8 bit", "full 8 bit", "LoRA"]
FIT = {
    "t4": {"600M": "active full active8 full8 lora", "1.3B": "active8 lora", "3.3B": ""},
    "l4": {"600M": "active full active8 full8 lora", "1.3B": "active active8 full8 lora", "3.3B": "lora"},
    "a100-80": {
        "600M": "active full active8 full8 lora",
        "1.3B": "active full active8 full8 lora",
        "3.3B": "active full active8 full8 lora",
    },
}
"""What the model says of three GPUs; none of it was measured on one."""


def short(row: Way) -> str:
    if row.regime.adapter == "lora":
        return "lora"
    return row.regime.vocabulary + ("8" if row.regime.optimizer == "adamw8bit" else "")


@pytest.mark.parametrize("gpu", FIT)
def test_known_gpus_hold_what_they_held(gpu: str) -> None:
    found: dict[str, str] = {}
    for model in MODELS:
        rows = [row for row in ways(from_flat({}), [gpu]) if row.model == model and row.fits]
        found[model.rpartition("-")[2]] = " ".join(short(row) for row in rows)
    assert found == FIT[gpu]


@pytest.mark.parametrize(
    ("gpu", "recommended"),
    [
        ("t4", ["active", "lora", ""]),
        ("l4", ["active", "active8", "lora"]),
        ("a100-40", ["active", "active", "active8"]),
        ("h200-141", ["active", "active", "active"]),
    ],
)
def test_the_first_way_that_has_room_is_recommended(gpu: str, recommended: list[str]) -> None:
    rows = ways(from_flat({}), [gpu])
    found = [[short(row) for row in rows if row.model == model and row.recommended] for model in MODELS]
    assert [" ".join(names) for names in found] == recommended


def test_a_larger_gpu_of_the_same_kind_holds_more() -> None:
    names = sorted(gpus.usable(), key=lambda name: (gpus.GPUS[name].precision, gpus.GPUS[name].memory_bytes))
    by_gpu = [ways(from_flat({}), [name]) for name in names if gpus.GPUS[name].precision == "bf16"]
    for smaller, larger in pairwise(by_gpu):
        for one, other in zip(smaller, larger, strict=True):
            same = one.regime.gradient_checkpointing == other.regime.gradient_checkpointing
            assert not same or one.tokens <= other.tokens


def test_options_that_are_given_are_not_varied() -> None:
    words = {"model": MODELS[0], "precision": "fp32", "max_tokens": 64}
    rows = ways(from_flat(words), ["l4"])
    assert len(rows) == len(WAYS)
    assert {(row.model, row.regime.precision, row.longest) for row in rows} == {(MODELS[0], "fp32", 128)}


def test_without_a_gpu_the_memory_of_this_machine_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "memory_bytes", lambda: (64 << 30, 32 << 30))
    rows = ways(from_flat({}), ["cpu"])
    assert {(row.machine.memory_bytes, row.regime.device, row.regime.precision) for row in rows} == {
        (32 << 30, "cpu", "fp32")
    }
    assert host.free_memory_bytes() == 32 << 30
    assert any(row.fits for row in rows)


def test_a_model_in_a_folder_is_reckoned_from_its_configuration(tmp_path: Path) -> None:
    sizes = {"vocab_size": 2000, "d_model": 128, "encoder_layers": 2, "decoder_layers": 2}
    config = sizes | {"encoder_ffn_dim": 512, "decoder_ffn_dim": 512}
    (tmp_path / "config.json").write_text(json.dumps(config))
    rows = ways(from_flat({"model": str(tmp_path)}), ["t4"])
    assert {row.model for row in rows} == {str(tmp_path)}
    assert all(row.fits for row in rows)


# --- mistakes ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "fragments"),
    [
        (["--gpu", "t5"], ["--gpu: t5 is not known", "did you mean t4?", "h200-141"]),
        (["--gpu", "a100"], ["--gpu: a100 is not known", "a100-40 or a100-80"]),
        (["--gpu", "quadro"], ["--gpu: quadro is not known", "try: t4, l4"]),
        (["--gpu", "t4", "p100"], ["torch does not run on a Tesla P100", "6.0", "7.0"]),
        (["--gpu", "t4", "--precision", "bf16"], ["--precision bf16", "Tesla T4", "fp16"]),
        (["--gpu", "cpu", "--precision", "fp16"], ["--precision fp16: needs a GPU"]),
        (["--model", "someone/else"], ["--model: the size of someone/else is not known"]),
        (["--model", "scratch:huge"], ["--model: there is no scratch:huge", "scratch:tiny or scratch:small"]),
    ],
)
def test_a_wrong_word_is_one_message(
    words: list[str], fragments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["estimate", "--memory", *words]) == ExitCode.BAD_INPUT
    said = capsys.readouterr()
    assert said.out == ""
    assert [fragment for fragment in fragments if fragment not in said.err] == [], said.err
    assert said.err.count("error:") == 1


def test_names_of_gpus_are_read_kindly() -> None:
    assert gpus.find("Tesla_T4") == gpus.find("t4") == gpus.GPUS["t4"]
    with pytest.raises(InputError):
        gpus.find("")


# --- what is shown ---------------------------------------------------------------------------


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert run(["estimate", "--memory", *words]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    return said.out


def test_a_person_reads_every_way_of_the_gpus_that_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, "--gpu", "t4,l4").splitlines()
    assert [line for line in lines if not line.startswith(" ")][:-1] == [
        "Tesla T4, 14.6 GiB, fp16",
        "L4, 22.0 GiB, bf16",
    ]
    assert len(lines) == 2 * (1 + 3 * (1 + len(WAYS))) + 1
    assert re.fullmatch(r"  \* active vocabulary, adamw +\d+\.\d GiB +[\d,]+ tokens, recommended", lines[2])
    assert sum(line.endswith("tokens, if that is the whole step") for line in lines) > 0
    assert sum("does not fit" in line for line in lines) > 0


def test_without_a_gpu_a_person_reads_one_line_for_each_model(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys).splitlines()
    assert len(lines) == len(gpus.usable()) * (1 + 2 * 3) + 1


def test_a_program_reads_json(capsys: pytest.CaptureFixture[str]) -> None:
    found: dict[str, Any] = json.loads(shown(capsys, "--gpu", "l4", "--model", MODELS[0], "--json"))
    assert found["schema"] == 1
    row = found["estimates"][0]
    assert row == {
        "gpu": "l4",
        "model": MODELS[0],
        "vocabulary": "active",
        "optimizer": "adamw",
        "adapter": "none",
        "lora_rank": 16,
        "precision": "bf16",
        "forward": "packed",
        "gradient_checkpointing": False,
        "ranks": 1,
        "parallel": None,
        "fits": True,
        "need_bytes": row["need_bytes"],
        "tokens": row["tokens"],
        "tokens_alone": row["tokens_alone"],
        "recommended": True,
    }
    assert 0 < row["tokens"] < row["tokens_alone"]
    assert row["need_bytes"] > 6e9


def test_no_tensor_library_is_loaded() -> None:
    program = """
import sys
from dragoman.cli.app import run
run_words = ["--language-pairs", "en-fr", "--max-samples", "9", "--max-usd", "100"]
for words in (["--memory", "--gpu", "t4", "cpu"], ["--gpu", "t4"], run_words):
    assert run(["estimate", *words]) == 0
heavy = [name for name in ("torch", "transformers", "tokenizers", "huggingface_hub") if name in sys.modules]
sys.exit(", ".join(heavy) or None)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
