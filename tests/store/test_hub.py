"""The Hub store keeps the promises of every store, and those that are its own."""

import subprocess
import sys
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest

from dragoman.checkpoint.lease import take_lease
from dragoman.checkpoint.restore import newest_good, repair_root
from dragoman.errors import Damaged, InputError, StoreUnavailable
from dragoman.store import card
from dragoman.store.base import CARD
from dragoman.store.disk import digest
from dragoman.store.hub import HubStore
from dragoman.store.hub_api import HubApi
from dragoman.store.record import DropRecord
from tests.store.conformance import StoreConformance
from tests.store.hub_session import MODEL, OPTIMIZER, STATE, TOKEN, HubRun, words
from tests.support.hub import Fault, HubStandIn


@pytest.fixture(scope="module")
def hub() -> Generator[HubStandIn]:
    with HubStandIn() as hub:
        hub.add_token(TOKEN, "ada")
        yield hub


@pytest.fixture
def run(hub: HubStandIn, tmp_path: Path) -> Generator[HubRun]:
    yield HubRun(hub, tmp_path / "run")
    hub.faults.clear()


class TestHubStore(StoreConformance):
    @pytest.fixture(autouse=True)
    def _hub(self, hub: HubStandIn) -> None:
        self.hub = hub

    def repo(self, folder: Path) -> str:
        return f"ada/{folder.parent.name}-{folder.name}"

    def open(self, folder: Path) -> HubStore:
        repo = self.repo(folder)
        if self.hub.key(repo) not in self.hub.repositories:
            self.hub.create(repo)
        return HubStore(repo, endpoint=self.hub.url, token=lambda: TOKEN)

    def read(self, folder: Path, name: str) -> bytes:
        return self.hub.read(self.repo(folder), name)

    def overwrite(self, folder: Path, name: str, data: bytes | None) -> None:
        self.hub.write(self.repo(folder), name, data)

    def names(self, folder: Path) -> set[str]:
        return self.hub.names(self.repo(folder)) - {".gitattributes"}


# --- before a session ----------------------------------------------------------------


def test_the_client_is_not_loaded_before_it_is_used() -> None:
    loaded = "import sys, dragoman.store.hub, dragoman.store.address; print('huggingface_hub' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", loaded], text=True) == "False\n"


def test_a_repository_is_private_unless_asked(run: HubRun) -> None:
    run.store().prepare()
    assert run.hub.repositories[run.hub.key(run.repo)].private
    run.store(public=True).prepare()  # one that is there stays as it is
    assert run.hub.repositories[run.hub.key(run.repo)].private
    public = HubRun(run.hub, run.folder)
    public.store(public=True).prepare()
    assert not run.hub.repositories[run.hub.key(public.repo)].private
    public.store().prepare()
    assert not run.hub.repositories[run.hub.key(public.repo)].private


def test_nothing_is_there_before_the_repository_is(run: HubRun) -> None:
    store = run.store()
    assert (store.records(), store.held(), store.kept("dragoman/corpus"), store.num_bytes()) == ([], [], [], 0)
    assert store.idle_seconds() == float("inf")


@pytest.mark.parametrize(
    "name", ["bert-base", "ada/run/more", "spaces/ada/demo", "datasets/ada/pairs", "ada/a..b", "", "ada/"]
)
def test_what_is_not_a_model_repository_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"hf://.*\n  try: hf://"):
        HubStore(name)


def test_who_may_not_write_is_refused_with_a_way_out(run: HubRun) -> None:
    reader = run.hub.add_token("hf_reader00", "ada", "read")
    bob = run.hub.add_token("hf_bobbob00", "bob")
    narrow = run.hub.add_token("hf_narrow00", "ada", "fineGrained", scopes={"ada/other": ["repo.write"]})
    for token, reason in (
        (None, "no token"),
        ("hf_invalid0", "not valid"),
        (reader, "may only read"),
        (bob, "belongs to ada"),
        (narrow, "may not write there"),
    ):
        with pytest.raises(InputError, match=reason) as caught:
            run.store(token=lambda token=token: token).prepare()
        assert caught.value.hint
        assert "hf_" not in str(caught.value).replace("https://hf", "")
    assert run.hub.key(run.repo) not in run.hub.repositories


def test_a_fine_grained_token_and_a_member_of_an_organisation_may_write(run: HubRun) -> None:
    right = {"ada": ["repo.content.read", "repo.write"]}
    run.store(token=lambda: run.hub.add_token("hf_exact000", "ada", "fineGrained", scopes=right)).prepare()
    member = run.hub.add_token("hf_member00", "cy", orgs=["lab"])
    HubStore("lab/run", endpoint=run.hub.url, token=lambda: member).prepare()


@pytest.mark.parametrize("name", [MODEL, "checkpoint-500/model.safetensors"])
def test_a_model_of_somebody_else_is_not_touched(run: HubRun, name: str) -> None:
    run.hub.create(run.repo)
    run.hub.write(run.repo, name, b"theirs")
    with pytest.raises(InputError, match=f"{name}, which dragoman has not written"):
        run.store().prepare()
    assert run.hub.read(run.repo, name) == b"theirs"


def test_a_hub_that_cannot_be_reached_is_unavailable(run: HubRun) -> None:
    store = HubStore(run.repo, endpoint="http://127.0.0.1:9", token=lambda: TOKEN)
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        store.prepare()
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        store.records()


# --- a save --------------------------------------------------------------------------


def test_a_checkpoint_its_root_and_what_it_retires_are_one_commit(run: HubRun) -> None:
    log = run.start()
    for step in (500, 1000, 1500, 2000):
        before = len(run.hub.commits(run.repo))
        run.save(log, step)
        commits = run.hub.commits(run.repo)[before:]
        # Freeing bytes for ever rewrites the commits that named them, under other names.
        assert [commit.title for commit in run.hub.commits(run.repo)][-1] == f"checkpoint-{step}: step {step}"
        assert len(commits) == 1
    assert words(log.records) == ["lease", "checkpoint", "checkpoint", "checkpoint", "drop", "checkpoint", "drop"]
    run.check_whole()
    run.check_tidy(log)


def test_weights_are_uploaded_once_though_they_stand_in_two_places(run: HubRun) -> None:
    log, since = run.start(), len(run.hub.requests)
    run.save(log, 500)
    assert run.routes(since).count("upload") == 2  # the model and the optimizer
    assert (
        run.hub.read(run.repo, MODEL) == run.hub.read(run.repo, f"checkpoint-500/{MODEL}") == run.contents(500)[MODEL]
    )
    assert run.held_steps() == 1


def test_the_root_is_copied_on_the_hub_when_an_older_checkpoint_is_the_best(run: HubRun) -> None:
    log = run.start()
    best = run.save(log, 500, keep=None)
    since = len(run.hub.requests)
    run.save(log, 1000, best=best.nonce)
    log.publish_root()
    assert run.routes(since).count("upload") == 2  # those of step 1000 alone
    assert run.routes(since).count("commit") == 1  # and the root came with them
    assert run.hub.read(run.repo, MODEL) == run.contents(500)[MODEL]
    assert run.hub.read(run.repo, "config.json") == run.contents(500)["config.json"]


def test_dropped_bytes_are_given_back(run: HubRun) -> None:
    log, held = run.start(), []
    for step in range(500, 5000, 500):
        run.save(log, step)
        held.append(run.held_steps())
    assert held == [1, 2, 2, 2, 2, 2, 2, 2, 2]
    assert log.store.num_bytes() == run.hub.held_bytes(run.repo) + sum(
        len(run.hub.read(run.repo, name)) for name in run.hub.names(run.repo) if not name.endswith(".safetensors")
    )
    run.check_whole()


def test_bytes_that_a_path_still_names_are_not_deleted(run: HubRun) -> None:
    log = run.start()
    run.save(log, 500)
    run.hub.write(run.repo, "mine/model.safetensors", run.contents(500)[MODEL])
    for step in (1000, 1500, 2000):
        run.save(log, step)
    assert run.hub.read(run.repo, "mine/model.safetensors") == run.contents(500)[MODEL]
    assert run.held_steps() == 2


def test_the_best_ones_training_files_go_and_its_model_stays(run: HubRun) -> None:
    log = run.start()
    best = run.save(log, 500)
    for step in (1000, 1500, 2000):
        run.save(log, step, best=best.nonce)
    assert log.best == best.without_training()
    assert not [name for name in run.hub.names(run.repo) if name.startswith("checkpoint-500/training")]
    assert "trim" in words(log.records)
    run.check_whole()
    run.check_tidy(log)


def test_damaged_bytes_are_gone_before_the_same_bytes_are_published_again(run: HubRun) -> None:
    log = run.start()
    run.save(log, 500)
    bad = run.save(log, 1000)
    for name in (MODEL, OPTIMIZER):
        run.hub.damage(run.repo, f"{bad.folder}/{name}", "flip")
    told: list[str] = []
    log = run.start()
    restored = newest_good(log, lambda checkpoint, problem: told.append(problem))
    assert restored is not None
    assert restored.step == 500
    assert MODEL in told[0]
    assert run.held_steps() == 1  # the root named the damaged model too
    repair_root(log, lambda checkpoint, problem: None)
    assert run.hub.read(run.repo, MODEL) == run.contents(500)[MODEL]
    since = len(run.hub.requests)
    again = run.save(log, 1000)
    assert again.folder != bad.folder
    assert run.routes(since).count("upload") == 2
    run.check_whole()
    run.check_tidy(log)


def test_a_file_that_is_not_what_its_record_says_is_not_published(run: HubRun, monkeypatch: pytest.MonkeyPatch) -> None:
    log = run.start()
    files = run.files(500)
    monkeypatch.setattr(run, "files", lambda step, more: files)
    publish = log.store.publish

    def changed(*words: object) -> None:
        files[OPTIMIZER].write_bytes(run.contents(501)[OPTIMIZER])
        publish(*words)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(log.store, "publish", changed)
    with pytest.raises(Damaged, match=OPTIMIZER):
        run.save(log, 500)
    assert words(run.open().records) == ["lease"]
    assert run.held_steps() == 0


def test_a_file_that_is_gone_is_said(run: HubRun) -> None:
    log = run.start()
    files = run.files(500)
    record = run.save(log, 500).model_copy(update={"seq": 3, "nonce": "77", "folder": "checkpoint-501"})
    files[OPTIMIZER].unlink()
    with pytest.raises(StoreUnavailable, match=f"{OPTIMIZER}: cannot be read"):
        log.store.publish([record], files)
    with pytest.raises(StoreUnavailable, match=f"{OPTIMIZER}: cannot be read"):
        log.store.keep({"dragoman/corpus/x": files[OPTIMIZER]})


def test_a_commit_that_does_not_hold_what_was_sent_is_said_and_healed(
    run: HubRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = run.store()
    log = run.start(store)
    commit = store._api.commit

    def forgetful(changes: list[object], *words: object, **more: object) -> str:
        kept = [change for change in changes if not change.path.endswith(OPTIMIZER)]  # pyright: ignore
        return commit(kept, *words, **more)  # pyright: ignore

    monkeypatch.setattr(store._api, "commit", forgetful)
    with pytest.raises(StoreUnavailable, match=f"does not hold what was sent.*{OPTIMIZER}"):
        run.save(log, 500)
    monkeypatch.undo()
    late = run.open().checkpoints[0]
    store.publish([late], run.files(500))
    store.verify(late)


def test_a_card_is_ours_only_while_nobody_changed_it() -> None:
    sealed = card.seal("---\nlicense: cc-by-nc-4.0\n---\n# Model")
    assert card.is_ours(sealed)
    assert card.is_ours(card.seal(sealed.decode()))
    for other in (b"", b"# Model", sealed + b"more", b"x" + sealed, sealed.replace(b"Model", b"model"), sealed[:-1]):
        assert not card.is_ours(other)


def test_a_card_comes_with_the_checkpoint(run: HubRun) -> None:
    log = run.start()
    run.save(log, 500, card=card.seal("of step 500"))
    run.save(log, 1000, card=card.seal("of step 1000"))
    assert run.hub.read(run.repo, CARD) == card.seal("of step 1000")


def test_commits_are_counted_so_that_those_that_can_wait_do(run: HubRun) -> None:
    now = 1000.0
    store = run.store(commits_per_hour=3, clock=lambda: now)
    log = run.start(store)
    run.save(log, 500)
    assert store.pause_seconds() == 0
    now += 600
    run.save(log, 1000)
    assert store.pause_seconds() == 3000
    now += 3000
    assert store.pause_seconds() == 0
    run.save(log, 1500)  # one that cannot wait is made at once
    assert store.pause_seconds() == 0


def test_uploads_are_held_back_to_the_rate_that_was_asked(run: HubRun) -> None:
    waited: list[float] = []
    log = run.start(run.store(upload_bytes_per_second=100.0, sleep=waited.append))
    run.save(log, 500)
    num_bytes = run.hub.held_bytes(run.repo)
    # Nobody really waited, so each piece finds the line still busy with all before it.
    assert max(waited) == pytest.approx(num_bytes / 100, rel=0.05)


@pytest.mark.parametrize(("disable_xet", "route"), [("1", "upload"), ("0", "xet_xorb")])
def test_uploads_go_by_lfs_unless_the_user_wants_xet(
    run: HubRun, monkeypatch: pytest.MonkeyPatch, disable_xet: str, route: str
) -> None:
    # Also when somebody imported the client before we could tell it: files are given as streams then.
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", False)
    monkeypatch.setenv("HF_HUB_DISABLE_XET", disable_xet)
    log, since = run.start(), len(run.hub.requests)
    run.save(log, 500)
    run.save(log, 1000)
    assert {"upload", "xet_xorb"} & set(run.routes(since)) == {route}
    run.check_whole()
    run.check_tidy(log)


def test_the_age_is_told_by_the_hubs_own_clock(run: HubRun, monkeypatch: pytest.MonkeyPatch) -> None:
    log, began = run.start(), run.hub.clock()
    run.save(log, 500)
    monkeypatch.setattr(run.hub, "clock", lambda: began + 5000)
    run.hub.write(run.repo, CARD, b"a person's edit is no sign of life")
    assert 4990 < run.store().idle_seconds() < 5010


def test_equal_files_are_sent_once(run: HubRun, tmp_path: Path) -> None:
    """The client knows an upload by its digest: two of its threads would read one of the files at once."""
    store = run.store()
    store.prepare()
    for number in range(10):
        files = {f"dragoman/corpus/{number}/{name}.way": tmp_path / f"{number}-{name}" for name in ("dev", "test")}
        for path in files.values():
            path.write_bytes(bytes([number, 255]) * 64)
        store.keep(files)
        for name in files:
            assert run.hub.read(run.repo, name) == bytes([number, 255]) * 64


def test_equal_files_of_two_endings_are_not_sent_side_by_side(run: HubRun, tmp_path: Path) -> None:
    """One of them may go another way, so both are named; but one upload serves both."""
    store = run.store()
    store.prepare()
    files = {f"dragoman/corpus/abc/{name}": tmp_path / name for name in ("dev.way", "test.bounds", "test.way")}
    for path in files.values():
        path.write_bytes(bytes(8) + b"\xff")
    since = len(run.hub.requests)
    store.keep(files)
    assert run.routes(since).count("upload") == 1
    assert {run.hub.read(run.repo, name) for name in files} == {bytes(8) + b"\xff"}


def test_bytes_that_were_sent_and_never_committed_are_given_back(run: HubRun) -> None:
    log = run.start()
    first = run.save(log, 500)
    held = run.hub.held_bytes(run.repo)
    run.hub.faults.add(Fault("commit", status=403, times=None))
    with pytest.raises(StoreUnavailable):
        run.save(log, 1000)
    run.hub.faults.clear()
    assert run.hub.held_bytes(run.repo) > held
    log.clean(coming=first.model_copy(update={"files": {MODEL: digest(run.files(1000)[MODEL])}}))
    assert run.hub.held_bytes(run.repo) == held + len(run.contents(1000)[MODEL])  # need not be sent again
    log.clean()
    assert run.hub.held_bytes(run.repo) == held
    log.store.verify(first)


def test_a_machine_paused_before_it_deletes_looks_again(run: HubRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes that it found without a name have got one from another machine, which computed the same."""
    log, now = run.start(), 0.0
    refused = run.hub.faults.add(Fault("commit", status=403, times=None))
    with pytest.raises(StoreUnavailable):
        run.save(log, 500)
    run.hub.faults.clear()
    assert refused.num_matched
    paused = run.store(clock=lambda: now)
    debris = paused.held()
    assert debris
    blobs = HubApi.blobs

    def while_asleep(api: HubApi) -> Any:
        nonlocal now
        found = blobs(api)
        if now == 0.0:
            now = 3600.0
            run.save(log, 500)
        return found

    monkeypatch.setattr(HubApi, "blobs", while_asleep)
    paused.discard(debris)
    monkeypatch.undo()
    run.check_whole()


def test_files_of_the_run_are_one_commit_and_are_not_sent_again(run: HubRun) -> None:
    log = run.start()
    files = {f"dragoman/corpus/abc/{name}": path for name, path in run.files(7).items()}
    before = len(run.hub.commits(run.repo))
    log.store.keep(files)
    log.store.keep(files)
    assert len(run.hub.commits(run.repo)) == before + 1
    assert log.store.kept("dragoman/corpus") == sorted(files)
    log.store.bring(files, run.folder / "there")
    assert (run.folder / "there/dragoman/corpus/abc" / STATE).read_bytes() == run.contents(7)[STATE]
    since = len(run.hub.requests)
    log.store.bring(files, run.folder / "there")
    assert "download" not in run.routes(since)  # large files that are there are not brought again
    with pytest.raises(StoreUnavailable, match="not there"):
        log.store.bring(["dragoman/corpus/none"], run.folder / "there")


# --- reading -------------------------------------------------------------------------


def test_records_are_read_once(run: HubRun) -> None:
    log = run.start()
    run.save(log, 500)
    store = run.store()
    assert store.records() == list(log.records)
    since = len(run.hub.requests)
    assert store.records() == list(log.records)
    assert run.routes(since) == ["info"]
    run.save(log, 1000)
    since = len(run.hub.requests)
    assert store.records() == list(log.records)
    assert run.routes(since).count("resolve") == 1


def test_what_the_listing_shows_to_be_wrong_is_not_downloaded(run: HubRun) -> None:
    log = run.start()
    checkpoint = run.save(log, 500)
    since = len(run.hub.requests)
    for data in (run.contents(501)[MODEL], b"short", None):
        run.hub.write(run.repo, f"checkpoint-500/{MODEL}", data)
        with pytest.raises(Damaged, match=MODEL):
            log.store.verify(checkpoint)
    assert not {"resolve", "download"} & set(run.routes(since))


def test_many_records_are_read_side_by_side_and_in_order(run: HubRun) -> None:
    log = run.start()
    for step in range(1, 20):
        log.append(DropRecord, checkpoints={}, reason=str(step))
    records = run.store(downloads_at_once=4).records()
    assert [record.seq for record in records] == list(range(1, 21))
    assert records == list(log.records)


def test_progress_and_life_are_told(run: HubRun) -> None:
    store = run.store()
    beats, moved = [0], [0]

    def beat() -> None:
        beats[0] += 1

    def progress(num_bytes: int) -> None:
        moved[0] += num_bytes

    store.beat, store.progress = beat, progress
    log = run.start(store)
    checkpoint = run.save(log, 500)
    assert beats[0] > 20
    assert moved[0] == 0
    store.fetch(checkpoint, checkpoint.files, run.folder / "there")
    assert moved[0] == checkpoint.num_bytes


def test_files_are_fetched_side_by_side(run: HubRun) -> None:
    log = run.start()
    checkpoint = run.save(log, 500)
    holds = [run.hub.faults.add(Fault("download", path=entry.sha256, hold=True)) for entry in checkpoint.files.values()]
    fetching = threading.Thread(
        target=run.store(downloads_at_once=4).fetch, args=(checkpoint, checkpoint.files, run.folder / "there")
    )
    fetching.start()
    lfs = [hold for name, hold in zip(checkpoint.files, holds, strict=True) if name.endswith(".safetensors")]
    assert all(hold.held.wait(10) for hold in lfs)
    for hold in holds:
        hold.release()
    fetching.join()
    for name, data in run.contents(500).items():
        assert (run.folder / "there" / name).read_bytes() == data


def test_two_machines_share_a_repository_without_harm(run: HubRun) -> None:
    log = run.start()
    run.save(log, 500)
    other = run.open()
    take_lease(other, "there")
    run.save(other, 1000)
    assert run.open(log.store if isinstance(log.store, HubStore) else None).records == other.records
    run.check_whole()
