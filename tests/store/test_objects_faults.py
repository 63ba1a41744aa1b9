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
from dragoman.store.disk import digest
from dragoman.store.objects import ObjectStore
from tests.store.objects_session import (
    STATE,
    check_tidy,
    names,
    open_store,
    publish,
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


def test_a_record_that_is_refused_is_not_made_later(
    proxy: Proxy, folder: Path, tmp_path: Path, log: RunLog, ledger: Ledger
) -> None:
    proxy.add(Fault("PUT", RECORD, status=403, code="AccessDenied"))
    with pytest.raises(StoreUnavailable, match="denied"):
        save(log, tmp_path, ledger, 7)
    log.clean()
    assert names(folder) == {"dragoman/log/000001.json"}


@pytest.mark.parametrize(
    "fault",
    [
        Fault("PUT", RECORD, status=409, code="ConditionalRequestConflict"),
        Fault("PUT", RECORD, cut=True),
        Fault("POST", f"{MODEL_FILE}?uploadId", cut=True, late=True),
        Fault("PUT", STATE, status=500, late=True),
    ],
)
def test_one_failure_is_settled_within_the_save(
    proxy: Proxy, folder: Path, tmp_path: Path, log: RunLog, ledger: Ledger, fault: Fault
) -> None:
    proxy.add(fault)
    save(log, tmp_path, ledger, 7)
    assert fault.num_met == 1
    check_tidy(folder, log, ledger)


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
