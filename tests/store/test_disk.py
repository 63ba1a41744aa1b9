"""The disk's composed changes, and the model of a lost machine that everything else is tested with."""

import contextlib
import hashlib
import itertools
from array import array
from pathlib import Path

import pytest

from dragoman.store.disk import Disk, digest
from dragoman.store.record import FileEntry
from tests.support.lost_machine import LOSSES, FullDisk, LosingDisk, Loss, MachineLost


def losing(tmp_path: Path, lose_before: int | None = None) -> tuple[LosingDisk, Path]:
    base = tmp_path / "base"
    base.mkdir()
    return LosingDisk(base, lose_before), base


def test_writing_returns_what_is_on_the_disk(tmp_path: Path) -> None:
    chunks = [b"abc", bytearray(b"def"), array("f", [1.0, 2.0]), b""]
    entry = Disk().write(tmp_path / "a", chunks)
    data = b"abcdef" + array("f", [1.0, 2.0]).tobytes()
    assert (tmp_path / "a").read_bytes() == data
    assert entry == digest(tmp_path / "a") == FileEntry(size=14, sha256=hashlib.sha256(data).hexdigest())
    assert Disk().copy(tmp_path / "a", tmp_path / "b") == entry


def test_a_file_is_never_written_again_so_a_link_to_it_is_a_copy(tmp_path: Path) -> None:
    disk = Disk()
    disk.write(tmp_path / "a", [b"old"])
    disk.link(tmp_path / "a", tmp_path / "b")
    disk.write(tmp_path / "a", [b"new"])
    assert (tmp_path / "b").read_bytes() == b"old"


def test_a_write_that_fails_gives_its_bytes_back(tmp_path: Path) -> None:
    disk = FullDisk(3)
    with pytest.raises(OSError, match="No space left"):
        disk.write(tmp_path / "model", [b"0123456789"])
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("loss", LOSSES)
def test_a_replaced_file_is_the_old_or_the_new_one_and_at_last_the_new_one(tmp_path: Path, loss: Loss) -> None:
    for k in itertools.count(1):
        base = tmp_path / f"{k}"
        base.mkdir()
        (base / "config.json").write_bytes(b"old")
        disk = LosingDisk(base, k)
        returned = False
        with contextlib.suppress(MachineLost):
            disk.replace(base / "config.json", b"new!")
            returned = True
        left = disk.survivors(loss, tmp_path / f"left {k}", seed=k) / "config.json"
        assert left.read_bytes() in ([b"new!"] if returned else [b"old", b"new!"])
        if returned:
            assert k > 6
            return


def test_replacing_on_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    Disk().replace(tmp_path / "config.json", b"old")
    for k in range(1, 5):  # until the rename
        with pytest.raises(OSError, match="No space left"):
            FullDisk(k).replace(tmp_path / "config.json", b"new!")
        assert (tmp_path / "config.json").read_bytes() == b"old"


def test_new_folders_survive_a_power_cut(tmp_path: Path) -> None:
    disk, base = losing(tmp_path)
    disk.make_folders(base / "a/b/c")
    disk.make_folders(base / "a/b/d")
    left = disk.survivors("power_cut", tmp_path / "left")
    assert (left / "a/b/c").is_dir()
    assert (left / "a/b/d").is_dir()


def test_a_folder_is_not_made_where_a_file_stands(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(FileExistsError):
        Disk().make_folders(tmp_path / "a")


# --- the model itself: if it forgave, everything above it would prove nothing -----------


def test_the_model_loses_content_that_was_not_fsynced(tmp_path: Path) -> None:
    disk, base = losing(tmp_path)
    with disk.create(base / "a") as file:
        disk.append(file, memoryview(b"0123456789"))
    disk.sync_folder(base)
    assert (disk.survivors("killed", tmp_path / "1") / "a").read_bytes() == b"0123456789"
    assert (disk.survivors("power_cut", tmp_path / "2") / "a").read_bytes() == b"01234"
    for seed in range(20):
        left = disk.survivors("power_cut_reordered", tmp_path / f"3-{seed}", seed) / "a"
        assert left.read_bytes() == bytes(10)


def test_the_model_loses_names_whose_folder_was_not_fsynced(tmp_path: Path) -> None:
    disk, base = losing(tmp_path)
    for name in ("a", "b", "c"):
        disk.write(base / name, [name.encode()])
    disk.sync_folder(base)
    disk.rename(base / "a", base / "a2")
    disk.link(base / "b", base / "b2")
    disk.unlink(base / "c")
    disk.make_folder(base / "d")
    names = {path.name for path in disk.survivors("power_cut", tmp_path / "left").iterdir()}
    assert names == {"a", "b", "c"}
    outcomes = {
        frozenset(path.name for path in disk.survivors("power_cut_reordered", tmp_path / f"{seed}", seed).iterdir())
        for seed in range(200)
    }
    assert len(outcomes) == 2**5  # each of five changed names reached the disk, or not
    disk.sync_folder(base)
    names = {path.name for path in disk.survivors("power_cut", tmp_path / "synced").iterdir()}
    assert names == {"a2", "b", "b2", "d"}


def test_a_lost_machine_stays_lost(tmp_path: Path) -> None:
    disk, base = losing(tmp_path, 2)
    disk.make_folder(base / "a")
    for _ in range(3):
        with pytest.raises(MachineLost, match="before change 2"):
            disk.make_folder(base / "b")
    assert not (base / "b").exists()
    assert not isinstance(MachineLost(), Exception)
