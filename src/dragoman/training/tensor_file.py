"""Files of tensors in the safetensors format: written a piece at a time, read a tensor at a time.

A checkpoint may be larger than the memory that is free, so no file of it is ever whole
in memory.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dragoman.model.derived import Derived, num_bytes, parts

WRITE_BYTES = 1 << 20
"""Tensors below this size are written together."""

_DTYPES = {
    torch.float32: "F32",
    torch.float64: "F64",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.uint8: "U8",
}


class Stored(Mapping[str, Tensor]):
    """The tensors of a safetensors file, each read when it is asked for: all together would be a peak of memory."""

    def __init__(self, path: Path) -> None:
        from safetensors import safe_open

        self._file: Any = safe_open(path, "pt")
        self._names = dict.fromkeys(self._file.offset_keys())

    def __getitem__(self, name: str) -> Tensor:
        """The tensor of this name, read anew."""
        if name not in self._names:
            raise KeyError(name)
        return self._file.get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        """All names, in the order of the file."""
        return iter(self._names)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._names)


def chunks(tensors: Mapping[str, Tensor | Derived], metadata: dict[str, str]) -> Iterator[bytes | memoryview]:
    """A safetensors file as chunks: the header, then each tensor as it is copied to the host.

    The format: 8 bytes of header length, a JSON header padded with spaces to a multiple of
    8, then the tensors in the header's order (safetensors documentation, "Format").
    """
    header: dict[str, Any] = {"__metadata__": metadata}
    start = 0
    for name, tensor in tensors.items():
        end = start + num_bytes(tensor)
        entry = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
        header[name] = entry
        start = end
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    yield len(encoded).to_bytes(8, "little") + encoded
    small = bytearray()
    for part in (part for tensor in tensors.values() for part in parts(tensor)):
        flat: Any = part.cpu().contiguous().view(-1).view(torch.uint8).numpy()
        if len(small) + flat.nbytes <= WRITE_BYTES:
            small += memoryview(flat)
            continue
        yield bytes(small)
        small.clear()
        yield memoryview(flat)
    yield bytes(small)
