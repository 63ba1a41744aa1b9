"""A Space that is started from elsewhere: what is sent, and what is refused before anything is."""

from collections.abc import Iterator

import pytest
import yaml

from dragoman import platforms
from dragoman.config import from_flat
from dragoman.errors import DragomanError, InputError
from dragoman.launch.job import Handle, Job
from dragoman.launch.space import SpaceClient, plan
from dragoman.launch.space_card import read
from tests.support.hub import Fault, HubStandIn
from tests.support.hub.client import without_waiting

TOKEN, SPACE = "hf_ada", "ada/nllb"
SPACES = platforms.find("space")


def job(store: str = "hf://ada/model", **fields: object) -> Job:
    config = from_flat({"language_pairs": ["en-fr"], "store": store})
    carried = {"dragoman-0.1.0-py3-none-any.whl": b"wheel", "files/pairs.tsv": b"a\tb\n"}
    required = ("dragoman-0.1.0-py3-none-any.whl[s3,lora]", "Django==5.2")
    values: dict[str, object] = {"carries": carried, "requires": required, "max_hours": 8.0}
    return Job("nllb", config, SPACES, SPACES.offer("l4"), **(values | fields))  # pyright: ignore[reportArgumentType]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
    without_waiting(monkeypatch)
    with HubStandIn() as hub:
        hub.add_token(TOKEN, "ada")
        yield hub


def client(hub: HubStandIn, token: str | None = TOKEN) -> SpaceClient:
    return SpaceClient(hub.url, lambda: token, clock=lambda: 1_796_025_600.0)


def test_a_plan_has_all_files_and_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_topsecret")
    made = plan(job())
    assert set(made.files) == {
        "README.md", "Dockerfile", "requirements_training.txt", "run.yaml", "pairs.tsv",
        "dragoman-0.1.0-py3-none-any.whl",
    }  # fmt: skip
    assert yaml.safe_load(made.files["run.yaml"]) == {"language_pairs": ["en-fr"], "store": "hf://ada/model"}
    card = read(made.files["README.md"].decode())
    assert (card.sdk, card.app_port, card.suggested_hardware) == ("docker", 7860, "l4x1")
    assert "\nARG EXTRAS=[s3,lora]\n" in made.files["Dockerfile"].decode()
    assert made.files["requirements_training.txt"].decode().endswith("Django==5.2\n")
    assert made.secrets == ("HF_TOKEN",)
    assert not any(b"hf_topsecret" in data for data in made.files.values())


@pytest.mark.parametrize(("fields", "flag"), [({"num_nodes": 2}, "--nodes"), ({"spot": True}, "--spot")])
def test_what_a_space_is_not_is_refused(fields: dict[str, object], flag: str) -> None:
    with pytest.raises(InputError, match=flag):
        plan(job(**fields))


def test_a_space_is_made_with_its_files_machine_secret_and_deadline(hub: HubStandIn) -> None:
    made, talks = plan(job()), client(hub)
    talks.check(job(), made)
    assert f"spaces/{SPACE}" not in hub.repositories
    handle = talks.submit(job(), made)
    assert (handle.id, handle.url) == (SPACE, f"{hub.url}/spaces/{SPACE}")
    assert hub.repositories[f"spaces/{SPACE}"].private
    assert {name: hub.read(f"spaces/{SPACE}", name) for name in made.files} == made.files
    assert len(hub.commits(f"spaces/{SPACE}")) == 2  # the Hub's own, and ours
    found = hub.spaces[SPACE]
    assert (found.hardware, found.sleep_seconds, found.secrets) == ("l4x1", -1, {"HF_TOKEN": TOKEN})
    assert found.variables == {"DRAGOMAN_DEADLINE": "2026-11-30T16:00:00Z"}
    found.stage = "RUNNING"
    assert talks.state(handle) == "running"
    talks.release(handle)
    talks.release(handle)
    assert (found.pauses, talks.state(handle)) == (1, "ended")
    talks.release(Handle("space", "ada/none"))


def test_the_same_run_starts_again_in_its_paused_space(hub: HubStandIn) -> None:
    made, talks = plan(job()), client(hub)
    talks.submit(job(), made)
    hub.spaces[SPACE].stage = "PAUSED"
    talks.check(job(), made)
    talks.submit(job(), made)
    assert hub.spaces[SPACE].stage == "BUILDING"


def test_a_taken_name_is_refused(hub: HubStandIn) -> None:
    hub.create(f"spaces/{SPACE}")
    with pytest.raises(InputError, match="there is a Space ada/nllb already") as caught:
        client(hub).check(job(), plan(job()))
    assert "--name" in caught.value.hint


@pytest.mark.parametrize(
    ("token", "role", "words"),
    [(None, "write", "HF_TOKEN is not set"), ("hf_gone", "", "not valid"), ("hf_reader", "read", "may only read")],
)
def test_who_may_not_write_is_refused_before_anything_is_made(
    hub: HubStandIn, token: str | None, role: str, words: str
) -> None:
    if token and role:
        hub.add_token(token, "ada", "read")
    with pytest.raises(InputError, match=words):
        client(hub, token).check(job(), plan(job()))
    assert not [seen for seen in hub.requests if seen.method != "GET"]


def test_a_repository_of_somebody_else_is_refused(hub: HubStandIn) -> None:
    with pytest.raises(InputError, match="belongs to eve"):
        client(hub).check(job(store="hf://eve/model"), plan(job(store="hf://eve/model")))


@pytest.mark.parametrize("route", ["secrets", "variables", "hardware", "commit"])
def test_of_a_start_that_fails_nothing_is_left(hub: HubStandIn, route: str) -> None:
    hub.faults.add(Fault(route, status=402, error_message="Payment required", times=None))
    with pytest.raises(DragomanError, match="402") as caught:
        client(hub).submit(job(), plan(job()))
    assert f"spaces/{SPACE}" not in hub.repositories
    assert TOKEN not in str(caught.value)


def test_a_bucket_in_a_region_of_its_own_is_reached_from_a_space_too(
    hub: HubStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("ACCESS_KEY_ID", "an-id"), ("SECRET_ACCESS_KEY", "a-secret"), ("REGION", "eu-west-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    there = job("s3://bucket/run")
    client(hub).check(there, plan(there))
    client(hub).submit(there, plan(there))
    [space] = hub.spaces.values()
    assert space.secrets["AWS_REGION"] == "eu-west-1"
    assert space.secrets["AWS_SECRET_ACCESS_KEY"] == "a-secret"
    assert "AWS_SESSION_TOKEN" not in space.secrets
