"""What tokens cost, against torch's own count of the operations of our forward and backward pass."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dragoman.data import balance
from dragoman.data.loader import PackedBatch
from dragoman.model import costs, sizes
from dragoman.model.loss import Negatives
from dragoman.model.regime import Regime
from dragoman.model.sizes import Sizes
from tests.support.tiny import Tiny, make


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return make(tmp_path_factory.mktemp("costs"), dropout=0.0)


def alike(source: int, target: int, pairs: int) -> PackedBatch:
    """Pairs of the same lengths, which need no padding inside attention either."""
    tokens = [np.arange(length * pairs) % 200 + 4 for length in (source, target)]
    lengths = [np.full(pairs, length) for length in (source, target)]
    return PackedBatch(tokens[0], np.roll(tokens[1], 1), tokens[1], *lengths, pad=1)


def added_product(total: torch.Size, left: torch.Size, right: torch.Size, **others: Any) -> int:
    """Operations of the embedding's gradient: torch does not count a product that is added in place."""
    return 2 * left[0] * left[1] * right[1]


def counted(
    run: Tiny, model: Any, batch: PackedBatch, checkpointing: bool = False, negatives: Negatives | None = None
) -> int:
    forward = run.forward(model, packed=True, checkpointing=checkpointing)
    unknown = {torch.ops.aten.addmm_: added_product}
    # The plain kernel is made of products that are counted one by one, those behind the causal mask too.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False, custom_mapping=unknown) as counter:
        forward.backward(batch, negatives)
    return counter.get_total_flops()


def reckoned(size: Sizes, regime: Regime, source: int, target: int, pairs: int) -> int:
    """By our count, with the half of the decoder's own attention that a better kernel leaves out."""
    each = costs.token_costs(size, regime)
    return int(balance.costs(np.array([[source, target]] * pairs), each).sum()) + pairs * each.target_target * target**2


def sizes_of(model: Any) -> Sizes:
    size = sizes.of_config(model.config.to_dict())
    assert size
    return size


@pytest.mark.parametrize(("source", "target", "pairs"), [(5, 5, 1), (5, 40, 3), (40, 5, 3), (31, 17, 4)])
@pytest.mark.parametrize("way", ["all", "all, layers twice", "norms only"])
def test_a_pair_costs_what_torch_counts(run: Tiny, way: str, source: int, target: int, pairs: int) -> None:
    """To the last operation, whichever side is longer; where matrices are frozen, as adapters leave them, too."""
    model, checkpointing = run.model(), way == "all, layers twice"
    if way == "norms only":
        for name, weight in model.named_parameters():
            weight.requires_grad_("layer_norm" in name)
    regime = Regime(adapter="lora" if way == "norms only" else "none", gradient_checkpointing=checkpointing)
    expected = reckoned(sizes_of(model), regime, source, target, pairs)
    assert counted(run, model, alike(source, target, pairs), checkpointing) == expected


def test_rows_that_only_stand_for_others_have_no_gradient(run: Tiny) -> None:
    """An active vocabulary: all rows of the small model, and seven frozen ones beside them."""
    model = run.model()
    size = sizes_of(model)
    negatives = Negatives(torch.randn(7, size.width), offset=1.0, share=1.0)
    regime = Regime(vocabulary="active", active_rows=size.vocabulary, negatives=7)
    expected = reckoned(replace(size, vocabulary=size.vocabulary + 7), regime, 6, 9, 2)
    assert counted(run, model, alike(6, 9, 2), negatives=negatives) == expected
