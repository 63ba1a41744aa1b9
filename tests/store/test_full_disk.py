"""The disk is full before every single change of a session; it goes on, and nothing is torn."""

import shutil
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TypeVar

import pytest

from dragoman.errors import StoreUnavailable
from dragoman.store.local import FolderStore
from dragoman.store.record import CheckpointRecord
from tests.store.session import Ledger, check_strangers, check_tidy, check_whole, place_strangers, save, scratch, start
from tests.support.lost_machine import FullDisk

T = TypeVar("T")


@pytest.fixture
def folder() -> Generator[Path]:
    with scratch() as path:
        yield path


def session(root: Path, disk: FullDisk, ledger: Ledger) -> None:
    """As a trainer does it: a save that fails is given up, its space is given back, training goes on."""
    store = FolderStore(root, disk)

    def surviving(work: Callable[[], T]) -> T | None:
        try:
            return work()
        except (StoreUnavailable, OSError):
            assert disk.refused
            check_whole(root, ledger)
            disk.free()
            return None

    log, _ = surviving(lambda: start(store, ledger)) or start(store, ledger)
    for step in (500, 1000, 1500, 2000):
        surviving(lambda step=step: save(log, store, ledger, step, best=step == 500))
        log.clean()
    last: CheckpointRecord | None = log.newest
    surviving(lambda: log.finish("stopped", "deadline", step=2000))
    log, restored = surviving(lambda: start(store, ledger)) or start(store, ledger)
    assert restored == last
    final = surviving(lambda: save(log, store, ledger, 2500, best=True)) or save(log, store, ledger, 2500, best=True)
    log.clean()
    assert log.newest == final
    assert disk.refused <= 1 or not disk.once
    check_whole(root, ledger)
    check_tidy(root, log)
    check_strangers(root)


def fresh(root: Path) -> Path:
    shutil.rmtree(root, ignore_errors=True)
    place_strangers(root)
    return root


@pytest.mark.parametrize("once", [True, False], ids=["once", "until freed"])
def test_a_disk_full_before_any_change_tears_nothing_and_the_next_save_succeeds(folder: Path, once: bool) -> None:
    disk = FullDisk(None, once=once)
    session(fresh(folder / "run"), disk, Ledger())
    for k in range(1, len(disk.changes) + 1):
        session(fresh(folder / "run"), FullDisk(k, once=once), Ledger())


def test_a_full_disk_is_named_with_its_cause(folder: Path) -> None:
    store = FolderStore(folder / "run", FullDisk(1))
    with pytest.raises(StoreUnavailable, match="No space left on device") as raised:
        store.prepare()
    assert isinstance(raised.value.__cause__, OSError)
