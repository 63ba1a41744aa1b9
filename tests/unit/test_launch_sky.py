"""SkyPilot: the task that is written, what is refused before SkyPilot would, and the executable that is told of it."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from dragoman import gpus, platforms
from dragoman.errors import InputError, StoreUnavailable
from dragoman.host import cluster
from dragoman.launch import clients, sky
from dragoman.launch.job import Handle, Job
from dragoman.launch.sky_client import SkyClient
from dragoman.platforms import Offer
from dragoman.store.hub_access import Tokens
from tests.support.launching import TOKEN, WHEEL, example

RECIPES = Path(__file__).parents[2] / "recipes"
JOB = {"job_id": 5, "job_name": "run", "status": "RUNNING"}


def job(platform: str = "lambda", gpu: str | None = None, **more: Any) -> Job:
    return example(platform, gpu, **more)


def task_of(given: Job) -> dict[str, Any]:
    return yaml.safe_load(sky.plan(given).files[sky.TASK])


# --- the task ------------------------------------------------------------------------


def test_the_recipes_are_what_the_renderer_makes() -> None:
    made = sky.recipe()
    assert set(made) == {f"cloud/{name}.yaml" for name in ("runpod", "lambda", "vast", "two-nodes")}
    for path, data in made.items():
        if not (RECIPES / path).exists():
            (RECIPES / path).parent.mkdir(parents=True, exist_ok=True)
            (RECIPES / path).write_bytes(data)
            raise AssertionError(f"recipes/{path} was missing, and was written: look at it")
        assert (RECIPES / path).read_bytes() == data, f"remove recipes/{path}, and run this test twice"


def test_every_machine_has_two_ends_and_goes_on_elsewhere() -> None:
    task = task_of(job(attempts=3, max_hours=10.0))
    resources = task["resources"]
    assert resources["autostop"] == {"idle_minutes": 10, "down": True}
    assert resources["job_recovery"]["recover_on_exit_codes"] == [75]
    assert resources["job_recovery"]["max_restarts_on_errors"] == 2
    assert "$(( $(date +%s) + 108000 ))" in task["run"]  # three times ten hours
    assert "timeout --signal=TERM" in task["run"]


def test_a_token_is_a_secret_without_a_value_and_all_that_is_needed_travels() -> None:
    given = job(carries={WHEEL: b"a wheel", "files/data/pairs.tsv": b"a\tb\n"})
    plan = sky.plan(given)
    task = yaml.safe_load(plan.files[sky.TASK])
    assert task["secrets"] == {"HF_TOKEN": None}
    assert "HF_TOKEN" not in task["envs"]
    assert task["file_mounts"] == {f"~/dragoman/{path}": f"./{path}" for path in plan.files if path != sky.TASK}
    assert set(plan.files) == {sky.TASK, "run.yaml", WHEEL, "files/data/pairs.tsv"}


def test_an_object_store_needs_its_keys_and_those_that_are_only_useful_are_not_demanded() -> None:
    given = job(options={"language_pairs": ["en-fr"], "store": "s3://bucket/run"})
    assert set(task_of(given)["secrets"]) == {"HF_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    assert "AWS_REGION" in sky.plan(given).secrets


def test_skypilot_has_a_name_for_every_gpu_on_which_torch_runs() -> None:
    assert set(sky.ACCELERATORS) == set(gpus.usable())


def test_where_nobody_says_a_cloud_skypilot_chooses_one_below_the_price() -> None:
    resources = task_of(job("sky", "t4"))["resources"]
    assert "infra" not in resources
    assert resources["max_hourly_cost"] == platforms.find("sky").offer("t4").usd_per_hour
    assert task_of(job("sky", "t4", max_usd=24.0))["resources"]["max_hourly_cost"] == 1.0


def test_several_nodes_train_together_and_find_each_other_by_what_skypilot_tells_them(tmp_path: Path) -> None:
    task = task_of(job("lambda", num_nodes=2))
    assert (task["num_nodes"], task["resources"]["job_recovery"]["recover_on_exit_codes"]) == (2, [75])
    assert "--nodes" not in task_of(job("lambda"))["run"]
    python = tmp_path / "dragoman/venv/bin/python"
    python.parent.mkdir(parents=True)
    (tmp_path / "dragoman/files").mkdir()
    python.write_text('#!/bin/sh\necho "$@"\nexit 75\n')
    python.chmod(0o755)
    told = {"SKYPILOT_NUM_NODES": "2", "SKYPILOT_NODE_RANK": "1", "SKYPILOT_NODE_IPS": "10.0.0.7\n10.0.0.8"}
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], **told}
    done = subprocess.run(["bash", "-c", task["run"]], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (75, "-m dragoman train --nodes 2 -c ../run.yaml\n")
    assert (cluster.node_rank(told), cluster.main_host(told)) == (1, "10.0.0.7")


def test_all_gpus_of_a_machine_are_asked_for_and_nothing_says_fewer() -> None:
    place = platforms.find("sky")
    four = job("sky", "a100-80")
    many = Job(four.name, four.config, place, place.offer("a100-80").times(4))
    assert task_of(many)["resources"]["accelerators"] == "A100-80GB:4"
    assert task_of(many)["resources"]["max_hourly_cost"] == pytest.approx(4 * 3.68)
    assert "devices" not in task_of(many)["run"] + yaml.safe_dump(many.config.given())


def test_what_skypilot_would_refuse_is_refused_before_it() -> None:
    def refused(words: str, given: Job) -> None:
        with pytest.raises(InputError, match=words):
            sky.plan(given)

    refused("--spot: Lambda has no machines that may be taken away", job("lambda", spot=True))
    refused("--spot: RunPod has no machines", job("runpod", spot=True))
    refused("--nodes 2: machines of vast.ai are not connected", job("vast", num_nodes=2))
    refused("Kaggle is not reached through SkyPilot", job("kaggle"))
    lacking = Offer(flavor="gpu_1x_b200", gpu="b200", usd_per_hour=5)
    refused(r"--gpu: b200 is not known\n  try: .*a100-40", Job("run", job().config, platforms.find("lambda"), lacking))
    elsewhere = Offer(flavor="x", gpu="t4", usd_per_hour=1)
    refused("--gpu: Lambda has no t4", Job("run", job().config, platforms.find("lambda"), elsewhere))
    with pytest.raises(InputError, match=r"skypilot is no platform\n  try: .*sky"):
        platforms.find("skypilot")
    with pytest.raises(InputError, match=r"lamda is no platform\n  try: did you mean lambda\?"):
        platforms.find("lamda")


# --- what runs on the machine --------------------------------------------------------


def run_there(tmp_path: Path, trains: str, *, seconds_left: int | None = 86400, then_left: int | None = None) -> int:
    """Run the task's `run` with a trainer of our own; returns its exit code."""
    home = tmp_path / "home"
    (home / "dragoman/files").mkdir(parents=True, exist_ok=True)
    (home / "dragoman/venv/bin").mkdir(parents=True, exist_ok=True)
    (home / "bin").mkdir(exist_ok=True)
    trainer = home / "dragoman/venv/bin/python"
    later = 86400 - (then_left if then_left is not None else 86400)
    trainer.write_text(f'#!/bin/sh\necho "$@" > "$HOME/trained"\necho {later} > "$HOME/passed"\n{trains}\n')
    # A clock that stands still, unless the trainer says how many seconds have passed.
    clock = home / "bin/date"
    clock.write_text('#!/bin/sh\necho $(( 1000000 + $(cat "$HOME/passed" 2> /dev/null || echo 0) ))\n')
    for made in (trainer, clock):
        made.chmod(made.stat().st_mode | stat.S_IEXEC)
    own = {"HOME": str(home), "PATH": f"{home}/bin:{os.environ['PATH']}"}
    if seconds_left is not None:
        own[sky.ENDS] = str(1000000 + seconds_left)
    return subprocess.run(["bash", "-c", task_of(job())["run"]], env=own, check=False, timeout=30).returncode


@pytest.mark.parametrize("code", [0, 2, 75])
def test_the_runs_exit_code_is_the_jobs(tmp_path: Path, code: int) -> None:
    assert run_there(tmp_path, f"exit {code}") == code
    assert (tmp_path / "home/trained").read_text() == "-m dragoman train -c ../run.yaml\n"


def test_a_recipe_that_is_started_by_hand_has_all_its_hours(tmp_path: Path) -> None:
    assert run_there(tmp_path, "exit 75", seconds_left=None) == 75


def test_a_job_whose_hours_are_used_up_is_not_restarted(tmp_path: Path) -> None:
    assert run_there(tmp_path / "resume", "exit 75", then_left=600) == 1
    assert run_there(tmp_path / "done", "exit 0", then_left=600) == 0
    assert run_there(tmp_path / "late", "exit 0", seconds_left=1199) == 1
    assert not (tmp_path / "late/home/trained").exists()


# --- the executable ------------------------------------------------------------------

EXECUTABLE = f"""#!{sys.executable}
import json, os, pathlib, sys
here = pathlib.Path(__file__).parent
asked = {{
    "words": sys.argv[1:],
    "token": os.environ.get("HF_TOKEN"),
    "files": {{str(path.relative_to(".")): path.read_text() for path in pathlib.Path(".").rglob("*") if path.is_file()}}
    if "launch" in sys.argv else None,
}}
with open(here / "asked.jsonl", "a") as file:
    file.write(json.dumps(asked) + "\\n")
told = json.loads((here / "told.json").read_text())
answer = told[" ".join(word for word in sys.argv[1:3] if word[0] != "-")]
print(answer[1])
print(answer[2], file=sys.stderr)
sys.exit(answer[0])
"""
NONE = [1, "", "sky.exceptions.ClusterNotUpError: No in-progress managed jobs."]
"""What SkyPilot 0.14.1 says before its first job."""


class Sky:
    """An executable of our own in its place, which notes what it is asked."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.path = folder / "sky"
        self.path.write_text(EXECUTABLE)
        self.path.chmod(0o755)
        self._told: dict[str, Any] = {}
        self.tell("check", json.dumps({"default": {"Lambda": ["compute"]}}))
        self._told["jobs queue"] = NONE
        self.tell("jobs launch", "Managed job ID: 5")
        self.tell("jobs cancel", "")

    def tell(self, verb: str, out: str, code: int = 0, err: str = "") -> None:
        self._told[verb] = [code, out, err]
        self._write()

    def fail(self, verb: str, answer: list[Any]) -> None:
        self._told[verb] = answer
        self._write()

    def asked(self) -> list[dict[str, Any]]:
        path = self._folder / "asked.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def _write(self) -> None:
        (self._folder / "told.json").write_text(json.dumps(self._told))


@pytest.fixture
def executable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sky]:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    folder = tmp_path / "sky"
    folder.mkdir()
    return Sky(folder)


@pytest.fixture
def client(executable: Sky) -> SkyClient:
    return SkyClient(Tokens(lambda: TOKEN), str(executable.path), clock=lambda: 1000.5)


def test_a_job_is_handed_over_with_its_files_and_no_secret_among_the_words(client: SkyClient, executable: Sky) -> None:
    given = job(max_hours=2.0)
    plan = sky.plan(given)
    client.check(given, plan)
    executable.tell("jobs queue", "said around it\n" + json.dumps([JOB | {"status": "PENDING"}]))
    assert client.submit(given, plan) == Handle("sky", "5")
    [launch] = [one for one in executable.asked() if "launch" in one["words"]]
    words = [
        "jobs",
        "launch",
        "--yes",
        "--detach-run",
        "--env",
        "RUN_ENDS_AT=8200",
        "--secret",
        "HF_TOKEN",
        "task.yaml",
    ]
    assert launch["words"] == words
    assert launch["token"] == TOKEN
    assert launch["files"] == {path: data.decode() for path, data in plan.files.items()}
    assert all(
        TOKEN not in text for one in executable.asked() for text in [*one["words"], *(one["files"] or {}).values()]
    )


def test_without_skypilot_it_is_said_how_to_get_it(tmp_path: Path) -> None:
    client = SkyClient(Tokens(lambda: TOKEN), str(tmp_path / "sky"))
    with pytest.raises(InputError, match=r"SkyPilot is not installed(.|\n)*uv tool install"):
        client.check(job(), sky.plan(job()))


def test_what_would_fail_later_is_refused_before_a_job_is_handed_over(client: SkyClient, executable: Sky) -> None:
    given, plan = job(), sky.plan(job())
    executable.tell("check", json.dumps({"default": {}}))
    with pytest.raises(InputError, match=r"SkyPilot has no key of Lambda\n  try: sky check lambda"):
        client.check(given, plan)
    executable.tell("check", json.dumps({"default": ["Lambda"]}))
    executable.tell("jobs queue", json.dumps([JOB]))
    with pytest.raises(InputError, match=r"the name run is there already(.|\n)*dragoman stop sky:5"):
        client.check(given, plan)
    executable.tell("jobs queue", json.dumps([JOB | {"status": "FAILED_SETUP"}]))
    client.check(given, plan)
    client.check(job(num_nodes=2), sky.plan(job(num_nodes=2)))
    with pytest.raises(InputError, match="HF_TOKEN is not set"):
        SkyClient(Tokens(lambda: None), str(executable.path)).check(given, plan)
    assert not [one for one in executable.asked() if "launch" in one["words"]]


def test_a_refusal_is_told_in_one_line_without_the_token(client: SkyClient, executable: Sky) -> None:
    executable.tell("jobs launch", "", 1, f"sky.exceptions.NoCloudAccessError: no access\nwith {TOKEN}")
    with pytest.raises(InputError, match="NoCloudAccessError: no access") as refused:
        client.submit(job(), sky.plan(job()))
    assert TOKEN not in str(refused.value)


def test_a_job_that_was_taken_and_is_not_shown_may_run(client: SkyClient) -> None:
    with pytest.raises(StoreUnavailable, match=r"SkyPilot took run, and does not show it(.|\n)*sky jobs queue"):
        client.submit(job(), sky.plan(job()))


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("PENDING", "waiting"),
        ("ManagedJobStatus.STARTING", "waiting"),
        ("RECOVERING", "waiting"),
        ("RUNNING", "running"),
        ("SUCCEEDED", "ended"),
        ("FAILED_NO_RESOURCE", "ended"),
        ("CANCELLED", "ended"),
        ("NEW_WORD", "unknown"),
    ],
)
def test_what_skypilot_says_of_a_job(client: SkyClient, executable: Sky, status: str, state: str) -> None:
    executable.tell("jobs queue", json.dumps([JOB | {"status": status}, JOB | {"job_id": 6, "status": "RUNNING"}]))
    assert client.state(Handle("sky", "5")) == state


def test_without_an_answer_nothing_is_known_of_a_job(client: SkyClient, executable: Sky) -> None:
    executable.tell("jobs queue", "no JSON here")
    assert client.state(Handle("sky", "5")) == "unknown"
    executable.tell("jobs queue", "", 1, "the server is down")
    assert client.state(Handle("sky", "5")) == "unknown"
    executable.fail("jobs queue", NONE)
    assert client.state(Handle("sky", "5")) == "ended"


def test_a_job_is_cancelled_and_cancelling_what_is_gone_does_no_harm(client: SkyClient, executable: Sky) -> None:
    client.release(Handle("sky", "5"))
    assert executable.asked()[-1]["words"] == ["jobs", "cancel", "--yes", "5"]
    executable.fail("jobs cancel", NONE)
    client.release(Handle("sky", "5"))
    executable.tell("jobs cancel", "", 1, "the server is down")
    with pytest.raises(InputError, match="the server is down"):
        client.release(Handle("sky", "5"))


# --- which way -----------------------------------------------------------------------


def test_machines_are_started_through_skypilot_where_it_is_installed(
    executable: Sky, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    ways = {name: clients.way(name) for name in platforms.every()}
    assert {name for name, through in ways.items() if through == "sky"} == {"lambda", "sky"}
    assert sky.TASK not in clients.plan_for(job("runpod")).files
    monkeypatch.setenv("PATH", str(executable.path.parent))
    for name in ("runpod", "vast", "lambda", "sky"):
        assert clients.way(name) == "sky"
        assert sky.TASK in clients.plan_for(job(name)).files
    assert clients.way("kaggle") == "kaggle"
    # What was started is found again by the client that started it.
    monkeypatch.setenv("RUNPOD_API_KEY", "rpa_x")
    assert type(clients.client_for("runpod")).__name__ == "RunPodClient"
    assert type(clients.client_for("sky")).__name__ == "SkyClient"
