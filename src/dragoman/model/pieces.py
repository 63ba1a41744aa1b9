"""Tensors whose rows lie on several ranks: sent to the first one when a checkpoint is written, one after the other.

All ranks go through the same tensors in the same order. The first one holds one whole
tensor at a time, so writing a checkpoint costs it no more memory than the largest of them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dragoman.errors import RankLost


@dataclass(frozen=True)
class Peers:
    """The ranks of a session, for tensors."""

    number: int
    """Of this one."""
    count: int
    device: torch.device
    """Where this one computes."""
    saving: "dist.ProcessGroup"
    """Through which checkpoints are gathered, beside the training: tensors of the host."""

    def make_equal(self, module: nn.Module, leave: "set[str] | None" = None) -> None:
        """Move a module's parameters and buffers to the device, and give every rank the values of the first.

        Args:
            module: Its values count on the first rank alone.
            leave: Names of parameters that are left alone.
        """
        with torch.no_grad():
            for name, part in (*module.named_parameters(), *module.named_buffers()):
                if leave and name in leave:
                    continue
                part.data = part.data.to(self.device)
                dist.broadcast(part.data, 0)


def rows_of(rows: int, rank: int, count: int) -> tuple[int, int]:
    """Which of so many rows a rank holds, as FSDP2 divides them: equal parts, rounded up, the last ones shorter."""
    each = -(-rows // count)
    return min(rows, rank * each), min(rows, (rank + 1) * each)


@dataclass(frozen=True)
class Pieces:
    """A tensor of which every rank holds some rows."""

    local: Tensor
    """Those of this rank, on any device."""
    shape: torch.Size
    peers: Peers

    @property
    def dtype(self) -> torch.dtype:
        """Of its numbers."""
        return self.local.dtype

    @property
    def changing(self) -> tuple[Tensor, ...]:
        """The rows that this rank holds."""
        return (self.local,)

    def over(self, copies: Sequence[Tensor]) -> "Pieces":
        """The same, with copies of them."""
        return replace(self, local=copies[0])

    def parts(self) -> Iterator[Tensor]:
        """The whole tensor in the memory of the first rank; nothing on the others, which send their rows.

        Raises:
            RankLost: A rank is gone.
        """
        try:
            found = self._gathered()
        except RuntimeError as error:
            raise RankLost(f"another rank was lost while a checkpoint was gathered ({error})") from None
        if found is not None:
            yield found

    def _gathered(self) -> Tensor | None:
        peers = self.peers
        if peers.number:
            if self.local.numel():
                dist.send(self.local.detach().cpu().contiguous(), 0, group=peers.saving)
            return None
        whole = torch.empty(self.shape, dtype=self.dtype)
        coming = []
        for rank in range(1, peers.count):
            start, stop = rows_of(len(whole), rank, peers.count)
            if whole[start:stop].numel():
                coming.append(dist.irecv(whole[start:stop], rank, group=peers.saving))
        whole[: len(self.local)] = self.local.detach().cpu()
        for work in coming:
            work.wait()
        return whole
