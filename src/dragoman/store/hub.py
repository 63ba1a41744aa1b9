"""A store in a model repository of the Hugging Face Hub.

A checkpoint appears with its record, the records that retire older ones, and the model at
the root, in one commit that names its parent: so it is whole or absent, and never beside
another one with its number. Large files are uploaded before, once, however many names they get.
A commit that drops files frees nothing: the Hub keeps every version until its bytes are
deleted for ever, which `remove` does.
"""

import contextlib
import math
import time
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path

from dragoman.errors import Damaged, InputError, StoreUnavailable
from dragoman.store import card
from dragoman.store.base import CARD, unnamed
from dragoman.store.deadline import Patience
from dragoman.store.disk import Disk, digest
from dragoman.store.hub_access import Tokens, check_identity, check_name
from dragoman.store.hub_api import Blob, HubApi
from dragoman.store.hub_branch import Branch, Plan
from dragoman.store.hub_download import Downloads, Found
from dragoman.store.hub_files import (
    Add,
    Change,
    Entry,
    Remove,
    Snapshot,
    git_blob,
    in_memory,
    in_words,
    leftovers,
    publishing,
    rooting,
)
from dragoman.store.outcome import DENIED, NEW_TOKEN, HubFailure
from dragoman.store.record import (
    COPY_BACK,
    CheckpointRecord,
    DropRecord,
    FileEntry,
    Record,
    TrimRecord,
    parse,
    record_name,
)

_AT_ONCE = 4
"""Downloads side by side: enough to fill a line, few enough to share one."""
_DAMAGED = "damaged"
_FRESH_SECONDS = 60.0
"""What was seen longer ago is looked at again before bytes are deleted for ever."""


def _nothing(*_: object) -> None:
    pass


class HubStore:
    """The store in the model repository `repo_id`, of one process and for one thread.

    Args:
        repo_id: USER/REPO.
        public: Whether a repository that `prepare` makes is public.
        commits_per_hour: How often to commit when it can wait; see `pause_seconds`.
        upload_bytes_per_second: Cap of the uploads; None for none.
        endpoint: Which Hub; by default that of HF_ENDPOINT, else huggingface.co.
        token: Gives the token, asked anew at each request; by default as `huggingface_hub` finds it.
        disk: Makes every change to a disk of this machine.
        patience: How long to wait for the Hub.
        downloads_at_once: How many files are downloaded side by side.
        clock: In seconds; only differences count.
        sleep: Waits for so many seconds.

    Raises:
        InputError: That is not the name of a model repository.
    """

    def __init__(
        self,
        repo_id: str,
        *,
        public: bool = False,
        commits_per_hour: int = 30,
        upload_bytes_per_second: float | None = None,
        endpoint: str | None = None,
        token: Callable[[], str | None] | None = None,
        disk: Disk | None = None,
        patience: Patience | None = None,
        downloads_at_once: int = _AT_ONCE,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        check_name(repo_id)
        self.beat: Callable[[], None] = _nothing
        """Called while something moves, and before and after each request: we live."""
        self.progress: Callable[[int], None] = _nothing
        """Told of bytes as they arrive."""
        self.disk = disk or Disk()
        self._repo, self._public = repo_id, public
        self._tokens = Tokens(token)
        patience = patience or Patience()
        self._api = HubApi(repo_id, endpoint, self._tokens, patience, beat=lambda: self.beat())
        self._branch = Branch(self._api, commits_per_hour, upload_bytes_per_second, clock=clock, sleep=sleep)
        self._downloads = Downloads(self._api, self._told, downloads_at_once, sleep=sleep)
        self._clock = clock
        self._parsed: dict[str, Record] = {}
        self._our_cards: dict[str, bool] = {}

    def __str__(self) -> str:
        return f"hf://{self._repo}"

    # --- before a session ------------------------------------------------------------

    def prepare(self) -> None:
        """See `Store`. One that is there stays as private or public as it is."""
        if self._tokens.choose() is None:
            raise InputError(f"{self}: no token", NEW_TOKEN)
        try:
            check_identity(self._api.whoami(), self._repo)
            self._api.create(private=not self._public)
        except HubFailure as failure:
            if failure.status in DENIED:
                raise InputError(failure.message, failure.hint or NEW_TOKEN) from failure
            raise
        at = self._branch.there()
        if at.last == 0 and (strange := [*at.weights(), *at.checkpoint_files()]):
            raise InputError(
                f"{self}: holds {strange[0]}, which dragoman has not written",
                "give the run a repository of its own (to start from those weights, give that one to --model)",
            )

    # --- a save ----------------------------------------------------------------------

    def publish(
        self, records: Sequence[Record], files: Mapping[str, Path], root: CheckpointRecord | None = None
    ) -> None:
        """See `Store`. All in one commit."""
        self._change(lambda at: publishing(at, records, files, root, partial(self._is_ours, at)), in_words(records))
        self._parsed |= {git_blob(record.to_bytes()): record for record in records}

    def publish_root(self, checkpoint: CheckpointRecord) -> None:
        """See `Store`. The bytes are named once more, not sent again."""
        self._change(lambda at: rooting(at, checkpoint, partial(self._is_ours, at)), f"model of step {checkpoint.step}")

    def keep(self, files: Mapping[str, Path]) -> None:
        """See `Store`. All in one commit."""
        entry = cache(digest)

        def missing(at: Snapshot) -> list[Add]:
            absent = {name: path for name, path in files.items() if at.size(name) != path.stat().st_size}
            return [Add(name, path, entry(path)) for name, path in absent.items()]

        self._change(missing, f"{len(files)} files of the run")

    def claim(self, name: str, data: bytes) -> bytes:
        """See `Store`."""
        new = Add(name, data, in_memory(data))
        at = self._change(lambda at: [] if name in at.files else [new], f"{name} is claimed")
        return self._downloads.read(at, [name])[0]

    def pause_seconds(self) -> float:
        """See `Store`."""
        return self._branch.pause_seconds()

    # --- reading ---------------------------------------------------------------------

    def records(self, after: int = 0) -> list[Record]:
        """See `Store`."""
        at = self._branch.look()
        if at is None:
            return []
        names = [record_name(number) for number in range(after + 1, at.last + 1)]
        for name in names:
            if name not in at.files:
                raise Damaged(f"{self}/{name}: missing, though a later record exists", COPY_BACK)
        new = [name for name in names if at.files[name].blob not in self._parsed]
        for name, data in zip(new, self._downloads.read(at, new), strict=True):
            record = parse(data, f"{self}/{name}")
            if record_name(record.seq) != name:
                raise Damaged(f"{self}/{name}: holds record {record.seq}", COPY_BACK)
            self._parsed[at.files[name].blob] = record
        return [self._parsed[at.files[name].blob] for name in names]

    def verify(self, checkpoint: CheckpointRecord, names: Iterable[str] | None = None) -> None:
        """See `Store`. Downloads every byte, and keeps none."""
        names = list(checkpoint.files if names is None else names)
        self._downloads.each(self._found(checkpoint, names), lambda download, _: download.prove())

    def fetch(self, checkpoint: CheckpointRecord, names: Iterable[str], into: Path) -> None:
        """See `Store`."""
        names = [name for name in names if not self._is_here(into / name, checkpoint.files[name])]
        if names:
            found = self._found(checkpoint, names)
            self._downloads.each(found, lambda download, name: download.to_file(self.disk, into / name))

    def kept(self, prefix: str) -> list[str]:
        """See `Store`."""
        at = self._branch.look()
        return at.below(prefix.rstrip("/")) if at else []

    def root_files(self) -> list[str]:
        """Names of all files at the root, whoever wrote them; none where there is no repository."""
        at = self._branch.look()
        return sorted(name for name in at.files if "/" not in name) if at else []

    def bring(self, names: Iterable[str], into: Path) -> None:
        """See `Store`. Raises `Damaged` when the bytes are not those that the Hub itself names."""
        at = self._branch.there()
        found: dict[str, Found] = {}
        for name in names:
            if name not in at.files:
                raise StoreUnavailable(f"{self}/{name}: not there")
            size, _, sha256 = entry = at.files[name]
            if sha256 is None or not self._is_here(into / name, FileEntry(size=size, sha256=sha256)):
                found[name] = Found(at.oid, name, entry)
        self._downloads.each(found, lambda download, name: download.to_file(self.disk, into / name))

    def idle_seconds(self) -> float:
        """See `Store`. Both times come from the Hub."""
        at = self._branch.look()
        return self._api.age(record_name(at.last), at.oid) if at and at.last else math.inf

    def num_bytes(self) -> int:
        """See `Store`. Counts what the Hub charges for: every version whose bytes were not deleted for ever."""
        at = self._branch.look()
        if at is None:
            return 0
        return sum(blob.size for blob in self._api.blobs()) + sum(
            entry.size for entry in at.files.values() if not entry.sha256
        )

    # --- removing --------------------------------------------------------------------

    def remove(self, gone: DropRecord | TrimRecord, freed: Collection[str]) -> None:
        """See `Store`. Bytes that a path still names are never deleted, unless they are damaged."""
        spoilt = self._spoilt(gone, freed)

        def left(at: Snapshot) -> list[Change]:
            # The root may bear the same bytes under another name; whoever repairs it makes it anew.
            at_root = [path for path, entry in at.files.items() if "/" not in path and entry.sha256 in spoilt]
            return [*leftovers(at, gone), *map(Remove, at_root)]

        def unnamed_now() -> list[Blob]:
            at = self._change(left, in_words([gone]))
            return [blob for blob in self._api.blobs() if blob.sha256 in freed and blob.sha256 not in at.named]

        if freed:
            self._free(unnamed_now)
        else:
            self._change(left, in_words([gone]))

    def held(self) -> list[str]:
        """See `Store`."""
        at = self._branch.look()
        return [*at.checkpoint_files(), *(unnamed(blob.sha256) for blob in self._nameless(at))] if at else []

    def discard(self, paths: Iterable[str]) -> None:
        """See `Store`. Paths all in one commit."""
        unwanted = set(paths)
        if not unwanted:
            return

        def nameless_now() -> list[Blob]:
            at = self._change(
                lambda at: [Remove(path) for path in sorted(unwanted) if path in at.files], "what no record names"
            )
            return [blob for blob in self._nameless(at) if unnamed(blob.sha256) in unwanted]

        self._free(nameless_now)

    # --- parts -----------------------------------------------------------------------

    def _free(self, found: Callable[[], list[Blob]]) -> None:
        """Delete bytes for ever; what was found too long ago is looked for again.

        A machine that was paused in between may find that another one has given the same bytes a name.
        """
        while True:
            looked = self._clock()
            blobs = found()
            if self._clock() - looked <= _FRESH_SECONDS:
                break
        if blobs:
            self._api.free(blobs)

    def _nameless(self, at: Snapshot) -> list[Blob]:
        """Bytes of ours that the quota counts and no path names: their machine was lost before commit or deletion."""
        blobs = [blob for blob in self._api.blobs() if blob.sha256 not in at.named]
        if not blobs:
            return []
        checkpoints = [record for record in self.records() if isinstance(record, CheckpointRecord)]
        recorded = {entry.sha256 for checkpoint in checkpoints for entry in checkpoint.files.values()}
        return [blob for blob in blobs if blob.was_never_committed or blob.sha256 in recorded]

    def _told(self, num_bytes: int) -> None:
        self.beat()
        self.progress(num_bytes)

    def _change(self, plan: Plan, message: str) -> Snapshot:
        with _local():
            return self._branch.change(plan, message)

    def _spoilt(self, gone: DropRecord | TrimRecord, freed: Collection[str]) -> set[str]:
        """Sha256 of all files of dropped checkpoints that were damaged; none when they were not."""
        if not (isinstance(gone, DropRecord) and gone.reason.startswith(_DAMAGED)):
            return set()
        checkpoints = [record for record in self.records() if isinstance(record, CheckpointRecord)]
        dropped = [checkpoint for checkpoint in checkpoints if checkpoint.nonce in gone.checkpoints]
        return {entry.sha256 for checkpoint in dropped for entry in checkpoint.files.values()} & set(freed)

    def _is_ours(self, at: Snapshot, entry: Entry) -> bool:
        """Whether the card at the root is one that we wrote and nobody changed."""
        if entry.blob not in self._our_cards:
            self._our_cards[entry.blob] = card.is_ours(self._api.read(CARD, at.oid))
        return self._our_cards[entry.blob]

    def _is_here(self, path: Path, wanted: FileEntry) -> bool:
        self.beat()
        with _local():
            return path.is_file() and path.stat().st_size == wanted.size and digest(path) == wanted

    def _found(self, checkpoint: CheckpointRecord, names: Iterable[str]) -> dict[str, Found]:
        """Where files of a checkpoint are, and what their bytes must be."""
        at = self._branch.there()
        found: dict[str, Found] = {}
        for name in names:
            path, recorded = f"{checkpoint.folder}/{name}", checkpoint.files[name]
            problem = at.files[path].differs(recorded) if path in at.files else "missing"
            if problem:
                raise Damaged(f"{self}/{path}: {problem}")
            found[name] = Found(at.oid, path, Entry(recorded.size, "", recorded.sha256))
        return found


@contextlib.contextmanager
def _local() -> Generator[None]:
    """Say which file of this machine could not be read."""
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(f"{error.filename}: cannot be read: {error.strerror}") from error
