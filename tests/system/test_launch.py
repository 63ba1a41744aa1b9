"""`dragoman launch` from the command line to the trained model, with the Hub stand-in as the platform."""

import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from dragoman.cli.app import run
from dragoman.errors import ExitCode
from dragoman.launch import started
from tests.support.hub import HubStandIn
from tests.support.launching import SMALL, TOKEN, Container, signed_in, write_run
from tests.support.runs import make_pairs

Launch = Callable[..., Any]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
    with HubStandIn() as made:
        made.add_token(TOKEN, "ada")
        signed_in(monkeypatch, made)
        yield made


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder, and nobody at the terminal."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("DRAGOMAN_", "AWS_"))]:
        monkeypatch.delenv(name)


@pytest.fixture
def launch(capsys: pytest.CaptureFixture[str]) -> Launch:
    """Run a command of which the answer is JSON, which must succeed."""

    def call(*words: object) -> dict[str, Any]:
        capsys.readouterr()
        code = run([str(word) for word in words] + ["--json"])
        said = capsys.readouterr()
        assert code == ExitCode.DONE, said.err
        assert TOKEN not in said.out + said.err
        return json.loads(said.out)

    return call


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that must be refused; returns what it said."""

    def call(*words: object) -> str:
        capsys.readouterr()
        assert run([str(word) for word in words]) == ExitCode.BAD_INPUT
        said = capsys.readouterr()
        assert said.out == ""
        assert "Traceback" not in said.err
        assert TOKEN not in said.err
        return said.err

    return call


# --- the whole way -----------------------------------------------------------------


def test_a_job_that_was_launched_trains_on_an_empty_machine_into_its_store(
    hub: HubStandIn, launch: Launch, refused: Callable[..., str], tmp_path: Path
) -> None:
    make_pairs(tmp_path / "texts/pairs.tsv", n=60, seed=1)
    run_file = write_run(tmp_path / "run.yaml", **SMALL)
    told = launch("launch", "jobs", run_file, "--gpu", "l4", "--max-hours", "3", "--yes")
    [job] = hub.jobs.values()
    assert told["handle"] == f"jobs:ada/{job.id}"
    asked = job.asked
    assert asked["secrets"] == {"HF_TOKEN": TOKEN}
    assert TOKEN not in json.dumps({name: value for name, value in asked.items() if name != "secrets"})
    done = Container(tmp_path / "machine", hub).run(asked["command"], asked["environment"] | asked["secrets"])
    assert done.returncode == 0, done.stderr
    assert TOKEN not in done.stdout + done.stderr
    assert "model.safetensors" in hub.names("ada/run")
    stored = yaml.safe_load(hub.read("ada/run", next(n for n in hub.names("ada/run") if n.endswith("config.yaml"))))
    assert stored["data"] == ["en-fr=texts/pairs.tsv"]
    job.stage = "COMPLETED"
    assert "this run is finished, at step 2" in refused("launch", "jobs", run_file, "--yes")
    assert len(hub.jobs) == 1
    for repo in ("ada/run", "datasets/ada/dragoman-launch"):
        assert [name for name in hub.names(repo) if TOKEN.encode() in hub.read(repo, name)] == []
        assert hub.repository(hub.key(repo)).private


def test_a_machine_installs_nothing_that_is_not_what_was_sent(hub: HubStandIn, launch: Launch, tmp_path: Path) -> None:
    launch("launch", "jobs", write_run(tmp_path / "run.yaml"), "--yes")
    [job] = hub.jobs.values()
    bundles = "datasets/ada/dragoman-launch"
    wheel = next(name for name in hub.names(bundles) if name.endswith(".whl"))
    hub.damage(hub.key(bundles), wheel, "flip", at=1000)
    machine = Container(tmp_path / "machine", hub)
    done = machine.run(job.asked["command"], job.asked["environment"] | job.asked["secrets"])
    assert done.returncode != 0
    assert f"{Path(wheel).name}: FAILED" in done.stdout
    assert not machine.has("dragoman")


# --- looking first -----------------------------------------------------------------


def test_a_dry_run_writes_what_would_be_sent_and_asks_nobody(hub: HubStandIn, launch: Launch, tmp_path: Path) -> None:
    run_file = write_run(tmp_path / "run.yaml", launch={"gpu": "l4", "max_hours": 8})
    told = launch("launch", "jobs", run_file, "--dry-run")
    assert hub.requests == []
    folder = Path(told["folder"])
    assert folder == Path("runs/launch/run-jobs")
    written = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert written == {*told["files"], "plan.json"}
    assert (told["usd_per_hour"], told["most_usd"], told["max_hours"]) == (0.8, 6.4, 8)
    assert told["storage_bytes"] > 20e9
    assert told["secrets"] == ["HF_TOKEN"]
    assert json.loads((folder / "plan.json").read_text()) == {k: v for k, v in told.items() if k != "folder"}
    launch("launch", "jobs", run_file, "--dry-run")  # over the earlier one


def test_a_dry_run_needs_no_token_and_leaves_other_files_alone(
    launch: Launch, refused: Callable[..., str], tmp_path: Path
) -> None:
    run_file = write_run(tmp_path / "run.yaml")
    launch("launch", "jobs", run_file, "--dry-run", "--output", "plan")
    Path("mine").mkdir()
    Path("mine/text").write_text("kept")
    assert "there are other files" in refused("launch", "jobs", run_file, "--dry-run", "--output", "mine")
    assert Path("mine/text").read_text() == "kept"


def test_cost_end_and_storage_are_shown_before_anything(
    hub: HubStandIn, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run_file = write_run(tmp_path / "run.yaml")
    assert run(["launch", "jobs", str(run_file), "--gpu", "l4", "--max-usd", "4", "--dry-run"]) == ExitCode.DONE
    said = capsys.readouterr().err
    assert "cost: $0.80 an hour, at most $4.00 if it runs to its limit; prices of 20" in said
    assert "the platform ends the machine after 5.0 h, whatever happens, which is what $4 buy" in said
    assert "storage: at most 27.1 GB: 3 checkpoints of up to 7.38 GB and 2 models of 2.46 GB (--keep 2)" in said


def test_launch_and_estimate_say_the_same_of_storage(
    hub: HubStandIn, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run_file = str(write_run(tmp_path / "run.yaml", keep=3, optimizer="adamw8bit"))
    assert run(["launch", "jobs", run_file, "--gpu", "l4", "--max-usd", "4", "--dry-run"]) == ExitCode.DONE
    [launched] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("storage: ")]
    assert run(["estimate", "-c", run_file]) == ExitCode.DONE
    [estimated] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("storage: ")]
    assert launched.partition(" (")[0] == estimated.partition(" (")[0]
    assert "4 checkpoints of up to 3.71 GB" in launched


def test_the_best_machine_for_a_budget_is_taken_and_all_others_are_explained(
    hub: HubStandIn, launch: Launch, tmp_path: Path
) -> None:
    run_file = write_run(tmp_path / "run.yaml")
    told = launch("launch", "auto", run_file, "--max-usd", "5", "--dry-run")
    first = next(candidate for candidate in told["candidates"] if candidate["possible"])
    assert (told["platform"], told["flavor"], told["most_usd"] <= 5) == (first["platform"], first["flavor"], True)
    assert len(told["candidates"]) > 10
    paid = launch("launch", "auto", run_file, "--max-usd", "5", "--gpu", "l4", "--dry-run")
    assert (paid["platform"] in ("jobs", "space"), paid["most_usd"] <= 5) == (True, True)
    assert all(candidate["why"] for candidate in told["candidates"])


# --- spending ----------------------------------------------------------------------


class Terminal(io.StringIO):
    """A person who types one line."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "num_jobs"), [("y\n", 1), ("yes\n", 1), ("\n", 0), ("no\n", 0), ("", 0)])
def test_a_person_is_asked_before_money_is_spent(
    hub: HubStandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: str, num_jobs: int
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    code = run(["launch", "jobs", str(write_run(tmp_path / "run.yaml")), "--max-hours", "2"])
    assert (code, len(hub.jobs)) == (ExitCode.DONE if num_jobs else ExitCode.BAD_INPUT, num_jobs)
    assert num_jobs or hub.requests == []


def test_without_a_person_it_takes_a_flag(hub: HubStandIn, refused: Callable[..., str], tmp_path: Path) -> None:
    said = refused("launch", "jobs", write_run(tmp_path / "run.yaml"))
    assert "this may cost up to $9.60, and nobody can be asked" in said
    assert "--yes" in said
    assert hub.requests == []


def test_a_machine_is_stopped_by_its_handle_or_by_the_store_of_its_run(
    hub: HubStandIn, launch: Launch, refused: Callable[..., str], tmp_path: Path
) -> None:
    run_file = write_run(tmp_path / "run.yaml")
    told = launch("launch", "jobs", run_file, "--yes")
    assert launch("stop", told["handle"]) == {"handle": told["handle"], "released": True}
    for name in ("hf://ada/run", "ada/run", "run"):
        again = launch("launch", "jobs", run_file, "--yes")
        assert launch("stop", name)["handle"] == again["handle"]
    # Whoever was not there when it was started finds it in the store.
    again = launch("launch", "jobs", run_file, "--yes")
    started.STARTED.unlink()
    assert "that trains hf://ada/run is there already" in refused("launch", "jobs", run_file, "--yes")
    assert launch("stop", "ada/run")["handle"] == again["handle"]
    assert {job.stage for job in hub.jobs.values()} == {"CANCELED"}
    said = refused("stop", "hf://ada/another")
    assert "no machine that was started for it is at work" in said


# --- mistakes: exit 2, nothing started, nothing spent ------------------------------


@pytest.mark.parametrize(
    ("words", "options", "said"),
    [
        (["jobbs"], {}, "jobbs is no platform\n  try: did you mean jobs?"),
        (["jobs", "--gpu", "rtx9090"], {}, "--gpu: Hugging Face Jobs has no rtx9090"),
        (["jobs", "--gpu", "h200", "--max-usd", "1"], {}, "--max-usd 1: buys 12 minutes"),
        (["jobs"], {"launch": {"gpux": "l4"}}, "launch.gpux: unknown key\n  try: did you mean gpu?"),
        (["jobs"], {"max_sample": 3}, "max_sample: unknown key\n  try: did you mean max_samples?"),
        (["jobs"], {"store": None}, "the run file names no store"),
        (["jobs"], {"store": "disk/run"}, "no other machine reaches a folder of this one"),
        (["jobs", "--name", "A B"], {}, "--name A B: not a name"),
        (["auto"], {}, "nobody said what it may cost\n  try: --max-usd 5"),
        (["auto", "--max-usd", "0.01", "--gpu", "h200"], {}, "no machine can do this for $0.01"),
        (["jobs", "--max-hours", "none"], {}, "--max-hours"),
        (["jobs"], {"language_pairs": ["en-fr", "xx"]}, "--language-pairs 'xx'"),
    ],
)
def test_mistakes_are_named_and_nobody_is_asked(
    hub: HubStandIn,
    refused: Callable[..., str],
    tmp_path: Path,
    words: list[str],
    options: dict[str, Any],
    said: str,
) -> None:
    run_file = write_run(tmp_path / "run.yaml", **options)
    assert said in refused("launch", words[0], run_file, *words[1:], "--yes")
    assert hub.requests == []
    assert list(tmp_path.iterdir()) == [run_file]


def test_a_missing_file_and_a_missing_token_are_named(
    hub: HubStandIn, refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "there is no file nowhere.yaml" in refused("launch", "jobs", "nowhere.yaml", "--yes")
    monkeypatch.delenv("HF_TOKEN")
    said = refused("launch", "jobs", write_run(tmp_path / "run.yaml"), "--yes")
    assert "HF_TOKEN is not set, and the machine needs it" in said
    assert hub.requests == []


def test_a_name_that_holds_somebodys_model_is_refused_before_a_machine_is_paid_for(
    hub: HubStandIn, refused: Callable[..., str], tmp_path: Path
) -> None:
    hub.create("ada/run")
    hub.write("ada/run", "model.safetensors", b"weights")
    said = refused("launch", "jobs", write_run(tmp_path / "run.yaml"), "--yes")
    assert "hf://ada/run: holds model.safetensors, which dragoman has not written" in said
    assert hub.jobs == {}


def test_a_token_in_the_run_file_never_leaves_this_machine(
    hub: HubStandIn, refused: Callable[..., str], tmp_path: Path
) -> None:
    write_run(tmp_path / "texts.tsv", note=TOKEN)
    run_file = write_run(tmp_path / "run.yaml", data=["texts.tsv"])
    said = refused("launch", "jobs", run_file, "--yes")
    assert "files/texts.tsv: a secret of this machine stands in it" in said
    assert hub.requests == []
