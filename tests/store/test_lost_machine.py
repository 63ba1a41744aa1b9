"""The machine is lost before every single change of two sessions; the next machine finds everything."""

import contextlib
import random
import shutil
from collections.abc import Generator
from pathlib import Path

import pytest

from dragoman.store.local import FolderStore
from tests.store.session import (
    Ledger,
    check_tidy,
    check_whole,
    live_on,
    open_log,
    place_strangers,
    save,
    scratch,
    start,
    two_sessions,
)
from tests.support.lost_machine import LOSSES, LosingDisk, Loss, MachineLost

PARTS = 4
"""The changes are dealt to this many tests, which may run side by side."""


@pytest.fixture
def folder() -> Generator[Path]:
    with scratch() as path:
        yield path


def fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def lose(base: Path, lose_before: int | None, *, restarted: LosingDisk | None = None, ledger: Ledger) -> LosingDisk:
    """Work through two sessions in `base/run` until the machine is lost."""
    if restarted is None:
        place_strangers(fresh(base) / "run")
    disk = LosingDisk(base, lose_before, restarted=restarted)
    try:
        two_sessions(FolderStore(base / "run", disk), ledger)
    except MachineLost:
        assert lose_before is not None
    else:
        assert lose_before is None
    return disk


def count(base: Path) -> int:
    return len(lose(base, None, ledger=Ledger()).changes)


def test_the_sessions_make_every_kind_of_change_and_all_of_them_through_the_disk(folder: Path) -> None:
    ledger = Ledger()
    disk = lose(folder / "m", None, ledger=ledger)
    disk.check_model()
    kinds = {change.split()[0] for change in disk.changes}
    assert kinds == {
        *("make_folder", "create", "append", "sync", "sync_file", "sync_folder"),
        *("rename", "link", "unlink", "remove_folder"),
    }
    check_tidy(folder / "m/run", open_log(FolderStore(folder / "m/run"), ledger))


@pytest.mark.parametrize("part", range(PARTS))
def test_a_machine_lost_before_any_change_loses_no_recorded_checkpoint(folder: Path, part: int) -> None:
    num_changes = count(folder / "m")
    for k in range(1 + part, num_changes + 1, PARTS):
        for loss in LOSSES[::-1]:  # killed last: it goes on in the very folder
            ledger = Ledger()
            disk = lose(folder / "m", k, ledger=ledger)
            left = disk.survivors(loss, fresh(folder / "left"), seed=k)
            try:
                live_on(left / "run", ledger)
            except Exception as error:
                raise AssertionError(f"{loss} before change {k} of {num_changes}: {disk.changes[k - 1]}") from error


@pytest.mark.parametrize("loss", LOSSES)
def test_a_second_loss_during_recovery_loses_nothing_either(folder: Path, loss: Loss) -> None:
    # The first process is only killed, so the second one builds on what was never fsynced.
    chance = random.Random(0)
    num_changes = count(folder / "m")
    for trial in range(60):
        ledger = Ledger()
        first = lose(folder / "m", chance.randint(1, num_changes), ledger=ledger)
        second = lose(folder / "m", chance.randint(1, num_changes // 2), restarted=first, ledger=ledger)
        left = second.survivors(loss, fresh(folder / "left"), seed=trial)
        live_on(left / "run", ledger)


def test_a_folder_that_a_killed_process_made_survives_the_power_cut_after_the_next_save(folder: Path) -> None:
    for k in range(1, 30):
        ledger, base = Ledger(), fresh(folder / "m")
        first = LosingDisk(base, k)
        with contextlib.suppress(MachineLost):
            start(FolderStore(base / "new/folders/run", first), ledger)

        store = FolderStore(base / "new/folders/run", LosingDisk(base, restarted=first))
        save(start(store, ledger)[0], store, ledger, 500, best=True)
        assert isinstance(store.disk, LosingDisk)
        left = store.disk.survivors("power_cut", fresh(folder / "left"))
        check_whole(left / "new/folders/run", ledger)
