"""What a store promises, wherever it is: folder, Hub repository or object store."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from dragoman.errors import Superseded
from dragoman.store.record import CheckpointRecord, DropRecord, Record, TrimRecord

MODEL_FILE = "model.safetensors"
"""The one large file of a checkpoint that is also published at the root of the store."""

CARD = "README.md"
"""The model card. At the root it is replaced only if nobody changed it since we wrote it."""


def unnamed(sha256: str) -> str:
    """What `Store.held` calls bytes that were sent and never got a name, or were dropped and never freed."""
    return f"bytes without a name: {sha256}"


class NumberTaken(Superseded):
    """Another record holds this sequence number. Only reading on tells whose it is and what follows."""


class Store(Protocol):
    """Files and records that outlive this machine.

    Every method may raise `StoreUnavailable`: the store failed, and the same call may be
    made again. `str(store)` is its URL or path, as a person would type it.
    """

    def prepare(self) -> None:
        """Make the store if it is not there, and prove that it can keep its promises.

        Raises:
            InputError: It refuses us, cannot create a name only if it is absent, or holds
                checkpoints that are not ours; says what to try.
        """
        ...

    def records(self, after: int = 0) -> list[Record]:
        """All records with a higher `seq` than `after`, in order; none where there is no store yet.

        Raises:
            Damaged: A record is missing or is not as it was written; names the file.
        """
        ...

    def publish(
        self, records: Sequence[Record], files: Mapping[str, Path], root: CheckpointRecord | None = None
    ) -> None:
        """Make `files` durable, then make `records` visible one after the other, then the root that of `root`.

        Publishing the same records again succeeds and changes nothing, so a lost answer
        may always be retried. `files` are those of the checkpoint that comes first, by the
        names in its record. A store that can do all this in one atomic step does.

        Raises:
            NumberTaken: Another record holds the number of one of them; nothing that a
                record names was touched.
            StoreUnavailable: The store failed. Of the records the first few are visible and
                complete, perhaps none, perhaps all; none is ever visible and partial.
        """
        ...

    def fetch(self, checkpoint: CheckpointRecord, names: Iterable[str], into: Path) -> None:
        """Bring files of a checkpoint to `into/NAME`, each whole and as recorded, or not at all.

        A file that is there already, as recorded, is not brought again; one that was cut
        is continued where the store can.

        Raises:
            Damaged: A file is missing or is not as it was recorded; names the file.
        """
        ...

    def verify(self, checkpoint: CheckpointRecord, names: Iterable[str] | None = None) -> None:
        """Read files of a checkpoint (all, when not told) and compare them with what its record says.

        Raises:
            Damaged: A file is missing or is not as it was recorded; names the file.
        """
        ...

    def remove(self, gone: DropRecord | TrimRecord, freed: Collection[str]) -> None:
        """Remove what `gone`, which is visible, says is not wanted any more, or what is left of it.

        Args:
            gone: Checkpoints that exist no more, or of which only the model does.
            freed: Sha256 of every file that nobody names any more and nobody will make
                again: a store that keeps bytes apart from names gives back their space too.
        """
        ...

    def publish_root(self, checkpoint: CheckpointRecord) -> None:
        """Make the model at the root, with the small files beside it, that of `checkpoint`.

        Of the weights there is the old file or the new one, never half of one.
        """
        ...

    def keep(self, files: Mapping[str, Path]) -> None:
        """Make files durable that no record names (`dragoman/corpus/…`), by their path in the store.

        A file that is there with the same size stays: such files never change.
        """
        ...

    def kept(self, prefix: str) -> list[str]:
        """Paths of the files that `keep` stored below `prefix`."""
        ...

    def bring(self, names: Iterable[str], into: Path) -> None:
        """Bring files that `keep` stored to `into/NAME`. Whoever asked compares them with what they should be."""
        ...

    def claim(self, name: str, data: bytes) -> bytes:
        """Give small bytes the name `name` (`dragoman/…`) unless something bears it already.

        Needs no lease. Claiming the same bytes again changes nothing, so a lost answer may
        always be retried; such a file never changes, and `kept` and `bring` find it.

        Returns:
            What bears the name now: `data`, or the bytes of whoever came first.
        """
        ...

    def held(self) -> list[str]:
        """Everything that may be debris: paths at and under `checkpoint-*`, and writes begun but not ended.

        Bytes that take space and have no name (any more) are `unnamed(sha256)`.
        """
        ...

    def discard(self, paths: Iterable[str]) -> None:
        """Remove paths that `held` gave, in any order."""
        ...

    def idle_seconds(self) -> float:
        """How long ago the last record appeared, by the store's own clock alone; infinite without one."""
        ...

    def num_bytes(self) -> int:
        """All bytes that the store holds for this run, as the store itself counts them."""
        ...

    def pause_seconds(self) -> float:
        """How long to wait with a publish that is not urgent, so as not to be refused for writing too often."""
        ...
