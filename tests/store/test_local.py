"""The folder store: it conforms, and it refuses folders in which it could not keep its promises."""

import errno
import os
import subprocess
import sys
from io import FileIO
from pathlib import Path

import pytest

from dragoman.checkpoint.lease import take_lease
from dragoman.checkpoint.log import RunLog
from dragoman.errors import InputError, StoreUnavailable, Superseded
from dragoman.store.base import MODEL_FILE
from dragoman.store.disk import Disk
from dragoman.store.local import FolderStore
from dragoman.store.record import CheckpointRecord, FileEntry
from tests.store.conformance import StoreConformance
from tests.store.session import MODEL, STATE, Ledger, check_tidy, place_strangers, save, start, two_sessions
from tests.support.lost_machine import FullDisk


class TestFolderStore(StoreConformance):
    single_writer = False

    def open(self, folder: Path) -> FolderStore:
        store = FolderStore(folder, single_writer=self.single_writer)
        store.prepare()
        return store

    def read(self, folder: Path, name: str) -> bytes:
        return (folder / name).read_bytes()

    def overwrite(self, folder: Path, name: str, data: bytes | None) -> None:
        (folder / name).unlink(missing_ok=True)
        if data is not None:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)

    def names(self, folder: Path) -> set[str]:
        return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


class TestFolderStoreWithoutLinks(TestFolderStore):
    single_writer = True


class NoLinks(Disk):
    def link(self, old: Path, new: Path) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM), str(new))


class OverwritingLinks(Disk):
    """A file system whose link() replaces what has the name."""

    def link(self, old: Path, new: Path) -> None:
        new.write_bytes(old.read_bytes())


class ReadOnly(Disk):
    def make_folder(self, path: Path) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))


class Untouchable(Disk):
    def create(self, path: Path) -> FileIO:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def test_the_best_model_is_on_the_disk_once(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "run")
    log, _ = start(store, ledger := Ledger())
    checkpoint = save(log, store, ledger, 500, best=True)
    assert (store.root / MODEL_FILE).samefile(store.root / checkpoint.folder / MODEL_FILE)


def test_a_whole_run_works_without_links(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "run", NoLinks(), single_writer=True)
    place_strangers(store.root)
    two_sessions(store, ledger := Ledger())
    check_tidy(store.root, RunLog(store, new_nonce=ledger.new_nonce))


def test_checkpoint_folders_are_plain_first_and_never_named_twice(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "run")
    log, _ = start(store, ledger := Ledger())
    folders = [save(log, store, ledger, step, best=False).folder for step in (500, 1000, 500)]
    log, _ = start(store, ledger)
    folders += [save(log, store, ledger, step, best=False).folder for step in (1500, 1500)]
    assert folders[:2] == ["checkpoint-500", "checkpoint-1000"]
    assert folders[2].startswith("checkpoint-500-")
    assert all(folder.startswith("checkpoint-1500-") for folder in folders[3:])
    assert len(set(folders)) == 5


def test_a_published_checkpoint_leaves_nothing_behind(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "run")
    log, _ = start(store, ledger := Ledger())
    save(log, store, ledger, 500, best=True)
    check_tidy(store.root, log, strangers=False)
    assert list((store.root / "dragoman/staging").iterdir()) == []


def test_a_record_does_not_replace_one_that_came_at_the_same_instant(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "run")
    log, _ = start(store, ledger := Ledger())
    other = RunLog(store)

    class Faster(Disk):
        """Another machine is there between our look and our link."""

        def link(self, old: Path, new: Path) -> None:
            if not other.holds_lease:
                take_lease(other, "there")
            super().link(old, new)

    store_of_the_slow = FolderStore(tmp_path / "run", Faster())
    log.store = store_of_the_slow
    with pytest.raises(Superseded, match="there"):
        save(log, store_of_the_slow, ledger, 500, best=True)
    assert [record.owner for record in RunLog(store).records] == [log.owner, other.owner]


def test_a_publish_that_failed_half_way_may_be_repeated(tmp_path: Path) -> None:
    for k in range(1, 60):
        disk = FullDisk(None, once=True)
        store = FolderStore(tmp_path / f"run{k}", disk)
        log, _ = start(store, Ledger())
        folder = store.staging("abc")
        disk.make_folder(folder / "training")
        files = {name: (folder / name, disk.write(folder / name, [name.encode()])) for name in (MODEL, STATE)}

        def publish(log: RunLog = log, files: dict[str, tuple[Path, FileEntry]] = files) -> CheckpointRecord:
            return log.publish_checkpoint(nonce="abc", step=1, pairs_seen=1, files=files, config="", corpus="")

        disk.fill(k)
        try:
            checkpoint = publish()
            assert not disk.refused
            break
        except StoreUnavailable:
            num_changes = len(disk.changes)
            checkpoint = publish()
            # Even where the record was visible already, it is made durable.
            assert f"sync_folder {store.root / 'dragoman/log'}" in disk.changes[num_changes:]
        store.verify(checkpoint)
        assert len(RunLog(store).records) == 2
    else:
        raise AssertionError("never got through")
    assert k > 15


@pytest.mark.parametrize("disk", [NoLinks(), OverwritingLinks()])
def test_a_file_system_without_links_is_refused_with_a_way_out(tmp_path: Path, disk: Disk) -> None:
    with pytest.raises(InputError, match="--single-writer"):
        FolderStore(tmp_path / "run", disk).prepare()
    assert not [path for path in (tmp_path / "run").rglob("*") if path.is_file()]


@pytest.mark.parametrize("disk", [ReadOnly(), Untouchable()])
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, disk: Disk) -> None:
    with pytest.raises(InputError, match=str(tmp_path / "run")):
        FolderStore(tmp_path / "run", disk).prepare()


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(InputError, match=str(tmp_path / "run")):
        FolderStore(tmp_path / "run").prepare()


@pytest.mark.parametrize("name", ["checkpoint-500/model.safetensors", "model.safetensors"])
def test_a_folder_with_somebody_elses_checkpoints_is_refused_and_left_alone(tmp_path: Path, name: str) -> None:
    path = tmp_path / "run" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weeks of work")
    with pytest.raises(InputError, match="not written by dragoman"):
        FolderStore(tmp_path / "run").prepare()
    assert path.read_bytes() == b"weeks of work"


def test_only_one_trainer_works_in_a_folder(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.prepare()
    assert store.locked() is None
    with store.lock():
        assert store.locked() == os.getpid()
        with pytest.raises(InputError, match=f"process {os.getpid()} "), store.lock(wait_seconds=0):
            pass
        assert store.locked() == os.getpid()
    assert store.locked() is None
    with store.lock(wait_seconds=0):
        pass


def test_a_lock_dies_with_its_trainer_though_a_forked_worker_lives(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.prepare()
    trainer = (
        "import os, sys, pathlib; from dragoman.store.local import FolderStore\n"
        "born, tell = os.pipe()\n"
        "with FolderStore(pathlib.Path(sys.argv[1])).lock():\n"
        "    if os.fork() == 0:\n"
        "        os.write(tell, b'x')\n"
        "        sys.stdin.read()  # the worker lives until our end of the pipe is closed\n"
        "        os._exit(0)\n"
        "    os.read(born, 1)\n"
        "    os._exit(0)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", trainer, str(tmp_path)], stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.wait()
    assert store.locked() is None
    process.stdin.close()


def test_a_reader_needs_no_lease_and_changes_nothing(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "run")
    log, _ = start(store, ledger := Ledger())
    save(log, store, ledger, 500, best=True)
    before = sorted(tmp_path.rglob("*"))
    reader = RunLog(FolderStore(tmp_path / "run", ReadOnly()))
    assert (reader.newest, reader.epoch, reader.holds_lease) == (log.newest, 1, False)
    assert RunLog(FolderStore(tmp_path / "nowhere")).records == ()
    assert sorted(tmp_path.rglob("*")) == before


def test_a_lease_whose_answer_was_lost_is_ours(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "run")
    store.prepare()
    log = RunLog(store)
    lease = take_lease(log, "here")
    assert take_lease(log, "here") == lease
    assert len(log.records) == 1


def test_a_record_whose_unfinished_self_was_taken_for_debris_is_written_again(tmp_path: Path) -> None:
    """The machine that holds the lease cleans up while another one is about to take it."""

    class Cleaned(Disk):
        times = 2

        def link(self, old: Path, new: Path) -> None:
            if self.times:
                self.times -= 1
                old.unlink()
            super().link(old, new)

    disk = Cleaned()
    disk.times = 0
    store = FolderStore(tmp_path / "store", disk)
    store.prepare()
    disk.times = 2
    take_lease(RunLog(store), "here")
    assert [record.kind for record in store.records()] == ["lease"]
    disk.times = 3
    with pytest.raises(StoreUnavailable):
        take_lease(RunLog(store), "there")
