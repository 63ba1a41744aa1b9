"""Which checkpoint a session continues from."""

import random
from pathlib import Path

import pytest

from dragoman.checkpoint.lease import take_lease
from dragoman.checkpoint.log import RunLog
from dragoman.checkpoint.restore import newest_good, repair_root
from dragoman.errors import Damaged, ExitCode, StoreUnavailable
from dragoman.store.base import MODEL_FILE
from dragoman.store.local import FolderStore
from dragoman.store.record import CheckpointRecord
from tests.store.session import MODEL, STATE, Ledger, no_damage, open_log, save, start


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "run")


def saved(store: FolderStore, ledger: Ledger, steps: tuple[int, ...]) -> tuple[RunLog, list[CheckpointRecord]]:
    log, _ = start(store, ledger)
    return log, [save(log, store, ledger, step, best=False) for step in steps]


def lease(store: FolderStore, ledger: Ledger) -> RunLog:
    store.prepare()
    log = open_log(store, ledger)
    take_lease(log, "here")
    return log


class Told(list[tuple[int, str]]):
    """A report that remembers."""

    def __call__(self, checkpoint: CheckpointRecord, problem: str) -> None:
        self.append((checkpoint.step, problem))


def test_a_run_without_checkpoints_starts_from_nothing(store: FolderStore) -> None:
    log, restored = start(store, Ledger())
    assert restored is None
    assert newest_good(log, no_damage) is None


def test_any_damage_anywhere_is_found_and_the_one_before_is_restored(store: FolderStore) -> None:
    chance = random.Random(0)
    log, (older, newer) = saved(store, Ledger(), (500, 1000))
    whole = {name: (store.root / newer.folder / name).read_bytes() for name in newer.files}
    for _ in range(1000):
        name = chance.choice([MODEL, STATE])
        path, data = store.root / newer.folder / name, bytearray(whole[name])
        how = chance.choice(["flip", "cut", "longer", "missing", "swapped"])
        if how == "flip":
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path.unlink()
        if how != "missing":
            other = whole[STATE if name == MODEL else MODEL]
            path.write_bytes(
                {"flip": data, "cut": data[: chance.randrange(len(data))], "longer": data + b"\0", "swapped": other}[
                    how
                ]
            )
        told = Told()
        reader = RunLog(store)  # without the lease, so that nothing is dropped
        assert newest_good(reader, told) == older
        assert told[0][0] == 1000
        assert str(path) in told[0][1]
        path.write_bytes(whole[name])
    assert newest_good(log, no_damage) == newer


def test_the_damaged_one_is_dropped_with_its_reason(store: FolderStore) -> None:
    ledger = Ledger()
    _, (older, newer) = saved(store, ledger, (500, 1000))
    (store.root / newer.folder / MODEL).unlink()
    log = lease(store, ledger)
    assert newest_good(log, Told()) == older
    drop = log.records[-1]
    assert drop.kind == "drop"
    assert drop.reason == f"damaged: {store.root / newer.folder / MODEL}: missing"
    assert not (store.root / newer.folder).exists()
    repair_root(log, no_damage)
    assert (store.root / MODEL).read_bytes() == ledger.written[older.nonce][MODEL]


def test_when_all_are_damaged_nothing_is_removed_and_the_error_says_what_to_do(store: FolderStore) -> None:
    log, checkpoints = saved(store, Ledger(), (500, 1000))
    for checkpoint in checkpoints:
        (store.root / checkpoint.folder / STATE).write_bytes(b"")
    told = Told()
    with pytest.raises(Damaged, match="every checkpoint is damaged") as raised:
        newest_good(log, told)
    assert raised.value.exit_code == ExitCode.BAD_INPUT
    assert "--output" in raised.value.hint
    assert [step for step, _ in told] == [1000, 500]
    assert [checkpoint.step for checkpoint in RunLog(store).checkpoints] == [1000, 500]
    assert (store.root / checkpoints[0].folder / MODEL).exists()


def test_a_disk_that_cannot_be_read_right_now_is_not_damage(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, _ = saved(store, Ledger(), (500, 1000))

    def refused(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("dragoman.store.local.digest", refused)
    with pytest.raises(StoreUnavailable, match="Permission denied"):
        newest_good(log, no_damage)
    assert len(log.checkpoints) == 2


def test_a_damaged_best_checkpoint_is_not_published(store: FolderStore) -> None:
    ledger = Ledger()
    log, _ = start(store, ledger)
    best = save(log, store, ledger, 500, best=True)
    newest = save(log, store, ledger, 1000, best=False)
    (store.root / best.folder / MODEL_FILE).write_bytes(b"rot")  # the root is a link to it: both are bad
    told = Told()
    assert newest_good(log, told) == newest
    repair_root(log, told)
    assert [step for step, _ in told] == [500]
    assert (store.root / MODEL).read_bytes() == ledger.written[newest.nonce][MODEL]
    assert log.checkpoints == [newest]


def fail(store: FolderStore, ledger: Ledger, resumed_from: CheckpointRecord, *, save_at: int = 0) -> RunLog:
    """A session that ends in our own exception."""
    log = lease(store, ledger)
    if save_at:
        save(log, store, ledger, save_at, best=False)
    log.finish("failed", "ValueError: x", step=save_at, resumed_from=resumed_from.nonce)
    return log


def test_a_checkpoint_from_which_training_failed_twice_is_skipped_and_kept(store: FolderStore) -> None:
    ledger = Ledger()
    _, (older, newer) = saved(store, ledger, (500, 1000))
    log = fail(store, ledger, newer)
    assert newest_good(log, no_damage) == newer  # once may be chance
    log = lease(store, ledger)  # killed: no record, does not count
    assert newest_good(log, no_damage) == newer
    log, told = fail(store, ledger, newer), Told()
    assert newest_good(log, told) == older
    assert told == [(1000, "two sessions that continued from it failed: ValueError: x")]
    assert log.checkpoints == [newer, older]


def test_a_failure_after_a_save_is_not_the_fault_of_the_checkpoint_before(store: FolderStore) -> None:
    ledger = Ledger()
    _, (_, newer) = saved(store, ledger, (500, 1000))
    fail(store, ledger, newer)
    log = fail(store, ledger, newer, save_at=1500)
    last = log.newest
    assert newest_good(log, no_damage) == last
    log = fail(store, ledger, newer)
    log.drop([last] if last else [], "damaged: test")
    assert newest_good(log, no_damage) == newer  # three failures, but never two without a save between


def test_when_every_checkpoint_failed_twice_the_newest_is_tried_again(store: FolderStore) -> None:
    ledger = Ledger()
    _, (older, newer) = saved(store, ledger, (500, 1000))
    for checkpoint in (newer, newer, older, older):
        log = fail(store, ledger, checkpoint)
    assert newest_good(log, no_damage) == newer


def test_a_session_that_skipped_a_checkpoint_is_newer_than_it(store: FolderStore) -> None:
    ledger = Ledger()
    _, (_, newer) = saved(store, ledger, (500, 1000))
    fail(store, ledger, newer)
    fail(store, ledger, newer)
    log = lease(store, ledger)
    again = save(log, store, ledger, 700, best=False)
    assert log.newest == again
    assert newest_good(log, no_damage) == again
