"""HTTP/1.1 on 127.0.0.1, with one thread per connection.

Written by hand because faults need the socket: bodies that are read half, answers that
are sent half, connections that are closed at an exact point.
"""

import contextlib
import itertools
import socket
import socketserver
import threading
import time
from collections.abc import Iterator, Sequence
from email.utils import formatdate
from typing import TYPE_CHECKING

from tests.support.hub.control import control
from tests.support.hub.faults import ConnectionCut, Fault
from tests.support.hub.messages import REASONS, Answer, Request
from tests.support.hub.routes import match

if TYPE_CHECKING:
    from tests.support.hub.hub import HubStandIn

PIECE_BYTES = 1 << 16
LONGEST_LINE = 1 << 16
REQUEST_NUMBERS = itertools.count(1)


class Server(socketserver.ThreadingTCPServer):
    """Listens for one hub."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, hub: "HubStandIn", port: int) -> None:
        super().__init__(("127.0.0.1", port), Connection)
        self.hub = hub
        self.port: int = self.server_address[1]
        self.connections: set[socket.socket] = set()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)

    def start(self) -> None:
        """Answer requests."""
        self._thread.start()

    def stop(self) -> None:
        """Stop listening and cut every connection."""
        if self._thread.is_alive():
            self.shutdown()
            self._thread.join()
        self.server_close()
        for connection in list(self.connections):
            with contextlib.suppress(OSError):  # its own thread may have closed it meanwhile
                connection.shutdown(socket.SHUT_RDWR)


class Connection(socketserver.StreamRequestHandler):
    """One client's connection and the requests on it, one after another."""

    disable_nagle_algorithm = True
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def handle(self) -> None:
        """Answer requests until either side closes the connection."""
        self.server.connections.add(self.connection)
        with contextlib.suppress(ConnectionCut, OSError):
            while self._answer_one():
                pass
        self.server.connections.discard(self.connection)

    def _answer_one(self) -> bool:
        request = self._read_head()
        if request is None:
            return False
        hub = self.server.hub
        if request.route == "control":
            request.body = self._read_body(request, ())
            self._send(request, Answer.json(control(hub, request.body)), ())
            return True
        hub.note(request)
        faults = hub.faults.arrive(request)
        request.body = self._read_body(request, faults)
        self._send(request, hub.answer(request, faults), faults)
        return True

    def _read_head(self) -> Request | None:
        words = self.rfile.readline(LONGEST_LINE).decode("latin-1").split()
        if len(words) != 3:
            return None
        method, target, _ = words
        headers = {}
        while line := self.rfile.readline(LONGEST_LINE).strip():
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        path, _, query = target.partition("?")
        matched = match("GET" if method == "HEAD" else method, path)
        route, key, rest = matched or ("unknown", "", ())
        return Request(method, route, path, key, list(rest), query, headers)

    def _read_body(self, request: Request, faults: Sequence[Fault]) -> bytes:
        cut = min((fault.cut_upload_at for fault in faults if fault.cut_upload_at is not None), default=None)
        rate = min((fault.upload_bytes_per_second for fault in faults if fault.upload_bytes_per_second), default=None)
        body = bytearray()
        if cut == 0:
            raise ConnectionCut
        for piece in self._pieces(request, min(cut or PIECE_BYTES, int((rate or PIECE_BYTES) / 20) + 1, PIECE_BYTES)):
            body += piece
            if cut is not None and len(body) >= cut:
                raise ConnectionCut
            if rate:
                time.sleep(len(piece) / rate)
        return bytes(body)

    def _pieces(self, request: Request, most: int) -> Iterator[bytes]:
        """The body as it arrives, at most `most` bytes at a time."""
        if request.headers.get("transfer-encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline(LONGEST_LINE), 16):
                yield from self._exactly(size, most)
                self.rfile.readline(LONGEST_LINE)
            self.rfile.readline(LONGEST_LINE)
        else:
            yield from self._exactly(int(request.headers.get("content-length", 0)), most)

    def _exactly(self, size: int, most: int) -> Iterator[bytes]:
        while size:
            piece = self.rfile.read(min(size, most))
            if not piece:
                raise ConnectionCut  # the client went away in the middle
            size -= len(piece)
            yield piece

    def _send(self, request: Request, answer: Answer, faults: Sequence[Fault]) -> None:
        headers = {
            "Date": formatdate(self.server.hub.clock(), usegmt=True),
            "X-Request-Id": f"Root=stand-in-{next(REQUEST_NUMBERS)}",
            "Content-Length": str(len(answer.body)),
            **answer.headers,
        }
        lines = [f"HTTP/1.1 {answer.status} {REASONS.get(answer.status, 'Injected')}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")
        body = b"" if request.method == "HEAD" else answer.body
        cuts = [fault.cut_download_at for fault in faults if fault.cut_download_at is not None]
        self.connection.sendall(head + body[: min(cuts, default=len(body))])
        if cuts:
            raise ConnectionCut
