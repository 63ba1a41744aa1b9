"""Downloads from an object store: continued where they were cut, believed only by their digest."""

from collections.abc import Generator
from pathlib import Path

import pytest

from dragoman.checkpoint.log import RunLog
from dragoman.errors import Damaged, StoreUnavailable
from dragoman.store.base import MODEL_FILE
from dragoman.store.disk import part
from tests.store.objects_session import PART_BYTES, STATE, open_store, raw, save, start
from tests.store.session import Ledger
from tests.support.s3 import server
from tests.support.s3_proxy import Fault, Proxy


@pytest.fixture
def proxy() -> Generator[Proxy]:
    with Proxy(server().port) as proxy:
        yield proxy


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def saved(proxy: Proxy, folder: Path, tmp_path: Path, ledger: Ledger) -> RunLog:
    """The log of a store behind the proxy with one checkpoint, step 7."""
    log, _ = start(open_store(folder, proxy.port), ledger)
    save(log, tmp_path, ledger, 7)
    proxy.restore()
    return log


def fetch(log: RunLog, into: Path, *names: str) -> None:
    assert log.newest is not None
    log.store.fetch(log.newest, names or log.newest.files, into)


def model(ledger: Ledger) -> bytes:
    return next(iter(ledger.written.values()))[MODEL_FILE]


def test_a_download_that_was_cut_goes_on_where_it_was(
    proxy: Proxy, tmp_path: Path, saved: RunLog, ledger: Ledger
) -> None:
    target = tmp_path / "here" / MODEL_FILE
    proxy.add(Fault("GET", MODEL_FILE, skip=1, times=None, cut=True))
    with pytest.raises(StoreUnavailable, match="cut"):
        fetch(saved, tmp_path / "here")
    assert not target.exists()
    assert part(target).read_bytes() in (b"", model(ledger)[:PART_BYTES])
    part(target).write_bytes(model(ledger)[: PART_BYTES + 7])
    proxy.clear()
    proxy.restore()
    fetch(saved, tmp_path / "here")
    assert target.read_bytes() == model(ledger)
    assert not part(target).exists()
    num_requests = len([request for request in proxy.requests if MODEL_FILE in request])
    assert num_requests == -(-(len(model(ledger)) - PART_BYTES - 7) // PART_BYTES)


@pytest.mark.parametrize("wrong", [b"not these bytes", b"x" * 1000])
def test_a_wrong_beginning_is_thrown_away(tmp_path: Path, saved: RunLog, ledger: Ledger, wrong: bytes) -> None:
    target = tmp_path / "here" / MODEL_FILE
    target.parent.mkdir()
    part(target).write_bytes(wrong)
    fetch(saved, tmp_path / "here")
    assert target.read_bytes() == model(ledger)


def test_bytes_that_change_on_their_way_are_asked_for_once_more(
    proxy: Proxy, tmp_path: Path, saved: RunLog, ledger: Ledger
) -> None:
    proxy.add(Fault("GET", MODEL_FILE, flip_byte=-1))
    fetch(saved, tmp_path / "here")
    assert (tmp_path / "here" / MODEL_FILE).read_bytes() == model(ledger)
    proxy.add(Fault("GET", STATE, flip_byte=0, times=None))
    with pytest.raises(Damaged, match=STATE):
        fetch(saved, tmp_path / "there")
    assert not [path for path in (tmp_path / "there").rglob("*") if path.name.startswith("state")]


def test_a_server_that_answers_404_to_everything_is_no_damage(proxy: Proxy, tmp_path: Path, saved: RunLog) -> None:
    proxy.add(Fault(status=404, code="NoSuchKey", times=None))
    with pytest.raises(StoreUnavailable):
        fetch(saved, tmp_path / "here")
    with pytest.raises(StoreUnavailable):
        saved.store.verify(saved.checkpoints[0])


@pytest.mark.parametrize("data", [b"longer than what was recorded" * 9, b"", None])
def test_a_file_of_another_size_is_damage(folder: Path, tmp_path: Path, saved: RunLog, data: bytes | None) -> None:
    raw(folder).delete(f"checkpoint-7/{MODEL_FILE}")
    if data is not None:
        raw(folder).put(f"checkpoint-7/{MODEL_FILE}", data)
    (tmp_path / "here").mkdir()
    part(tmp_path / "here" / MODEL_FILE).write_bytes(b"w" * 50)
    with pytest.raises(Damaged, match=MODEL_FILE):
        fetch(saved, tmp_path / "here")
    with pytest.raises(Damaged, match=MODEL_FILE):
        saved.store.verify(saved.checkpoints[0])


def test_a_log_is_not_read_as_empty_when_the_store_fails(proxy: Proxy, folder: Path, saved: RunLog) -> None:
    for fault in (Fault("GET", times=None, status=500), Fault("GET", times=None, cut=True)):
        proxy.clear()
        proxy.add(fault)
        with pytest.raises(StoreUnavailable):
            open_store(folder, proxy.port).records()
