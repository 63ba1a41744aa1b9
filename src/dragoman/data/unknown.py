"""Which characters a tokenizer cannot write."""

from collections import Counter
from collections.abc import Sequence

from dragoman.data.encode import Encoder

NUM_SHOWN = 10
"""Characters of a language that are kept in a corpus's record, the most frequent ones."""


class UnknownCharacters:
    """Finds the characters of texts that become `<unk>`, and remembers each."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._is_unknown: dict[str, bool] = {}

    def count(self, texts: Sequence[str]) -> Counter[str]:
        """How often each character that cannot be written stands in `texts`."""
        counts = Counter[str]()
        for text in texts:
            counts.update(text)
        new = sorted(counts.keys() - self._is_unknown.keys())
        for character, ids in zip(new, self._encoder.encode(new), strict=True):
            self._is_unknown[character] = self._encoder.unk in ids
        return Counter({character: count for character, count in counts.items() if self._is_unknown[character]})


def most_frequent(counts: Counter[str]) -> list[list[str | int]]:
    """The characters that occur most, with their counts; among equals those of lower code point."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [[character, count] for character, count in ordered[:NUM_SHOWN]]
