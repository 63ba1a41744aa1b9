"""`download --test`: held-out sentences by the model and its base, and exit 4 for what is no translation."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dragoman.cli.app import run
from dragoman.cli.guide import download
from dragoman.data.corpus import open_corpus
from dragoman.deploy import tryout
from dragoman.errors import ExitCode
from dragoman.training import about
from tests.support.hub import HubStandIn
from tests.support.places import use_hub
from tests.support.runs import copy_run, make_pairs, small_run
from tests.support.shared import finished_run

SETTINGS: dict[str, Any] = {
    "max_steps": 120,
    "batch_size": 32,
    "gradient_accumulation": 1,
    "learning_rate": "3e-3",
    "warmup_steps": 20,
    "label_smoothing": 0,
    "dropout": 0,
    "dev_percent": 2,
    "test_percent": 2,
    "eval_steps": 0,
    "save_steps": 1000,
    "threads": 1,
}
BASE = "ada/base"


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose model has learned the toy language."""
    folder = tmp_path_factory.mktemp("learned")
    return small_run(folder, **SETTINGS, data=f"en-fr={make_pairs(folder / 'many.tsv', 2000, seed=3)}")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
    monkeypatch.chdir(tmp_path)
    with HubStandIn() as hub:
        use_hub(hub, monkeypatch)
        yield hub


def publish(hub: HubStandIn, run: Path, repo: str) -> None:
    """The model of a run in a repository that no run of dragoman made."""
    hub.create(repo, private=False)
    for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        hub.write(repo, name, (run / name).read_bytes())
    hub.write(repo, "model.safetensors", (run / "model.safetensors").read_bytes())


def asked(words: list[str], capsys: pytest.CaptureFixture[str], code: int) -> dict[str, Any]:
    capsys.readouterr()
    assert run(["download", *words, "--device", "cpu", "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_each_held_out_sentence_is_one_line_and_the_rest_is_indented(
    learned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["download", str(learned), "--test", "--sentences", "2", "--device", "cpu"]) == ExitCode.DONE
    first, second, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith(f"the model of step 120 is in {tmp_path / 'models/run'}")
    assert second.startswith("translate with: dragoman translate")
    (corpus,) = [opened for path in (learned / "dragoman/corpus").iterdir() if (opened := open_corpus(path))]
    known = {f"en-fr: {text.source} → {text.target}" for text in corpus.texts("test")}
    shown = [line for line in lines if not line.startswith("    ")]
    assert len(shown) == 2
    assert set(shown) <= known
    assert [line.strip().partition(" ")[0] for line in lines if line not in shown] == ["ok,", "base:", "reference:"] * 2


def test_a_model_that_goes_round_in_circles_is_refused_by_sentence_and_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["download", str(finished_run()), "--test", "--sentences", "1", "--device", "cpu"]
    assert run(words) == ExitCode.CHECK_SAID_NO
    said = capsys.readouterr()
    assert "error: --test: 1 of 1 sentences failed" in said.err
    assert "en-fr sentence 1: loops: " in said.err
    assert any(line.startswith("en-fr: ") for line in said.out.splitlines())


def test_a_program_reads_what_was_tried(learned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = asked([str(learned), "--output", str(tmp_path / "m"), "--test", "--sentences", "3"], capsys, 0)
    assert (found["step"], found["output"]) == (120, str(tmp_path / "m"))
    assert found["test"]["passed"] is True
    assert [it["number"] for it in found["test"]["sentences"]] == [1, 2, 3]
    for it in found["test"]["sentences"]:
        assert (it["pair"], it["direction"], it["verdict"]) == ("en-fr", "eng_Latn-fra_Latn", "ok")
        assert it["translation"] == it["reference"]
        assert it["base"] != it["reference"], "the base has learned nothing"
        assert it["seconds"] > 0
        assert it["base_seconds"] > 0


def test_the_guide_names_the_model_by_a_flag(
    learned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for named in (["--model_name", str(learned)], [f"--model-name={learned}"]):
        assert download([*named, "--test", "--sentences", "1", "--device", "cpu"]) == 0
        assert "\nen-fr: " in capsys.readouterr().out
    assert download(["--test"]) == ExitCode.BAD_INPUT
    assert "--model_name is missing" in capsys.readouterr().err


def test_a_model_that_no_run_made_is_brought_and_tried_on_data_of_the_user(
    hub: HubStandIn, learned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(hub, learned, BASE)
    data = make_pairs(tmp_path / "mine.tsv", 5, seed=9)
    mine = ["--pair", "en-fr", "--data", str(data), "--sentences", "2"]
    found = asked([BASE, "--test", *mine], capsys, 0)
    assert found["output"] == str(tmp_path / "models/base")
    assert found["num_files"] == 5
    assert (tmp_path / "models/base/model.safetensors").read_bytes() == (learned / "model.safetensors").read_bytes()
    assert len(found["test"]["sentences"]) == 2
    assert found["test"]["base"] is None


def test_a_model_whose_bytes_are_not_what_the_hub_says_is_not_brought(
    hub: HubStandIn, learned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(hub, learned, BASE)
    hub.damage(BASE, "model.safetensors", "flip", at=-1)
    assert run(["download", BASE]) != 0
    assert not (tmp_path / "models/base").exists()
    assert "model.safetensors" in capsys.readouterr().err


@pytest.mark.parametrize("repo", ["ada/nothing", "ada/empty"])
def test_what_is_neither_a_run_nor_a_model_is_refused(
    hub: HubStandIn, repo: str, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.create("ada/empty", private=False)
    assert run(["download", repo]) == ExitCode.BAD_INPUT
    assert f"no run in hf://{repo}" in capsys.readouterr().err


def test_what_it_is_compared_with_is_what_was_named_else_what_it_was_tuned_from(learned: Path, tmp_path: Path) -> None:
    (tmp_path / about.FILE).write_bytes(about.About(BASE).to_json())
    assert tryout.base_of(tmp_path, "ada/other", str(learned)) == "ada/other"
    assert tryout.base_of(tmp_path, None, str(learned)) == BASE
    (tmp_path / about.FILE).unlink()
    assert tryout.base_of(tmp_path, None, str(learned)) == str(learned / "dragoman/base")
    assert tryout.base_of(tmp_path, None, "ada/run") is None


def test_without_sentences_it_asks_for_data(tmp_path: Path, learned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tuned = copy_run(finished_run(), tmp_path / "tuned")
    (tuned / about.FILE).unlink()
    with pytest.raises(Exception, match="brings no held-out sentences"):
        tryout.held_out(tuned, 3)
    with pytest.raises(Exception, match="for en-de"):
        tryout.held_out(learned, 3, ["en-fr", "en-de"])
    assert run(["download", str(learned), "--output", str(tmp_path / "x"), "--pair", "en-fr"]) == ExitCode.BAD_INPUT
    assert "--test, which is missing" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
