"""The starting document's commands, as they are written there, against a Hub on this machine."""

import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from dragoman.cli import guide
from dragoman.config import DEFAULT_MODEL
from dragoman.errors import ExitCode
from dragoman.store import hub_repos
from dragoman.training import loop
from examples import guide as example
from tests.support.hub import HubStandIn
from tests.support.hub_data import opus_100
from tests.support.places import TOKEN, use_hub
from tests.support.runs import make_pairs
from tests.support.shared import finished_run

OPUS = "Helsinki-NLP/opus-100"
REPO = "ada/fine-tuned-nllb-600M"
TWO = ["--language_pairs", "en-fr", "en-de", "--max_samples", "20000", "--epochs", "1"]
FIVE = ["--language_pairs", "en-fr", "en-de", "en-es", "en-it", "en-pt", "--max_samples", "50000", "--epochs", "3"]
RESUME = ["--resume_from_checkpoint", REPO]
VARIABLES = {"SAVE_STEPS": "3", "EVAL_STEPS": "0", "COMMITS_PER_HOUR": "3600", "DEVICE": "cpu", "THREADS": "1"}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
    """All that the guide takes from the Hub, small; and the variables of a Space."""
    monkeypatch.chdir(tmp_path)
    with HubStandIn() as hub:
        use_hub(hub, monkeypatch)
        monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", hub.url)
        monkeypatch.setenv("HF_ENDPOINT", hub.url)  # for the process that copies
        monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "home/hub"))
        for name, value in VARIABLES.items():
            monkeypatch.setenv(f"DRAGOMAN_{name}", value)
        yield hub


def fill(hub: HubStandIn, folder: Path) -> None:
    """Base model and data set."""
    hub.create(DEFAULT_MODEL, private=False)
    for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        hub.write(DEFAULT_MODEL, name, (finished_run() / name).read_bytes())
    hub.write(DEFAULT_MODEL, "model.safetensors", (finished_run() / "model.safetensors").read_bytes())
    lines = make_pairs(folder / "pairs.tsv", 60, seed=1).read_text("utf-8").splitlines()
    texts = [(source, target) for source, target in (line.split("\t") for line in lines)]
    swapped = [(target, source) for source, target in texts]
    names = {"en-fr": texts, "de-en": swapped, "en-es": texts, "en-it": texts, "en-pt": texts}
    opus_100(hub, {name: {"train": [rows]} for name, rows in names.items()}, OPUS)


def checkpoints(hub: HubStandIn, repo: str = REPO) -> set[int]:
    names = (name.split("/")[0] for name in hub.names(repo) if name.startswith("checkpoint-"))
    return {int(name.split("-")[1]) for name in names}


def on_an_empty_machine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    monkeypatch.chdir(folder)


def test_two_pairs_then_five_interrupted_resumed_by_name_downloaded_and_tested(
    hub: HubStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(hub, tmp_path)
    on_an_empty_machine(tmp_path / "first", monkeypatch)
    assert guide.train([*TWO, "--save_steps", "2"]) == ExitCode.DONE
    assert max(checkpoints(hub)) == 8
    assert f"https://huggingface.co/{REPO}" in capsys.readouterr().err
    assert guide.train([*TWO, "--save_steps", "2"]) == ExitCode.DONE, "the same again does nothing"

    on_an_empty_machine(tmp_path / "second", monkeypatch)
    real = loop.train_step

    def interrupted(*values: Any, **told: Any) -> Any:
        if told["step"] == 4:
            signal.raise_signal(signal.SIGTERM)
        return real(*values, **told)

    with mock.patch.object(loop, "train_step", interrupted):
        assert guide.train(FIVE) == ExitCode.RESUME_ME
    aside = f"{REPO}-en-fr-en-de"
    assert f"{REPO} held a finished run of en-fr en-de: it is {aside} from now on" in capsys.readouterr().err
    assert max(checkpoints(hub, aside)) == 8
    assert max(checkpoints(hub)) == 5

    on_an_empty_machine(tmp_path / "other", monkeypatch)
    assert guide.train(TWO) == ExitCode.BAD_INPUT, "what is not finished is not moved"
    assert f"hf://{REPO} holds a run with other settings" in capsys.readouterr().err
    assert max(checkpoints(hub)) == 5

    on_an_empty_machine(tmp_path / "third", monkeypatch)
    assert guide.train(RESUME) == ExitCode.DONE
    said = capsys.readouterr().err
    assert "continues at step 5 of" in said

    on_an_empty_machine(tmp_path / "fourth", monkeypatch)
    capsys.readouterr()
    code = guide.download(["--model_name", REPO, "--test", "--json", "--sentences", "1"])
    found = json.loads(capsys.readouterr().out)
    assert code == (ExitCode.DONE if found["test"]["passed"] else ExitCode.CHECK_SAID_NO)
    assert found["test"]["base"] == DEFAULT_MODEL
    assert [it["pair"] for it in found["test"]["sentences"]] == FIVE[1:6]
    assert all(it["base"] is not None for it in found["test"]["sentences"])
    assert (tmp_path / "fourth/models/fine-tuned-nllb-600M/model.safetensors").exists()


def test_options_that_are_wrong_are_said_before_anything_is_moved(
    hub: HubStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, said in (
        (["--language_pairs", "en-fr", "--sampels", "3"], "did you mean --max-samples?"),
        (["--language_pairs", "en-xx"], "en-xx"),
        ([], "--language-pairs is missing"),
    ):
        assert guide.train(words) == ExitCode.BAD_INPUT
        assert said in capsys.readouterr().err
    assert not hub.repositories


def test_a_token_is_asked_for_and_must_be_one_that_may_write(
    hub: HubStandIn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for token, said in (
        ("", "HF_TOKEN is missing"),
        (hub.add_token("hf_readreadread", "ada", "read"), "may only read"),
        (
            hub.add_token("hf_finefinefine", "ada", "fineGrained", scopes={"ada/x": ["repo.write"]}),
            "may not write there",
        ),
    ):
        monkeypatch.setenv("HF_TOKEN", token)
        assert guide.train(["--language_pairs", "en-fr"]) == ExitCode.BAD_INPUT
        shown = capsys.readouterr().err
        assert said in shown
        assert "try: " in shown
    assert not hub.repositories


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("facebook/nllb-200-distilled-600M", "fine-tuned-nllb-600M"),
        ("facebook/nllb-200-3.3B", "fine-tuned-nllb-3.3B"),
        ("scratch:tiny", "fine-tuned-nllb-scratch-tiny"),
        ("me/my model", "fine-tuned-nllb-my-model"),
    ],
)
def test_the_repository_is_called_after_the_size_of_the_model(model: str, name: str) -> None:
    assert hub_repos.usual_name(model) == name


def test_a_store_that_is_named_is_kept_and_a_container_does_not_wait_for_its_predecessor(
    hub: HubStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert guide.added(["--language_pairs", "en-fr", "--store", "s3://bucket/run"]) == []
    assert guide.added(["--language_pairs", "en-fr", "--hub_model_id", "ada/x"]) == []
    assert guide.added(RESUME) == ["--take-over"]
    assert guide.added(["--language_pairs", "en-fr"]) == ["--hub-model-id", REPO]
    monkeypatch.setenv("SPACE_ID", "ada/trainer")
    assert guide.added(["--language_pairs", "en-fr"]) == ["--take-over", "--hub-model-id", REPO]
    monkeypatch.setenv("DRAGOMAN_STORE", "s3://bucket/run")
    assert guide.added(["--language_pairs", "en-fr"]) == ["--take-over"]
    assert TOKEN not in str(guide.added(RESUME))


def test_the_example_and_its_page_type_what_is_tested_here() -> None:
    assert shlex.split(example.STEP_2) == TWO
    assert shlex.split(example.STEP_4) == FIVE
    assert shlex.split(example.RESUME) == RESUME
    page = (Path(example.__file__).parents[1] / "docs/tutorial/the-guide.md").read_text("utf-8")
    for script, words in (
        (example.TRAIN, example.STEP_2),
        (example.TRAIN, example.STEP_4),
        (example.TRAIN, example.RESUME),
        (example.DOWNLOAD, example.STEP_5),
    ):
        assert f"$ python {script} {words}" in page


@pytest.mark.parametrize("file", ["space/train_nllb_hf_spaces.py", "download_finetuned_model.py"])
def test_a_recipe_is_a_page_that_calls_the_package(file: str) -> None:
    text = (Path(example.__file__).parents[1] / "recipes" / file).read_text("utf-8")
    assert len(text.splitlines()) < 20
    said = subprocess.run([sys.executable, "-", "--help"], input=text, capture_output=True, text=True, check=False)
    assert (said.returncode, said.stderr) == (0, "")
    assert "Usage: dragoman" in said.stdout
