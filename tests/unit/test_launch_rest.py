"""A vendor's answers become words: refused, not there, no answer; its key is shown to nobody."""

import socket
from collections.abc import Iterator

import pytest

from dragoman.errors import InputError
from dragoman.launch.rest import GONE, NoAnswer, Rest
from tests.support.recorder import Cut, Recorder, Status

KEY = "rpa_secret-of-ada"


@pytest.fixture
def vendor() -> Iterator[Recorder]:
    with Recorder() as made:
        yield made


@pytest.fixture
def rest(vendor: Recorder) -> Rest:
    return Rest("RunPod", vendor.url, KEY, "another key", seconds=5)


def test_a_question_bears_the_key_and_its_answer_is_json(vendor: Recorder, rest: Rest) -> None:
    vendor.answer("POST", "/pods", {"id": "a"})
    assert rest.ask("what", "POST", "/pods", {"name": "run"}) == {"id": "a"}
    [asked] = vendor.requests
    assert asked.body == {"name": "run"}
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.headers["user-agent"].startswith("dragoman/")
    vendor.answer("DELETE", "/pods/a", Status(204))
    assert rest.ask("what", "DELETE", "/pods/a", missing=GONE) is None
    vendor.answer("DELETE", "/pods/a", Status(404, {"detail": "gone"}))
    assert rest.ask("what", "DELETE", "/pods/a", missing=GONE) is None


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, {"title": "Unauthorized"}, "the key is refused"),
        (403, None, "the key is refused"),
        (404, {"detail": "no such pod"}, "no such pod"),
        (
            422,
            {"detail": "Request validation failed.", "errors": ["$: 'x' not allowed"]},
            "failed.: $: 'x' not allowed",
        ),
        (400, {"success": False, "error": "bad", "msg": "no credit"}, "no credit"),
        (410, None, "410"),
    ],
)
def test_a_refusal_says_what_the_vendor_said(
    vendor: Recorder, rest: Rest, status: int, body: object, words: str
) -> None:
    vendor.answer("GET", "/pods", Status(status, body))
    with pytest.raises(InputError) as refused:
        rest.ask("its pods cannot be listed", "GET", "/pods")
    assert refused.value.message.startswith("RunPod: its pods cannot be listed: ")
    assert words in refused.value.message
    assert refused.value.hint


@pytest.mark.parametrize("answer", [Cut(), Status(500), Status(503)])
def test_a_vendor_in_trouble_is_no_answer(vendor: Recorder, rest: Rest, answer: object) -> None:
    vendor.answer("GET", "/pods", answer)
    with pytest.raises(NoAnswer, match="RunPod: what"):
        rest.ask("what", "GET", "/pods")


def test_a_key_is_not_sent_on_to_where_an_answer_points(vendor: Recorder, rest: Rest) -> None:
    vendor.answer("GET", "/pods", Status(302, headers={"Location": f"{vendor.url}/elsewhere"}))
    vendor.answer("GET", "/elsewhere", {"pods": []})
    with pytest.raises(NoAnswer, match="302"):
        rest.ask("what", "GET", "/pods")
    assert [asked.path for asked in vendor.requests] == ["/pods"]


def test_a_busy_vendor_says_when_to_ask_again(vendor: Recorder, rest: Rest) -> None:
    vendor.answer("GET", "/pods", Status(429, {"detail": "rate limit"}, {"Retry-After": "12"}))
    with pytest.raises(NoAnswer) as busy:
        rest.ask("what", "GET", "/pods")
    assert busy.value.retry_after == 12


def test_nobody_there_is_no_answer() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(NoAnswer, match="no answer"):
        Rest("RunPod", f"http://127.0.0.1:{port}", KEY, "").ask("what", "GET", "/pods")


def test_a_key_that_the_vendor_repeats_is_not_shown(vendor: Recorder, rest: Rest) -> None:
    vendor.answer("GET", "/pods", Status(400, {"detail": f"the key {KEY} is odd"}))
    with pytest.raises(InputError) as refused:
        rest.ask("what", "GET", "/pods")
    assert KEY not in str(refused.value)
