"""The object store conforms at Azure too, as far as Microsoft's own emulator is Azure.

Runs where `azurite-blob` is on the path (`npm install --global azurite`).
"""

import base64
import email.utils
import hashlib
import hmac
import http.client
import shutil
import socket
import subprocess
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from obstore.store import AzureStore

from dragoman.errors import InputError
from dragoman.store.objects import ObjectStore
from tests.store.conformance import StoreConformance

ACCOUNT, CONTAINER = "devstoreaccount1", "test-container"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The well-known key of every emulator."""
AZURITE = shutil.which("azurite-blob")

if AZURITE is None:
    pytest.skip("azurite-blob is not installed", allow_module_level=True)


def make_container(port: int) -> None:
    date, version = email.utils.formatdate(usegmt=True), "2021-08-06"
    path = f"/{ACCOUNT}/{CONTAINER}"
    text = "PUT" + "\n" * 12 + f"x-ms-date:{date}\nx-ms-version:{version}\n/{ACCOUNT}{path}\nrestype:container"
    signature = base64.b64encode(hmac.digest(base64.b64decode(KEY), text.encode(), hashlib.sha256)).decode()
    headers = {"x-ms-date": date, "x-ms-version": version, "Authorization": f"SharedKey {ACCOUNT}:{signature}"}
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("PUT", f"{path}?restype=container", headers=headers)
    assert connection.getresponse().status == 201


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Generator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    words = ("--blobHost", "127.0.0.1", "--blobPort", str(port), "--silent", "--skipApiVersionCheck")
    words += ("--disableTelemetry", "--location", str(tmp_path_factory.mktemp("azurite")))
    process = subprocess.Popen([str(AZURITE), *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while socket.socket().connect_ex(("127.0.0.1", port)) and time.monotonic() < deadline:
        time.sleep(0.05)
    make_container(port)
    yield port
    process.terminate()
    process.wait()


class TestAzure(StoreConformance):
    @pytest.fixture(autouse=True)
    def _at(self, port: int) -> None:
        self.options: dict[str, Any] = {
            "config": {
                "account_name": ACCOUNT,
                "account_key": KEY,
                "endpoint": f"http://127.0.0.1:{port}/{ACCOUNT}",
            },
            "client_options": {"allow_http": True},
        }

    def raw(self, folder: Path) -> AzureStore:
        return AzureStore(CONTAINER, prefix=str(folder).strip("/"), **self.options)

    def open(self, folder: Path) -> ObjectStore:
        store = ObjectStore(f"az://{CONTAINER}{folder}", options=self.options, part_bytes=20)
        store.prepare()
        return store

    def read(self, folder: Path, name: str) -> bytes:
        return bytes(self.raw(folder).get(name).bytes())

    def overwrite(self, folder: Path, name: str, data: bytes | None) -> None:
        if data is None:
            self.raw(folder).delete(name)
        else:
            self.raw(folder).put(name, data)

    def names(self, folder: Path) -> set[str]:
        return {meta["path"] for page in self.raw(folder).list() for meta in page}

    def test_removing_what_is_gone_already_removes_the_rest(self, folder: Path) -> None:
        store = self.open(folder)
        for name in ("checkpoint-1/a", "checkpoint-1/c"):
            self.raw(folder).put(name, b"debris")
        store.discard(["checkpoint-1/a", "checkpoint-1/b", "checkpoint-1/c"])
        assert self.names(folder) == set()

    def test_no_container_and_a_wrong_key_are_bad_input(self, folder: Path) -> None:
        with pytest.raises(InputError, match="no such bucket"):
            ObjectStore("az://nowhere/x", options=self.options).prepare()
        self.options["config"]["account_key"] = base64.b64encode(b"another key").decode()
        with pytest.raises(InputError, match="permission denied"):  # as the emulator says; Azure itself is clearer
            ObjectStore(f"az://{CONTAINER}/x", options=self.options).prepare()
