"""RunPod: what is asked of its API, what it keeps secret, and that nothing is left that costs money."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dragoman.errors import InputError, StoreUnavailable
from dragoman.launch import runpod
from dragoman.launch.hub_account import Account
from dragoman.launch.job import Handle, Job
from dragoman.launch.rest import Rest
from tests.support.hub import HubStandIn
from tests.support.launching import TOKEN, agrees, example
from tests.support.recorder import Cut, Recorder, Status

KEY = "rpa_theKeyOfAda"
GPU = {
    "id": "NVIDIA GeForce RTX 4090",
    "price": {"secure": 0.69, "community": 0.34},
    "availability": "HIGH",
}
POD = {"id": "abc123", "name": "run", "status": "PROVISIONING", "cost": 0.69}


@pytest.fixture
def hub() -> Iterator[HubStandIn]:
    with HubStandIn() as made:
        made.add_token(TOKEN, "ada")
        yield made


@pytest.fixture
def vendor() -> Iterator[Recorder]:
    """An account with the secret, no pods, and a GPU at its usual price."""
    with Recorder() as made:
        made.answer("GET", "/v2/pods", {"pods": []})
        made.answer("GET", "/v2/account/secrets", {"secrets": [{"id": "1", "name": "HF_TOKEN"}]})
        made.answer("GET", "/v2/catalog/gpus", {"gpus": [GPU]})
        made.answer("POST", "/v2/pods", Status(201, POD))
        made.answer("DELETE", "/v2/pods/abc123", Status(204))
        yield made


@pytest.fixture
def client(vendor: Recorder, hub: HubStandIn) -> runpod.RunPodClient:
    rest = Rest("RunPod", f"{vendor.url}/v2", KEY, "another key", seconds=10)
    return runpod.RunPodClient(rest, Account(hub.url, lambda: TOKEN))


def job(**more: object) -> Job:
    return example("runpod", None, **more)


def test_a_pod_is_made_as_planned_and_bears_no_secret(client: runpod.RunPodClient, vendor: Recorder) -> None:
    plan = runpod.plan(job())
    client.check(job(), plan)
    handle = client.submit(job(), plan)
    assert handle == Handle("runpod", "abc123", "https://console.runpod.io/pods?id=abc123")
    [body] = vendor.asked("POST", "/v2/pods")
    agrees("runpod_pod.json", body)
    assert body["env"]["HF_TOKEN"] == "{{ RUNPOD_SECRET_HF_TOKEN }}"
    for asked in vendor.requests:
        assert TOKEN not in asked.raw
        assert asked.headers["authorization"] == f"Bearer {KEY}"


def test_a_pod_refers_to_the_secrets_that_are_kept_and_to_no_others(
    client: runpod.RunPodClient, vendor: Recorder
) -> None:
    kept = ("HF_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "OTHER")
    vendor.answer("GET", "/v2/account/secrets", {"secrets": [{"name": name} for name in kept]})
    given = job(options={"language_pairs": ["en-fr"], "store": "s3://bucket/run"}, bundle="ada/dragoman-launch")
    client.check(given, runpod.plan(given))
    client.submit(given, runpod.plan(given))
    [body] = vendor.asked("POST", "/v2/pods")
    referred = {name for name, value in body["env"].items() if "RUNPOD_SECRET" in value}
    assert referred == {"HF_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}


def test_the_bundle_is_on_the_hub_before_anything_is_paid_for(
    client: runpod.RunPodClient, vendor: Recorder, hub: HubStandIn
) -> None:
    hub.create("datasets/ada/dragoman-launch", private=False)
    with pytest.raises(InputError, match="is public"):
        client.submit(job(), runpod.plan(job()))
    assert vendor.asked("POST", "/v2/pods") == []


def test_what_would_fail_later_is_refused_before_anything_is_made(
    client: runpod.RunPodClient, vendor: Recorder
) -> None:
    plan = runpod.plan(job())

    def refused(words: str, given: Job | None = None) -> None:
        with pytest.raises(InputError, match=words):
            client.check(given or job(), plan)

    vendor.answer("GET", "/v2/account/secrets", {"secrets": []})
    refused(r"RunPod keeps no secret HF_TOKEN for you(.|\n)*console.runpod.io/user/secrets")
    vendor.answer("GET", "/v2/account/secrets", {"secrets": [{"name": "HF_TOKEN"}]})
    vendor.answer("GET", "/v2/pods", {"pods": [POD | {"status": "RUNNING"}]})
    refused(r"a pod with the name run is there already(.|\n)*dragoman stop runpod:abc123")
    vendor.answer("GET", "/v2/pods", {"pods": [POD | {"status": "TERMINATED"}, POD | {"name": "other"}]})
    vendor.answer("GET", "/v2/catalog/gpus", {"gpus": [GPU | {"availability": "NONE"}]})
    refused("none is free at RunPod now")
    vendor.answer("GET", "/v2/catalog/gpus", {"gpus": [GPU | {"id": "NVIDIA B200"}]})
    refused(r"RunPod has it no more\n  try: one of: NVIDIA B200")
    vendor.answer("GET", "/v2/catalog/gpus", {"gpus": [GPU | {"price": {"secure": 0.79, "community": 0.3}}]})
    refused(r"costs \$0.79 an hour now, more than the \$0.69 that were agreed to(.|\n)*--max-usd 18.96")
    client.check(job(max_usd=20.0), plan)
    assert vendor.asked("POST", "/v2/pods") == []


def test_a_pod_that_costs_more_than_was_agreed_to_is_given_back(client: runpod.RunPodClient, vendor: Recorder) -> None:
    vendor.answer("POST", "/v2/pods", Status(201, POD | {"cost": 0.99}))
    with pytest.raises(InputError, match=r"the pod run costs \$0.99"):
        client.submit(job(), runpod.plan(job()))
    assert len(vendor.asked("DELETE", "/v2/pods/abc123")) == 1


def test_a_pod_whose_answer_was_lost_is_found_by_its_name(client: runpod.RunPodClient, vendor: Recorder) -> None:
    vendor.answer("POST", "/v2/pods", Cut())
    vendor.answer("GET", "/v2/pods", {"pods": [POD]})
    assert client.submit(job(), runpod.plan(job())).id == "abc123"
    vendor.answer("GET", "/v2/pods", {"pods": []})
    with pytest.raises(StoreUnavailable, match="nothing runs"):
        client.submit(job(), runpod.plan(job()))
    vendor.answer("GET", "/v2/pods", Cut())
    with pytest.raises(StoreUnavailable, match=r"it may run all the same(.|\n)*console.runpod.io/pods"):
        client.submit(job(), runpod.plan(job()))


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("PROVISIONING", "waiting"),
        ("STARTING", "waiting"),
        ("RUNNING", "running"),
        ("EXITED", "ended"),
        ("ERROR", "ended"),
        ("TERMINATED", "ended"),
        ("NEW WORD", "unknown"),
    ],
)
def test_what_runpod_says_of_a_pod(client: runpod.RunPodClient, vendor: Recorder, status: str, state: str) -> None:
    vendor.answer("GET", "/v2/pods/abc123", POD | {"status": status})
    assert client.state(Handle("runpod", "abc123")) == state


def test_a_pod_that_is_not_there_has_ended_and_no_answer_says_nothing(
    client: runpod.RunPodClient, vendor: Recorder
) -> None:
    handle = Handle("runpod", "abc123")
    vendor.answer("GET", "/v2/pods/abc123", Status(404))
    assert client.state(handle) == "ended"
    vendor.answer("GET", "/v2/pods/abc123", Status(503))
    assert client.state(handle) == "unknown"
    vendor.answer("DELETE", "/v2/pods/abc123", Status(204), Status(404))
    client.release(handle)
    client.release(handle)


def test_what_runpod_cannot_do_is_refused_in_our_words() -> None:
    with pytest.raises(InputError, match="a pod of RunPod is one machine"):
        runpod.plan(job(num_nodes=2))
    with pytest.raises(InputError, match="no machines any more that may be taken away"):
        runpod.plan(job(spot=True))


def test_the_key_is_found_where_runpods_own_tools_keep_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RUNPOD_API_KEY", raising=False)
    with pytest.raises(InputError, match=r"no key of RunPod(.|\n)*export RUNPOD_API_KEY"):
        runpod.connect()
    (tmp_path / ".runpod").mkdir()
    for text in ('apikey = "a"\n', '[default]\napi_key = "a"\n'):
        (tmp_path / ".runpod/config.toml").write_text(text)
        runpod.connect()
    monkeypatch.setenv("RUNPOD_API_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("RUNPOD_API_KEY", "b")
    assert runpod.connect().state(Handle("runpod", "x")) == "unknown"
