"""Tensors of a checkpoint that no one holds: made a part at a time, when the checkpoint is written.

Each says which tensors training changes. So a snapshot copies those alone, and what is
frozen is read where it lies.

Shape letters: V rows of the whole embedding, A of them trained, D width, O outputs of a linear layer, I inputs, R rank.
"""

import os
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from dragoman.errors import InputError
from dragoman.model.pieces import Pieces

PART_ROWS = 1 << 14
"""Rows of an embedding that are put together at a time."""


class Derived(Protocol):
    """What can be written as a tensor although there is none."""

    @property
    def shape(self) -> torch.Size:
        """Of the whole."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Of its numbers."""
        ...

    @property
    def changing(self) -> tuple[Tensor, ...]:
        """The tensors from which it is made and which training changes."""
        ...

    def over(self, copies: Sequence[Tensor]) -> "Derived":
        """The same, made from copies of what changes."""
        ...

    def parts(self) -> Iterator[Tensor]:
        """Its rows in their order, some at a time."""
        ...


def num_bytes(tensor: Tensor | Derived) -> int:
    """Of the whole, as it is written."""
    return prod(tensor.shape) * tensor.dtype.itemsize


def changing(tensor: Tensor | Derived) -> tuple[Tensor, ...]:
    """What a copy has to hold."""
    return (tensor.detach(),) if isinstance(tensor, Tensor) else tensor.changing


def parts(tensor: Tensor | Derived) -> Iterator[Tensor]:
    """Its rows in their order, some at a time; a tensor as it is."""
    if isinstance(tensor, Tensor):
        yield tensor.detach()
    else:
        yield from tensor.parts()


@dataclass(frozen=True)
class Frozen:
    """A tensor that training never changes."""

    tensor: Tensor | Pieces

    @property
    def shape(self) -> torch.Size:
        """Of the tensor."""
        return self.tensor.shape

    @property
    def dtype(self) -> torch.dtype:
        """Of its numbers."""
        return self.tensor.dtype

    @property
    def changing(self) -> tuple[Tensor, ...]:
        """Nothing."""
        return ()

    def over(self, copies: Sequence[Tensor]) -> "Frozen":
        """The same."""
        return self

    def parts(self) -> Iterator[Tensor]:
        """The tensor."""
        yield from parts(self.tensor)


@dataclass(frozen=True)
class Merged:
    """A frozen matrix with its adapter added, so that no second model is held."""

    base_OI: Tensor | Pieces
    down_RI: Tensor
    up_OR: Tensor
    scale: float

    @property
    def shape(self) -> torch.Size:
        """(O, I)."""
        return self.base_OI.shape

    @property
    def dtype(self) -> torch.dtype:
        """Of the frozen matrix."""
        return self.base_OI.dtype

    @property
    def changing(self) -> tuple[Tensor, ...]:
        """Both matrices of the adapter."""
        return (self.down_RI.detach(), self.up_OR.detach())

    def over(self, copies: Sequence[Tensor]) -> "Merged":
        """The same with other adapters, which may lie on another device."""
        return replace(self, down_RI=copies[0], up_OR=copies[1])

    def parts(self) -> Iterator[Tensor]:
        """The whole sum, in the frozen matrix's precision and on its device."""
        for base_OI in parts(self.base_OI):
            device = base_OI.device
            with torch.no_grad():
                yield torch.addmm(base_OI, self.up_OR.to(device), self.down_RI.to(device), alpha=self.scale)


def is_gathered(tensor: Tensor | Derived) -> bool:
    """Whether rows of it lie on other ranks, which have to send them."""
    held = tensor.tensor if isinstance(tensor, Frozen) else tensor.base_OI if isinstance(tensor, Merged) else tensor
    return isinstance(held, Pieces)


class RowFile:
    """The whole embedding in a file without a name, which is gone with the process.

    Rows are read from it, not mapped: a system may map a large piece of a file around each row that is looked
    at, and all of them count as the process's own memory.
    """

    def __init__(self, whole_VD: Tensor, folder: Path | None) -> None:
        """Write the rows.

        Args:
            whole_VD: On any device.
            folder: Where the file lies; the system's place for such files when left out.

        Raises:
            InputError: There is no room for it.
        """
        self.shape, self.dtype = whole_VD.shape, whole_VD.dtype
        self._row_bytes = num_bytes(whole_VD[0])
        try:
            with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
                self._file = os.dup(file.fileno())
            weakref.finalize(self, os.close, self._file)
            self.take(whole_VD)
        except OSError as error:
            where, size = folder or tempfile.gettempdir(), num_bytes(whole_VD) / 1e9
            message = f"{where}: no room for the rows that are not trained, {size:.1f} GB ({error.strerror or error})"
            raise InputError(message, "give it room, or --vocabulary full") from None

    def take(self, whole_VD: Tensor) -> None:
        """Put other numbers in their place.

        Raises:
            OSError: The disk is full.
        """
        for start in range(0, len(self), PART_ROWS):
            part = whole_VD[start : start + PART_ROWS].detach().to("cpu", self.dtype).contiguous()
            left, place = _bytes_of(part), start * self._row_bytes
            while left:
                written = os.pwrite(self._file, left, place)
                left, place = left[written:], place + written

    def __len__(self) -> int:
        """How many rows there are."""
        return self.shape[0]

    def rows(self, which: Tensor | slice) -> Tensor:
        """A copy of some rows, on the host.

        Args:
            which: Numbers of rows, shape (K,), or a range.
        """
        if isinstance(which, slice):
            start, stop, _ = which.indices(len(self))
            found = torch.empty((stop - start, *self.shape[1:]), dtype=self.dtype)
            self._read(_bytes_of(found), start)
            return found
        found = torch.empty((len(which), *self.shape[1:]), dtype=self.dtype)
        into, size = _bytes_of(found), self._row_bytes
        for place, row in enumerate(which.tolist()):
            self._read(into[place * size : (place + 1) * size], row)
        return found

    def _read(self, into: memoryview, row: int) -> None:
        place = row * self._row_bytes
        while into:
            num_read = os.preadv(self._file, [into], place)
            into, place = into[num_read:], place + num_read


def _bytes_of(tensor: Tensor) -> memoryview:
    """The bytes of a contiguous tensor of the host, where they lie."""
    flat: Any = tensor.numpy()
    return memoryview(flat).cast("B")


@dataclass(frozen=True)
class Spread:
    """The whole embedding: rows of a file, and among them those that are trained."""

    whole: RowFile
    rows_A: Tensor
    """Their numbers, sorted, on the host."""
    trained_AD: Tensor

    @property
    def shape(self) -> torch.Size:
        """(V, D)."""
        return self.whole.shape

    @property
    def dtype(self) -> torch.dtype:
        """Of its numbers."""
        return self.whole.dtype

    @property
    def changing(self) -> tuple[Tensor, ...]:
        """The trained rows."""
        return (self.trained_AD.detach(),)

    def over(self, copies: Sequence[Tensor]) -> "Spread":
        """The same with other trained rows, which may lie on another device."""
        return replace(self, trained_AD=copies[0])

    def parts(self) -> Iterator[Tensor]:
        """Its rows in their order, on the host."""
        for start in range(0, len(self.whole), PART_ROWS):
            part = self.whole.rows(slice(start, start + PART_ROWS))
            first, last = torch.searchsorted(self.rows_A, torch.tensor([start, start + len(part)])).tolist()
            part[self.rows_A[first:last] - start] = self.trained_AD[first:last].detach().to("cpu", part.dtype)
            yield part
