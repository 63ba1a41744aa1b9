"""The copying: newest first, under one lease, loud when it fails, and nothing pulled away from under it."""

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from dragoman import journal
from dragoman.checkpoint.lease import OwnNames, Patience, claim
from dragoman.checkpoint.log import RunLog
from dragoman.checkpoint.replicator import Replicator, Settings
from dragoman.errors import InputError, StoreUnavailable, Superseded
from dragoman.store.base import MODEL_FILE
from dragoman.store.disk import digest
from dragoman.store.local import FolderStore
from dragoman.store.record import CheckpointRecord, LeaseRecord, Record
from tests.store.session import MODEL, STATE, Ledger, save, start

HOST = "here"


class Touchy(FolderStore):
    """A durable store that fails when it is told to."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.before: list[Callable[[], None]] = []
        """Called, once each, before the next publishes take effect."""
        self.after: list[Callable[[], None]] = []
        """Called, once each, after they took effect."""
        self.before_looking: list[Callable[[], None]] = []
        """Called, once each, before the next looks at what is held, once `before` is empty."""
        self.pause = 0.0
        self.kept_calls = 0

    def publish(
        self, records: Sequence[Record], files: Mapping[str, Path], root: CheckpointRecord | None = None
    ) -> None:
        if self.before:
            self.before.pop(0)()
        super().publish(records, files, root)
        if self.after:
            self.after.pop(0)()

    def keep(self, files: Mapping[str, Path]) -> None:
        self.kept_calls += 1
        super().keep(files)

    def held(self) -> list[str]:
        if self.before_looking and not self.before:
            self.before_looking.pop(0)()
        return super().held()

    def pause_seconds(self) -> float:
        return self.pause


def unavailable(retry_after: float = 0.0) -> Callable[[], None]:
    def fail() -> None:
        raise StoreUnavailable("503: busy", retry_after=retry_after)

    return fail


class Lab:
    """A run folder with a trainer, and a durable store."""

    def __init__(self, top: Path) -> None:
        self.folder = FolderStore(top / "run")
        self.ledger = Ledger()
        self.trainer, _ = start(self.folder, self.ledger)
        self.store = Touchy(top / "store")
        self.names = OwnNames(self.folder.root, HOST)
        self.events: list[journal.Event] = []
        self.now = 1000.0

    def save(self, step: int, best: bool = False) -> CheckpointRecord:
        return save(self.trainer, self.folder, self.ledger, step, best=best)

    def replicator(self, **settings: Any) -> Replicator:
        told = {"keep": 2, "lease_seconds": 900.0, "follows": True} | settings
        return Replicator(
            self.folder,
            self.store,
            self.names,
            Settings(**told),
            self.events.append,
            clock=lambda: self.now,
            chance=random.Random(1),
        )

    def run(self, replicator: Replicator, turns: int = 20) -> None:
        """Turn until it is at rest."""
        for _ in range(turns):
            if replicator.turn() != 0.0:
                return
        raise AssertionError("never came to rest")

    def kinds(self) -> list[str]:
        return [event.kind() for event in self.events]

    def of(self, kind: type[journal.Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def remote(self) -> RunLog:
        return RunLog(FolderStore(self.store.root))

    def stranger(self) -> RunLog:
        """Another machine that has taken the lease."""
        log = RunLog(FolderStore(self.store.root))
        log.store.prepare()
        claim(log, OwnNames(self.store.root.parent / "elsewhere", "there"), "there")
        return log


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def test_what_was_committed_arrives_with_its_record_and_its_root(lab: Lab) -> None:
    saved = lab.save(500, best=True)
    lab.run(lab.replicator())
    newest = lab.remote.newest
    assert newest is not None
    assert (newest.nonce, newest.step, newest.files, newest.losses) == (
        saved.nonce, saved.step, saved.files, saved.losses,
    )  # fmt: skip
    lab.store.verify(newest)
    assert (lab.store.root / MODEL_FILE).read_bytes() == lab.ledger.written[saved.nonce][MODEL]
    assert lab.kinds() == ["replicator_started", "upload_started", "replicated"]


def test_the_newest_goes_first_and_what_it_overtook_is_named(lab: Lab) -> None:
    lab.save(500, best=True)
    replicator = lab.replicator()
    lab.run(replicator)
    for step in (1000, 1500, 2000):
        lab.save(step)
    lab.run(replicator)
    assert [checkpoint.step for checkpoint in lab.remote.checkpoints] == [2000, 500]
    assert [(event.steps, event.newer_step) for event in lab.of(journal.UploadSkipped)] == [([1000, 1500], 2000)]
    assert [event.step for event in lab.of(journal.Replicated)] == [500, 2000]


def test_the_store_never_holds_more_than_keep_and_one_and_the_best_model(lab: Lab) -> None:
    replicator = lab.replicator()
    for number in range(1, 12):
        lab.save(500 * number, best=number == 2)
        lab.run(replicator)
        whole = [checkpoint for checkpoint in lab.remote.kept if checkpoint.is_whole]
        assert len(whole) <= 2
        assert len(lab.remote.kept) <= 3
    assert [checkpoint.step for checkpoint in lab.remote.kept] == [5500, 5000, 1000]
    assert (lab.store.root / MODEL_FILE).read_bytes() == (lab.folder.root / MODEL_FILE).read_bytes()


def test_a_best_model_that_was_overtaken_is_brought_after(lab: Lab) -> None:
    replicator = lab.replicator()
    lab.save(500)
    lab.run(replicator)
    best = lab.save(1000, best=True)
    lab.save(1500)
    lab.run(replicator)
    assert lab.remote.newest is not None
    assert lab.remote.newest.step == 1500
    assert lab.remote.best is not None
    assert (lab.remote.best.nonce, lab.remote.best.is_whole) == (best.nonce, False)
    assert (lab.store.root / MODEL_FILE).read_bytes() == lab.ledger.written[best.nonce][MODEL]


def test_a_best_model_does_not_wait_until_nothing_newer_comes(lab: Lab) -> None:
    """Saves that come faster than uploads end: the best one arrives right after the first that names it."""
    replicator = lab.replicator()
    lab.save(500)
    lab.run(replicator)
    best = lab.save(1000, best=True)
    lab.save(1500)
    for step in (2000, 2500, 3000):
        lab.store.before = [lambda step=step: lab.save(step)]
        replicator.turn()
    arrived = [event.step for event in lab.of(journal.Replicated)]
    assert arrived == [500, 1500, 1000, 2500]
    assert lab.remote.best is not None
    assert lab.remote.best.nonce == best.nonce


def test_retention_of_the_folder_cannot_pull_away_what_is_uploaded(lab: Lab) -> None:
    saved = lab.save(500, best=True)

    def overtake() -> None:
        for step in (1000, 1500, 2000):
            lab.save(step, best=True)
        assert not (lab.folder.root / saved.folder).exists()

    replicator = lab.replicator()
    replicator.turn()  # lease and first upload
    lab.store.before = [overtake]
    lab.save(750, best=True)
    assert replicator.turn() == 0.0
    assert [event.step for event in lab.of(journal.Replicated)] == [500, 750]
    assert lab.remote.newest is not None
    lab.store.verify(lab.remote.newest)


def test_a_refusal_is_loud_is_tried_again_later_each_time_and_heals(lab: Lab) -> None:
    replicator = lab.replicator()
    lab.save(500)
    lab.run(replicator)
    lab.save(1000)
    lab.store.before = [unavailable() for _ in range(4)]
    waits = [replicator.turn() for _ in range(4)]
    failures = lab.of(journal.ReplicationFailed)
    assert [(event.attempts, event.safe_step, event.reason) for event in failures] == [
        (number, 500, "503: busy") for number in (1, 2, 3, 4)
    ]
    assert all(wait and 2**number / 2 <= wait <= 2**number for number, wait in enumerate(waits, start=1))
    lab.run(replicator)
    assert lab.of(journal.Replicated)[-1].step == 1000
    assert [event.attempts for event in lab.of(journal.ReplicationRecovered)] == [4]
    lab.save(1500)
    lab.store.before = [unavailable()]
    replicator.turn()
    assert lab.of(journal.ReplicationFailed)[-1].attempts == 1


def test_a_store_that_says_when_to_come_back_is_not_asked_sooner(lab: Lab) -> None:
    lab.save(500)
    replicator = lab.replicator()
    lab.store.before = [unavailable(retry_after=77.0)]
    assert replicator.turn() == 77.0


def test_any_error_at_all_is_told_and_ends_nothing(lab: Lab) -> None:
    def broken() -> None:
        raise ZeroDivisionError("on purpose")

    lab.save(500)
    replicator = lab.replicator()
    lab.store.before = [broken]
    assert replicator.turn()
    assert "ZeroDivisionError: on purpose" in lab.of(journal.ReplicationFailed)[0].reason
    lab.run(replicator)
    assert lab.of(journal.Replicated)[-1].step == 500


def test_an_answer_that_was_lost_counts_once(lab: Lab) -> None:
    replicator = lab.replicator()
    replicator.turn()
    saved = lab.save(500)
    lab.store.after = [unavailable()]
    assert replicator.turn()
    lab.run(replicator)
    assert [event.step for event in lab.of(journal.Replicated)] == [500]
    assert [record.nonce for record in lab.remote.records if isinstance(record, CheckpointRecord)] == [saved.nonce]


def test_a_restarted_trainer_hands_its_new_lease_to_the_copying_that_lives(lab: Lab) -> None:
    lab.save(500)
    replicator = lab.replicator()
    lab.run(replicator)
    log = RunLog(FolderStore(lab.store.root))
    lease = claim(log, lab.names, HOST, epoch=lab.trainer.epoch, patience=Patience(900.0, never))
    lab.save(1000)
    lab.run(replicator)
    newest = lab.remote.newest
    assert newest is not None
    assert (newest.step, newest.epoch, newest.owner) == (1000, lease.epoch, log.owner)
    assert [event.epoch for event in lab.of(journal.ReplicatorStarted)] == [2, 3]


def test_two_leases_of_a_trainer_in_a_row_do_not_end_the_copying_of_its_own_machine(lab: Lab) -> None:
    """A session that finds a run begun while it waited for the lease starts anew, and takes it a second time."""
    lab.save(500)
    replicator = lab.replicator()
    lab.run(replicator)
    taken: list[int] = []

    def take() -> None:
        taken.append(claim(RunLog(FolderStore(lab.store.root)), lab.names, HOST, epoch=lab.trainer.epoch).epoch)

    lab.save(1000)
    lab.store.before = [take]
    lab.store.before_looking = [take]
    lab.run(replicator)
    newest = lab.remote.newest
    assert newest is not None
    assert (newest.step, newest.epoch) == (1000, taken[-1])
    assert len(taken) == 2


def never(lease: LeaseRecord, left: float) -> None:
    raise AssertionError("our own earlier life is not waited for")


def test_a_machine_that_was_taken_over_uploads_and_deletes_nothing_more(lab: Lab) -> None:
    lab.save(500)
    replicator = lab.replicator()
    lab.run(replicator)
    other = lab.stranger()
    lab.save(1000)
    before = sorted(lab.store.root.rglob("*"))
    with pytest.raises(Superseded, match="there"):
        replicator.turn()
    assert sorted(lab.store.root.rglob("*")) == before
    assert lab.remote.records == other.records
    assert lab.trainer.newest is not None
    lab.folder.verify(lab.trainer.newest)  # what is here stays here


def test_copying_that_starts_beside_a_trainer_does_not_take_back_what_a_stranger_took(lab: Lab) -> None:
    lab.save(500)
    lab.run(lab.replicator())
    lab.stranger()
    with pytest.raises(Superseded, match="there"):
        lab.replicator().turn()


def test_copying_goes_on_under_the_lease_that_the_trainer_took(lab: Lab) -> None:
    lab.save(500)
    log = RunLog(lab.store)
    lab.store.prepare()
    claim(log, lab.names, HOST, run=lab.trainer.run)
    lab.run(lab.replicator(owner=log.owner))
    assert [record.kind for record in lab.remote.records] == ["lease", "checkpoint"]
    assert {record.owner for record in lab.remote.records} == {log.owner}


def test_an_idle_lease_is_repeated_while_somebody_trains(lab: Lab) -> None:
    lab.save(500)
    replicator = lab.replicator(lease_seconds=900.0)
    with lab.folder.lock():
        lab.run(replicator)
        before = len(lab.remote.records)
        lab.now += 299
        assert replicator.turn() == 1.0
        assert len(lab.remote.records) == before
        lab.now += 2
        replicator.turn()
        assert len(lab.remote.records) == before + 1
        last = lab.remote.records[-1]
        assert isinstance(last, LeaseRecord)
        assert last.epoch == lab.remote.records[-2].epoch
        lab.now += 200
        replicator.turn()
        assert len(lab.remote.records) == before + 1


def test_it_ends_when_the_trainer_is_dead_and_everything_is_there(lab: Lab) -> None:
    lab.save(500)
    replicator = lab.replicator()
    with lab.folder.lock():
        lab.run(replicator)
        assert replicator.turn() == 1.0
    lab.save(1000)
    assert replicator.turn() == 0.0
    assert replicator.turn() is None
    assert lab.remote.newest is not None
    assert lab.remote.newest.step == 1000


def test_how_a_session_ended_is_told_last(lab: Lab) -> None:
    saved = lab.save(500)
    lab.trainer.finish("failed", "ValueError: x", step=500, resumed_from=saved.nonce)
    replicator = lab.replicator()
    lab.run(replicator)
    end = lab.remote.finished
    assert end is not None
    assert (end.outcome, end.reason, end.step, end.resumed_from) == ("failed", "ValueError: x", 500, saved.nonce)
    again = lab.replicator()
    lab.run(again)
    assert lab.remote.records[-1].kind in ("finished", "lease")
    assert [record.kind for record in lab.remote.records].count("finished") <= 2


def test_a_store_that_wants_a_pause_gets_it_but_not_from_the_last_save(lab: Lab) -> None:
    replicator = lab.replicator()
    with lab.folder.lock():
        lab.save(500)
        lab.store.pause = 60.0
        assert replicator.turn() == 1.0
        assert lab.remote.newest is None
        lab.trainer.finish("stopped", "SIGTERM", step=500)
        assert replicator.turn() == 0.0
        assert lab.remote.newest is not None


def test_a_damaged_file_of_the_folder_is_not_published(lab: Lab) -> None:
    lab.save(500)
    bad = lab.save(1000)
    (lab.folder.root / bad.folder / STATE).write_bytes(b"rot")
    replicator = lab.replicator()
    assert replicator.turn()
    assert "not those recorded" in lab.of(journal.ReplicationFailed)[0].reason
    lab.run(replicator)
    assert [checkpoint.step for checkpoint in lab.remote.checkpoints] == [500]


def test_what_a_checkpoint_needs_is_there_before_it(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "corpus.json").write_text("{}")
    lab.save(500)
    replicator = lab.replicator(needs=lambda checkpoint: {"dragoman/corpus/a/corpus.json": tmp_path / "corpus.json"})
    lab.store.before = [lambda: None, lambda: check_kept(lab)]  # the lease, then the checkpoint
    lab.run(replicator)
    lab.save(1000)
    lab.run(replicator)
    assert lab.store.kept_calls == 1


def check_kept(lab: Lab) -> None:
    assert lab.store.kept("dragoman/corpus") == ["dragoman/corpus/a/corpus.json"]


def test_a_folder_that_the_store_is_ahead_of_is_not_copied_over_it(lab: Lab, tmp_path: Path) -> None:
    lab.save(500)
    lab.run(lab.replicator())
    other = lab.stranger()
    ahead = lab.ledger.new_nonce()
    path = tmp_path / "state"
    path.write_bytes(b"x")
    other.publish_checkpoint(
        nonce=ahead, step=900, pairs_seen=1, files={STATE: (path, digest(path))}, config="", corpus=""
    )
    before = len(lab.remote.records)
    with pytest.raises(InputError, match="holds step 900") as raised:
        lab.replicator(follows=False).turn()
    assert "dragoman resume" in raised.value.hint
    assert len(lab.remote.records) == before


def test_a_store_with_another_run_is_refused(lab: Lab, tmp_path: Path) -> None:
    foreign = RunLog(FolderStore(lab.store.root))
    foreign.store.prepare()
    claim(foreign, OwnNames(tmp_path / "x", "there"), "there")
    lab.save(500)
    with pytest.raises(InputError, match="holds another run"):
        lab.replicator(follows=False).turn()


def test_a_machine_waits_until_another_was_silent_and_then_takes_over(lab: Lab) -> None:
    lab.save(500)
    lab.run(lab.replicator())
    log = RunLog(lab.store)
    waited: list[float] = []
    idle = iter([100.0, 400.0, 901.0])
    lab.store.idle_seconds = lambda: next(idle)  # type: ignore[method-assign]
    lease = claim(
        log, OwnNames(lab.store.root / "x", "there"), "there", patience=Patience(900.0, lambda _, s: waited.append(s))
    )
    assert waited == [800.0, 500.0]
    assert (lease.epoch, lease.host) == (3, "there")


def test_an_ended_run_and_an_earlier_life_are_not_waited_for(lab: Lab, tmp_path: Path) -> None:
    lab.save(500)
    lab.run(lab.replicator())
    again = RunLog(lab.store)
    assert claim(again, lab.names, HOST, patience=Patience(900.0, never)).epoch == 3
    again.finish("stopped", "deadline", step=500)
    other = RunLog(lab.store)
    assert claim(other, OwnNames(tmp_path / "x", "there"), "there", patience=Patience(900.0, never)).epoch == 4


def test_names_of_another_machine_are_not_ours(tmp_path: Path) -> None:
    """A folder that was copied to another machine does not pass for an earlier life there."""
    OwnNames(tmp_path, "here").add("ab")
    assert OwnNames(tmp_path, "here").known() == ["ab"]
    assert OwnNames(tmp_path, "there").known() == []
