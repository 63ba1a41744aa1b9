"""The forward pass without padding against transformers' own: same pairs, same numbers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dragoman.data.loader import PackedBatch
from dragoman.model import layout, packed
from tests.support.tiny import Tiny, make


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return make(tmp_path_factory.mktemp("packed"), dropout=0.0, label_smoothing=0.1)


def ragged(seed: int, pairs: int = 16) -> PackedBatch:
    """Random tokens; lengths from 3 to 40, other ones on either side of a pair."""
    chance = np.random.default_rng(seed)
    source, target = np.sort(chance.integers(3, 41, size=(2, pairs)), axis=1)[:, ::-1].copy()
    target[1:-1] = chance.permutation(target[1:-1])
    tokens = [chance.integers(4, 300, size=int(lengths.sum())) for lengths in (source, target)]
    return PackedBatch(tokens[0], np.roll(tokens[1], 1), tokens[1], source, target, pad=1)


def loss_and_gradients(run: Tiny, seed: int, dtype: torch.dtype, **options: Any) -> tuple[float, dict[str, Any]]:
    model = run.model(dtype)
    summed = run.forward(model, **options).backward(ragged(seed), None, lambda objective: objective / 100)
    return float(summed.plain.detach()), {name: weight.grad for name, weight in model.named_parameters()}


@pytest.mark.parametrize(
    ("dtype", "loss_tolerance", "gradient_tolerance"), [(torch.float32, 1e-6, 1e-6), (torch.float64, 1e-13, 1e-12)]
)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_loss_and_gradients_are_those_of_transformers(
    run: Tiny, dtype: torch.dtype, loss_tolerance: float, gradient_tolerance: float, checkpointing: bool
) -> None:
    """Sixteen pairs of many lengths; gradients by the norm of each tensor."""
    for seed in range(2):
        loss, gradients = loss_and_gradients(run, seed, dtype, packed=True, checkpointing=checkpointing)
        expected_loss, expected = loss_and_gradients(run, seed, dtype, packed=False)
        assert loss == pytest.approx(expected_loss, rel=loss_tolerance)
        largest = max(float(gradient.norm()) for gradient in expected.values())
        for name, gradient in expected.items():
            # A key's bias moves all scores of a query alike: its true gradient is zero, what is there is rounding.
            scale = largest if "k_proj.bias" in name else float(gradient.norm())
            assert float((gradients[name] - gradient).norm()) <= gradient_tolerance * scale, name


def test_forty_steps_go_the_same_way(tmp_path: Path) -> None:
    """Over forty updates at a usual learning rate rounding does not grow beyond 1e-5."""
    trained = {}
    for forward in ("packed", "reference"):
        run = make(tmp_path / forward, dropout=0.0, learning_rate=1e-4, forward=forward, warmup_steps=4)
        trained[forward] = [result.nats / result.target_tokens for result in run.train(run.model(), 40)]
    assert trained["packed"] == pytest.approx(trained["reference"], rel=1e-5)
    assert trained["packed"][-1] < trained["packed"][0] - 0.1, "nothing was learned, so equality would prove nothing"


def test_the_reference_is_really_transformers_forward(run: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    model = run.model()
    called: list[str] = []
    real = type(model.model).forward
    monkeypatch.setattr(type(model.model), "forward", lambda self, **o: called.append("model") or real(self, **o))
    batch = run.loader.packed(run.loader.batch(0))
    run.forward(model, packed=True).nats(batch)
    assert not called
    run.forward(model, packed=False).nats(batch)
    assert called == ["model"]


def test_no_linear_layer_sees_a_padded_token(run: Tiny) -> None:
    model = run.model()
    seen: dict[str, int] = {}

    def look(name: str) -> Any:
        return lambda module, inputs, output: seen.__setitem__(name, inputs[0].shape[:-1].numel())

    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and name != "lm_head":
            module.register_forward_hook(look(name))
    batch = ragged(0)
    run.forward(model).nats(batch)
    assert set(seen.values()) == {len(batch.source_N), len(batch.labels_N)}
    assert len(seen) == 2 * 6 + 2 * 10


def test_dropout_drops_what_it_says_and_keeps_the_mean(tmp_path: Path) -> None:
    """Attention, residual and inner dropout all act: at a rate of 0.3 two passes differ, and their mean comes near."""
    run = make(tmp_path, dropout=0.3)
    model = run.model()
    batch = run.loader.packed(run.loader.batch(0))
    forward = run.forward(model)
    with torch.no_grad():
        torch.manual_seed(1)
        states = torch.stack([forward.hidden(batch)[0] for _ in range(200)])
        model.eval()
        without = forward.hidden(batch)[0]
    assert not torch.equal(states[0], states[1])
    cosine = nn.functional.cosine_similarity(states.mean(0), without, dim=-1)
    assert float(cosine.mean()) > 0.9


@pytest.mark.parametrize("spread", [0.0, 0.6, 1.0])
def test_sentences_are_padded_with_their_like_only(spread: float) -> None:
    """However they are grouped, every token has its place; from equal lengths on nothing is padded."""
    source, target = np.array([9, 9, 8, 3, 3]), np.array([7, 7, 5, 5, 2])
    where = layout.layout(source, target, spread=spread)
    groups = {0.0: [5], 0.6: [3, 1, 1], 1.0: [2, 1, 1, 1]}[spread]
    assert [side.num_sentences for side in where.source] == groups
    assert [side.num_sentences for side in where.target] == groups
    for sides, lengths in ((where.source, source), (where.target, target)):
        assert [(side.start, side.end) for side in sides][-1][1] == lengths.sum()
        row = torch.arange(int(lengths.sum())).float()[:, None] + 1
        for side in sides:
            grid = packed._side_by_side(row, side, heads=1)
            assert packed._in_a_row(grid, side).equal(row[side.start : side.end])
            assert int((grid != 0).sum()) == side.end - side.start
        if spread == 1.0:
            assert all(side.place_N is None and side.mask_B11L is None for side in sides)
    assert where.target_positions_N[:8].tolist() == [2, 3, 4, 5, 6, 7, 8, 2]


def test_a_sentence_longer_than_the_table_of_positions_makes_it_grow(run: Tiny) -> None:
    model = run.model()
    for stack in (model.model.encoder, model.model.decoder):
        stack.embed_positions.make_weights(3, stack.embed_positions.embedding_dim, 1)
    batch = run.loader.packed(run.loader.batch(0))
    few = run.forward(model.eval()).plain().nats(batch).plain
    expected = run.forward(run.model().eval()).plain().nats(batch).plain
    assert float(few) == float(expected)
