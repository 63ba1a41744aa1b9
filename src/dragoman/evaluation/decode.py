"""Beam search over sentences of many directions at once.

Every row starts with its own `</s> [target code]`, so a batch may mix target languages;
without a forced code NLLB answers in any language it likes.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from dragoman.data.encode import sentence
from dragoman.data.filters import clean
from dragoman.data.loader import pad
from dragoman.languages import Direction
from dragoman.model.vocabulary import Vocabulary

if TYPE_CHECKING:
    from transformers import M2M100ForConditionalGeneration

MAX_SOURCE_TOKENS = 1022
"""Pieces that fit the positions of NLLB's encoder besides the language code and `</s>`."""

BATCH_TOKENS = 2048
"""Padded source tokens decoded together."""


class Request(NamedTuple):
    """One sentence to translate."""

    text: str
    direction: Direction


def decode(
    model: "M2M100ForConditionalGeneration",
    vocabulary: Vocabulary,
    requests: Sequence[Request],
    num_beams: int = 1,
    max_new_tokens: int | None = None,
) -> list[str]:
    """Translate each request; answers come in the order of the requests.

    Texts are in the model's own normalisation already (`Normalization.of_source`). An
    empty text gives an empty translation, one that is too long for the encoder is cut. The
    model's mode (training or not) is left as it was.

    Args:
        model: On its device.
        vocabulary: The model's tokenizer.
        requests: Sentences, directions mixed freely.
        num_beams: 1 is greedy.
        max_new_tokens: Longest translation; left out: twice the longest source of the batch plus 20.
    """
    cleaned = [clean(request.text) for request in requests]
    ids = [pieces[:MAX_SOURCE_TOKENS] for pieces in vocabulary.encode(cleaned)]
    order = sorted((i for i in range(len(requests)) if cleaned[i]), key=lambda i: -len(ids[i]))
    answers = [""] * len(requests)
    was_training = model.training
    model.eval()
    try:
        for group in _groups(order, [len(pieces) + 2 for pieces in ids], num_beams):
            directions = [requests[i].direction for i in group]
            chosen = [ids[i] for i in group]
            for i, answer in zip(
                group, _decode_group(model, vocabulary, chosen, directions, num_beams, max_new_tokens), strict=False
            ):
                answers[i] = answer
    finally:
        model.train(was_training)
    return answers


def _groups(order: list[int], lengths: list[int], num_beams: int) -> list[list[int]]:
    """Consecutive rows of `order` (longest first) whose padded size stays within `BATCH_TOKENS`."""
    groups: list[list[int]] = []
    for row in order:
        if groups and (len(groups[-1]) + 1) * num_beams * lengths[groups[-1][0]] <= BATCH_TOKENS:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


@torch.inference_mode()
def _decode_group(
    model: "M2M100ForConditionalGeneration",
    vocabulary: Vocabulary,
    ids: list[list[int]],
    directions: list[Direction],
    num_beams: int,
    max_new_tokens: int | None,
) -> list[str]:
    rows = [
        sentence(vocabulary.code_id(way.source), row, vocabulary.eos) for way, row in zip(directions, ids, strict=False)
    ]
    source_BS, mask_BS = (torch.from_numpy(array).to(model.device) for array in pad(rows, vocabulary.pad))
    start = [[vocabulary.eos, vocabulary.code_id(way.target)] for way in directions]
    generate: Any = model.generate  # pyright: ignore[reportAttributeAccessIssue]  its mixin's types are not those of the model
    output = generate(
        input_ids=source_BS,
        attention_mask=mask_BS,
        decoder_input_ids=torch.tensor(start, device=model.device),
        num_beams=num_beams,
        do_sample=False,
        forced_bos_token_id=None,
        synced_gpus=False,  # of several ranks this one decodes alone
        max_length=None,
        max_new_tokens=max_new_tokens or min(2 * source_BS.shape[1] + 20, 1000),
    )
    return [vocabulary.decode(row) for row in output.tolist()]
