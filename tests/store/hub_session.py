"""A run in a repository of the stand-in, small enough to go through every fault of it."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dragoman.checkpoint.lease import take_lease
from dragoman.checkpoint.log import RunLog
from dragoman.checkpoint.restore import newest_good, repair_root
from dragoman.store.base import MODEL_FILE
from dragoman.store.deadline import Patience
from dragoman.store.disk import digest
from dragoman.store.hub import HubStore
from dragoman.store.record import CheckpointRecord
from tests.support.hub import HubStandIn

TOKEN = "hf_thisIsTheSecretOfAda"
MODEL, OPTIMIZER, STATE = MODEL_FILE, "training/optimizer.safetensors", "training/state.json"
IMPATIENT = Patience(answer_seconds=0.6, stall_seconds=0.6, transfer_seconds=0.6)
"""For requests that are never answered."""
_NUMBERS = itertools.count(1)


def no_sleep(seconds: float) -> None:
    pass


def no_damage(checkpoint: CheckpointRecord, problem: str) -> None:
    raise AssertionError(f"{checkpoint.folder}: {problem}")


class HubRun:
    """One run in one new repository, and what was written and promised, kept outside the machine that is lost."""

    def __init__(self, hub: HubStandIn, folder: Path) -> None:
        self.hub, self.folder = hub, folder
        self.repo = f"ada/run-{next(_NUMBERS)}"
        self.written: dict[str, dict[str, bytes]] = {}
        """Content of every file of every checkpoint whose publishing began, by nonce, in order."""
        self.safe: list[str] = []
        """Nonces of those whose publishing returned."""
        self._nonces = (f"{number:06x}" for number in itertools.count(1))
        folder.mkdir(parents=True, exist_ok=True)

    def store(self, **options: Any) -> HubStore:
        """The store as another process opens it."""
        options = {"token": lambda: TOKEN, "downloads_at_once": 1, "sleep": no_sleep} | options
        return HubStore(self.repo, endpoint=self.hub.url, **options)

    def open(self, store: HubStore | None = None) -> RunLog:
        """The log, read now."""
        return RunLog(store or self.store(), now=lambda: 0.0, new_nonce=lambda: next(self._nonces))

    def start(self, store: HubStore | None = None) -> RunLog:
        """A new repository and its lease."""
        store = store or self.store()
        store.prepare()
        log = self.open(store)
        take_lease(log, "here")
        return log

    def resume(self, store: HubStore | None = None) -> tuple[RunLog, CheckpointRecord | None]:
        """Lease, clean, restore, repair: the way every session begins."""
        log = self.start(store)
        log.clean()
        restored = newest_good(log, no_damage)
        repair_root(log, no_damage)
        return log, restored

    def contents(self, step: int) -> dict[str, bytes]:
        """The same for the same step, as an exact resume makes them."""
        return {
            MODEL: f"model of step {step} ".encode() * 50,
            "config.json": b'{"model_type": "m2m_100"}',
            OPTIMIZER: f"optimizer of step {step} ".encode() * 100,
            STATE: f'{{"step": {step}}}'.encode(),
        }

    def files(self, step: int, more: Mapping[str, bytes] | None = None) -> dict[str, Path]:
        """The files of a checkpoint, on this machine."""
        paths: dict[str, Path] = {}
        for name, data in (self.contents(step) | dict(more or {})).items():
            paths[name] = self.folder / f"step-{step}" / name
            paths[name].parent.mkdir(parents=True, exist_ok=True)
            paths[name].write_bytes(data)
        return paths

    def save(self, log: RunLog, step: int, *, keep: int | None = 2, best: str = "", **more: bytes) -> CheckpointRecord:
        """Publish a checkpoint, its root, and what it retires."""
        nonce = log.new_nonce()
        paths = self.files(step, {"README.md": more["card"]} if "card" in more else {})
        self.written[nonce] = {name: path.read_bytes() for name, path in paths.items()}
        checkpoint = log.publish_checkpoint(
            nonce=nonce,
            step=step,
            pairs_seen=step,
            files={name: (path, digest(path)) for name, path in paths.items()},
            config="c",
            corpus="d",
            best=best,
            keep=keep,
        )
        self.safe.append(nonce)
        return checkpoint

    def routes(self, since: int = 0) -> list[str]:
        """Names of the requests, in order."""
        return [seen.route for seen in self.hub.requests[since:]]

    def check_whole(self) -> None:
        """What must hold at any instant, whatever was lost, as another machine sees it."""
        store = self.store()
        log = self.open(store)
        for checkpoint in log.kept:
            store.verify(checkpoint)
            for name in checkpoint.files:
                there = self.hub.read(self.repo, f"{checkpoint.folder}/{name}")
                assert there == self.written[checkpoint.nonce][name]
        if self.safe:
            assert log.newest is not None
            order = list(self.written)
            assert order.index(log.newest.nonce) >= order.index(self.safe[-1])
        if MODEL in self.hub.names(self.repo):
            assert self.hub.read(self.repo, MODEL) in [files[MODEL] for files in self.written.values()]

    def check_tidy(self, log: RunLog, keep: int = 2) -> None:
        """After a session: no debris, and no byte is held that a kept checkpoint or the root does not name."""
        assert len(log.checkpoints) <= keep
        assert len(log.kept) <= keep + 1
        assert log.best is not None
        assert self.hub.read(self.repo, MODEL) == self.written[log.best.nonce][MODEL]
        named = {f"{checkpoint.folder}/{name}" for checkpoint in log.kept for name in checkpoint.files}
        records = {f"dragoman/log/{record.seq:06d}.json" for record in log.records}
        at_root = {MODEL, "config.json"}
        assert self.hub.names(self.repo) - {".gitattributes", "README.md"} == named | records | at_root

    def held_steps(self) -> int:
        """Bytes in LFS, in checkpoints of the first step's size."""
        one = sum(len(data) for name, data in self.contents(500).items() if name.endswith(".safetensors"))
        return round(self.hub.held_bytes(self.repo) / one)


def words(records: Sequence[Any]) -> list[str]:
    return [record.kind for record in records]
