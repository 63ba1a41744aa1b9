"""Decoding mixed directions at once equals decoding one by one, and leaves no trace."""

from functools import cache
from typing import Any

import pytest
import torch

from dragoman.evaluation import decode as decoding
from dragoman.evaluation.decode import Request, decode
from dragoman.languages import parse_pair
from dragoman.model.vocabulary import Vocabulary
from tests.support.shared import prepared

WAYS = [parse_pair(pair) for pair in ("en-fr", "fr-en", "en-de")]
TEXTS = [
    "the red cat sees the old dog",
    "le chat",
    "bird",
    "the young bird likes the blue house the green tree and the river",
    "le vieux chien mange",
    "x",
]
REQUESTS = [Request(text, way) for text in TEXTS for way in WAYS[::2]]
REQUESTS[1::4] = [Request(text, WAYS[1]) for text in TEXTS[:3]]


@cache
def model() -> Any:
    """A model that has learned a little, so that its answers differ and end."""
    tiny = prepared()
    trained = tiny.model()
    tiny.train(trained, tiny.plan.total_steps, 16)
    return trained


@pytest.fixture
def vocabulary() -> Vocabulary:
    return prepared().made.vocabulary


class Spy:
    """Stands in for `model.generate`, notes what it was given and what it gave."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[dict[str, Any]] = []
        self.outputs: list[torch.Tensor] = []
        self.generate = model().generate
        monkeypatch.setattr(model(), "generate", self)

    def __call__(self, **options: Any) -> torch.Tensor:
        self.calls.append(options)
        self.outputs.append(self.generate(**options))
        return self.outputs[-1]


@pytest.mark.parametrize("num_beams", [1, 3])
def test_mixed_directions_in_one_batch_equal_one_by_one(vocabulary: Vocabulary, num_beams: int) -> None:
    together = decode(model(), vocabulary, REQUESTS, num_beams, max_new_tokens=12)
    alone = [decode(model(), vocabulary, [request], num_beams, max_new_tokens=12)[0] for request in REQUESTS]
    assert together == alone
    assert len(set(together)) > 3, "answers that are all alike would prove nothing"


def test_answers_come_in_the_order_of_the_requests_however_they_are_grouped(
    vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = decode(model(), vocabulary, REQUESTS, max_new_tokens=12)
    monkeypatch.setattr(decoding, "BATCH_TOKENS", 40)
    spy = Spy(monkeypatch)
    assert decode(model(), vocabulary, REQUESTS, max_new_tokens=12) == together
    assert len(spy.calls) == 3
    assert all(call["input_ids"].numel() <= 40 or len(call["input_ids"]) == 1 for call in spy.calls)
    assert decode(model(), vocabulary, REQUESTS[::-1], max_new_tokens=12) == together[::-1]


@pytest.mark.parametrize("num_beams", [1, 2])
def test_every_row_begins_with_the_code_of_its_own_target(
    vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch, num_beams: int
) -> None:
    spy = Spy(monkeypatch)
    decode(model(), vocabulary, REQUESTS, num_beams, max_new_tokens=5)
    [call], [output] = spy.calls, spy.outputs
    codes = {(way.source, way.target): [vocabulary.code_id(way.source), vocabulary.code_id(way.target)] for way in WAYS}
    by_source = {source: codes[source] for source in codes}
    assert len(call["input_ids"]) == len(REQUESTS)
    seen = sorted((int(source[0]), int(row[1])) for source, row in zip(call["input_ids"], output, strict=True))
    wanted = sorted(tuple(by_source[(r.direction.source, r.direction.target)]) for r in REQUESTS)
    assert seen == wanted
    assert output[:, 0].tolist() == [vocabulary.eos] * len(REQUESTS)
    assert len({row[1] for row in seen}) == 3


def test_empty_lines_stay_empty_and_are_not_decoded(vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy(monkeypatch)
    requests = [Request(text, WAYS[0]) for text in ("", "the red cat", "  \t ", "\u00a0", "the dog", "")]
    answers = decode(model(), vocabulary, requests, max_new_tokens=5)
    assert [bool(answer) for answer in answers] == [False, True, False, False, True, False]
    assert [len(call["input_ids"]) for call in spy.calls] == [2]
    spy.calls.clear()
    assert decode(model(), vocabulary, [], 1) == []
    assert decode(model(), vocabulary, [Request("", WAYS[0])], 4) == [""]
    assert not spy.calls


def test_a_text_that_is_too_long_for_the_encoder_is_cut(
    vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    spy = Spy(monkeypatch)
    long = Request("the cat " * 3000, WAYS[0])
    answers = decode(model(), vocabulary, [long, REQUESTS[0]], max_new_tokens=3)
    assert [call["input_ids"].shape[1] for call in spy.calls if call["input_ids"].shape[1] > 50] == [1024]
    assert int(spy.calls[0]["input_ids"][0, -1]) == vocabulary.eos
    assert answers[1] == decode(model(), vocabulary, [REQUESTS[0]], max_new_tokens=3)[0]


def test_texts_are_cleaned_as_in_training(vocabulary: Vocabulary) -> None:
    kinds = ["the red cat", " the\u00a0red \n cat  "]
    first, second = decode(model(), vocabulary, [Request(kind, WAYS[0]) for kind in kinds], max_new_tokens=8)
    assert first == second != ""


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_of_the_model_and_all_random_numbers_stay(vocabulary: Vocabulary, training: bool) -> None:
    model().train(training)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = decode(model(), vocabulary, REQUESTS, 2, max_new_tokens=6)
    assert torch.equal(torch.get_rng_state(), before)
    assert model().training is training
    assert decode(model(), vocabulary, REQUESTS, 2, max_new_tokens=6) == first
    assert all(parameter.requires_grad for parameter in model().parameters())


def test_the_mode_stays_even_when_decoding_fails(vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**options: Any) -> None:
        assert not model().training, "dropout would be on"
        raise RuntimeError("out of luck")

    model().train()
    monkeypatch.setattr(model(), "generate", fail)
    with pytest.raises(RuntimeError, match="out of luck"):
        decode(model(), vocabulary, REQUESTS)
    assert model().training


def test_answers_may_be_longer_than_twenty_tokens(vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy(monkeypatch)
    decode(model(), vocabulary, [Request("the cat " * 20, WAYS[0])])
    assert spy.calls[0]["max_new_tokens"] == 2 * spy.calls[0]["input_ids"].shape[1] + 20
