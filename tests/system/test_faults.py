"""The real command against a Hub that fails: nothing is lost, nothing is silent, every resume is exact.

`bench/faults.py` plays every fault that is known; these five tell most. Training waits at
gates until the repository holds what a test wants it to hold, so nothing depends on how
fast anything is. The waits inside dragoman are shortened as in the bench.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.faults_dragoman import Dragoman
from bench.faults_judge import Verdict, leaks
from bench.faults_machine import Process, wait_until
from bench.faults_sides import NEW_TOKEN, REPO, STEPS, TOKEN, Resumed, names_there
from dragoman.checkpoint.status import status
from dragoman.checkpoint.status_shape import Status
from dragoman.errors import ExitCode
from tests.support.hub import Fault, HubStandIn
from tests.support.runs import make_pairs

SECONDS = 180.0
"""The longest that anything is waited for: a cold disk may take a minute to import torch."""
FIRST, SECOND = 5, 10
"""Steps of two saves; training waits at a gate behind each."""


@pytest.fixture(scope="module")
def dragoman(tmp_path_factory: pytest.TempPathFactory) -> Dragoman:
    """The command, and the weights that it ends with when nothing disturbs it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    side = Dragoman(folder, make_pairs(folder / "pairs.tsv", 120, seed=1))
    with HubStandIn() as hub, side.machine(folder / "machine", hub) as machine:
        process = side.start(machine, 0.0, store=None)
        assert process.ended(SECONDS), process.talk
        assert process.exit_code == ExitCode.DONE, process.talk
        side.weights = side.final(machine.folder)
    return side


class Trial:
    """One run on one machine, with a Hub of its own."""

    def __init__(self, side: Dragoman, folder: Path) -> None:
        self.side, self.folder = side, folder
        self.hub = HubStandIn(folder / "hub")
        self.hub.add_token(TOKEN, "ada")
        self.hub.start()
        self.machine = side.machine(folder / "machine", self.hub)
        self.gates = {str(step): str(folder / f"after-{step}") for step in (FIRST, SECOND)}
        self.process: Process

    def close(self) -> None:
        self.machine.vanish()
        self.hub.close()
        assert not self.hub.bugs, self.hub.bugs

    def train(self, *, until: int) -> None:
        """Start to train; returns when a save is in the repository, and training waits behind it."""
        self.process = self.side.start(self.machine, self.gates, drain_minutes=1)
        for step in (FIRST, SECOND):
            if step < until:
                self.holds(step)
                self.open(step)
        self.holds(until)

    def holds(self, step: int) -> None:
        """Wait until a save is in the repository, and the run knows it: it reads back what it has committed."""

        def is_told() -> bool:
            return any(event["step"] == step for event in self.side.events(self.machine, "replicated"))

        assert wait_until(is_told, SECONDS), self.process.talk
        assert f"checkpoint-{step}/training/state.json" in names_there(self.hub)

    def open(self, step: int) -> None:
        """Let training go on behind a save."""
        Path(self.gates[str(step)]).touch()

    def degraded(self) -> Status:
        """What `status` says when all steps are done and it is degraded; its reason is in every language a line."""
        run = self.machine.folder / "run"
        is_so = wait_until(lambda: STEPS in self.side.saved(self.machine) and status(run)["degraded"], SECONDS)
        assert is_so, self.process.talk
        return status(run)

    def ends(self) -> None:
        """The command ends well: everything is done, and in the repository, whole, untorn and as it must be."""
        assert self.process.ended(SECONDS), self.process.talk
        assert self.process.exit_code == ExitCode.DONE, self.process.talk
        found = status(self.machine.folder / "run")
        assert found["degraded"] is None
        assert self.side.final(self.machine.folder) == self.side.weights
        verdict = self.verdict()
        assert verdict.end_step == STEPS
        assert not verdict.torn
        assert self.side.restore(self.machine, self.hub) == STEPS
        assert self.side.final(self.machine.folder) == self.side.weights

    def verdict(self) -> Verdict:
        return self.side.judge(self.hub, [self.machine])

    def elsewhere(self, hub: HubStandIn) -> Resumed:
        """Continue on an empty machine."""
        with self.side.machine(self.folder / "elsewhere", hub) as machine:
            return self.side.resume(machine, hub)


@pytest.fixture
def trial(dragoman: Dragoman, tmp_path: Path) -> Iterator[Trial]:
    made = Trial(dragoman, tmp_path)
    yield made
    made.close()


def test_a_hub_that_refuses_every_commit_delays_the_copy_and_loses_nothing(trial: Trial) -> None:
    trial.train(until=SECOND)
    trial.hub.faults.add(Fault("commit", status=500, times=None))
    trial.open(SECOND)

    found = trial.degraded()
    assert "500" in found["degraded"]["reason"]
    assert found["safe"]["step"] == SECOND == trial.verdict().end_step
    assert found["safe"]["store"] == f"hf://{REPO}"
    lost_now = trial.folder / "hub-if-the-machine-were-lost-now"
    shutil.copytree(trial.folder / "hub", lost_now)

    trial.hub.faults.clear()
    trial.ends()

    with HubStandIn(lost_now) as hub:
        resumed = trial.elsewhere(hub)
    assert (resumed.step, resumed.exit_code, resumed.exact) == (SECOND, ExitCode.DONE, True), resumed.talk


def test_a_revoked_token_stops_nothing_and_a_new_one_is_taken_up(trial: Trial) -> None:
    trial.train(until=SECOND)
    trial.hub.revoke(TOKEN)
    trial.open(SECOND)

    found = trial.degraded()
    assert "401: the token is not valid" in found["degraded"]["reason"]
    assert found["safe"]["step"] == SECOND == trial.verdict().end_step

    trial.hub.add_token(NEW_TOKEN, "ada")
    login = trial.machine.folder / "home/token"  # as `hf auth login` does
    login.write_text(NEW_TOKEN)
    trial.machine.environment["HF_TOKEN"] = NEW_TOKEN  # of this test, which looks into the repository
    trial.ends()

    login.unlink()
    assert [leaks(token, trial.machine.folder, trial.folder / "hub/blobs") for token in (TOKEN, NEW_TOKEN)] == [[], []]


def test_a_commit_whose_answer_is_lost_is_made_once(trial: Trial) -> None:
    trial.train(until=SECOND)
    lost = trial.hub.faults.add(Fault("commit", drop=True, after_effect=True))
    trial.open(SECOND)
    trial.ends()
    assert lost.num_matched > 1  # it struck, and commits went on
    assert not trial.side.events(trial.machine, "replication_failed")  # it was read back, and was there
    assert not trial.verdict().duplicates


def test_a_commit_that_is_never_answered_is_given_up_and_may_land_late(trial: Trial) -> None:
    trial.train(until=SECOND)
    held = trial.hub.faults.add(Fault("commit", hold=True))
    trial.open(SECOND)
    trial.ends()
    assert held.held.is_set()
    failed = trial.side.events(trial.machine, "replication_failed")
    assert any("no answer within" in event["reason"] for event in failed)

    before, repository = trial.hub.head(REPO), trial.hub.repositories[trial.hub.key(REPO)]
    num_tried = len(repository.commit_times)
    held.release()
    assert wait_until(lambda: len(repository.commit_times) > num_tried, SECONDS)
    assert trial.hub.head(REPO) == before  # its parent is not the newest commit any more
    assert not trial.verdict().torn


def test_a_flipped_bit_is_found_and_the_save_before_is_taken(trial: Trial) -> None:
    trial.train(until=SECOND)
    trial.machine.vanish()
    damaged = f"checkpoint-{SECOND}/model.safetensors"
    trial.hub.damage(REPO, damaged, "flip", at=1_000_000)

    resumed = trial.elsewhere(trial.hub)
    assert (resumed.step, resumed.exit_code) == (FIRST, ExitCode.DONE), resumed.talk
    assert damaged in resumed.note
    assert resumed.exact
    assert trial.verdict().end_step == STEPS
    assert not trial.verdict().end.torn
