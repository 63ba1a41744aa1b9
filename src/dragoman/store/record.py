"""One immutable line of a run's log: lease, checkpoint, drop, trim or finished.

A record's bytes are canonical: the same record always has the same bytes, they end in
their own digest, and each names the digest of the record before. So one flipped bit in
any record, the last one included, is found when the log is read.

The fields of a format never change. A new field, even an optional one, or a new kind of
record raises the format number; this version reads its own number and every lower one,
and refuses a higher one by name instead of half understanding it. A record bears the
lowest number that has its kind, so that records of old runs keep their bytes.
"""

import hashlib
import json
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter

from dragoman.errors import Damaged, InputError

FORMAT = 2
LOG = "dragoman/log"
TRAINING = "training/"
"""Before the names of the files that only training needs; what does not begin so is the model."""

COPY_BACK = (
    "copy that file back from another copy of this run, or start a new run from the weights in one of its "
    "checkpoints (--model RUN/checkpoint-N)"
)


def _seal(body: bytes) -> bytes:
    """A line of JSON with its own digest as its last field."""
    return body[:-1] + f',"sha256":"{hashlib.sha256(body).hexdigest()}"}}\n'.encode()


_SEAL_BYTES = len(_seal(b"{}")) - 1


def record_name(seq: int) -> str:
    """Name of record `seq` in its store, such as `dragoman/log/000001.json`."""
    return f"{LOG}/{seq:06d}.json"


def _is_inside(name: str) -> str:
    """Refuse a name that could leave its folder: records also come over the network."""
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\\" in name or not name.isprintable():
        raise ValueError(f"{name!r} is not a plain relative file name")
    return name


def _is_text(value: object) -> object:
    """Reasons quote file names of any bytes; what is not UTF-8 must not cost the record."""
    return value.encode(errors="replace").decode() if isinstance(value, str) else value


Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
"""A sha256, 64 hexadecimal digits."""
Nonce = Annotated[str, Field(pattern="^[0-9a-f]+$")]
"""Random hexadecimal digits that no two records, runs or owners share."""
FileName = Annotated[str, AfterValidator(_is_inside)]
"""A name relative to the checkpoint's folder, with `/` between its parts."""
FolderName = Annotated[str, Field(pattern="^checkpoint-[0-9]+(-[0-9a-f]+)?$")]
"""A checkpoint's folder, relative to the store."""
Text = Annotated[str, BeforeValidator(_is_text)]
"""Words for people."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class FileEntry(_Frozen):
    """What a file's bytes are."""

    size: int = Field(ge=0)
    """Length, in bytes."""
    sha256: Digest
    """Digest of all its bytes."""


class _Line(_Frozen):
    format: Literal[1, 2] = 1
    """Which fields exist and what they mean."""
    seq: int = Field(ge=1)
    """Place in the log; the first record is 1 and no number is left out."""
    epoch: int = Field(ge=1)
    """How often the run had changed hands when this was written; raised by each lease."""
    owner: Nonce
    """Whoever appended this: one life of one process, named in its lease."""
    run: Nonce
    """The run; the same in every record of every store that holds it."""
    nonce: Nonce
    """This record alone; a checkpoint is known by it in every store."""
    time: float
    """When it was written by its owner's clock, in seconds since 1970 (UTC). For people; nothing compares it."""
    parent: Digest | Literal[""]
    """`digest()` of the record before; empty in the first."""

    def digest(self) -> str:
        """The sha256 that the next record names as its parent."""
        return hashlib.sha256(self._body()).hexdigest()

    def to_bytes(self) -> bytes:
        """The one line of JSON that is stored; `parse` is its inverse."""
        return _seal(self._body())

    def _body(self) -> bytes:
        # Through pydantic's own JSON first: it spells NaN and infinity as strings, json.dumps would not.
        fields = json.loads(self.model_dump_json())
        return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


class LeaseRecord(_Line):
    """From here on only `owner` may append; everybody before is superseded."""

    kind: Literal["lease"] = "lease"
    host: Text
    """The machine, as people know it."""


class CheckpointRecord(_Line):
    """All files of one step are durable in `folder`."""

    kind: Literal["checkpoint"] = "checkpoint"
    step: int = Field(ge=0)
    """Optimizer updates done, over all sessions."""
    pairs_seen: int = Field(ge=0)
    """Sentence pairs trained on, over all sessions."""
    folder: FolderName
    """Where its files are, relative to the store."""
    files: dict[FileName, FileEntry]
    """Every file of it, by its name relative to `folder`."""
    metrics: dict[str, float] = {}
    """What was measured at this step, by name."""
    config: str
    """Digest of the run's configuration."""
    corpus: str
    """Digest of the run's corpus."""
    losses: tuple[tuple[int, float], ...] = ()
    """The last steps and their losses (nats per target token), to prove a resume exact."""
    best: Nonce | Literal[""] = ""
    """Checkpoint whose model is published at the root; empty when none was ever measured."""

    @property
    def place(self) -> tuple[int, int]:
        """Where it stands in the run, in whatever store: the newest has the highest (epoch, step)."""
        return self.epoch, self.step

    @property
    def is_whole(self) -> bool:
        """Whether training can continue from it; of some only the model is kept."""
        return any(name.startswith(TRAINING) for name in self.files)

    @property
    def model_files(self) -> list[str]:
        """The names that make a folder which transformers can load."""
        return [name for name in self.files if not name.startswith(TRAINING)]

    @property
    def num_bytes(self) -> int:
        """Size of all its files."""
        return sum(entry.size for entry in self.files.values())

    def without_training(self) -> "CheckpointRecord":
        """What is left of it when it was trimmed: the same record with only the files of the model."""
        return self.model_copy(update={"files": {name: self.files[name] for name in self.model_files}})


class DropRecord(_Line):
    """These checkpoints exist no more; their files may be removed."""

    kind: Literal["drop"] = "drop"
    checkpoints: dict[Nonce, FolderName]
    """Folder of each dropped checkpoint, by its nonce."""
    reason: Text
    """Why: `retention`, or `damaged: FILE …`."""


class TrimRecord(_Line):
    """Of these checkpoints only the model exists any more; what only training needs may be removed."""

    kind: Literal["trim"] = "trim"
    format: Literal[2] = 2  # pyright: ignore[reportIncompatibleVariableOverride]  frozen, so it may be narrower
    """This kind came with format 2."""
    checkpoints: dict[Nonce, FolderName]
    """Folder of each trimmed checkpoint, by its nonce."""
    reason: Text
    """Why: `retention`."""


class FinishedRecord(_Line):
    """A session ended by itself; one that was killed leaves none."""

    kind: Literal["finished"] = "finished"
    outcome: Literal["done", "stopped", "failed"]
    """All steps done · stopped before that, resume me · ended by our own exception."""
    reason: Text
    """What ended it."""
    step: int = Field(ge=0)
    """Optimizer updates done, over all sessions."""
    resumed_from: Nonce | Literal[""] = ""
    """Checkpoint that this session started from; empty when it started from nothing."""


Record = LeaseRecord | CheckpointRecord | DropRecord | TrimRecord | FinishedRecord

_RECORD: TypeAdapter[Record] = TypeAdapter(Annotated[Record, Field(discriminator="kind")])


def parse(data: bytes, name: str) -> Record:
    """The record whose `to_bytes` are `data`; `name` is the file that is blamed when there is none.

    Raises:
        Damaged: These are not the bytes of a record, or not all of them are as written.
        InputError: A newer dragoman wrote them.
    """
    if _seal(body := data[:-_SEAL_BYTES] + b"}") != data:
        raise Damaged(f"{name}: its bytes are not those that were written", COPY_BACK)
    try:
        fields = json.loads(body)
        if fields["format"] > FORMAT:
            raise InputError(
                f"{name}: written by a newer dragoman (record format {fields['format']}, this one reads {FORMAT})",
                "upgrade dragoman to the version that wrote it",
            )
        return _RECORD.validate_python(fields)
    except (ValueError, TypeError, KeyError) as error:
        raise Damaged(f"{name}: not a record of a run", COPY_BACK) from error
