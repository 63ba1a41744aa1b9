"""A vendor's API on 127.0.0.1 that keeps what it is asked, and answers as it was told.

with Recorder() as vendor:
    vendor.answer("GET", "/v2/pods", {"pods": []})
    vendor.answer("POST", "/v2/pods", Cut())        # the request arrives, its answer is lost
    ...
    assert vendor.asked("POST", "/v2/pods") == [{"name": "run"}]

What was told first is answered first; the last answer to a path is given again and again.
"""

import json
import threading
import urllib.parse
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Cut:
    """The connection is closed without an answer."""


@dataclass(frozen=True)
class Status:
    """An answer with another status than 200."""

    code: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class Asked:
    """One request."""

    method: str
    path: str
    """Without its query."""
    query: dict[str, str]
    headers: dict[str, str]
    body: Any
    """From JSON; None without one."""
    raw: str
    """All of it, as one text to search in."""


class Recorder:
    """One vendor."""

    def __init__(self) -> None:
        self.requests: list[Asked] = []
        self.came = threading.Condition()
        self._answers: dict[tuple[str, str], list[Any]] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "Recorder":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, method: str, path: str, *answers: Any) -> None:
        """Answer requests to a path: JSON, `Status` or `Cut`, one after the other."""
        self._answers[method, path] = list(answers)

    def asked(self, method: str, path: str) -> list[Any]:
        """The bodies of all requests to a path."""
        return [one.body for one in self.requests if (one.method, one.path) == (method, path)]

    def wait_for(self, number: int, seconds: float = 30.0) -> None:
        """Wait until so many requests have come."""
        with self.came:
            assert self.came.wait_for(lambda: len(self.requests) >= number, seconds), "they did not come"

    def take(self, asked: Asked) -> Any:
        """Note a request, and choose its answer."""
        with self.came:
            self.requests.append(asked)
            self.came.notify_all()
            told = self._answers.get((asked.method, asked.path), [Status(404, {"detail": "no such path"})])
            return told.pop(0) if len(told) > 1 else told[0]


def _handler(recorder: Recorder) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            text = self.rfile.read(length).decode()
            target = urllib.parse.urlsplit(self.path)
            asked = Asked(
                method=self.command,
                path=target.path,
                query=dict(urllib.parse.parse_qsl(target.query)),
                headers={name.lower(): value for name, value in self.headers.items()},
                body=json.loads(text) if text else None,
                raw=f"{self.command} {self.path}\n{text}",
            )
            told = recorder.take(asked)
            if isinstance(told, Cut):
                self.close_connection = True
                self.connection.close()
                return
            answer = told if isinstance(told, Status) else Status(200, told)
            data = b"" if answer.body is None else json.dumps(answer.body).encode()
            self.send_response(answer.code)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _any

        def log_message(self, *_: Any) -> None:
            pass

    return Handler
