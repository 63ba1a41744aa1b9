"""`dragoman supervise` from the command line: the next machine is started, trains to the end, and is released."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dragoman.cli.app import run
from dragoman.errors import ExitCode
from tests.support.hub import HubStandIn
from tests.support.launching import TOKEN, Container
from tests.support.places import use_hub
from tests.support.sessions import Lab, final

STORE = "hf://ada/run"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubStandIn]:
    monkeypatch.chdir(tmp_path)
    with HubStandIn() as made:
        made.add_token(TOKEN, "ada")
        use_hub(made, monkeypatch, TOKEN)
        # Processes that copy are told where the Hub is by their environment.
        monkeypatch.setenv("HF_ENDPOINT", made.url)
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        yield made


def supervised(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = run(["supervise", STORE, *words, "--json"])
    said = capsys.readouterr()
    assert TOKEN not in said.out + said.err
    assert said.out, said.err
    return code, json.loads(said.out)


def test_a_run_whose_machine_is_gone_is_finished_on_the_next_one_and_nothing_is_left_running(
    hub: HubStandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = Lab(tmp_path / "lab")
    lab.train("undisturbed")
    undisturbed = final(lab.folder / "undisturbed")
    lab.stopped("first", before=5, store=STORE, drain_minutes=1, commits_per_hour=3600)
    shutil.rmtree(lab.folder)  # the machine is gone, and its data with it

    code, told = supervised(capsys, "--on", "jobs:l4", "--max-usd", "4")
    assert (code, told["decision"], told["machines"]) == (ExitCode.DONE, "start", 1)
    [job] = hub.jobs.values()
    assert job.asked["secrets"] == {"HF_TOKEN": TOKEN}
    assert job.asked["timeoutSeconds"] == 4 / 0.8 * 3600

    again, told = supervised(capsys, "--on", "jobs:l4", "--max-usd", "4")
    assert (again, told["decision"], told["why"]) == (ExitCode.DONE, "wait", "a machine of jobs is starting")

    machine = Container(tmp_path / "machine", hub)
    done = machine.run(job.asked["command"], job.asked["environment"] | job.asked["secrets"])
    assert done.returncode == 0, done.stderr
    assert hashlib.sha256(hub.read("ada/run", "model.safetensors")).hexdigest() == undisturbed
    code, told = supervised(capsys, "--on", "jobs:l4", "--max-usd", "4")
    assert (code, told["decision"]) == (ExitCode.DONE, "done")
    assert told["did"] == ["released the machine at jobs"]
    assert job.stage == "CANCELED"
    assert len(hub.jobs) == 1


def test_what_may_not_be_spent_is_not_started(
    hub: HubStandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Lab(tmp_path / "lab").stopped("first", before=3, store=STORE, drain_minutes=1, commits_per_hour=3600)
    code, told = supervised(capsys, "--on", "jobs:l4", "--max-usd", "0.1")
    assert (code, told["decision"], told["why"]) == (ExitCode.CHECK_SAID_NO, "giveup", "of 0.1 USD 0.10 are left")
    assert hub.jobs == {}
    # A run file that asks for attempts does not multiply the budget: the next attempt is the supervisor's.
    (tmp_path / "run.yaml").write_text("language_pairs: [en-fr]\nlaunch: {attempts: 3, nodes: 2}\n")
    code, told = supervised(capsys, "--on", "jobs:l4", "--max-usd", "0.8", "-c", str(tmp_path / "run.yaml"))
    assert (code, told["decision"]) == (ExitCode.DONE, "start")
    [job] = hub.jobs.values()
    assert (job.asked.get("attempts", 1), job.asked["timeoutSeconds"]) == (1, 3600)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([STORE, "--on", "kagle"], "kagle is no platform"),
        ([STORE, "--on", "jobs:l5"], "--gpu: Hugging Face Jobs has no l5"),
        ([STORE, "--on", "jobs"], "--max-usd: Hugging Face Jobs costs money"),
        (["/tmp", "--on", "kaggle"], "no other machine reaches a folder of this one"),
        (["hf://ada/nothing", "--on", "kaggle"], "there is no run here"),
    ],
)
def test_a_wrong_word_starts_nothing(
    hub: HubStandIn, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert run(["supervise", *words]) == ExitCode.BAD_INPUT
    assert said in capsys.readouterr().err
    assert hub.jobs == {}
