"""Rented containers from the command line to their end: what was asked of a vendor is what runs, and it ends itself."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dragoman.cli.app import run
from dragoman.errors import ExitCode
from tests.support.hub import HubStandIn
from tests.support.launching import SMALL, TOKEN, impatient, signed_in, write_run
from tests.support.recorder import Recorder, Status
from tests.support.runs import make_pairs


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
    with HubStandIn() as made:
        made.add_token(TOKEN, "ada")
        signed_in(monkeypatch, made)
        yield made


@pytest.fixture
def vendor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Recorder]:
    """RunPod and vast.ai, as an account there that is ready to rent."""
    with Recorder() as made:
        monkeypatch.chdir(tmp_path)
        for name in [name for name in os.environ if name.startswith(("DRAGOMAN_", "AWS_"))]:
            monkeypatch.delenv(name)
        # Nobody has SkyPilot here.
        monkeypatch.setattr("dragoman.launch.sky_client.is_there", lambda: False)
        monkeypatch.setenv("RUNPOD_API_BASE_URL", made.url)
        monkeypatch.setenv("RUNPOD_API_KEY", "rpa_ofAda")
        monkeypatch.setenv("VAST_URL", made.url)
        monkeypatch.setenv("VAST_API_KEY", "vastKeyOfAda")
        gpu = {"id": "NVIDIA GeForce RTX 4090", "price": {"secure": 0.69}, "availability": "LOW"}
        made.answer("GET", "/v2/pods", {"pods": []})
        made.answer("GET", "/v2/account/secrets", {"secrets": [{"name": "HF_TOKEN"}]})
        made.answer("GET", "/v2/catalog/gpus", {"gpus": [gpu]})
        made.answer("POST", "/v2/pods", Status(201, {"id": "abc", "name": "run", "status": "STARTING", "cost": 0.69}))
        made.answer("DELETE", "/v2/pods/abc", Status(204))
        made.answer("GET", "/api/v1/instances/", {"instances": []})
        made.answer("GET", "/api/v0/secrets/", {"secrets": {"HF_TOKEN": TOKEN}})
        made.answer("POST", "/api/v0/bundles/", {"offers": [{"id": 7, "dph_total": 0.3, "min_bid": 0.1}]})
        made.answer("PUT", "/api/v0/asks/7/", {"success": True, "new_contract": 42})
        made.answer("DELETE", "/api/v0/instances/42/", {"success": True})
        yield made


def call(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    """Run a command of which the answer is JSON, which must succeed."""
    capsys.readouterr()
    code = run([str(word) for word in words] + ["--json"])
    said = capsys.readouterr()
    assert code == ExitCode.DONE, said.err
    assert TOKEN not in said.out + said.err
    return json.loads(said.out)


@pytest.mark.slow
def test_a_pod_trains_into_its_store_and_deletes_itself(
    hub: HubStandIn, vendor: Recorder, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    make_pairs(tmp_path / "texts/pairs.tsv", n=60, seed=1)
    run_file = write_run(tmp_path / "run.yaml", **SMALL)
    told = call(capsys, "launch", "runpod", run_file, "--max-hours", "3", "--yes")
    assert told["handle"] == "runpod:abc"
    [body] = vendor.asked("POST", "/v2/pods")
    assert not [asked for asked in vendor.requests if TOKEN in asked.raw]
    # What RunPod does: it puts secrets in their places, and tells the pod who it is.
    given = {name: value.replace("{{ RUNPOD_SECRET_HF_TOKEN }}", TOKEN) for name, value in body["env"].items()}
    own = {"RUNPOD_POD_ID": "abc", "RUNPOD_API_KEY": "rpa_ofThePod", "RUNPOD_API_BASE_URL": vendor.url}
    machine, path = impatient(tmp_path / "machine", hub)
    done = machine.run(body["cmd"], given | own | {"PATH": path})
    assert "the work ended with 0" in done.stdout, done.stdout + done.stderr
    assert TOKEN not in done.stdout + done.stderr
    assert "model.safetensors" in hub.names("ada/run")
    [deleted] = [asked for asked in vendor.requests if asked.method == "DELETE"]
    assert (deleted.path, deleted.headers["authorization"]) == ("/v2/pods/abc", "Bearer rpa_ofThePod")


def test_a_machine_that_cannot_even_begin_destroys_itself_and_can_be_stopped_from_here(
    hub: HubStandIn, vendor: Recorder, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run_file = write_run(tmp_path / "run.yaml")
    told = call(capsys, "launch", "vast", run_file, "--yes")
    assert told["handle"] == "vast:42"
    [body] = vendor.asked("PUT", "/api/v0/asks/7/")
    assert not [asked for asked in vendor.requests if TOKEN in asked.raw]
    machine, path = impatient(tmp_path / "machine", hub)
    own = {"CONTAINER_ID": "42", "CONTAINER_API_KEY": "ofTheMachine", "VAST_URL": vendor.url, "PATH": path}
    before = len(vendor.requests)
    machine.run(["bash", "-c", body["onstart"]], {**own, "HF_TOKEN": "hf_revoked"})
    vendor.wait_for(before + 1)
    assert vendor.requests[-1].method == "DELETE"
    assert vendor.requests[-1].headers["authorization"] == "Bearer ofTheMachine"
    call(capsys, "stop", "ada/run")
    assert vendor.requests[-1].headers["authorization"] == "Bearer vastKeyOfAda"
