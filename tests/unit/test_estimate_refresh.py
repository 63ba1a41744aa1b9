"""Prices asked of platforms: against recorders on loopback; what they answer is kept, what they do not is said."""

import json
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from dragoman import platforms
from dragoman.cli.app import run
from dragoman.estimate import refresh
from dragoman.store.disk import Disk

KEYS = {"RUNPOD_API_KEY": "rp-secret", "LAMBDA_API_KEY": "la-secret", "VAST_API_KEY": "va-secret"}
BASES = ("HF_ENDPOINT", "RUNPOD_API_BASE_URL", "LAMBDA_API_BASE_URL", "VAST_URL")
Answer = tuple[int, Any]


class Recorder:
    """Answers by path, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str | None, Any]] = []
        self.answers: dict[str, Answer] = {
            "/api/spaces/hardware": (200, [hardware("t4-small", 0.5), hardware("cpu-basic", 0.0)]),
            "/api/jobs/hardware": (200, [hardware("t4-small", 0.01, "minute"), hardware("h200", 4.0)]),
            "/graphql": (200, {"data": {"gpuTypes": [runpod("NVIDIA GeForce RTX 4090", 0.61)]}}),
            "/api/v1/instance-types": (200, {"data": {"gpu_1x_a10": {"instance_type": {"price_cents_per_hour": 75}}}}),
            "/api/v0/bundles/": (200, {"offers": [{"dph_total": price} for price in (0.3, 0.35, 0.9)]}),
        }


def hardware(name: str, price: float, unit: str = "hour") -> dict[str, Any]:
    return {"name": name, "prettyName": name, "unitCostUSD": price, "unitLabel": unit}


def runpod(name: str, price: float) -> dict[str, Any]:
    return {"id": name, "securePrice": price, "communityPrice": None}


@contextmanager
def served(recorder: Recorder) -> Generator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(None)

        def do_POST(self) -> None:
            self.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def answer(self, body: Any) -> None:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            recorder.asked.append((self.command, parts.path, self.headers["Authorization"], body or query))
            status, content = recorder.answers.get(parts.path, (404, {}))
            encoded = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            if status == 302:
                self.send_header("Location", content["to"])
            self.send_header("Content-Length", str(len(encoded)))
            self.end_headers()
            self.wfile.write(encoded)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Generator[Recorder]:
    """All platforms at one place on loopback, and a cache of its own."""
    made = Recorder()
    with served(made) as url:
        for name in BASES:
            monkeypatch.setenv(name, url)
        for name, value in KEYS.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield made


def asked(today: str = "2026-12-24") -> dict[str, refresh.Answer]:
    return {answer.platform.name: answer for answer in refresh.refresh(Disk(), today)}


def test_what_platforms_answer_outdoes_the_package_and_is_dated(recorder: Recorder) -> None:
    before = platforms.find("space")
    answers = asked()
    assert {name: dict(it.usd_per_hour) for name, it in answers.items() if it.usd_per_hour} == {
        "space": {"t4-small": 0.5},
        "jobs": {"t4-small": 0.6, "h200": 4.0},
        "runpod": {"NVIDIA GeForce RTX 4090": 0.61},
        "lambda": {"gpu_1x_a10": 0.75},
        "vast": {"RTX_4090": 0.35},
    }
    assert {answers[name].why_not for name in ("colab", "kaggle")} == {"it has no endpoint for prices"}
    space, colab = platforms.find("space"), platforms.find("colab")
    assert (space.as_of, space.offer("t4").usd_per_hour) == ("2026-12-24", 0.5)
    assert space.offer("l4") == before.offer("l4")
    assert colab.as_of == platforms.as_of() == "2026-11"
    prices = [it.usd_per_hour for it in platforms.find("jobs").offers if it.usd_per_hour]
    assert prices == sorted(prices)


def test_each_platform_is_asked_its_own_way(recorder: Recorder) -> None:
    asked()
    found = {path: (method, key, body) for method, path, key, body in recorder.asked}
    assert found["/api/spaces/hardware"] == ("GET", None, {})
    assert found["/api/jobs/hardware"] == ("GET", None, {})
    method, key, body = found["/graphql"]
    assert (method, key) == ("POST", "Bearer rp-secret")
    assert "gpuTypes" in body["query"]
    assert found["/api/v1/instance-types"] == ("GET", "Bearer la-secret", {})
    method, key, body = found["/api/v0/bundles/"]
    assert (method, key) == ("GET", "Bearer va-secret")
    wanted = json.loads(body["q"])
    assert wanted["gpu_name"] == {"eq": "RTX 4090"}
    assert wanted["order"] == [["dph_total", "asc"]]


def test_keys_are_neither_kept_nor_shown(recorder: Recorder, capsys: pytest.CaptureFixture[str]) -> None:
    recorder.answers["/graphql"] = (403, {"error": "rp-secret"})
    assert run(["estimate", "--refresh"]) == 0
    said = capsys.readouterr()
    kept = platforms.price_file().read_text()
    for key in KEYS.values():
        assert key not in said.out + said.err + kept
    assert "RunPod: not asked or no answer: it wants a key, or another one (HTTP 403)" in said.out
    assert "vast.ai: USD per hour: RTX_4090 0.35" in said.out


def test_a_key_does_not_follow_a_redirection(recorder: Recorder) -> None:
    other = Recorder()
    with served(other) as url:
        recorder.answers["/graphql"] = (302, {"to": f"{url}/graphql"})
        assert asked()["runpod"].why_not == "it refused (HTTP 302)"
    assert other.asked == []


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ((500, {}), "it refused (HTTP 500)"),
        ((200, b"<html>"), "its answer is not JSON"),
        ((200, {"data": None}), "its answer is not of the known form"),
        ((200, {"data": {"gpuTypes": [{"id": 3, "securePrice": "much"}]}}), "its answer is not of the known form"),
        ((200, {"data": {"gpuTypes": []}}), "it names none of the machines that are known"),
    ],
)
def test_an_answer_that_cannot_be_used_changes_nothing(recorder: Recorder, answer: Answer, why: str) -> None:
    asked("2026-12-01")
    recorder.answers["/graphql"] = answer
    assert asked()["runpod"].why_not == why
    assert platforms.find("runpod").as_of == "2026-12-01"
    assert platforms.find("runpod").offer("rtx4090").usd_per_hour == 0.61
    assert platforms.find("vast").as_of == "2026-12-24"


def test_a_platform_that_does_not_answer_is_said_so(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(Recorder()) as gone:
        pass
    monkeypatch.setenv("VAST_URL", gone)
    monkeypatch.delenv("LAMBDA_API_KEY")
    answers = asked()
    assert answers["vast"].why_not.startswith("it did not answer: ")
    assert answers["lambda"].why_not == "it wants a key: LAMBDA_API_KEY is not set"
    assert not any(path == "/api/v1/instance-types" for _, path, _, _ in recorder.asked)


def test_a_refreshed_price_is_reckoned_with(recorder: Recorder, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["estimate", "--language-pairs", "en-fr", "--max-samples", "20000", "--platform", "space", "--gpu", "t4"]
    found: list[Callable[[str], Any]] = []
    for more in ([], ["--refresh"]):
        assert run([*words, *more, "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    before, after = (it["options"][0]["usd"][1] for it in found)
    assert after == pytest.approx(before * 0.5 / 0.4, rel=0.01)
    assert found[1]["options"][0]["prices_as_of"] > "2026-11"
    assert {it["platform"] for it in found[1]["prices"]} == set(platforms.every())


@pytest.mark.parametrize("content", ["", "[]", "{", '{"space": 3}', '{"space": {"as_of": 1}}', '{"nowhere": {}}'])
def test_a_damaged_file_of_prices_is_left_alone(recorder: Recorder, content: str) -> None:
    platforms.price_file().parent.mkdir(parents=True)
    platforms.price_file().write_text(content)
    assert platforms.find("space").offer("t4").usd_per_hour == 0.40
    asked()
    assert platforms.find("space").offer("t4").usd_per_hour == 0.5
