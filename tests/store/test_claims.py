"""A claimed name is borne by whole bytes or by nothing, whatever fails, and an answer that was lost is settled."""

import contextlib
from collections.abc import Generator
from pathlib import Path

import pytest

from dragoman.errors import StoreUnavailable
from dragoman.store.local import FolderStore
from tests.store.hub_session import TOKEN, HubRun
from tests.store.objects_session import open_store
from tests.store.session import scratch
from tests.support.hub import Fault as HubFault
from tests.support.hub import HubStandIn
from tests.support.hub.client import without_waiting
from tests.support.lost_machine import LOSSES, LosingDisk, MachineLost
from tests.support.s3 import server
from tests.support.s3_proxy import Fault, Proxy

NAME = "dragoman/launches/000001.json"


@pytest.fixture
def base() -> Generator[Path]:
    with scratch() as path:
        yield path


def test_a_machine_lost_before_any_change_of_a_claim_leaves_it_whole_or_free(base: Path) -> None:
    def claim(folder: Path, lose_before: int | None) -> LosingDisk:
        folder.mkdir(parents=True)
        disk = LosingDisk(folder, lose_before)
        with contextlib.suppress(MachineLost):
            store = FolderStore(folder / "run", disk)
            store.prepare()
            assert store.claim(NAME, b"ours") == b"ours"
        return disk

    num_changes = len(claim(base / "all", None).changes)
    found: set[bytes] = set()
    for k in range(1, num_changes + 1):
        disk = claim(base / f"{k}", k)
        for loss in LOSSES:
            left = base / f"{k}-{loss}"
            left.mkdir()
            after = FolderStore(disk.survivors(loss, left, seed=k) / "run")
            after.prepare()
            found.add(after.claim(NAME, b"theirs"))
            assert after.kept("dragoman/launches") == [NAME]
    assert found == {b"ours", b"theirs"}


@pytest.mark.parametrize("fault", [{"status": 500}, {"drop": True}])
def test_a_claim_that_landed_on_the_hub_is_ours_whatever_the_answer_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: dict[str, int]
) -> None:
    without_waiting(monkeypatch)
    with HubStandIn() as hub:
        hub.add_token(TOKEN, "ada")
        run = HubRun(hub, tmp_path / "run")
        run.start()
        hub.faults.add(HubFault("commit", after_effect=True, **fault))  # pyright: ignore[reportArgumentType]
        assert run.store().claim(NAME, b"ours") == b"ours"
        hub.faults.add(HubFault("commit", **fault))  # pyright: ignore[reportArgumentType]
        with pytest.raises(StoreUnavailable):
            run.store().claim("dragoman/launches/000002.json", b"ours")
        assert run.store().claim("dragoman/launches/000002.json", b"theirs") == b"theirs"


@pytest.mark.parametrize("late", [True, False])
def test_a_claim_in_a_bucket_is_settled_by_reading_it(tmp_path: Path, late: bool) -> None:
    with Proxy(server().port) as proxy:
        store = open_store(tmp_path / "store", proxy.port)
        proxy.add(Fault("PUT", NAME, cut=True, late=late))
        assert store.claim(NAME, b"ours") == b"ours"
        assert open_store(tmp_path / "store").claim(NAME, b"theirs") == b"ours"


def test_a_claim_that_another_makes_while_ours_is_on_its_way_is_theirs(tmp_path: Path) -> None:
    with Proxy(server().port) as proxy:
        other = open_store(tmp_path / "store")
        proxy.add(Fault("PUT", NAME, act=lambda: other.claim(NAME, b"theirs"), cut=True))
        assert open_store(tmp_path / "store", proxy.port).claim(NAME, b"ours") == b"theirs"
