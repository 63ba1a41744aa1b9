"""The object store when requests fail: nothing is lost, nothing is believed that was not read back."""

import itertools
from collections.abc import Generator
from pathlib import Path

import pytest

from dragoman.checkpoint.lease import take_lease
from dragoman.checkpoint.log import RunLog
from dragoman.errors import Damaged, StoreUnavailable, Superseded
from dragoman.store.base import MODEL_FILE
from dragoman.store.deadline import Patience
from dragoman.store.disk import digest, part
from dragoman.store.objects import ObjectStore
from tests.store.objects_session import (
    PART_BYTES,
    STATE,
    check_tidy,
    names,
    open_store,
    publish,
    raw,
    save,
    start,
    write,
)
from tests.store.session import Ledger
from tests.support.s3 import server
from tests.support.s3_proxy import Fault, Proxy

RECORD = "dragoman/log/"
EARLY, REFUSED, LATE, LATE_500 = "cut", "503", "answer lost", "500 after the effect"
FAULTS = {
    EARLY: lambda skip: Fault(skip=skip, cut=True),
    REFUSED: lambda skip: Fault(skip=skip, status=503, code="SlowDown"),
    LATE: lambda skip: Fault(skip=skip, cut=True, late=True),
    LATE_500: lambda skip: Fault(skip=skip, status=500, late=True),
}


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
def log(proxy: Proxy, folder: Path, ledger: Ledger) -> RunLog:
    """The log of an empty store, behind the proxy, whose lease we hold."""
    log = start(open_store(folder, proxy.port), ledger)[0]
    proxy.restore()
    return log


def patient(proxy: Proxy, folder: Path) -> ObjectStore:
    """A store through which obstore tries each request a few times, as it does outside tests."""
    return open_store(folder, proxy.port, options=server().options(proxy.port, retries=2))


# --- a save ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [EARLY, LATE])
def test_a_save_may_be_repeated_whichever_of_its_requests_failed(
    proxy: Proxy, folder: Path, tmp_path: Path, log: RunLog, ledger: Ledger, kind: str
) -> None:
    save(log, tmp_path, ledger, 1)
    for k in itertools.count():
        step, nonce = k + 2, log.new_nonce()
        files = write(tmp_path, ledger, nonce, step)
        fault = proxy.add(FAULTS[kind](k))
        try:
            publish(log, files, nonce, step)
        except StoreUnavailable:
            log.clean()
            publish(log, files, nonce, step)
        proxy.clear()
        assert log.newest is not None
        assert log.newest.step == step
        log.store.verify(log.newest)
        if not fault.num_met:
            break
    assert k > 15
    log.publish_root()
    log.clean()
    check_tidy(folder, log, ledger)


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("target", [RECORD, f"checkpoint-7/{STATE}", "uploadId", f"store/{MODEL_FILE}"])
def test_obstore_tries_again_and_its_own_success_is_not_taken_for_anothers(
    proxy: Proxy, folder: Path, tmp_path: Path, log: RunLog, ledger: Ledger, kind: str, target: str
) -> None:
    log.store = patient(proxy, folder)
    fault = proxy.add(FAULTS[kind](0))
    fault.method, fault.target = "POST" if target == "uploadId" else "PUT", target
    save(log, tmp_path, ledger, 7)
    assert fault.num_met == 1
    check_tidy(folder, log, ledger)


def test_a_record_of_another_machine_that_comes_first_supersedes_us(
    proxy: Proxy, folder: Path, tmp_path: Path, log: RunLog, ledger: Ledger
) -> None:
    other = RunLog(open_store(folder))
    proxy.add(Fault("PUT", RECORD, act=lambda: take_lease(other, "there"), cut=True))
    with pytest.raises(Superseded, match="there"):
        save(log, tmp_path, ledger, 7)
    assert RunLog(open_store(folder)).records == other.records


def test_files_that_arrived_are_not_sent_again(
    proxy: Proxy, folder: Path, tmp_path: Path, log: RunLog, ledger: Ledger
) -> None:
    files = write(tmp_path, ledger, "ab", 7)
    proxy.add(Fault("PUT", RECORD, cut=True, times=None))
    with pytest.raises(StoreUnavailable, match="cut"):
        publish(log, files, "ab", 7)
    proxy.clear()
    proxy.restore()
    publish(log, files, "ab", 7)
    assert not [request for request in proxy.requests if request.startswith("P") and "checkpoint-7/" in request]


def test_a_file_that_changed_since_it_was_hashed_is_not_stored(
    proxy: Proxy, folder: Path, tmp_path: Path, log: RunLog, ledger: Ledger
) -> None:
    for name in (STATE, MODEL_FILE):
        files = write(tmp_path, ledger, "ab", 7)
        entries = {each: (path, digest(path)) for each, path in files.items()}
        data = files[name].read_bytes()
        files[name].write_bytes(data[:-1] + b"!")
        with pytest.raises(Damaged, match=str(files[name])):
            log.publish_checkpoint(nonce="ab", step=7, pairs_seen=7, files=entries, config="", corpus="")
        assert f"checkpoint-7/{name}" not in names(folder)
        log.clean()
    assert len(RunLog(open_store(folder)).records) == 1
    assert {name for name in names(folder) if name.startswith("checkpoint-")} == set()


def test_files_are_not_taken_for_debris_while_their_record_may_still_become_visible(
    proxy: Proxy, folder: Path, tmp_path: Path, log: RunLog, ledger: Ledger
) -> None:
    log.store = open_store(folder, proxy.port, options=server().options(proxy.port, timeout="300ms"))
    late = proxy.add(Fault("PUT", RECORD, hold=True))
    refusing = proxy.add(Fault("PUT", RECORD, cut=True, times=None))
    with pytest.raises(StoreUnavailable):
        save(log, tmp_path, ledger, 7)
    assert late.held.is_set()
    before = names(folder)
    with pytest.raises(StoreUnavailable):
        log.clean()
    assert names(folder) == before
    assert refusing.num_met > 1

    refusing.times = 0
    late.release()  # now the first request arrives, minutes late
    log.clean()
    log.refresh()
    assert log.newest is not None
    assert log.newest.step == 7
    log.store.verify(log.newest)


def test_an_upload_that_stands_still_is_given_up(
    proxy: Proxy, folder: Path, tmp_path: Path, log: RunLog, ledger: Ledger
) -> None:
    patience = Patience(stall_seconds=0.2, slowest_bytes_per_second=1e9)
    log.store = open_store(folder, proxy.port, patience=patience)
    proxy.add(Fault("PUT", "partNumber", hold=True, times=None))
    with pytest.raises(StoreUnavailable, match=r"model.safetensors: no "):
        save(log, tmp_path, ledger, 7)
    proxy.clear()
    log.store = open_store(folder, proxy.port)
    log.clean()
    assert {name for name in names(folder) if name.startswith("checkpoint-")} == set()


# --- a download ------------------------------------------------------------------------


@pytest.fixture
def saved(proxy: Proxy, folder: Path, tmp_path: Path, log: RunLog, ledger: Ledger) -> RunLog:
    """The log with one checkpoint, step 7."""
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
