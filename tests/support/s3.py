"""A real S3 server on this machine: one `moto_server` process for each process of tests.

It lives as long as the process that started it, however that one ends.
"""

import atexit
import http.client
import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any
from urllib.parse import quote

BUCKET = "test-bucket"
_START_SECONDS = 60.0
_A_MOMENT = timedelta(milliseconds=1)
# The pipe to the server's stdin closes when we die, even by SIGKILL; then it ends too.
_SERVE = (
    "import os, sys, threading\n"
    "threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()\n"
    "from moto import backends, server\n"
    "names = list(backends.list_of_moto_modules())\n"  # else it looks into all its folders at each request
    "backends.list_of_moto_modules = lambda: names\n"
    "server.main(sys.argv[1:])\n"
)


@dataclass(frozen=True)
class Server:
    """Where the server listens, and who it is."""

    port: int
    process_id: int

    def options(self, port: int | None = None, *, retries: int = 0, **client: Any) -> dict[str, Any]:
        """What obstore is given to talk to it, or to a proxy before it.

        Args:
            port: Of the proxy.
            retries: How often obstore asks again by itself.
            client: More options for its HTTP client.
        """
        return {
            "config": {
                "endpoint": f"http://127.0.0.1:{port or self.port}",
                "region": "us-east-1",
                "access_key_id": "AKIATESTTESTTESTTEST",
                "secret_access_key": "not-a-real-secret",
            },
            "client_options": client,
            "retry_config": {"max_retries": retries, "backoff": {"init_backoff": _A_MOMENT, "max_backoff": _A_MOMENT}},
        }

    def begin_upload(self, key: str) -> None:
        """Begin to store an object in parts, and store one of them."""
        _, answer = self.ask("POST", f"/{BUCKET}/{quote(key)}?uploads=")
        upload = answer.split(b"<UploadId>")[1].split(b"<")[0].decode()
        status, _ = self.ask("PUT", f"/{BUCKET}/{quote(key)}?partNumber=1&uploadId={upload}", b"a part")
        assert status == 200

    def ask(self, method: str, target: str, body: bytes = b"") -> tuple[int, bytes]:
        """A request without a signature: this server asks nobody who they are."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, target, body)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@cache
def server() -> Server:
    """The server, with an empty bucket of the name `BUCKET`; started by the first who asks."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVE, "-H", "127.0.0.1", "-p", str(port)],
        env=os.environ | {"S3_UPLOAD_PART_MIN_SIZE": "1"},  # so that uploads in many parts are quick to test
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    atexit.register(_end, process)
    made = Server(port, process.pid)
    _make_bucket(made, process)
    return made


def _make_bucket(made: Server, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            status, answer = made.ask("PUT", f"/{BUCKET}")
        except ConnectionRefusedError:
            assert process.poll() is None, "moto_server ended; is moto[server] installed?"
            assert time.monotonic() < deadline, "moto_server does not answer"
            time.sleep(0.02)
        else:
            assert status == 200, answer
            return


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    process.wait()
