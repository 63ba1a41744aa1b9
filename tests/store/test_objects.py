"""The object store: it conforms, against a real S3 server, and it refuses what cannot keep its promises."""

import math
import re
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path

import pytest
from obstore.exceptions import GenericError

from dragoman.checkpoint.lease import take_lease
from dragoman.checkpoint.log import RunLog
from dragoman.errors import Damaged, InputError, StoreUnavailable
from dragoman.store import objects_send
from dragoman.store.base import CARD, MODEL_FILE
from dragoman.store.objects import ObjectStore
from dragoman.store.objects_failure import explain
from tests.store import objects_session
from tests.store.conformance import StoreConformance
from tests.store.objects_session import (
    check_tidy,
    names,
    open_store,
    raw,
    save,
    start,
    two_sessions,
)
from tests.store.session import Ledger
from tests.support.s3 import BUCKET, server
from tests.support.s3_proxy import Fault, Proxy


class TestObjectStore(StoreConformance):
    single_writer = False

    def open(self, folder: Path) -> ObjectStore:
        store = open_store(folder, single_writer=self.single_writer)
        store.prepare()
        return store

    def read(self, folder: Path, name: str) -> bytes:
        return objects_session.read(folder, name)

    def overwrite(self, folder: Path, name: str, data: bytes | None) -> None:
        if data is None:
            raw(folder).delete(name)
        else:
            raw(folder).put(name, data)

    def names(self, folder: Path) -> set[str]:
        return objects_session.names(folder)


@pytest.fixture
def proxy() -> Generator[Proxy]:
    with Proxy(server().port) as proxy:
        yield proxy


# --- before a session ------------------------------------------------------------------


def test_a_server_that_ignores_the_condition_is_refused_with_a_way_out(proxy: Proxy, tmp_path: Path) -> None:
    proxy.add(Fault("PUT", strip_header="If-None-Match", times=None))
    with pytest.raises(InputError, match="--single-writer"):
        open_store(tmp_path, proxy.port).prepare()
    assert names(tmp_path) == set()


def test_a_server_that_refuses_the_condition_is_refused_with_a_way_out(proxy: Proxy, tmp_path: Path) -> None:
    proxy.add(Fault("PUT", "probe", status=501, code="NotImplemented", times=None))
    with pytest.raises(InputError, match="--single-writer"):
        open_store(tmp_path, proxy.port).prepare()


def test_a_single_writer_needs_no_condition(proxy: Proxy, tmp_path: Path) -> None:
    proxy.add(Fault("PUT", strip_header="If-None-Match", times=None))
    store = open_store(tmp_path / "store", proxy.port, single_writer=True)
    two_sessions(store, tmp_path, ledger := Ledger())
    check_tidy(tmp_path / "store", RunLog(store), ledger)


def test_a_probe_that_another_machine_cleans_away_is_made_again(proxy: Proxy, tmp_path: Path) -> None:
    other = open_store(tmp_path)
    proxy.add(Fault("PUT", "probe", skip=1, act=lambda: other.discard(other.held())))
    open_store(tmp_path, proxy.port).prepare()
    assert names(tmp_path) == set()


@pytest.mark.parametrize("name", ["checkpoint-500/model.safetensors", "model.safetensors"])
def test_somebody_elses_checkpoints_are_refused_and_left_alone(tmp_path: Path, name: str) -> None:
    raw(tmp_path).put(name, b"weeks of work")
    with pytest.raises(InputError, match="not written by dragoman"):
        open_store(tmp_path).prepare()
    assert names(tmp_path) == {name}


REFUSALS = [
    (403, "AccessDenied", "permission denied", "list, read, write and delete"),
    (403, "InvalidAccessKeyId", "does not accept these credentials", "AWS_ACCESS_KEY_ID"),
    (404, "NoSuchBucket", "no such bucket", "create it"),
    (301, "PermanentRedirect", "in another region", "AWS_REGION"),
    (403, "RequestTimeTooSkewed", "the clock of this machine", "set it"),
]


@pytest.mark.parametrize(("status", "code", "words", "hint"), REFUSALS)
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_what_only_a_person_can_change_is_bad_input_at_the_start_and_unavailable_later(
    proxy: Proxy, tmp_path: Path, method: str, status: int, code: str, words: str, hint: str
) -> None:
    store = open_store(tmp_path, proxy.port)
    log = RunLog(store)
    proxy.add(Fault(method, status=status, code=code, times=None))
    with pytest.raises(InputError, match=words) as refused:
        store.prepare()
    assert hint in refused.value.hint
    with pytest.raises(StoreUnavailable, match=words):
        take_lease(log, "here")


FAILURES = {
    "500 InternalError": Fault(status=500, times=None),
    "503 SlowDown": Fault(status=503, code="SlowDown", times=None),
    "the connection was cut": Fault(cut=True, times=None),
    "no answer in time": Fault(hold=True, times=None),
}


@pytest.mark.parametrize("words", FAILURES)
def test_what_may_pass_is_unavailable_and_said_in_one_line_without_secrets(
    proxy: Proxy, tmp_path: Path, words: str
) -> None:
    proxy.add(FAILURES[words])
    options = server().options(proxy.port, timeout="200ms")
    with pytest.raises(StoreUnavailable, match=re.escape(words)) as failure:
        open_store(tmp_path, options=options).prepare()
    assert len(str(failure.value).splitlines()) == 1
    assert failure.value.__cause__ is None
    secrets = (options["config"]["access_key_id"], options["config"]["secret_access_key"], "Signature", "http://")
    assert not [secret for secret in secrets if secret in str(failure.value)]


@pytest.mark.parametrize(("scheme", "words"), [("http", "refused"), ("https", "no safe connection")])
def test_a_server_that_cannot_be_reached_is_unavailable(tmp_path: Path, scheme: str, words: str) -> None:
    options = server().options()
    port = 9 if scheme == "http" else server().port
    options["config"]["endpoint"] = f"{scheme}://127.0.0.1:{port}"
    with pytest.raises(StoreUnavailable, match=words):
        open_store(tmp_path, options=options).prepare()


WORDS = [
    ("Error performing PUT http://169.254.169.254/latest/api/token in 1ms - HTTP error", "no credentials were found"),
    ("Error performing token request: Error performing GET http://metadata", "no credentials were found"),
    ('HttpError { kind: Connect, source: ConnectError("dns error", ..) }', "its name cannot be resolved"),
    ('HttpError { kind: Connect, source: "timed out" }', "no answer in time"),
    ("status code: 403 Forbidden: <Error><Code>ExpiredToken</Code><T>hush</T></Error>", "these credentials (403"),
    ("something new, hush", "it failed (GenericError)"),
]


@pytest.mark.parametrize(("text", "words"), WORDS)
def test_the_words_for_a_failure_hold_nothing_of_what_obstore_quotes(text: str, words: str) -> None:
    failure = explain(GenericError(text), "s3://bucket: cannot be listed", "s3")
    assert failure.message.startswith("s3://bucket: cannot be listed: ")
    assert words in failure.message
    assert "hush" not in str(failure)


# --- the root --------------------------------------------------------------------------


@pytest.mark.parametrize("is_here", [True, False])
def test_weights_that_the_server_does_not_copy_are_sent(
    proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_here: bool
) -> None:
    monkeypatch.setattr(objects_send, "COPY_BYTES", 100)
    store = open_store(tmp_path / "store", proxy.port)
    log, _ = start(store, ledger := Ledger())
    save(log, tmp_path, ledger, 7)
    if not is_here:
        raw(tmp_path / "store").put(MODEL_FILE, b"somebody wrote here")
        log.publish_root()
    check_tidy(tmp_path / "store", log, ledger)
    assert len([request for request in proxy.requests if f"store/{MODEL_FILE}?partNumber" in request]) >= 2


def test_the_weights_reach_the_root_last_and_after_their_record(proxy: Proxy, tmp_path: Path) -> None:
    log, _ = start(open_store(tmp_path / "store", proxy.port), ledger := Ledger())
    proxy.restore()
    save(log, tmp_path, ledger, 7)
    stored = [request.split("/store/")[1] for request in proxy.requests if request.startswith("PUT")]
    assert stored[-3:] == ["dragoman/log/000002.json", CARD, MODEL_FILE]


def test_a_root_that_is_right_is_left_as_it_is(proxy: Proxy, tmp_path: Path) -> None:
    log, _ = start(open_store(tmp_path / "store", proxy.port), ledger := Ledger())
    save(log, tmp_path, ledger, 7)
    proxy.restore()
    log.publish_root()
    assert not [request for request in proxy.requests if request.startswith("P")]
    raw(tmp_path / "store").copy(f"checkpoint-7/{CARD}", MODEL_FILE)
    log.publish_root()
    check_tidy(tmp_path / "store", log, ledger)


# --- what else a store does ------------------------------------------------------------


def test_a_file_that_no_record_names_is_proved_by_what_is_noted_beside_it(tmp_path: Path) -> None:
    store, name = open_store(tmp_path / "store"), "dragoman/corpus/ab/train.ids"
    (tmp_path / "ids").write_bytes(b"12345678")
    store.keep({name: tmp_path / "ids"})
    store.bring([name], tmp_path / "here")
    (tmp_path / "here" / name).write_bytes(b"12345679")  # another machine's leftovers
    store.bring([name], tmp_path / "here")
    assert (tmp_path / "here" / name).read_bytes() == b"12345678"
    raw(tmp_path / "store").put(name, b"87654321", attributes=raw(tmp_path / "store").get(name).attributes)
    with pytest.raises(Damaged, match=r"train\.ids"):
        store.bring([name], tmp_path / "there")
    with pytest.raises(StoreUnavailable, match="missing"):
        store.bring(["dragoman/corpus/ab/x"], tmp_path / "there")


def test_the_age_of_a_store_without_records_is_infinite(tmp_path: Path) -> None:
    assert open_store(tmp_path).idle_seconds() == math.inf


def test_what_moves_is_told_and_uploads_are_held_back_to_the_rate(tmp_path: Path) -> None:
    waits, arrived, beats = list[float](), list[int](), list[bool]()
    store = open_store(
        tmp_path / "store",
        upload_bytes_per_second=100.0,
        clock=lambda: time.monotonic() + sum(waits),
        sleep=waits.append,
    )
    store.progress, store.beat = arrived.append, lambda: beats.append(True)
    log, _ = start(store, ledger := Ledger())
    before = len(beats)
    checkpoint = save(log, tmp_path, ledger, 7)
    assert sum(waits) == pytest.approx(checkpoint.num_bytes / 100, abs=1.0)
    assert len(beats) - before > 20
    assert arrived == []
    store.verify(checkpoint)
    assert sum(arrived) == checkpoint.num_bytes


def test_the_settings_of_a_person_reach_obstore_and_a_wrong_url_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AZURE_STORAGE_ACCOUNT_NAME", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InputError, match="Account must be specified") as refused:
        ObjectStore("az://container/path")
    assert "AZURE_STORAGE_ACCOUNT_NAME" in refused.value.hint
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "me")
    assert str(ObjectStore("az://container/path")) == "az://container/path"
    assert str(ObjectStore("gs://bucket/path")) == "gs://bucket/path"
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere.json")
    with pytest.raises(InputError, match=r"/nowhere\.json"):
        ObjectStore("gs://bucket/path")
    with pytest.raises(InputError, match="s3://BUCKET/PATH"):
        ObjectStore("s3:///path")


def test_the_environment_names_server_and_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = server().options()["config"]
    monkeypatch.setenv("AWS_ENDPOINT_URL", config["endpoint"])
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", config["access_key_id"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", config["secret_access_key"])
    log, _ = start(ObjectStore(f"s3://{BUCKET}{tmp_path}"), Ledger())
    server().begin_upload(f"{str(tmp_path).strip('/')}/{MODEL_FILE}")
    assert len(log.store.held()) == 1


def test_without_obstore_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(InputError, match=r"dragoman\[s3\]"):
        ObjectStore("s3://bucket/path")


def test_importing_the_store_does_not_import_obstore() -> None:
    code = "import sys, dragoman.store.objects; sys.exit('obstore' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
