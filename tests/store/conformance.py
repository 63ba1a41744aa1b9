"""What every store must do. A store's own test module subclasses this and says how to make and damage one."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dragoman.checkpoint.lease import take_lease
from dragoman.checkpoint.log import RunLog
from dragoman.checkpoint.restore import newest_good, repair_root
from dragoman.errors import Damaged, StoreUnavailable, Superseded
from dragoman.store import card
from dragoman.store.base import CARD, MODEL_FILE, NumberTaken, Store
from dragoman.store.disk import digest
from dragoman.store.record import CheckpointRecord, FinishedRecord, LeaseRecord

STATE = "training/state.json"
ONE_BIT, CUT, GONE, EMPTY = "one bit", "cut short", "gone", "empty"
DAMAGES = (ONE_BIT, CUT, GONE, EMPTY)


def damaged(data: bytes, how: str) -> bytes | None:
    """What is left of `data`; None when nothing is."""
    flipped = bytes([data[0] ^ 4]) + data[1:]
    return {ONE_BIT: flipped, CUT: data[:-1], GONE: None, EMPTY: b""}[how]


class StoreConformance(ABC):
    """Run over every store."""

    @abstractmethod
    def open(self, folder: Path) -> Store:
        """A store that is kept in or by `folder`; opening it again finds what was stored."""

    @abstractmethod
    def read(self, folder: Path, name: str) -> bytes:
        """The bytes that the store holds under a path."""

    @abstractmethod
    def overwrite(self, folder: Path, name: str, data: bytes | None) -> None:
        """Change the bytes under a path behind the store's back; None removes them."""

    @abstractmethod
    def names(self, folder: Path) -> set[str]:
        """Every path in the store that holds a file."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """Where the store is."""
        return tmp_path / "store"

    @pytest.fixture
    def log(self, folder: Path) -> RunLog:
        """The log of an empty store whose lease we hold."""
        log = RunLog(self.open(folder))
        take_lease(log, "here")
        return log

    def save(
        self, log: RunLog, tmp_path: Path, step: int, more: Mapping[str, bytes] | None = None, **fields: Any
    ) -> CheckpointRecord:
        """Publish a checkpoint from files that lie elsewhere."""
        nonce = log.new_nonce()
        contents = {name: f"{name} of step {step}".encode() for name in (MODEL_FILE, STATE)} | dict(more or {})
        paths = {name: tmp_path / f"{nonce}-{number}" for number, name in enumerate(contents)}
        for name, path in paths.items():
            path.write_bytes(contents[name])
        files = {name: (path, digest(path)) for name, path in paths.items()}
        return log.publish_checkpoint(
            nonce=nonce, step=step, pairs_seen=step, files=files, config="c", corpus="d", **fields
        )

    def save_with_card(self, log: RunLog, tmp_path: Path, step: int) -> CheckpointRecord:
        return self.save(log, tmp_path, step, {CARD: card.seal(f"card of step {step}")}, keep=2)

    def test_an_empty_store_has_no_records(self, folder: Path) -> None:
        assert self.open(folder).records() == []

    def test_what_was_published_is_there_for_another_process(self, folder: Path, log: RunLog, tmp_path: Path) -> None:
        checkpoint = self.save(log, tmp_path, 500, metrics={"chrf": float("nan"), "loss": 0.1}, losses=[(500, 1 / 3)])
        other = self.open(folder)
        assert [record.to_bytes() for record in other.records()] == [record.to_bytes() for record in log.records]
        other.verify(checkpoint)
        assert self.read(folder, f"checkpoint-500/{STATE}") == b"training/state.json of step 500"

    def test_records_after_a_number_are_those_with_a_higher_one(self, log: RunLog, tmp_path: Path) -> None:
        checkpoints = [self.save(log, tmp_path, step) for step in (1, 2, 3)]
        assert log.store.records(after=2) == checkpoints[1:]
        assert log.store.records(after=4) == []

    def test_publishing_the_same_record_again_changes_nothing(self, folder: Path, log: RunLog, tmp_path: Path) -> None:
        checkpoint = self.save(log, tmp_path, 500)
        before = {name: self.read(folder, name) for name in self.names(folder)}
        paths: dict[str, Path] = dict(
            zip((MODEL_FILE, STATE), sorted(tmp_path.glob(f"{checkpoint.nonce}-*")), strict=True)
        )
        log.store.publish([checkpoint], paths)
        assert {name: self.read(folder, name) for name in self.names(folder)} == before

    def test_a_number_is_given_once(self, folder: Path, log: RunLog) -> None:
        first = log.records[0]
        other = first.model_copy(update={"nonce": "0123", "owner": "4567"})
        with pytest.raises(NumberTaken):
            self.open(folder).publish([other], {})
        assert self.open(folder).records() == [first]

    def test_files_are_fetched_whole(self, log: RunLog, tmp_path: Path) -> None:
        checkpoint = self.save(log, tmp_path, 500)
        log.store.fetch(checkpoint, [STATE], tmp_path / "here")
        assert (tmp_path / "here" / STATE).read_bytes() == b"training/state.json of step 500"
        assert not (tmp_path / "here" / MODEL_FILE).exists()

    def test_a_fetch_that_was_cut_is_completed(self, log: RunLog, tmp_path: Path) -> None:
        checkpoint = self.save(log, tmp_path, 500)
        (tmp_path / "here").mkdir()
        (tmp_path / "here" / MODEL_FILE).write_bytes(b"model")
        log.store.fetch(checkpoint, checkpoint.files, tmp_path / "here")
        assert (tmp_path / "here" / MODEL_FILE).read_bytes() == b"model.safetensors of step 500"

    @pytest.mark.parametrize("name", [MODEL_FILE, STATE])
    @pytest.mark.parametrize("how", DAMAGES)
    def test_damage_is_found_before_anything_is_used(
        self, folder: Path, log: RunLog, tmp_path: Path, how: str, name: str
    ) -> None:
        checkpoint = self.save(log, tmp_path, 500)
        self.overwrite(folder, f"checkpoint-500/{name}", damaged(self.read(folder, f"checkpoint-500/{name}"), how))
        with pytest.raises(Damaged, match=name):
            log.store.verify(checkpoint)
        with pytest.raises(Damaged, match=name):
            log.store.fetch(checkpoint, [name], tmp_path / "here")
        assert not (tmp_path / "here" / name).exists()

    def test_swapped_files_are_damage(self, folder: Path, log: RunLog, tmp_path: Path) -> None:
        checkpoint = self.save(log, tmp_path, 500)
        one, two = (self.read(folder, f"checkpoint-500/{name}") for name in (MODEL_FILE, STATE))
        self.overwrite(folder, f"checkpoint-500/{MODEL_FILE}", two)
        self.overwrite(folder, f"checkpoint-500/{STATE}", one)
        with pytest.raises(Damaged):
            log.store.verify(checkpoint)

    @pytest.mark.parametrize("how", DAMAGES)
    def test_a_damaged_record_is_named(self, folder: Path, log: RunLog, tmp_path: Path, how: str) -> None:
        self.save(log, tmp_path, 500)
        self.save(log, tmp_path, 1000)
        name = "dragoman/log/000002.json"
        self.overwrite(folder, name, damaged(self.read(folder, name), how))
        with pytest.raises(Damaged, match="000002"):
            RunLog(self.open(folder))

    def test_a_record_of_another_log_is_named(self, folder: Path, log: RunLog, tmp_path: Path) -> None:
        self.save(log, tmp_path, 500)
        foreign = log.records[1].model_copy(update={"parent": "0" * 64})
        self.overwrite(folder, "dragoman/log/000002.json", foreign.to_bytes())
        with pytest.raises(Damaged, match="000002"):
            RunLog(self.open(folder))

    def test_dropping_frees_the_files_and_keeps_the_others(self, folder: Path, log: RunLog, tmp_path: Path) -> None:
        checkpoints = [self.save(log, tmp_path, step) for step in (500, 1000, 1500)]
        log.drop(checkpoints[:2], "retention")
        assert log.checkpoints == checkpoints[2:]
        folders = {name.split("/")[0] for name in self.names(folder)}
        assert folders == {"checkpoint-1500", "dragoman"}
        assert RunLog(self.open(folder)).checkpoints == checkpoints[2:]

    def test_of_the_best_only_the_model_stays_when_newer_ones_push_it_out(
        self, folder: Path, log: RunLog, tmp_path: Path
    ) -> None:
        best = self.save(log, tmp_path, 500)
        for step in (1000, 1500, 2000):
            self.save(log, tmp_path, step, best=best.nonce)
        log.retire(keep=2)
        assert [checkpoint.step for checkpoint in log.checkpoints] == [2000, 1500]
        assert [checkpoint.step for checkpoint in log.kept] == [2000, 1500, 500]
        assert log.best == best.without_training()
        names = {name for name in self.names(folder) if name.startswith("checkpoint-500/")}
        assert names == {f"checkpoint-500/{MODEL_FILE}"}
        other = RunLog(self.open(folder))
        assert (other.kept, other.best) == (log.kept, log.best)
        assert other.best is not None
        other.store.verify(other.best)
        take_lease(other, "there")
        other.clean()
        assert f"checkpoint-500/{MODEL_FILE}" in self.names(folder)

    def test_a_checkpoint_comes_with_its_root_and_without_those_it_replaces(
        self, folder: Path, log: RunLog, tmp_path: Path
    ) -> None:
        best = self.save(log, tmp_path, 500, keep=2)
        assert self.read(folder, MODEL_FILE) == b"model.safetensors of step 500"
        for step in (1000, 1500, 2000, 2500):
            self.save(log, tmp_path, step, best=best.nonce, keep=2)
        assert [checkpoint.step for checkpoint in log.checkpoints] == [2500, 2000]
        assert self.read(folder, MODEL_FILE) == b"model.safetensors of step 500"
        folders = {name.split("/")[0] for name in self.names(folder) if name.startswith("checkpoint-")}
        assert folders == {"checkpoint-500", "checkpoint-2000", "checkpoint-2500"}
        assert RunLog(self.open(folder)).records == log.records
        self.save(log, tmp_path, 3000, keep=2)  # names no best: it is the newest
        assert self.read(folder, MODEL_FILE) == b"model.safetensors of step 3000"

    def test_files_that_no_record_names_are_kept_and_brought(self, folder: Path, log: RunLog, tmp_path: Path) -> None:
        names = ("dragoman/corpus/abc/corpus.json", "dragoman/corpus/abc/train.ids")
        files = {name: tmp_path / f"kept-{number}" for number, name in enumerate(names)}
        for name, path in files.items():
            path.write_bytes(name.encode())
        assert log.store.kept("dragoman/corpus") == []
        log.store.keep(files)
        log.store.keep(files)
        self.save(log, tmp_path, 500)
        log.clean()
        other = self.open(folder)
        assert other.kept("dragoman/corpus") == sorted(names)
        other.bring(names, tmp_path / "here")
        assert [(tmp_path / "here" / name).read_bytes() for name in names] == [name.encode() for name in names]

    def test_a_name_is_claimed_once_and_whoever_comes_later_learns_by_whom(
        self, folder: Path, log: RunLog, tmp_path: Path
    ) -> None:
        name = "dragoman/launches/000001.json"
        assert log.store.claim(name, b"ours") == b"ours"
        assert log.store.claim(name, b"ours") == b"ours"
        assert self.open(folder).claim(name, b"theirs") == b"ours"
        assert self.open(folder).claim("dragoman/launches/000002.json", b"theirs") == b"theirs"
        assert sorted(log.store.kept("dragoman/launches")) == [name, "dragoman/launches/000002.json"]
        log.store.bring([name], tmp_path / "here")
        assert (tmp_path / "here" / name).read_bytes() == b"ours"
        log.clean()
        assert self.read(folder, name) == b"ours"

    def test_a_name_is_claimed_beside_a_machine_that_saves(self, folder: Path, log: RunLog, tmp_path: Path) -> None:
        self.save(log, tmp_path, 1)
        self.open(folder).claim("dragoman/launches/000001.json", b"another machine's")
        assert self.save(log, tmp_path, 2).step == 2

    def test_a_store_tells_its_age_and_its_size(self, folder: Path, log: RunLog, tmp_path: Path) -> None:
        assert 0 <= log.store.idle_seconds() < 3600
        before = log.store.num_bytes()
        checkpoint = self.save(log, tmp_path, 500)
        assert log.store.num_bytes() >= before + checkpoint.num_bytes
        assert log.store.pause_seconds() >= 0

    def test_a_card_that_a_person_edited_stays_theirs(self, folder: Path, log: RunLog, tmp_path: Path) -> None:
        self.save_with_card(log, tmp_path, 500)
        assert self.read(folder, CARD) == card.seal("card of step 500")
        self.save_with_card(log, tmp_path, 1000)
        assert self.read(folder, CARD) == card.seal("card of step 1000")
        self.overwrite(folder, CARD, b"my own words")
        self.save_with_card(log, tmp_path, 1500)
        assert self.read(folder, CARD) == b"my own words"
        assert self.read(folder, MODEL_FILE) == b"model.safetensors of step 1500"

    def test_a_half_removed_checkpoint_is_removed_at_the_next_start(
        self, folder: Path, log: RunLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        checkpoints = [self.save(log, tmp_path, step) for step in (500, 1000)]
        monkeypatch.setattr(log.store, "remove", lambda gone, freed: None)  # the machine is lost behind the drop record
        log.drop(checkpoints[:1], "retention")
        next_log = RunLog(self.open(folder))
        take_lease(next_log, "there")
        next_log.clean()
        assert {name.split("/")[0] for name in self.names(folder)} == {"checkpoint-1000", "dragoman"}

    def test_cleaning_removes_what_no_record_names_and_nothing_else(
        self, folder: Path, log: RunLog, tmp_path: Path
    ) -> None:
        self.save(log, tmp_path, 500)
        kept = self.names(folder) | {"README.md", "my.part", "checkpoints/x", "checkpoint-best/x", "dragoman/corpus/x"}
        for name in kept - self.names(folder):
            self.overwrite(folder, name, b"a person's")
        for name in ("checkpoint-7/model.safetensors", "checkpoint-500/x", "checkpoint-500-0a1b/training/state.json"):
            self.overwrite(folder, name, b"debris")
        log.clean()
        assert self.names(folder) == kept

    def test_the_root_has_the_model_of_the_best_checkpoint(self, folder: Path, log: RunLog, tmp_path: Path) -> None:
        first = self.save(log, tmp_path, 500)
        log.publish_root()
        assert self.read(folder, MODEL_FILE) == b"model.safetensors of step 500"
        second = self.save(log, tmp_path, 1000, best=first.nonce)
        log.publish_root()
        assert self.read(folder, MODEL_FILE) == b"model.safetensors of step 500"
        third = self.save(log, tmp_path, 1500, best=second.nonce)
        log.publish_root()
        assert self.read(folder, MODEL_FILE) == b"model.safetensors of step 1000"
        log.drop([second], "retention")  # the best is gone: the newest takes its place
        assert log.best == third
        log.publish_root()
        assert self.read(folder, MODEL_FILE) == b"model.safetensors of step 1500"

    def test_a_damaged_root_is_repaired(self, folder: Path, log: RunLog, tmp_path: Path) -> None:
        self.save(log, tmp_path, 500)
        log.publish_root()
        self.overwrite(folder, MODEL_FILE, None)
        self.overwrite(folder, MODEL_FILE, b"somebody wrote here")
        repair_root(log, lambda checkpoint, problem: None)
        assert self.read(folder, MODEL_FILE) == b"model.safetensors of step 500"

    def test_a_woken_machine_publishes_nothing_and_removes_nothing(
        self, folder: Path, log: RunLog, tmp_path: Path
    ) -> None:
        old = self.save(log, tmp_path, 500)
        other = RunLog(self.open(folder))
        take_lease(other, "there")
        self.save(other, tmp_path, 1000)
        before = self.names(folder)
        for attempt in (
            lambda: self.save(log, tmp_path, 1000),
            lambda: log.drop([old], "retention"),
            lambda: log.finish("done", "", step=1000),
            log.clean,
            log.publish_root,
            log.clean,
        ):
            with pytest.raises(Superseded, match="there"):
                attempt()
        assert self.names(folder) == before
        assert RunLog(self.open(folder)).records == other.records

    def test_a_machine_that_wakes_within_a_save_publishes_nothing(
        self, folder: Path, log: RunLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        publish = log.store.publish
        other = RunLog(self.open(folder))

        def paused(records: Any, *rest: Any) -> None:
            if isinstance(records[0], CheckpointRecord) and not other.holds_lease:
                take_lease(other, "there")
                self.save(other, tmp_path, 500)
            publish(records, *rest)

        monkeypatch.setattr(log.store, "publish", paused)
        with pytest.raises(Superseded, match="there"):
            self.save(log, tmp_path, 500)
        last = RunLog(self.open(folder)).newest
        assert last == other.newest
        assert last is not None
        log.store.verify(last)

    def test_an_answer_that_was_lost_does_not_supersede_ourselves(
        self, folder: Path, log: RunLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        publish = log.store.publish

        def lost(*words: Any) -> None:
            publish(*words)
            raise TimeoutError

        monkeypatch.setattr(log.store, "publish", lost)
        with pytest.raises(TimeoutError):
            self.save(log, tmp_path, 500)
        monkeypatch.undo()
        again = self.save(log, tmp_path, 500)
        assert again.folder != "checkpoint-500"  # the lost one was recorded: its folder is not written again
        assert [checkpoint.step for checkpoint in log.checkpoints] == [500, 500]
        for checkpoint in log.checkpoints:
            log.store.verify(checkpoint)
        assert RunLog(self.open(folder)).records == log.records

    def test_a_store_that_shows_an_old_log_is_unavailable_and_nothing_is_published(
        self, folder: Path, log: RunLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        other = RunLog(self.open(folder))
        take_lease(other, "there")
        monkeypatch.setattr(log.store, "records", lambda after=0: [])
        with pytest.raises(StoreUnavailable, match="not shown"):
            self.save(log, tmp_path, 500)
        assert RunLog(self.open(folder)).records == other.records

    def test_two_machines_that_take_the_lease_at_once_get_it_in_turn(self, folder: Path, log: RunLog) -> None:
        one, two = RunLog(self.open(folder)), RunLog(self.open(folder))
        take_lease(one, "one")
        with pytest.raises(Superseded, match="one"):
            take_lease(two, "two")
        assert take_lease(two, "two").epoch == 3  # asked again, now knowing whom it takes it from
        assert [r.host for r in two.records if isinstance(r, LeaseRecord)] == ["here", "one", "two"]

    def test_a_lease_that_another_takes_between_our_look_and_our_record_is_not_taken_back(
        self, folder: Path, log: RunLog, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        one, two = RunLog(self.open(folder)), RunLog(self.open(folder))
        publish = two.store.publish

        def slow(*words: Any) -> None:
            if not one.holds_lease:
                take_lease(one, "one")
            publish(*words)

        monkeypatch.setattr(two.store, "publish", slow)
        with pytest.raises(Superseded, match="one"):
            take_lease(two, "two")
        assert RunLog(self.open(folder)).records == one.records

    def test_a_lease_is_taken_behind_what_its_last_owner_still_published(
        self, folder: Path, log: RunLog, tmp_path: Path
    ) -> None:
        other = RunLog(self.open(folder))
        last = self.save(log, tmp_path, 500)
        lease = take_lease(other, "there")
        assert (lease.seq, lease.epoch, other.newest) == (3, 2, last)

    def test_the_newest_good_checkpoint_is_found_behind_damage(self, folder: Path, log: RunLog, tmp_path: Path) -> None:
        checkpoints = [self.save(log, tmp_path, step) for step in (500, 1000, 1500)]
        self.overwrite(folder, f"checkpoint-1500/{MODEL_FILE}", b"model")
        self.overwrite(folder, f"checkpoint-1000/{STATE}", None)
        next_log = RunLog(self.open(folder))
        take_lease(next_log, "there")
        told: list[str] = []
        found = newest_good(next_log, lambda checkpoint, problem: told.append(f"{checkpoint.step}: {problem}"))
        assert found == checkpoints[0] == next_log.newest
        assert [line[:13] for line in told] == ["1500: damaged", "1000: damaged"]
        assert MODEL_FILE in told[0]
        assert STATE in told[1]
        assert {name.split("/")[0] for name in self.names(folder)} == {"checkpoint-500", "dragoman"}

    def test_a_session_that_ended_says_so(self, folder: Path, log: RunLog) -> None:
        log.finish("failed", "ValueError: \udcff", step=7, resumed_from="ab")
        finished = RunLog(self.open(folder)).finished
        assert isinstance(finished, FinishedRecord)
        assert (finished.outcome, finished.reason, finished.step) == ("failed", "ValueError: ?", 7)
