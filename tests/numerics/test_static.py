"""Static shapes: padded to few sizes and yet the same numbers; and what repeats their work."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dragoman.data.loader import Loader
from dragoman.model.active import ActiveVocabulary
from dragoman.model.layout import ROUND_TOKENS, shape_of
from dragoman.model.loss import head_nats
from dragoman.training import graphs as cuda_graphs
from dragoman.training import trainee
from dragoman.training.feed import STATIC_TOKENS, Feed, ready
from dragoman.training.graphs import Graphs
from dragoman.training.optimizer import build
from dragoman.training.step import Settled, train_step
from tests.numerics.test_packed import ragged
from tests.support.sessions import Lab, final, trained
from tests.support.tiny import CPU, Tiny, make


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return make(tmp_path_factory.mktemp("static"), label_smoothing=0.1, static_shapes=True, dropout=0.2)


def test_padded_to_a_static_shape_loss_and_gradients_are_the_same(tmp_path: Path) -> None:
    run = make(tmp_path, dropout=0.0, label_smoothing=0.1)
    for seed in range(3):
        found: list[tuple[float, dict[str, Any]]] = []
        for static in (False, True):
            model = run.model(torch.float64)
            pairs = ready(ragged(seed), static=static)
            assert (pairs.shape is not None) == static
            summed = run.forward(model).backward(pairs, None, lambda objective: objective / 100)
            found.append((float(summed.plain), {name: weight.grad for name, weight in model.named_parameters()}))
        assert found[1][0] == pytest.approx(found[0][0], rel=1e-13)
        for name, gradient in found[0][1].items():
            torch.testing.assert_close(found[1][1][name], gradient, rtol=1e-9, atol=1e-12, msg=name)


def test_a_label_that_is_no_token_costs_nothing_and_pulls_at_nothing() -> None:
    torch.manual_seed(1)
    hidden, weight = torch.randn(9, 8, dtype=torch.float64), torch.randn(30, 8, dtype=torch.float64)
    labels = torch.randint(30, (9,))
    found = []
    for some in (slice(None), slice(6)):
        one, other = hidden[some].clone().requires_grad_(), weight.clone().requires_grad_()
        masked = torch.where(torch.arange(9) < 6, labels, -1)[some]
        nats = head_nats(one, other, masked, 0.1)
        nats.objective.backward()
        assert one.grad is not None
        found.append((nats.objective.detach(), nats.plain, one.grad[:6], other.grad))
        assert not one.grad[6:].any()
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_shapes_are_few_and_hold_their_sentences() -> None:
    shapes = set()
    for seed in range(300):
        batch = ragged(seed)
        shape = shape_of(batch.source_lengths_B, batch.target_lengths_B)
        assert 0 <= shape.source_tokens - len(batch.source_N) < ROUND_TOKENS
        assert batch.target_lengths_B.max() <= shape.target_length in (32, 64)
        shapes.add(shape)
    assert len(shapes) < 20


def test_a_large_microbatch_is_not_padded() -> None:
    batch = ragged(1, pairs=400)
    assert len(batch.source_N) + len(batch.labels_N) > STATIC_TOKENS
    assert ready(batch, static=True).shape is None


# --- what repeats the work ------------------------------------------------------------


def train(run: Tiny, record: Any, steps: int, limit: int = 10**6) -> tuple[list[Settled], Any, list[str], Graphs]:
    """Train a fresh model with an active vocabulary; `record` stands in for CUDA's recorder."""
    model, told = run.model(), list[str]()
    forward = run.forward(model, active=ActiveVocabulary(model, run.made.corpus.rows))
    training = run.config.training
    feed = trainee.feed_of(forward, run.config, run.active_loader)
    optimizer = build(model.named_parameters(), training)
    graphs = Graphs(list(model.parameters()), record, told.append)
    results = [
        train_step(
            forward, optimizer, CPU.scaler(), feed, training, step=step, limit=limit, rate=1e-3, graphs=graphs
        ).settled()
        for step in range(steps)
    ]
    return results, model.state_dict(), told, graphs


def never(work: Callable[[], None]) -> Any:
    raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore")


def test_repeated_work_is_the_plain_one_bit_for_bit(run: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropout, negatives, smoothing and several microbatches; each repetition reads new inputs at the old place."""
    replayed: list[int] = []

    def record(work: Callable[[], None]) -> Callable[[], None]:
        return lambda: replayed.append(1) or work()

    monkeypatch.setattr(cuda_graphs, "SEEN_BEFORE", 1)
    found, weights, told, graphs = train(run, record, 20, limit=300)
    monkeypatch.setattr(cuda_graphs, "SEEN_BEFORE", 10**6)
    expected, plain, _, none = train(run, record, 20, limit=300)
    assert found == expected
    assert all(weights[name].equal(plain[name]) for name in plain)
    assert not told
    assert 1 <= len(graphs._kept) < len(replayed) - 10
    assert not none._kept


@pytest.mark.parametrize("fault", ["refused", "nothing", "other dropout"])
def test_what_cannot_be_recorded_or_proved_is_computed_plainly(
    run: Tiny, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    def other(work: Callable[[], None]) -> Callable[[], None]:
        def wrong() -> None:
            torch.manual_seed(3)
            work()

        return wrong

    recorders: dict[str, Any] = {"refused": never, "nothing": lambda work: lambda: None, "other dropout": other}
    monkeypatch.setattr(cuda_graphs, "SEEN_BEFORE", 1)
    found, weights, told, graphs = train(run, recorders[fault], 8)
    monkeypatch.setattr(cuda_graphs, "SEEN_BEFORE", 10**6)
    expected, plain, _, _ = train(run, never, 8)
    assert found == expected
    assert all(weights[name].equal(plain[name]) for name in plain)
    assert graphs.given_up
    assert len(told) == 1
    assert told[0].startswith("--static-shapes: training goes on without CUDA graphs: ")
    assert "\n" not in told[0]


def test_after_gradients_went_away_everything_is_recorded_anew(run: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_graphs, "SEEN_BEFORE", 0)
    _, _, _, graphs = train(run, lambda work: work, 3)
    assert graphs._kept
    graphs.forget()
    assert not graphs._kept


# --- made ahead -----------------------------------------------------------------------


def test_microbatches_made_ahead_are_those_made_when_asked(run: Tiny) -> None:
    """Also when the limit changes, or a step is computed again, or passed over."""
    active = ActiveVocabulary(run.model(), run.made.corpus.rows)
    loader = Loader(run.made.corpus, run.plan, active=True)
    here, ahead = (Feed(loader, 1, active, static=True, ahead=way) for way in (False, True))
    for step, limit in [(0, 300), (1, 300), (2, 300), (2, 100), (3, 100), (7, 100), (8, 300), (0, 300)]:
        one, other = here.step(step, limit), ahead.step(step, limit)
        assert one.tokens == other.tokens
        assert one.negatives is not None
        assert other.negatives is not None
        assert one.negatives.rows_KD.equal(other.negatives.rows_KD)
        assert [start for start, _ in one.parts] == [start for start, _ in other.parts]
        for (_, mine), (_, theirs) in zip(one.parts, other.parts, strict=True):
            assert mine.shape == theirs.shape
            assert mine.ids_N.equal(theirs.ids_N)
            assert np.array_equal(mine.batch.labels_N, theirs.batch.labels_N)


def test_the_next_step_is_made_while_this_one_is_computed(run: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    feed = Feed(run.loader, 1, ahead=True)
    feed.step(0, 300)
    assert feed._next is not None
    feed._next[1].result()

    def again(*values: Any) -> Any:
        raise AssertionError("made twice")

    monkeypatch.setattr(run.loader.__class__, "batch", again)
    assert feed._next[1].result() is feed._next[1].result()
    with pytest.raises(AssertionError):
        feed._made(1, 300)


# --- whole sessions -------------------------------------------------------------------


def test_a_resume_with_static_shapes_is_exact(tmp_path: Path) -> None:
    lab = Lab(tmp_path, {"static_shapes": True})
    lab.train("plain")
    assert lab.stopped("stopped", before=4).exit_code == 75
    assert lab.train("stopped").outcome == "done"
    assert trained(lab.folder / "stopped") == trained(lab.folder / "plain")
    assert final(lab.folder / "stopped") == final(lab.folder / "plain")
