"""A run in each kind of store, and the environment in which a command finds that store."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dragoman.checkpoint.lease import take_lease
from dragoman.checkpoint.log import RunLog
from dragoman.store.address import Access, normal, open_store
from dragoman.store.base import MODEL_FILE, Store
from dragoman.store.disk import digest
from dragoman.store.record import CheckpointRecord
from tests.support.hub import HubStandIn

KINDS = ("file", "hub", "s3")
TOKEN = "hf_thisIsTheSecretOfAda"
SECRET_KEY = "not-a-real-secret"
"""As `tests.support.s3` gives it to obstore."""
STATE = "training/state.json"


@dataclass
class Place:
    """One store, as a command sees it."""

    url: str
    overwrite: Callable[[str, bytes | None], None]
    """Change the bytes under a path behind the store's back; None removes them."""
    hub: HubStandIn | None = None

    @property
    def store(self) -> Store:
        """It, opened anew."""
        return open_store(normal(self.url), Access())


@contextlib.contextmanager
def place(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """An empty store of a kind, until the block ends."""
    if kind == "file":
        with _folder(tmp_path / "store") as found:
            yield found
    elif kind == "hub":
        with HubStandIn() as hub:
            use_hub(hub, monkeypatch)
            hub.create("ada/run")
            yield Place("hf://ada/run", lambda name, data: _write(hub, name, data), hub)
    else:
        yield _bucket(tmp_path, monkeypatch)


def use_hub(hub: HubStandIn, monkeypatch: pytest.MonkeyPatch, token: str | None = TOKEN) -> None:
    """Make a stand-in the Hub of this process, and a token of ada's the one that is found."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    template = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    if token:
        monkeypatch.setenv("HF_TOKEN", hub.add_token(token, "ada"))


def use_s3(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the S3 server of this process of tests the one that is found."""
    from tests.support.s3 import server

    options = server().options()["config"]
    monkeypatch.setenv("AWS_ENDPOINT", options["endpoint"])
    monkeypatch.setenv("AWS_REGION", options["region"])
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", options["access_key_id"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", options["secret_access_key"])


def begin(store: Store, host: str = "kaggle", **log: Any) -> RunLog:
    """The log of a store, with its lease taken."""
    found = RunLog(store, **log)
    take_lease(found, host)
    return found


def save(log: RunLog, tmp_path: Path, step: int, **fields: Any) -> CheckpointRecord:
    """Publish a checkpoint of some small files that are different at each step."""
    nonce = log.new_nonce()
    contents = {name: f"{name} of step {step} ".encode() * 50 for name in (MODEL_FILE, STATE)}
    contents["config.json"] = b'{"model_type": "m2m_100"}'
    folder = tmp_path / "made" / nonce
    for name, data in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    files = {name: (folder / name, digest(folder / name)) for name in contents}
    fields = {"config": "c", "corpus": "c", "pairs_seen": step, "best": nonce} | fields
    return log.publish_checkpoint(nonce=nonce, step=step, files=files, **fields)


@contextlib.contextmanager
def _folder(root: Path) -> Iterator[Place]:
    open_store(normal(str(root)), Access()).prepare()

    def overwrite(name: str, data: bytes | None) -> None:
        (root / name).unlink()
        if data is not None:
            (root / name).write_bytes(data)

    yield Place(normal(str(root)), overwrite)


def _write(hub: HubStandIn, name: str, data: bytes | None) -> None:
    hub.write("ada/run", name, data)


def _bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    from obstore.store import S3Store

    from tests.support.s3 import BUCKET, server

    use_s3(monkeypatch)
    prefix = f"{tmp_path.name}/run"
    raw: Any = S3Store(BUCKET, prefix=prefix, config=server().options()["config"], client_options={"allow_http": True})

    def overwrite(name: str, data: bytes | None) -> None:
        if data is None:
            raw.delete(name)
        else:
            raw.put(name, data)

    return Place(f"s3://{BUCKET}/{prefix}", overwrite)
