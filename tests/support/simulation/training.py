"""Training as a pure function: what a checkpoint's bytes are follows from its step alone.

So two machines that train the same step write the same bytes, as on real hardware in
deterministic mode, and a run that was resumed exactly ends with the bytes of one that was
never disturbed.
"""

import hashlib
from functools import cache
from pathlib import Path

from dragoman.store.base import MODEL_FILE
from dragoman.store.record import CheckpointRecord, FileEntry

MOMENTS = "training/optimizer.safetensors"
TOKENIZER = "tokenizer.json"
"""The same in every checkpoint: bytes with many names."""
REPEATS = {MODEL_FILE: 3, MOMENTS: 6, TOKENIZER: 1}
CHECKPOINT_BYTES = {name: 32 * times for name, times in REPEATS.items()}
"""Size of each file; those of a checkpoint are to each other as weights and moments are."""


@cache
def state_after(step: int) -> bytes:
    """What training has come to after so many steps."""
    return hashlib.sha256((state_after(step - 1) if step else b"base") + bytes([step])).digest()


@cache
def contents(step: int) -> dict[str, bytes]:
    """The files of the checkpoint of a step."""
    state = state_after(step)
    found = {
        MODEL_FILE: hashlib.sha256(b"model" + state).digest() * REPEATS[MODEL_FILE],
        MOMENTS: hashlib.sha256(b"moments" + state).digest() * REPEATS[MOMENTS],
        TOKENIZER: b"t" * CHECKPOINT_BYTES[TOKENIZER],
    }
    for data in found.values():
        TRUTH[hashlib.sha256(data).hexdigest()] = data
    return found


@cache
def entries(step: int) -> dict[str, FileEntry]:
    """Size and digest of the files of a step's checkpoint."""
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in contents(step).items()}
    return {name: FileEntry(size=CHECKPOINT_BYTES[name], sha256=sha256) for name, sha256 in digests.items()}


TRUTH: dict[str, bytes] = {}
"""The bytes behind each digest."""


def is_exact(folder: Path, checkpoint: CheckpointRecord) -> bool:
    """Whether a restored folder holds what an undisturbed run had after that step."""
    return all((folder / name).read_bytes() == data for name, data in contents(checkpoint.step).items())


def is_best(step: int) -> bool:
    """Whether the model of this step scored better than all before it."""
    return state_after(step)[0] < 90 or step == 1
