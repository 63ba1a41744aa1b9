"""Stopping the cost of this machine from inside, by each platform's own request."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from dragoman.errors import InputError, StoreUnavailable
from dragoman.launch import release as releasing
from dragoman.launch.release import can_release, release_here


class Recorder:
    """A platform on loopback that writes down what it is asked."""

    def __init__(self) -> None:
        self.status, self.asked = 200, list[tuple[str, str, str, Any]]()
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                said = self.headers.get("Authorization", "")
                recorder.asked.append((self.command, self.path, said, json.loads(body) if body else None))
                self.send_response(recorder.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_DELETE = do_POST = answer

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    recorder = Recorder()
    for name in (releasing.RUNPOD, releasing.VAST):
        monkeypatch.setenv(name, recorder.url)
    for name in ("RUNPOD_POD_ID", "RUNPOD_API_KEY", "CONTAINER_ID", "CONTAINER_API_KEY", "VAST_CONTAINERLABEL"):
        monkeypatch.delenv(name, raising=False)
    yield recorder
    recorder.server.shutdown()
    recorder.server.server_close()


MACHINES = {
    "runpod": ({"RUNPOD_POD_ID": "p1", "RUNPOD_API_KEY": "k"}, ("DELETE", "/v2/pods/p1", "Bearer k", None)),
    "vast": (
        {"VAST_CONTAINERLABEL": "C.42", "CONTAINER_API_KEY": "k"},
        ("DELETE", "/api/v0/instances/42/", "Bearer k", None),
    ),
}


@pytest.mark.parametrize("name", MACHINES)
def test_each_platform_is_asked_in_its_own_words(
    name: str, platform: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ, request = MACHINES[name]
    for variable, value in environ.items():
        monkeypatch.setenv(variable, value)
    assert can_release(name)
    assert release_here(name)
    assert platform.asked == [request]
    platform.status = 404
    release_here(name)  # gone already
    platform.status = 403
    with pytest.raises(InputError, match="403"):
        release_here(name)
    platform.status = 500
    with pytest.raises(StoreUnavailable, match="500"):
        release_here(name)


@pytest.mark.parametrize("name", MACHINES)
def test_without_a_key_a_person_is_told(name: str, platform: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    environ, _ = MACHINES[name]
    for variable, value in environ.items():
        if not variable.endswith("KEY"):
            monkeypatch.setenv(variable, value)
    monkeypatch.delenv("VAST_API_KEY", raising=False)
    with pytest.raises(InputError, match="is not set"):
        release_here(name)
    assert platform.asked == []


def test_a_machine_of_lambda_that_skypilot_did_not_start_is_said_to_go_on_costing_money() -> None:
    assert can_release("lambda")
    with pytest.raises(InputError, match="cannot end itself") as caught:
        release_here("lambda")
    assert "cloud.lambda.ai/instances" in caught.value.hint


@pytest.mark.parametrize("name", ["jobs", "kaggle", "colab", None])
def test_elsewhere_the_end_of_the_command_is_enough(name: str | None) -> None:
    assert not can_release(name)
    assert "ends the cost" in release_here(name)
