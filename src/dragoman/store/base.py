"""What a store promises, wherever it is: folder, Hub repository or object store."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from dragoman.errors import Superseded
from dragoman.store.record import CheckpointRecord, DropRecord, Record

MODEL_FILE = "model.safetensors"
"""The one file of a checkpoint that is also published at the root of the store."""


class NumberTaken(Superseded):
    """Another record holds this sequence number. Only reading on tells whose it is and what follows."""


class Store(Protocol):
    """Files and records that outlive this machine.

    Every method may raise `StoreUnavailable`: the store failed, and the same call may be
    made again.
    """

    def records(self, after: int = 0) -> list[Record]:
        """All records with a higher `seq` than `after`, in order.

        Raises:
            Damaged: A record is missing or is not as it was written; names the file.
        """
        ...

    def publish(self, record: Record, files: Mapping[str, Path]) -> None:
        """Make `files` durable, then make `record` visible.

        Publishing the same record again succeeds and changes nothing, so a lost answer
        may always be retried. `files` are those that the record names, by those names.

        Raises:
            NumberTaken: Another record holds this sequence number; nothing that a record
                names was touched.
            StoreUnavailable: The store failed. The record is not visible, or it is
                visible and complete; it is never visible and partial.
        """
        ...

    def fetch(self, checkpoint: CheckpointRecord, names: Iterable[str], into: Path) -> None:
        """Bring files of a checkpoint to `into/NAME`, each whole and as recorded, or not at all.

        A file that is there already, as recorded, is not brought again.

        Raises:
            Damaged: A file is missing or is not as it was recorded; names the file.
        """
        ...

    def verify(self, checkpoint: CheckpointRecord, names: Iterable[str] | None = None) -> None:
        """Compare files of a checkpoint (all, when not told) with what its record says of them.

        Raises:
            Damaged: A file is missing or is not as it was recorded; names the file.
        """
        ...

    def remove(self, drop: DropRecord) -> None:
        """Remove the folders of dropped checkpoints, or what is left of them."""
        ...

    def publish_root(self, checkpoint: CheckpointRecord) -> None:
        """Make the model at the root that of `checkpoint`: the old one or this one, never half of one."""
        ...

    def held(self) -> list[str]:
        """Everything that may be debris: paths at and under `checkpoint-*`, and writes begun but not ended."""
        ...

    def discard(self, paths: Iterable[str]) -> None:
        """Remove paths that `held` gave, in any order."""
        ...
