"""The Hub never holds more than `keep + 1` checkpoints and two models, whatever is lost inside saving and dropping."""

import random
from collections.abc import Generator
from pathlib import Path

import pytest

from dragoman import journal
from dragoman.checkpoint.lease import OwnNames, take_lease
from dragoman.checkpoint.log import RunLog
from dragoman.checkpoint.replicator import Replicator, Settings
from dragoman.store.local import FolderStore
from tests.store.hub_session import MODEL, OPTIMIZER, STATE, TOKEN, HubRun
from tests.store.session import scratch
from tests.support.hub import HubStandIn
from tests.support.hub.client import without_waiting

KEEP, SAVES = 2, 36
MODEL_BYTES, MOMENT_BYTES = 10_000, 20_000


@pytest.fixture
def folder() -> Generator[Path]:
    with scratch() as path:
        yield path


class Trainer:
    def __init__(self, folder: Path) -> None:
        self.folder = FolderStore(folder)
        self.folder.prepare()
        self.log = RunLog(self.folder)
        take_lease(self.log, "here")
        self.best = ""

    def save(self, step: int, *, best: bool) -> None:
        nonce = self.log.new_nonce()
        staged = self.folder.staging(nonce)
        (staged / "training").mkdir()
        contents = {MODEL: bytes([step % 251]) * MODEL_BYTES, OPTIMIZER: bytes([step % 253]) * MOMENT_BYTES}
        contents |= {STATE: f'{{"step": {step}}}'.encode()}
        files = {
            name: (staged / name, self.folder.disk.write(staged / name, [data])) for name, data in contents.items()
        }
        self.best = nonce if best or not self.best else self.best
        words = {"step": step, "pairs_seen": step, "config": "c", "corpus": "d", "best": self.best}
        self.log.publish_checkpoint(nonce=nonce, files=files, **words)
        self.log.retire(KEEP)


@pytest.mark.parametrize("seed", range(3))
def test_the_hub_holds_no_more_than_promised_through_kills_inside_saving_and_dropping(
    folder: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_waiting(monkeypatch)
    chance = random.Random(seed)
    with HubStandIn() as hub:
        hub.add_token(TOKEN, "ada")
        run = HubRun(hub, folder / "files")
        trainer = Trainer(folder / "run")
        events: list[journal.Event] = []

        def replicator() -> Replicator:
            settings = Settings(keep=KEEP, lease_seconds=900.0, follows=True)
            names = OwnNames(trainer.folder.root, "here")
            return Replicator(trainer.folder, run.store(commits_per_hour=10**6), names, settings, events.append)

        copying, lost = replicator(), 0
        for number in range(1, SAVES + 1):
            trainer.save(number, best=chance.random() < 0.2)
            if chance.random() < 0.7:  # the machine that copies is lost at some request
                hub.lose_machine(before=chance.randint(1, 14))
                for _ in range(3):
                    copying.turn()
                hub.restore()
                copying, lost = replicator(), lost + 1
            while (wait := copying.turn()) is not None and wait == 0.0:
                pass
        bound = (KEEP + 1) * (MODEL_BYTES + MOMENT_BYTES) + 2 * MODEL_BYTES
        assert lost > 15
        assert hub.peak_bytes(run.repo) <= bound
        assert hub.held_bytes(run.repo) <= bound - MODEL_BYTES - MOMENT_BYTES
        newest = run.open().newest
        assert newest is not None
        assert newest.step == SAVES
        run.store().verify(newest)
        assert [event for event in events if isinstance(event, journal.ReplicationFailed)]
