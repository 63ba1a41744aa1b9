"""A Kaggle on this machine that the real `kaggle` client talks to, and that writes down what it is told.

    with KaggleStandIn() as kaggle:
        kaggle.environment(home)                   # for a process with the client
        kaggle.kernels, kaggle.datasets            # what was saved, by OWNER/NAME
        kaggle.calls                               # (method, body) of every request, in order

The client has fixed addresses only: with `KAGGLE_API_ENVIRONMENT=LOCALHOST` it talks to
http://localhost, and reaches this server as the proxy on the way there.
"""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

USER = "ada-on-kaggle"
Answer = tuple[int, dict[str, Any]]
DENIED: Answer = (403, {"code": 403, "message": "Permission was denied"})


class KaggleStandIn:
    """Notebooks, data sets and uploads of one account."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.kernels: dict[str, dict[str, Any]] = {}
        self.datasets: dict[str, dict[str, Any]] = {}
        self.uploads: dict[str, tuple[str, bytes]] = {}
        """By token: name and content."""
        self.status = "RUNNING"
        """Of the newest session of a notebook that was run."""
        self.hours_used = 2.0
        self.refuse: dict[str, tuple[int, str]] = {}
        """Methods that fail: status and message."""
        self.dataset_states = ["ready"]
        """What a data set answers, one after another; the last one stays."""

    def __enter__(self) -> "KaggleStandIn":
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def environment(self, home: Path) -> dict[str, str]:
        """Variables of a process whose client is signed in here."""
        client = {"KAGGLE_API_ENVIRONMENT": "LOCALHOST", "KAGGLE_USERNAME": USER, "KAGGLE_KEY": "0123456789abcdef"}
        ways = {"HTTP_PROXY": self.url, "http_proxy": self.url, "NO_PROXY": "", "no_proxy": ""}
        return {**client, **ways, "KAGGLE_CONFIG_DIR": str(home), "HOME": str(home)}

    def files_of(self, dataset: str) -> dict[str, bytes]:
        """What a data set holds, by name."""
        return dict(self.uploads[file["token"]] for file in self.datasets[dataset]["files"])

    def answer(self, method: str, body: dict[str, Any]) -> Answer:
        """The answer to one request, which is written down."""
        self.calls.append((method, body))
        if method in self.refuse:
            status, message = self.refuse[method]
            return status, {"code": status, "message": message}
        answers: dict[str, Callable[[dict[str, Any]], Answer]] = {
            "GetAcceleratorQuotaStatistics": self._quota,
            "GetKernel": self._kernel,
            "GetKernelSessionStatus": self._session,
            "SaveKernel": self._save,
            "GetDatasetStatus": self._dataset,
            "CreateDataset": self._create,
            "CreateDatasetVersion": self._create_version,
            "StartBlobUpload": self._start_upload,
        }
        return answers[method](body)

    def _quota(self, _: dict[str, Any]) -> Answer:
        used = f"{self.hours_used * 3600:.0f}s"
        return 200, {"gpuQuota": {"timeUsed": used, "timeReserved": "0s", "totalTimeAllowed": "108000s"}}

    def _kernel(self, body: dict[str, Any]) -> Answer:
        found = self.kernels.get(f"{body['userName']}/{body['kernelSlug']}")
        return (200, {"metadata": {"ref": found["slug"]}}) if found else (404, {"code": 404, "message": "Not found"})

    def _session(self, body: dict[str, Any]) -> Answer:
        found = self.kernels.get(f"{body['userName']}/{body['kernelSlug']}")
        if found is None:
            return DENIED
        return 200, {"status": "NEW_SCRIPT" if found.get("kernelExecutionType") == "QUICK_SAVE" else self.status}

    def _save(self, body: dict[str, Any]) -> Answer:
        unknown = [source for source in body.get("datasetDataSources", []) if source not in self.datasets]
        self.kernels[body["slug"]] = body
        url = f"https://www.kaggle.com/code/{body['slug']}"
        return 200, {"ref": body["slug"], "url": url, "versionNumber": 1, "invalidDatasetSources": unknown}

    def _dataset(self, body: dict[str, Any]) -> Answer:
        if f"{body['ownerSlug']}/{body['datasetSlug']}" not in self.datasets:
            return DENIED
        state = self.dataset_states.pop(0) if len(self.dataset_states) > 1 else self.dataset_states[0]
        return 200, {"status": state.upper()}

    def _create(self, body: dict[str, Any]) -> Answer:
        self.datasets[f"{body['ownerSlug']}/{body['slug']}"] = body
        return 200, {"status": "ok", "ref": body["slug"], "url": ""}

    def _create_version(self, body: dict[str, Any]) -> Answer:
        self.datasets[f"{body['ownerSlug']}/{body['datasetSlug']}"] |= body["body"]
        return 200, {"status": "ok", "ref": body["datasetSlug"], "url": ""}

    def _start_upload(self, body: dict[str, Any]) -> Answer:
        token = f"upload-{len(self.uploads)}"
        self.uploads[token] = (body["name"], b"")
        return 200, {"token": token, "createUrl": f"{self.url}/upload/{token}"}


def _handler(kaggle: KaggleStandIn) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self._send(*kaggle.answer(self._last_part(), json.loads(content or b"{}")))

        def do_PUT(self) -> None:
            token = self._last_part()
            content = self.rfile.read(int(self.headers["Content-Length"]))
            kaggle.uploads[token] = (kaggle.uploads[token][0], content)
            self._send(200, {})

        def _last_part(self) -> str:
            return urlsplit(self.path).path.rpartition("/")[2]

        def _send(self, status: int, answer: dict[str, Any]) -> None:
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    return Handler
