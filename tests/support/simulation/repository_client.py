"""The repository, as one process uses it: what `store/hub.py` and `store/hub_branch.py` do, in few lines."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

from dragoman.errors import Damaged, StoreUnavailable
from dragoman.store.base import NumberTaken, unnamed
from dragoman.store.disk import Disk
from dragoman.store.record import TRAINING, CheckpointRecord, DropRecord, Record, TrimRecord
from tests.support.simulation.client import Client
from tests.support.simulation.faults import Refusal, Wire
from tests.support.simulation.repository import Change, Repository, Snapshot

_TRIES = 5
FRESH_SECONDS = 60.0
"""As in the product: what was seen longer ago is looked at again before bytes are deleted."""

Plan = Callable[[Snapshot], Change | None]
"""What is left to change; None for nothing."""


class RepositoryClient(Client):
    """The repository, as one process sees it: never an older state than it has seen already."""

    def __init__(self, server: Repository, wire: Wire, disk: Disk, pause: float) -> None:
        super().__init__(wire, disk, pause)
        self._server = server
        self._newest: Snapshot | None = None
        self._replaced: set[int] = set()

    def prepare(self) -> None:
        self.wire.ask("create", lambda: None)

    def records(self, after: int = 0) -> list[Record]:
        return list(self._look().records[after:])

    def publish(
        self, records: Sequence[Record], files: Mapping[str, Path], root: CheckpointRecord | None = None
    ) -> None:
        self._change(lambda at: _publishing(at, records, files, root))
        self._published = self.wire.baton.now

    def publish_root(self, checkpoint: CheckpointRecord) -> None:
        self._change(lambda at: _rooting(at, checkpoint))

    def remove(self, gone: DropRecord | TrimRecord, freed: Collection[str]) -> None:
        self._server.watch.deletes(self._newest.records if self._newest else ())
        spoilt = set(freed) if isinstance(gone, DropRecord) and gone.reason.startswith("damaged") else set[str]()

        def left(at: Snapshot) -> Change | None:
            at_root = [path for path, sha256 in at.files.items() if "/" not in path and sha256 in spoilt]
            files = dict.fromkeys([*_leftovers(at, gone), *at_root])
            return Change(files) if files else None

        self._change(left)
        if freed:
            self._free(lambda sha256: sha256 in freed)

    def held(self) -> list[str]:
        at = self._look()
        return [*(path for path in at.files if path.startswith("checkpoint-")), *map(unnamed, self._nameless(at))]

    def discard(self, paths: Iterable[str]) -> None:
        unwanted = set(paths)
        if unwanted:
            self._server.watch.deletes(self._newest.records if self._newest else ())

            def left(at: Snapshot) -> Change | None:
                files = dict.fromkeys(path for path in sorted(unwanted) if path in at.files)
                return Change(files) if files else None

            self._change(left)
            self._free(lambda sha256: unnamed(sha256) in unwanted)

    def idle_seconds(self) -> float:
        asked = self.wire.ask("age", lambda: (self.wire.baton.now, self._server.last_record_time, self._server.records))
        return asked[0] - asked[1] if asked[2] else math.inf

    def get(self, path: str) -> bytes | None:
        sha256 = self._look().files.get(path, "")
        return self.wire.ask("get", lambda: self._server.blobs.get(sha256))

    # --- parts -----------------------------------------------------------------------

    def _free(self, is_unwanted: Callable[[str], bool]) -> None:
        """Delete bytes for ever.

        Of bytes that somebody may make again, it is looked at the same instant whether they have got a name: nothing
        guards a machine that wakes up between looking and deleting, here as at the Hub.
        """
        while True:
            looked = self.wire.baton.now
            there = self.wire.ask("list blobs", lambda: sorted(self._server.blobs))
            named = set(self._look().files.values())
            if self.wire.baton.now - looked <= FRESH_SECONDS:
                break
        freed = [sha256 for sha256 in there if sha256 not in named and is_unwanted(sha256)]
        old = [sha256 for sha256 in freed if self._server.is_old(sha256)]
        young = [sha256 for sha256 in freed if sha256 not in old]
        if old:
            self.wire.ask("free", lambda: self._server.free(old), changes=True)
        if young:
            self.wire.ask("free", lambda: self._server.free_nameless(young))

    def _nameless(self, at: Snapshot) -> list[str]:
        """Sha256 of the bytes that no path names."""
        there = self.wire.ask("list blobs", lambda: sorted(self._server.blobs))
        return [sha256 for sha256 in there if sha256 not in at.files.values()]

    def _look(self) -> Snapshot:
        def shown() -> Snapshot:
            return self._server.shown[max(-1 - self.wire.lag(), -len(self._server.shown))]

        at = self.wire.ask("look", shown)
        if self._newest and (at.number == self._newest.number or at.number in self._replaced):
            return self._newest
        return self._remember(at)

    def _remember(self, at: Snapshot) -> Snapshot:
        if self._newest:
            if len(at.records) < len(self._newest.records):
                raise StoreUnavailable(f"{self}: it shows an old state")
            self._replaced.add(self._newest.number)
        self._newest = at
        return at

    def _change(self, plan: Plan) -> Snapshot:
        """Commit what a plan wants changed until it wants nothing more."""
        at = self._look()
        for _ in range(_TRIES):
            change = plan(at)
            if change is None:
                return at
            parent = at.number
            try:
                self._upload(change)
                at = self.wire.ask("commit", lambda: self._server.commit(parent, change), changes=True)  # noqa: B023
                return self._remember(at)
            except Refusal:
                self._replaced.clear()  # what we took for the newest is not; so what replaced it may be
                at = self._look()
            except StoreUnavailable:
                at = self._look()
                if at.number == parent:
                    raise
        if plan(at) is None:
            return at
        raise StoreUnavailable(f"{self}: somebody else changes the repository all the time")

    def _upload(self, change: Change) -> None:
        for sha256, path in (change.sources or {}).items():
            data = path.read_bytes()
            self.wire.ask("upload", lambda: self._server.upload(sha256, data), changes=True)  # noqa: B023


def _publishing(
    at: Snapshot, records: Sequence[Record], files: Mapping[str, Path], root: CheckpointRecord | None
) -> Change | None:
    missing = [record for record in records if not _is_there(at, record)]
    if not missing and at.records[-1].seq > records[-1].seq:
        return None
    if missing and missing[0].seq != len(at.records) + 1:
        raise StoreUnavailable("it shows an old state")
    changed: dict[str, str | None] = {}
    for record in records:
        if isinstance(record, DropRecord | TrimRecord):
            changed |= dict.fromkeys(_leftovers(at, record))
    sources: dict[str, Path] = {}
    first = records[0]
    if isinstance(first, CheckpointRecord) and (files or first in missing):
        assert files.keys() == first.files.keys()
        changed |= {f"{first.folder}/{name}": first.files[name].sha256 for name in files}
        sources = {first.files[name].sha256: path for name, path in files.items()}
    if root:
        changed |= {name: root.files[name].sha256 for name in root.model_files}
    changed = {path: sha256 for path, sha256 in changed.items() if at.files.get(path) != sha256}
    sources = {sha256: path for sha256, path in sources.items() if sha256 in changed.values()}
    return Change(changed, missing, sources) if changed or missing else None


def _is_there(at: Snapshot, record: Record) -> bool:
    if record.seq > len(at.records):
        return False
    if at.records[record.seq - 1].to_bytes() != record.to_bytes():
        raise NumberTaken(f"another record holds number {record.seq}")
    return True


def _rooting(at: Snapshot, checkpoint: CheckpointRecord) -> Change | None:
    for name in checkpoint.model_files:
        if at.files.get(f"{checkpoint.folder}/{name}") != checkpoint.files[name].sha256:
            raise Damaged(f"{checkpoint.folder}/{name}: missing")
    wanted = {name: checkpoint.files[name].sha256 for name in checkpoint.model_files}
    wanted = {path: sha256 for path, sha256 in wanted.items() if at.files.get(path) != sha256}
    return Change(wanted) if wanted else None


def _leftovers(at: Snapshot, gone: DropRecord | TrimRecord) -> list[str]:
    below = f"/{TRAINING}" if isinstance(gone, TrimRecord) else "/"
    return [path for path in at.files if any(path.startswith(folder + below) for folder in gone.checkpoints.values())]
