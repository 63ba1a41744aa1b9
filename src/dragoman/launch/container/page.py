"""The page of a container: what the run is doing, what is safe, and why it stopped. Anyone may look; nobody can press.

It is made anew for each request, from the run folder and from what the container's entry
says of itself, and names the time that it was made at, so that an old one is known as old.
"""

import html
import json
import socketserver
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import cast

from dragoman.checkpoint.folder_status import folder_status
from dragoman.checkpoint.run_folder import JOURNAL
from dragoman.checkpoint.status_shape import Status
from dragoman.errors import DragomanError, InputError
from dragoman.launch.container import funnel
from dragoman.store.outcome import one_line

SHOWN_LINES = 60
REFRESH_SECONDS = 10
SILENT_SECONDS = 60.0
"""The entry gives a sign of life far more often; without one for so long it is not healthy."""
_STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a}
body{background:#fff}h1{font-size:1.3rem}h2{font-size:1.1rem}h3{font-size:1rem}a{color:inherit}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1.5rem}dt{color:#555}dd{margin:0}
pre{background:#f4f4f4;padding:1rem;overflow:auto;font-size:13px}.bad{border-left:.3rem solid #b00;padding-left:1rem}
@media(prefers-color-scheme:dark){body{color:#eee;background:#111}pre{background:#222}dt{color:#aaa}}"""


@dataclass(frozen=True)
class Situation:
    """What the entry of the container is doing."""

    phase: str
    """starting, training, pausing, stopping, stopped or released."""
    words: str = ""
    """Why, in a sentence."""
    is_bad: bool = False
    """Whether somebody should do something."""
    attempts: int = 0
    """How often training was started in this container."""


class Board:
    """What the page shows; written by the entry, read by any number of requests."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self.folder: Path | None = None
        """The run folder; None before it is known."""
        self.situation = Situation("starting")
        self.warning = ""
        """What went wrong beside the training."""
        self._lines: deque[str] = deque(maxlen=SHOWN_LINES)
        self._alive = clock()

    def say(self, line: str) -> None:
        """One more line of what training says."""
        self._lines.append(one_line(line))

    @property
    def lines(self) -> list[str]:
        """The newest lines, the last one last."""
        return list(self._lines)

    def beat(self) -> None:
        """The entry lives."""
        self._alive = self.clock()

    @property
    def is_healthy(self) -> bool:
        """Whether the entry gave a sign of life lately."""
        return self.clock() - self._alive < SILENT_SECONDS

    def status(self) -> Status | None:
        """The run, as `dragoman status --json` prints it; None before it has begun."""
        if self.folder is None or not (self.folder / JOURNAL).exists():
            return None
        try:
            return folder_status(self.folder, self.clock())
        except (DragomanError, OSError):  # in the middle of being made
            return None

    def page(self, opened: str = "") -> str:
        """The page, as HTML.

        Args:
            opened: The query of its address, which says what is open.
        """
        status, situation = self.status(), self.situation
        bad = ' class="bad"' if situation.is_bad else ""
        rows = "".join(
            f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>" for name, text in _rows(status, self)
        )
        title = f"dragoman: {situation.phase}"
        return (
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
            f'<meta name="viewport" content="width=device-width">'
            f'<meta http-equiv="refresh" content="{REFRESH_SECONDS}">'
            f"<style>{_STYLE}</style></head><body><h1>{html.escape(title)}</h1>"
            f"<p{bad}>{html.escape(situation.words)}</p><dl>{rows}</dl>"
            f"{funnel.section(self.folder, is_open=opened == funnel.OPEN)}"
            f"<pre>{html.escape(chr(10).join(self.lines))}</pre></body></html>"
        )


def _rows(status: Status | None, board: Board) -> list[tuple[str, str]]:
    """What is shown of a run, as names and texts."""
    rows = [("as of", f"{datetime.fromtimestamp(board.clock(), UTC):%Y-%m-%d %H:%M:%S} UTC")]
    if board.situation.attempts:
        rows.append(("started here", f"{board.situation.attempts} time{'s' * (board.situation.attempts > 1)}"))
    if board.warning:
        rows.append(("warning", board.warning))
    if status is None:
        return [*rows, ("run", "not begun")]
    of = f" of {status['total_steps']:,}" if status["total_steps"] else ""
    rows += [("state", status["state"]), ("step", f"{status['step']:,}{of}")]
    if status["loss"] is not None:
        rows.append(("loss", f"{status['loss']:.3f} nats per target token"))
    if status["chrf"] is not None:
        rows.append(("chrF++", f"{status['chrf']:.1f} on the held-out sample"))
    if status["eta_seconds"] is not None:
        rows.append(("still", f"{status['eta_seconds'] / 60:,.0f} min"))
    safe = status["safe"]
    rows.append(("safe", f"step {safe['step']:,} in {safe['store']}" if safe else "nothing yet"))
    if safe:
        rows.append(("which is", f"{safe['age_seconds'] / 60:,.0f} min old"))
    if status["degraded"]:
        rows.append(("degraded", status["degraded"]["reason"]))
    return rows


class _Server(socketserver.ThreadingTCPServer):
    # Not http.server's: that one asks for the host's full name when it begins, which may take a minute without a DNS.
    allow_reuse_address = True
    daemon_threads = True
    board: Board


class _Handler(BaseHTTPRequestHandler):
    server_version = "dragoman"
    sys_version = ""

    def do_GET(self) -> None:
        board = cast(_Server, self.server).board
        path, _, query = self.path.partition("?")
        match path:
            case "/":
                self._answer(HTTPStatus.OK, "text/html", board.page(query))
            case "/healthz":
                healthy = board.is_healthy
                status = HTTPStatus.OK if healthy else HTTPStatus.SERVICE_UNAVAILABLE
                self._answer(status, "text/plain", "ok" if healthy else "the entry gives no sign of life")
            case "/status.json":
                self._answer(HTTPStatus.OK, "application/json", json.dumps(board.status()))
            case "/entry.json":
                self._answer(HTTPStatus.OK, "application/json", json.dumps(asdict(board.situation)))
            case _:
                self._answer(HTTPStatus.NOT_FOUND, "text/plain", "there is no such page")

    do_HEAD = do_GET

    def _answer(self, status: HTTPStatus, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the container's log belongs to the training."""


class Page:
    """Answers requests, from threads of this process. Use as a context manager.

    Args:
        board: What it shows.
        bind: Address to listen on.
        port: Port to listen on; 0 for any that is free.

    Raises:
        InputError: The port is taken.
    """

    def __init__(self, board: Board, bind: str, port: int) -> None:
        try:
            self._server = _Server((bind, port), _Handler)
        except OSError as error:
            raise InputError(f"--port {port}: {error.strerror}", "another --port, or --bind 127.0.0.1") from None
        self._server.board = board
        self.port = int(self._server.server_address[1])
        """The port that it listens on."""

    def __enter__(self) -> "Page":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
