"""A training session as an object store sees it: leases, saves, what they retire, an end, a resume."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from obstore.store import S3Store

from dragoman.checkpoint.lease import take_lease
from dragoman.checkpoint.log import RunLog
from dragoman.checkpoint.restore import newest_good, repair_root
from dragoman.store import card
from dragoman.store.base import CARD, MODEL_FILE
from dragoman.store.disk import digest
from dragoman.store.objects import ObjectStore
from dragoman.store.objects_bucket import Bucket
from dragoman.store.objects_unfinished import unfinished
from dragoman.store.record import CheckpointRecord
from tests.store.session import Ledger, no_damage
from tests.support.s3 import BUCKET, server

KEEP = 1
STATE = "training/state.json"
PART_BYTES = 100
"""The model is longer and goes in parts, the other files are shorter and go at once."""


def open_store(folder: Path | str, port: int | None = None, **more: Any) -> ObjectStore:
    """The store of a test, directly or through the proxy at `port`; nothing is tried twice by obstore itself."""
    more = {"options": server().options(port), "part_bytes": PART_BYTES} | more
    return ObjectStore(f"s3://{BUCKET}{folder}", **more)


def raw(folder: Path | str) -> S3Store:
    """The same objects, behind the store's back."""
    options = server().options()
    options["client_options"]["allow_http"] = True
    return S3Store(BUCKET, prefix=str(folder).strip("/"), **options)


def names(folder: Path | str) -> set[str]:
    """Every path in the store."""
    return {meta["path"] for page in raw(folder).list() for meta in page}


def read(folder: Path | str, name: str) -> bytes:
    """The bytes under a path."""
    return bytes(raw(folder).get(name).bytes())


def duplicate(old: Path | str, new: Path | str) -> None:
    """Store under `new` all that is stored under `old`, with what is noted beside it, and begin the same uploads."""
    store = raw("")
    for page in store.list(str(old).strip("/")):
        for meta in page:
            store.copy(meta["path"], meta["path"].replace(str(old).strip("/"), str(new).strip("/"), 1))
    for one in unfinished(Bucket(f"s3://{BUCKET}{old}", server().options())):
        server().begin_upload(f"{str(new).strip('/')}/{one.path}")


def open_log(store: ObjectStore, ledger: Ledger) -> RunLog:
    return RunLog(store, now=lambda: 0.0, new_nonce=ledger.new_nonce)


def start(store: ObjectStore, ledger: Ledger) -> tuple[RunLog, CheckpointRecord | None]:
    """Lease, clean, restore, repair: the way every session begins."""
    store.prepare()
    log = open_log(store, ledger)
    take_lease(log, "here")
    log.clean()
    restored = newest_good(log, no_damage)
    repair_root(log, no_damage)
    return log, restored


def write(tmp_path: Path, ledger: Ledger, nonce: str, step: int) -> dict[str, Path]:
    """The files of a checkpoint, somewhere on this machine."""
    model = f"weights of step {step} in {nonce}".rjust(2 * PART_BYTES - 1)
    data = {MODEL_FILE: model.encode(), CARD: card.seal(f"Card of step {step}."), STATE: f"step {step}".encode()}
    ledger.written[nonce] = data
    paths = {name: tmp_path / f"{nonce}-{number}" for number, name in enumerate(data)}
    for name, path in paths.items():
        path.write_bytes(data[name])
    return paths


def publish(log: RunLog, files: Mapping[str, Path], nonce: str, step: int, *, is_best: bool = True) -> CheckpointRecord:
    """Publish a checkpoint, the root, and what it retires."""
    return log.publish_checkpoint(
        nonce=nonce,
        step=step,
        pairs_seen=16 * step,
        files={name: (path, digest(path)) for name, path in files.items()},
        config="c",
        corpus="d",
        best=nonce if is_best or log.best is None else log.best.nonce,
        keep=KEEP,
    )


def save(log: RunLog, tmp_path: Path, ledger: Ledger, step: int, *, is_best: bool = True) -> CheckpointRecord:
    """Write and publish: the way every save goes."""
    nonce = log.new_nonce()
    checkpoint = publish(log, write(tmp_path, ledger, nonce, step), nonce, step, is_best=is_best)
    ledger.safe.append(nonce)
    ledger.root_promised = True
    return checkpoint


def two_sessions(store: ObjectStore, tmp_path: Path, ledger: Ledger) -> None:
    """Everything that ever happens: a best checkpoint that is trimmed, then dropped; an end, and a resume."""
    log, _ = start(store, ledger)
    save(log, tmp_path, ledger, 500)
    save(log, tmp_path, ledger, 1000, is_best=False)
    log.finish("stopped", "deadline", step=1000)
    log, restored = start(store, ledger)
    assert restored is not None
    save(log, tmp_path, ledger, 1500)
    log.finish("done", "all steps", step=1500, resumed_from=restored.nonce)


def check_promised(folder: Path | str, ledger: Ledger) -> RunLog:
    """What must hold at any instant, whatever was lost; `start` proves the bytes of what is there."""
    log = open_log(open_store(folder), ledger)
    order = list(ledger.written)
    if ledger.safe:
        assert log.newest is not None
        assert order.index(log.newest.nonce) >= order.index(ledger.safe[-1])
    if ledger.root_promised:
        assert read(folder, MODEL_FILE) in [data[MODEL_FILE] for data in ledger.written.values()]
    return log


def check_tidy(folder: Path | str, log: RunLog, ledger: Ledger) -> None:
    """After a session: the newest checkpoint whole, at most the model of the best one, its root, and no debris."""
    assert len(log.checkpoints) == KEEP
    assert len(log.kept) <= KEEP + 1
    named = {f"{checkpoint.folder}/{name}" for checkpoint in log.kept for name in checkpoint.files}
    records = {f"dragoman/log/{record.seq:06d}.json" for record in log.records}
    assert names(folder) == named | records | {MODEL_FILE, CARD}
    assert log.best is not None
    for name in (MODEL_FILE, CARD):
        assert read(folder, name) == ledger.written[log.best.nonce][name]
    assert sorted(log.store.held()) == sorted(named)  # no upload is unfinished
    for checkpoint in log.kept:
        log.store.verify(checkpoint)
