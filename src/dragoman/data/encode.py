"""Sentences become token ids without any state: direction in, ids out.

The language codes are arguments, so pairs of all directions share one pass:

    source        [source code] X </s>
    labels        [target code] Y </s>
    decoder input </s> [target code] Y
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Encoder(Protocol):
    """What encoding needs to know of a tokenizer."""

    @property
    def pad(self) -> int:
        """Token id of padding."""
        ...

    @property
    def eos(self) -> int:
        """Token id of the end of a sentence."""
        ...

    @property
    def unk(self) -> int:
        """Token id of what the tokenizer cannot write."""
        ...

    @property
    def splits_at_spaces(self) -> bool:
        """Whether no piece reaches over a space, so that words can be looked up one by one."""
        ...

    def code_id(self, code: str) -> int:
        """Token id of a language code."""
        ...

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, without code and end."""
        ...

    def family(self, used: NDArray[np.int64]) -> NDArray[np.int64]:
        """These token ids and all that text like theirs may need, sorted."""
        ...

    def digest(self) -> str:
        """Sha256 of the tokenizer's file."""
        ...


def sentence(code: int, ids: Sequence[int] | NDArray[np.integer], eos: int) -> NDArray[np.int64]:
    """`[code] ids </s>`: how a source stands in the encoder, and a target in the labels."""
    return np.concatenate(([code], ids, [eos])).astype(np.int64)


def decoder_input(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Labels moved one to the right, behind the `</s>` with which NLLB's decoder starts."""
    return np.concatenate((labels[-1:], labels[:-1]))
