"""Every rank holds the whole model: DDP (Li et al. 2020, "PyTorch Distributed").

Gradients travel in buckets while the last microbatch is still in its backward pass.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dragoman.model.parallel import Made, Named, add
from dragoman.model.pieces import Peers

if TYPE_CHECKING:
    from transformers import M2M100ForConditionalGeneration


class _Inside(nn.Module):
    """What DDP wraps: it looks at the parameters, and at when forward begins and ends."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        super().__init__()
        self.parts = nn.ParameterList(parameters)

    def forward(self, compute: Callable[[], Made]) -> Made:
        return compute()


class Whole:
    """DDP: gradients travel while the last microbatch is still in its backward pass."""

    is_divided, name = False, "ddp"

    def __init__(self, model: "M2M100ForConditionalGeneration", peers: Peers, by_hand: Sequence[nn.Parameter]) -> None:
        """Take part in DDP.

        Args:
            model: The same on every rank, with what is trained marked.
            peers: The ranks.
            by_hand: Parameters whose gradient is not complete when autograd has it.
        """
        self.peers, self._model = peers, model
        left = {id(parameter) for parameter in by_hand}
        self._by_hand = by_hand
        others = [each for each in model.parameters() if each.requires_grad and id(each) not in left]
        self._ddp = nn.parallel.DistributedDataParallel(_Inside(others), init_sync=False, gradient_as_bucket_view=True)
        self._ddp.register_comm_hook(None, _summed)

    def trained(self) -> Named:
        """What is trained, whole."""
        return [(name, each) for name, each in self._model.named_parameters() if each.requires_grad]

    @contextmanager
    def taking_part(self, is_last: bool) -> Iterator[None]:
        """Gradients travel in the last microbatch alone."""
        with nullcontext() if is_last else self._ddp.no_sync():
            yield

    def computed(self, compute: Callable[[], Made]) -> Made:
        """Through DDP, which notices when backward is over."""
        return self._ddp(compute)

    def add_gradients(self) -> None:
        """Those that DDP does not see."""
        add(self._by_hand)

    def share_overflow(self) -> None:
        """All ranks have the same gradients."""

    def add(self, numbers: Tensor) -> None:
        """In place."""
        dist.all_reduce(numbers)

    def forget_gradients(self) -> None:
        """Of all parameters."""
        for parameter in self._model.parameters():
            parameter.grad = None

    def clip(self, norm: float) -> Tensor:
        """As for one process: every rank has all gradients."""
        return nn.utils.clip_grad_norm_(self._model.parameters(), norm)

    def whole(self) -> AbstractContextManager["M2M100ForConditionalGeneration"]:
        """The model in training itself."""
        return nullcontext(self._model)

    def saved(self, name: str, tensor: Tensor) -> Tensor:
        """As it is."""
        return tensor

    def mine(self, name: str, whole: Tensor) -> Tensor:
        """All of it."""
        return whole

    def mine_of(self, weight: Tensor) -> Tensor:
        """All of it."""
        return weight


def _summed(state: None, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    """DDP's own hook without the division."""
    work = dist.all_reduce(bucket.buffer(), async_op=True)
    assert work is not None
    return work.get_future().then(lambda done: done.value()[0])
