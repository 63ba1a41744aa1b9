"""A proxy between obstore and the S3 server in which everything goes wrong that can.

    proxy.add(Fault("PUT", "dragoman/log", status=503))              the next record is refused
    proxy.add(Fault("PUT", "dragoman/log", cut=True, late=True))     it is stored, the answer is lost
    proxy.add(Fault("GET", "model", flip_byte=-1))                   a wrong last byte is served
    proxy.add(Fault("PUT", hold=True))                               no answer before `release`
    proxy.lose_machine(before=14)                                    no request gets through from the 14th on

A fault meets the requests of its method whose target (path and query) contains its text.
Every fault that meets a request acts on it, in the order in which they were added.
"""

import http.client
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_HOP_HEADERS = {"connection", "transfer-encoding", "content-length", "host", "date", "server"}


@dataclass
class Fault:
    """One fault: which requests it meets, and what it does to them; by default nothing."""

    method: str = ""
    """Only requests with this method."""
    target: str = ""
    """Only requests whose path and query contain this."""
    skip: int = 0
    """So many of them pass first."""
    times: int | None = 1
    """So many are met then; None for all."""

    status: int | None = None
    """Answer with this status."""
    code: str = "InternalError"
    """S3's word for what is wrong, in that answer."""
    cut: bool = False
    """Close the connection without an answer."""
    hold: bool = False
    """Do not go on before `release`."""
    act: Callable[[], object] | None = None
    """Do this first, such as what another machine does at just this moment."""
    late: bool = False
    """`status`, `cut`, `hold` and `act` come when the request has had its effect, not before."""

    strip_header: str = ""
    """A header of the request that the server does not get to see."""
    flip_byte: int | None = None
    """This byte of the answer (counted from its end when negative) has a wrong bit."""
    cut_at: int | None = None
    """Close the connection after so many bytes of the answer."""

    num_met: int = 0
    """How many requests it has met."""
    held: threading.Event = field(default_factory=threading.Event)
    """Set when a request waits for `release`."""
    _go_on: threading.Event = field(default_factory=threading.Event)
    _num_matched: int = 0

    def release(self) -> None:
        """Let what is held go on."""
        self._go_on.set()

    def meets(self, method: str, target: str) -> bool:
        """Whether it acts on this request; counts it."""
        if self.method not in ("", method) or self.target not in target:
            return False
        self._num_matched += 1
        met = self._num_matched > self.skip and (self.times is None or self.num_met < self.times)
        self.num_met += met
        return met

    def strike(self) -> tuple[int, bytes] | None:
        """Do what is to be done at this point; an answer if the request gets none other."""
        if self.act:
            self.act()
        if self.hold:
            self.held.set()
            self._go_on.wait()
        if self.cut:
            raise ConnectionAbortedError
        if self.status is None:
            return None
        return self.status, f"<Error><Code>{self.code}</Code><Message>a fault</Message></Error>".encode()


class Proxy:
    """Listens on a port of its own for as long as the `with` block lasts.

    Args:
        upstream: Port of the S3 server on this machine.
    """

    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        self.requests: list[str] = []
        """Method and target of every request, in order; those that did not get through included."""
        self.lost = False
        """The machine of the client is lost: no request has an effect or gets an answer."""
        self._faults: list[Fault] = []
        self._lose_at: int | None = None
        self._lock = threading.Lock()
        self._server = _Listener(("127.0.0.1", 0), _Handler)
        self._server.proxy = self
        self.port = int(self._server.server_address[1])
        """Where clients connect to."""

    def __enter__(self) -> "Proxy":
        # The poll interval bounds only how long `shutdown` takes.
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.clear()
        self._server.shutdown()
        self._server.server_close()

    def add(self, fault: Fault) -> Fault:
        """Add a fault; it meets requests from now on."""
        self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Remove all faults; what they hold goes on."""
        faults, self._faults = self._faults, []
        for fault in faults:
            fault.release()

    def lose_machine(self, before: int) -> None:
        """Let no request through from the `before`-th (1 is the next) on, until `restore`."""
        self._lose_at = len(self.requests) + before

    def restore(self) -> None:
        """Another machine takes the place of the lost one; `requests` begins anew."""
        with self._lock:
            self._lose_at, self.lost, self.requests = None, False, []

    def arrive(self, method: str, target: str) -> list[Fault]:
        """The faults that meet a request."""
        with self._lock:
            self.requests.append(f"{method} {target}")
            self.lost = self.lost or (self._lose_at is not None and len(self.requests) >= self._lose_at)
            if self.lost:
                raise ConnectionAbortedError
            return [fault for fault in self._faults if fault.meets(method, target)]


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    proxy: Proxy


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Listener  # pyright: ignore[reportIncompatibleVariableOverride]

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            faults = self.server.proxy.arrive(self.command, self.path)
            status, headers, answer = self._answer(faults, body)
            for fault in faults:
                if fault.flip_byte is not None and answer:
                    spoiled = bytearray(answer)
                    spoiled[fault.flip_byte % len(spoiled)] ^= 1
                    answer = bytes(spoiled)
            cuts = [fault.cut_at for fault in faults if fault.cut_at is not None]
            self._send(status, headers, answer, min(cuts, default=None))
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _serve

    def _answer(self, faults: list[Fault], body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        for fault in faults:
            if not fault.late and (early := fault.strike()):
                return early[0], [], early[1]
        status, headers, answer = self._forward({fault.strip_header.lower() for fault in faults}, body)
        for fault in faults:
            if fault.late and (instead := fault.strike()):
                return instead[0], [], instead[1]
        return status, headers, answer

    def _forward(self, stripped: set[str], body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.proxy.upstream, timeout=30)
        try:
            hidden = _HOP_HEADERS | stripped
            headers = {name: value for name, value in self.headers.items() if name.lower() not in hidden}
            upstream.request(self.command, self.path, body or None, headers)
            answer = upstream.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            upstream.close()

    def _send(self, status: int, headers: list[tuple[str, str]], answer: bytes, cut_at: int | None) -> None:
        self.send_response(status)
        length = dict(headers).get("Content-Length") if self.command == "HEAD" else None
        for name, value in headers:
            if name.lower() not in _HOP_HEADERS:
                self.send_header(name, value)
        self.send_header("Content-Length", length or str(len(answer)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer[:cut_at])
        if cut_at is not None:
            raise ConnectionAbortedError
