"""A store in a bucket: S3 and what speaks its language, Google Cloud Storage, Azure.

An object appears at once and whole, so files are simply put. Their sha256 is noted beside
them, and every copy keeps the note: so what is there already is known without reading it.
A record is put only if nothing has its name. Whether that was so, no error tells: a lost
answer is settled by reading the name back.
"""

import math
import re
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dragoman.errors import InputError, StoreUnavailable
from dragoman.store import objects_fetch
from dragoman.store.base import MODEL_FILE
from dragoman.store.deadline import Patience
from dragoman.store.disk import Disk, digest
from dragoman.store.objects_bucket import PART_BYTES, Bucket
from dragoman.store.objects_failure import NOT_IMPLEMENTED, Refused
from dragoman.store.objects_log import RecordObjects
from dragoman.store.objects_send import Sender
from dragoman.store.objects_unfinished import Unfinished, give_up, unfinished
from dragoman.store.record import LOG, TRAINING, CheckpointRecord, DropRecord, Record, TrimRecord

_OURS = "dragoman"
_CHECKPOINT = re.compile(r"checkpoint-\d+(-[0-9a-f]+)?")
_PROBE = re.compile(rf"{_OURS}/probe-[0-9a-f]+")
_ATTEMPTS = 3


def _nothing(*_: object) -> None:
    pass


class ObjectStore:
    """The store at `url`.

    Args:
        url: `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX` or `az://CONTAINER/PREFIX`.
        single_writer: The user's word that nobody else ever writes here, for servers that
            cannot create an object only if it is absent.
        disk: Makes every change to a disk of this machine.
        upload_bytes_per_second: Cap of the uploads; None for none.
        clock: Seconds; only differences count.
        sleep: Waits for so many seconds.
        patience: How long to wait for the server.
        part_bytes: Size of the pieces in which large files travel.
        options: Given to obstore: `config`, `client_options`, `retry_config`. What is not
            given is read by obstore from the environment.

    Raises:
        InputError: obstore is not installed, or does not take this URL or these settings.
    """

    def __init__(
        self,
        url: str,
        *,
        single_writer: bool = False,
        disk: Disk | None = None,
        upload_bytes_per_second: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        patience: Patience | None = None,
        part_bytes: int = PART_BYTES,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.disk = disk or Disk()
        self.beat: Callable[[], None] = _nothing
        """Called whenever something moves."""
        self.progress: Callable[[int], None] = _nothing
        """Told of bytes that have arrived."""
        self._url, self._single_writer = url, single_writer
        self._bucket = Bucket(url, options, patience, part_bytes, beat=lambda: self.beat())
        self._records = RecordObjects(self._bucket, single_writer=single_writer)
        self._sender = Sender(self._bucket, upload_bytes_per_second, clock, sleep)

    def __str__(self) -> str:
        return self._url

    # --- before a session ------------------------------------------------------------

    def prepare(self) -> None:
        """Prove that the bucket can be written to, and creates an object only if it is absent.

        Raises:
            InputError: It does not, refuses us, is not there, or holds checkpoints that are not ours.
        """
        try:
            self._refuse_strangers()
            if not self._honours_condition():
                raise InputError(
                    f"{self}: this server does not create an object only if it is absent (If-None-Match)",
                    "use another store, or --single-writer if no other machine will ever write there",
                )
        except Refused as refusal:
            raise InputError(refusal.message, refusal.hint) from None

    def _refuse_strangers(self) -> None:
        """No record is ours, so no checkpoint is: we must neither write over one nor clean it away."""
        folders, files = self._bucket.top()
        strange = [name for name in folders if _CHECKPOINT.fullmatch(name)]
        strange += [found.path for found in files if found.path == MODEL_FILE]
        if strange and not self._records.numbers():
            raise InputError(
                f"{self}/{strange[0]}: already there, and not written by dragoman",
                "give another path (to start from those weights, download them and give their folder to --model)",
            )

    def _honours_condition(self) -> bool:
        """Whether the second of two creations fails, as one writer rests on it; also that we may write at all."""
        for _ in range(_ATTEMPTS):  # another machine that cleans up may remove the first one in between
            path = f"{_OURS}/probe-{secrets.token_hex(8)}"
            if self._single_writer:
                self._bucket.put(path, b"first")
                self._bucket.delete([path])
                return True
            try:
                self._bucket.create(path, b"first")
                if not self._bucket.create(path, b"second"):
                    return True
            except Refused as refusal:
                if refusal.status != NOT_IMPLEMENTED:
                    raise
            finally:
                self._bucket.delete([path])
        return False

    # --- a save ----------------------------------------------------------------------

    def publish(
        self, records: Sequence[Record], files: Mapping[str, Path], root: CheckpointRecord | None = None
    ) -> None:
        """See `Store`. Files of an earlier attempt that are there already are not sent again."""
        for record in records:
            if not self._records.is_visible(record):
                if isinstance(record, CheckpointRecord) and record is records[0]:
                    self._sender.checkpoint(record, files)
                self._records.create(record)
        if root:
            self._sender.root(root, files if root.nonce == records[0].nonce else {})

    def publish_root(self, checkpoint: CheckpointRecord) -> None:
        """See `Store`. The bucket copies the files itself."""
        self._sender.root(checkpoint, {})

    def keep(self, files: Mapping[str, Path]) -> None:
        """See `Store`."""
        for name, source in files.items():
            try:
                size = source.stat().st_size
                found = self._bucket.look(name)
                if found is None or found.size != size:
                    self._sender.file(name, source, digest(source))
            except OSError as error:
                raise StoreUnavailable(f"{source}: cannot be read: {error.strerror or error}") from error

    def claim(self, name: str, data: bytes) -> bytes:
        """See `Store`."""
        return self._records.claim(name, data)

    # --- reading ---------------------------------------------------------------------

    def records(self, after: int = 0) -> list[Record]:
        """See `Store`."""
        return self._records.read(after)

    def fetch(self, checkpoint: CheckpointRecord, names: Iterable[str], into: Path) -> None:
        """See `Store`. A file that was cut is continued."""
        for name in names:
            path, entry = f"{checkpoint.folder}/{name}", checkpoint.files[name]
            objects_fetch.fetch(self._bucket, self.disk, path, into / name, entry, self._arrived)

    def verify(self, checkpoint: CheckpointRecord, names: Iterable[str] | None = None) -> None:
        """See `Store`. Every byte comes here to be read."""
        for name in checkpoint.files if names is None else names:
            path = f"{checkpoint.folder}/{name}"
            objects_fetch.verify(self._bucket, path, checkpoint.files[name], self._arrived)

    def kept(self, prefix: str) -> list[str]:
        """See `Store`."""
        return [found.path for found in self._bucket.below(prefix)]

    def bring(self, names: Iterable[str], into: Path) -> None:
        """See `Store`."""
        for name in names:
            objects_fetch.bring(self._bucket, self.disk, name, into / name, self._arrived)

    def idle_seconds(self) -> float:
        """See `Store`. Both times are given by the bucket."""
        written = [found.modified for found in self._bucket.below(LOG)]
        if not written:
            return math.inf
        for _ in range(_ATTEMPTS):
            path = f"{_OURS}/probe-{secrets.token_hex(8)}"
            self._bucket.put(path, b"now")
            now = self._bucket.look(path)
            self._bucket.delete([path])
            if now:  # else another machine has cleaned up
                return max(0.0, now.modified - max(written))
        raise StoreUnavailable(f"{self}: does not show what was stored")

    def num_bytes(self) -> int:
        """See `Store`. Older versions of objects, where the bucket keeps them, are not counted."""
        folders, files = self._bucket.top()
        ours = [name for name in folders if name == _OURS or _CHECKPOINT.fullmatch(name)]
        return sum(found.size for found in [*files, *(each for name in ours for each in self._bucket.below(name))])

    def pause_seconds(self) -> float:
        """See `Store`. A bucket takes more requests than we make."""
        return 0.0

    # --- removing --------------------------------------------------------------------

    def remove(self, gone: DropRecord | TrimRecord, freed: Collection[str] = ()) -> None:
        """See `Store`."""
        below = f"/{TRAINING.rstrip('/')}" if isinstance(gone, TrimRecord) else ""
        lists = [self._bucket.below(folder + below) for folder in gone.checkpoints.values()]
        self._bucket.delete([found.path for some in lists for found in some])

    def held(self) -> list[str]:
        """See `Store`. Also uploads that never ended, where they can be listed (`objects_unfinished`)."""
        self._records.settle()
        folders, _ = self._bucket.top()
        held = [found.path for name in folders if _CHECKPOINT.fullmatch(name) for found in self._bucket.below(name)]
        held += [found.path for found in self._bucket.top(_OURS)[1] if _PROBE.fullmatch(found.path)]
        return held + [str(one) for one in unfinished(self._bucket) if _is_ours(one.path)]

    def discard(self, paths: Iterable[str]) -> None:
        """See `Store`."""
        objects: list[str] = []
        for path in paths:
            if upload := Unfinished.parse(path):
                give_up(self._bucket, upload)
            else:
                objects.append(path)
        self._bucket.delete(objects)

    def _arrived(self, num_bytes: int) -> None:
        self.progress(num_bytes)


def _is_ours(path: str) -> bool:
    """Whether an unfinished upload to this path can only be of a run."""
    top = path.split("/")[0]
    return path == MODEL_FILE or ("/" in path and (top == _OURS or bool(_CHECKPOINT.fullmatch(top))))
