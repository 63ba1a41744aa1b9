"""A training session as the store sees it, small enough to be repeated thousands of times."""

import contextlib
import itertools
import os
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path

from dragoman.checkpoint.lease import take_lease
from dragoman.checkpoint.log import RunLog
from dragoman.checkpoint.restore import newest_good, repair_root
from dragoman.store.base import MODEL_FILE
from dragoman.store.local import FolderStore
from dragoman.store.record import CheckpointRecord
from tests.support.lost_machine import WatchedDisk

KEEP = 2
MODEL, STATE = MODEL_FILE, "training/state.json"
STRANGERS = {
    "notes.txt": b"do not touch",
    "film.mkv.part": b"half a film",
    "checkpoint-mine/model.safetensors": b"a folder of that kind of name",
    "dragoman/journal.jsonl": b"{}\n",
}
"""Files that are not ours to touch."""


class Ledger:
    """What was written and what was promised, kept outside the machine that is lost."""

    def __init__(self) -> None:
        numbers = itertools.count(1)
        self.new_nonce: Callable[[], str] = lambda: f"{next(numbers):06x}"
        """Names that are the same in every repetition."""
        self.written: dict[str, dict[str, bytes]] = {}
        """Content of every file of every checkpoint whose publishing began, by nonce, in order."""
        self.safe: list[str] = []
        """Nonces of those whose publishing returned."""
        self.root_promised = False
        """Whether a model was ever published at the root."""


def survivor(ledger: Ledger) -> Ledger:
    """What another machine goes on with: the same promises, and other names."""
    copied, numbers = Ledger(), itertools.count(0x100000)
    copied.new_nonce = lambda: f"{next(numbers):06x}"
    copied.written, copied.safe = dict(ledger.written), list(ledger.safe)
    copied.root_promised = ledger.root_promised
    return copied


@contextlib.contextmanager
def scratch() -> Generator[Path]:
    """A folder in memory where the system has one: nothing in these tests has to survive them."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


def place_strangers(root: Path) -> None:
    for name, data in STRANGERS.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)


def open_log(store: FolderStore, ledger: Ledger) -> RunLog:
    return RunLog(store, now=lambda: 0.0, new_nonce=ledger.new_nonce)


def no_damage(checkpoint: CheckpointRecord, problem: str) -> None:
    raise AssertionError(f"{checkpoint.folder}: {problem}")


def start(store: FolderStore, ledger: Ledger) -> tuple[RunLog, CheckpointRecord | None]:
    """Lease, clean, restore, repair: the way every session begins."""
    store.prepare()
    log = open_log(store, ledger)
    take_lease(log, "here")
    log.clean()
    restored = newest_good(log, no_damage)
    repair_root(log, no_damage)
    return log, restored


def save(log: RunLog, store: FolderStore, ledger: Ledger, step: int, *, best: bool) -> CheckpointRecord:
    """Write, publish, publish the best, drop the oldest: the way every save goes."""
    nonce = log.new_nonce()
    contents = {name: f"{name} of step {step} in {nonce}".encode() for name in (MODEL, STATE)}
    staging = store.staging(nonce)
    store.disk.make_folder(staging / "training")
    files = {name: (staging / name, store.disk.write(staging / name, [data])) for name, data in contents.items()}
    ledger.written[nonce] = contents
    checkpoint = log.publish_checkpoint(
        nonce=nonce,
        step=step,
        pairs_seen=16 * step,
        files=files,
        config="c",
        corpus="d",
        metrics={"chrf": 1 / 3},
        losses=[(step, 0.1)],
        best=nonce if best or log.best is None else log.best.nonce,
    )
    ledger.safe.append(nonce)
    log.publish_root()
    ledger.root_promised = True
    log.retire(KEEP)
    return checkpoint


def two_sessions(store: FolderStore, ledger: Ledger) -> None:
    """Everything that ever happens to a run folder: saves, a best one that changes, drops, an end, a resume."""
    log, _ = start(store, ledger)
    for step in (500, 1000, 1500, 2000):
        save(log, store, ledger, step, best=step in (500, 1000))
    log.finish("stopped", "deadline", step=2000)
    log, restored = start(store, ledger)
    assert restored is not None
    save(log, store, ledger, 2500, best=True)
    log.finish("done", "all steps", step=2500, resumed_from=restored.nonce)


def check_whole(root: Path, ledger: Ledger) -> None:
    """What must hold of a run folder at any instant, whatever was lost."""
    store = FolderStore(root)
    log = open_log(store, ledger)
    for checkpoint in log.kept:
        store.verify(checkpoint)
        for name in checkpoint.files:
            assert (root / checkpoint.folder / name).read_bytes() == ledger.written[checkpoint.nonce][name]
    order = list(ledger.written)
    if ledger.safe:
        assert log.newest is not None
        assert order.index(log.newest.nonce) >= order.index(ledger.safe[-1])
    if ledger.root_promised or (root / MODEL).exists():
        assert (root / MODEL).read_bytes() in [contents[MODEL] for contents in ledger.written.values()]


def check_tidy(root: Path, log: RunLog, *, strangers: bool = True) -> None:
    """After a session: at most `keep` checkpoints and one model, the root is the best one's, and no debris."""
    assert len(log.checkpoints) <= KEEP
    assert len(log.kept) <= KEEP + 1
    assert log.best is not None
    assert (root / MODEL).read_bytes() == (root / log.best.folder / MODEL).read_bytes()
    named = {f"{checkpoint.folder}/{name}" for checkpoint in log.kept for name in checkpoint.files}
    records = {f"dragoman/log/{record.seq:06d}.json" for record in log.records}
    found = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    assert found - set(STRANGERS if strangers else ()) == named | records | {MODEL}
    folders = {path.relative_to(root).as_posix() for path in root.iterdir() if path.is_dir()}
    others = {"dragoman", "checkpoint-mine"} if strangers else {"dragoman"}
    assert folders == {checkpoint.folder for checkpoint in log.kept} | others


def check_strangers(root: Path) -> None:
    for name, data in STRANGERS.items():
        assert (root / name).read_bytes() == data


def live_on(root: Path, ledger: Ledger) -> None:
    """A further session on what is left: it restores the newest, saves, cleans up and ends."""
    check_whole(root, ledger)
    check_strangers(root)
    newest = open_log(FolderStore(root), ledger).newest
    store = FolderStore(root, WatchedDisk())  # real fsyncs would prove nothing here
    log, restored = start(store, ledger)
    assert restored == newest
    last = save(log, store, ledger, (restored.step if restored else 0) + 500, best=False)
    log.finish("done", "all steps", step=last.step, resumed_from=restored.nonce if restored else "")
    log.clean()
    assert log.newest == last
    check_whole(root, ledger)
    check_tidy(root, log)
    check_strangers(root)
