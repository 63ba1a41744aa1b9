"""A word that was seen before is not tokenised again.

Tokenizers like NLLB's never make a piece of two words, and a corpus repeats its words. So
text is looked up word by word, and only new words go through the tokenizer. That a word's
pieces are the same alone and between others is not taken for granted: each new word is
tokenised both ways, and a text with one that differs (a lone accent that joins the space
before it, say) is tokenised whole. So is text that is written without spaces.
"""

from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from dragoman.data.encode import Encoder

NEIGHBOUR = "a"
MOST_WORDS = 200_000
"""Words remembered, some 300 bytes each; beyond, all are forgotten."""

ROW_WORDS = 64
"""New words that are tried between neighbours at once."""

LONG_WORD = 30
"""Characters of a word that is not remembered: it is hardly met again."""

Lengths = NDArray[np.int64]
Ids = NDArray[np.uint32]


class SeenWords:
    """An encoder's memory of words."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._neighbour = encoder.encode([NEIGHBOUR])[0]
        self._is_useful = encoder.splits_at_spaces
        self._forget()

    def encode(self, texts: Sequence[str]) -> tuple[Lengths, Ids]:
        """Number of ids of each text, and the ids of all one behind the other: what the encoder itself gives.

        Args:
            texts: Cleaned, and all of one language: words with one space between them and none at the ends.
        """
        if not self._is_useful or not texts:
            return _flat(self._encoder.encode(texts))
        if len(self._places) > MOST_WORDS:
            self._forget()
        words = " ".join(texts).split(" ")
        places = self._places_of(words)
        where = np.flatnonzero(places == _Places.NEW).tolist()
        new = {word for place in where if len(word := words[place]) <= LONG_WORD}
        if 2 * len(new) > len(words):
            return _flat(self._encoder.encode(texts))
        self._learn(new)
        places[where] = self._places_of([words[place] for place in where])
        ends = np.cumsum(np.fromiter((text.count(" ") + 1 for text in texts), np.int64, len(texts)))
        is_whole = np.logical_or.reduceat(places < 0, np.concatenate(([0], ends[:-1])))
        if not is_whole.any():
            return self._looked_up(places, ends)
        return self._mixed(texts, places, ends, is_whole)

    def _places_of(self, words: Sequence[str]) -> Lengths:
        return np.fromiter(map(self._places.__getitem__, words), np.int64, len(words))

    def _looked_up(self, places: Lengths, ends: Lengths) -> tuple[Lengths, Ids]:
        """Texts whose words are at these places; each text ends before one of `ends`."""
        starts, sizes = self._starts[places], self._sizes[places]
        totals = np.cumsum(sizes)
        ids = self._ids[np.repeat(starts - (totals - sizes), sizes) + np.arange(totals[-1] if len(totals) else 0)]
        return np.diff(totals[ends - 1], prepend=0), ids

    def _mixed(
        self, texts: Sequence[str], places: Lengths, ends: Lengths, is_whole: NDArray[np.bool_]
    ) -> tuple[Lengths, Ids]:
        """The same where some texts are tokenised whole."""
        num_words = np.diff(ends, prepend=0)
        by_word = np.repeat(~is_whole, num_words)
        known_lengths, known = self._looked_up(places[by_word], np.cumsum(num_words[~is_whole]))
        whole = [text for text, is_odd in zip(texts, is_whole.tolist(), strict=True) if is_odd]
        other_lengths, other = _flat(self._encoder.encode(whole))
        lengths = np.empty(len(texts), np.int64)
        lengths[~is_whole], lengths[is_whole] = known_lengths, other_lengths
        ids, is_other = np.empty(int(lengths.sum()), np.uint32), np.repeat(is_whole, lengths)
        ids[~is_other], ids[is_other] = known, other
        return lengths, ids

    def _forget(self) -> None:
        self._places = _Places()
        self._starts = self._sizes = np.empty(0, np.int64)
        self._ids = np.empty(0, np.uint32)

    def _learn(self, words: Iterable[str]) -> None:
        new = sorted(words)
        alone = self._encoder.encode(new)
        for place, (word, same) in enumerate(zip(new, self._stand_alone(new, alone), strict=True), len(self._sizes)):
            self._places[word] = place if same else _Places.ODD
        sizes, ids = _flat(alone)
        self._starts = np.concatenate((self._starts, len(self._ids) + np.cumsum(sizes) - sizes))
        self._sizes = np.concatenate((self._sizes, sizes))
        self._ids = np.concatenate((self._ids, ids))

    def _stand_alone(self, words: list[str], alone: list[list[int]]) -> list[bool]:
        """Whether each word has the same pieces between others as alone."""
        # Many words in one text first: it costs less, and mostly all are the same.
        rows = [slice(start, start + ROW_WORDS) for start in range(0, len(words), ROW_WORDS)]
        same_rows = self._are_same([words[row] for row in rows], [alone[row] for row in rows])
        found = [same for row, same in zip(rows, same_rows, strict=True) for _ in words[row]]
        doubted = [place for place, same in enumerate(found) if not same]
        same = self._are_same([[words[place]] for place in doubted], [[alone[place]] for place in doubted])
        for place, answer in zip(doubted, same, strict=True):
            found[place] = answer
        return found

    def _are_same(self, rows: list[list[str]], alone: list[list[list[int]]]) -> list[bool]:
        texts = [f"{NEIGHBOUR} {f' {NEIGHBOUR} '.join(row)} {NEIGHBOUR}" for row in rows]
        expected = [[*self._neighbour, *chain(*((*ids, *self._neighbour) for ids in row))] for row in alone]
        return [found == wanted for found, wanted in zip(self._encoder.encode(texts), expected, strict=True)]


class _Places(dict[str, int]):
    """Where the ids of a word are."""

    ODD, NEW = -1, -2
    """Of words whose text is tokenised whole, and of words not met before."""

    def __missing__(self, word: str) -> int:
        return self.NEW


def _flat(rows: Sequence[Sequence[int]]) -> tuple[Lengths, Ids]:
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    return lengths, np.fromiter(chain.from_iterable(rows), np.uint32, int(lengths.sum()))
