"""The machine is lost before every single request, and before every change of its disk; the next one goes on."""

import shutil
from collections.abc import Generator
from pathlib import Path

import pytest

from dragoman.errors import StoreUnavailable
from dragoman.store.base import MODEL_FILE
from tests.store.hub_session import HubRun
from tests.store.session import scratch
from tests.support.hub import HubStandIn
from tests.support.hub.client import without_waiting
from tests.support.lost_machine import LOSSES, LosingDisk, MachineLost

PARTS = 4
"""The requests are dealt to this many tests, which may run side by side."""


@pytest.fixture(scope="module")
def hub() -> Generator[HubStandIn]:
    with HubStandIn() as hub:
        hub.add_token("hf_thisIsTheSecretOfAda", "ada")
        yield hub


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    without_waiting(monkeypatch)


@pytest.fixture
def folder() -> Generator[Path]:
    with scratch() as path:
        yield path


def session(run: HubRun) -> None:
    """Everything that ever happens to a repository: saves, a best one that changes, drops, trims, an end, a resume."""
    log, _ = run.resume()
    first = run.save(log, 500)
    for step in (1000, 1500):
        run.save(log, step, best=first.nonce)
    log.finish("stopped", "deadline", step=1500)
    log, restored = run.resume()
    assert restored is not None
    run.save(log, 2000)
    log.finish("done", "all steps", step=2000, resumed_from=restored.nonce)


def live_on(run: HubRun) -> None:
    """A further session on what is left: it restores the newest, fetches it, saves, cleans up and ends."""
    if run.hub.key(run.repo) in run.hub.repositories:
        run.check_whole()
    log, restored = run.resume()
    if restored:
        shutil.rmtree(run.folder / "there", ignore_errors=True)
        log.store.fetch(restored, restored.files, run.folder / "there")
        assert (run.folder / "there" / MODEL_FILE).read_bytes() == run.written[restored.nonce][MODEL_FILE]
    last = run.save(log, (restored.step if restored else 0) + 500)
    log.finish("done", "all steps", step=last.step, resumed_from=restored.nonce if restored else "")
    log.clean()
    assert log.newest == last
    run.check_whole()
    run.check_tidy(log)


def test_a_session_loses_nothing_when_nothing_is_lost(hub: HubStandIn, folder: Path) -> None:
    run = HubRun(hub, folder)
    since = len(hub.requests)
    session(run)
    assert set(run.routes(since)) >= {
        *("whoami", "create", "info", "tree", "preupload", "batch", "upload", "verify", "commit", "resolve"),
        *("download", "lfs_list", "lfs_delete"),
    }
    assert run.held_steps() == 2
    live_on(run)
    assert run.held_steps() == 2


@pytest.mark.parametrize("part", range(PARTS))
def test_a_machine_lost_before_any_request_loses_no_recorded_checkpoint(
    hub: HubStandIn, folder: Path, part: int
) -> None:
    run = HubRun(hub, folder / "count")
    since = len(hub.requests)
    session(run)
    routes = run.routes(since)
    for k in range(1 + part, len(routes) + 1, PARTS):
        run = HubRun(hub, folder / str(k))
        hub.lose_machine(before=k)
        with pytest.raises(StoreUnavailable):
            session(run)
        hub.restore()
        try:
            live_on(run)
        except Exception as error:
            raise AssertionError(f"before request {k} of {len(routes)}: {routes[k - 1]}") from error


def test_a_machine_lost_before_any_change_of_its_disk_fetches_all_the_same(hub: HubStandIn, folder: Path) -> None:
    run = HubRun(hub, folder / "run")
    checkpoint = run.save(run.start(), 500)

    def fetch(base: Path, disk: LosingDisk) -> None:
        run.store(disk=disk).fetch(checkpoint, checkpoint.files, base / "there")

    def fresh() -> Path:
        shutil.rmtree(folder / "m", ignore_errors=True)
        (folder / "m").mkdir()
        return folder / "m"

    disk = LosingDisk(fresh())
    fetch(folder / "m", disk)
    disk.check_model()
    for k in range(1, len(disk.changes) + 1):
        for loss in LOSSES:
            lost = LosingDisk(fresh(), lose_before=k)
            with pytest.raises(MachineLost):
                fetch(folder / "m", lost)
            shutil.rmtree(folder / "left", ignore_errors=True)
            left = lost.survivors(loss, folder / "left", seed=k)
            for name, data in run.written[checkpoint.nonce].items():
                assert not (left / "there" / name).exists() or (left / "there" / name).read_bytes() == data
            again = LosingDisk(left)
            fetch(left, again)
            for name, data in run.written[checkpoint.nonce].items():
                assert (left / "there" / name).read_bytes() == data
            survived = again.survivors("power_cut", folder / "after")
            for name, data in run.written[checkpoint.nonce].items():
                assert (survived / "there" / name).read_bytes() == data
            shutil.rmtree(folder / "after")
