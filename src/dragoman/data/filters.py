"""Which pairs are worth learning from, which side of the split they are on, and which are drawn.

All of it looks at the text alone. Neither the order of the files, nor the other pairs,
nor the machine enters; so adding a file moves no sentence from train to test, and a
sample does not depend on how its source was sorted.
"""

import heapq
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Literal

from dragoman.data.sources.rows import Pair
from dragoman.languages import Direction

REASONS = {
    "empty": "a side has fewer than the least number of characters",
    "length": "a side has more than the greatest number of characters",
    "ratio": "one side is too many times longer than the other",
    "identical": "both sides are the same text",
    "placeholder": "placeholders such as %s, %(name)s or {0} differ between the sides",
    "duplicate": "the same pair came before",
    "leak": "a side is a text of a pair that is held out for dev or test",
    "too_many_tokens": "a side has more tokens than the model takes",
    "not_sampled": "left out by --max-samples",
}
"""Why a pair is dropped. Other reasons may be counted as well; these have a description."""

# Below this many characters of the longer side the ratio says nothing: "OK" is
# "Einverstanden", and a Chinese word of one character an English one of nine.
MIN_CHARS_FOR_RATIO = 21

Split = Literal["train", "dev", "test"]


# --- text ------------------------------------------------------------------------


def clean(text: str) -> str:
    """Unicode NFC with every run of white space, newlines included, as one space, and none at the ends.

    The one normalisation there is: training, evaluation and translation all apply it.
    """
    return " ".join(unicodedata.normalize("NFC", text).split())


@lru_cache(maxsize=8)
def key(text: str) -> str:
    """What stays the same when only case, width or white space differ: NFKC and casefold of `clean`."""
    if text.isascii():  # the same, sooner
        return " ".join(text.lower().split())
    return clean(unicodedata.normalize("NFKC", text).casefold())


# --- one pair --------------------------------------------------------------------


@dataclass(frozen=True)
class Limits:
    """Bounds of a pair that is kept, both ends included."""

    min_chars: int = 1
    """Least characters of each side."""

    max_chars: int = 1050
    """Greatest characters of each side."""

    max_length_ratio: float = 9.0
    """Greatest quotient of the longer by the shorter side, in characters. Pairs whose
    longer side has 20 characters or fewer are not judged by it."""


def reason(source: str, target: str, limits: Limits) -> str | None:
    """Why the pair of two `clean` texts is dropped, the first that applies; None if it is kept."""
    shorter, longer = sorted((len(source), len(target)))
    if shorter < limits.min_chars:
        return "empty"
    if longer > limits.max_chars:
        return "length"
    if longer >= MIN_CHARS_FOR_RATIO and longer > limits.max_length_ratio * shorter:
        return "ratio"
    if key(source) == key(target):
        return "identical"
    if (_may_hold_fields(source) or _may_hold_fields(target)) and placeholders(source) != placeholders(target):
        return "placeholder"
    return None


# A bare conversion (%s, %2$d) is none behind a digit ("100%ige"), has no space flag ("100 % de")
# and a minus only before a width ("%-encoding"): as text these are common, as formats they are not.
# Every alternative begins with a plain character, the look back too: only so the search skips all other text.
_PLACEHOLDER = re.compile(
    r"""
      %%
    | %\((?P<named>[^()]*)\)[#0+-]*\d*(?:\.\d+)?[a-zA-Z]
    | %(?<!\d%)(?:\d+\$)?[#0+]*(?:-(?=[\d*]))?(?:\d+|\*)?(?:\.(?:\d+|\*))?(?:hh?|ll?|[qjzt])?
      (?P<bare>[diouxXeEfFgGcrsa])
    | \{\{ | \}\}
    | \{(?P<brace>(?:[A-Za-z_]\w*|\d*)(?:\.\w+|\[[^{}\s\]]+\])*)(?:![rsa])?(?::[^{}\s]*)?\}
    """,
    re.VERBOSE,
)
_SAME_CONVERSION = {"i": "d", "u": "d"}


def _may_hold_fields(text: str) -> bool:
    return "%" in text or "{" in text


def placeholders(text: str) -> Counter[str]:
    """The printf (`%s`, `%(name)s`, `%1$d`) and brace (`{}`, `{0}`, `{name}`) fields of `text`, counted.

    Order, position numbers, flags, widths and the case of `%x` are left out: translations
    may change them. `%%`, `{{` and `}}` are not fields.
    """
    found: Counter[str] = Counter()
    if not _may_hold_fields(text):
        return found
    for match in _PLACEHOLDER.finditer(text):
        named, bare, brace = match.group("named", "bare", "brace")
        if named is not None:
            found[f"%({named})"] += 1
        elif bare is not None:
            conversion = bare.lower()
            found["%" + _SAME_CONVERSION.get(conversion, conversion)] += 1
        elif brace is not None:
            found[f"{{{brace}}}"] += 1
    return found


# --- many pairs ------------------------------------------------------------------


def split_of(source: str, dev_percent: float, test_percent: float) -> Split:
    """The side of the split of every pair with this source, in any direction, run and corpus.

    Args:
        source: Text of the side that is translated from; compared by its `key`.
        dev_percent: Share of the sources that choose the checkpoint, in per cent.
        test_percent: Share of the sources that only `dragoman evaluate` sees, in per cent.
    """
    return split_at(text_hash(source), dev_percent, test_percent)


def text_hash(text: str) -> int:
    """A number below 2**64 that texts with equal keys share, in every release."""
    return hash64(b"dragoman split", key(text))


def split_at(source_hash: int, dev_percent: float, test_percent: float) -> Split:
    """`split_of` for a source of which the `text_hash` is known."""
    percent = 100 * source_hash / 2**64
    if percent < test_percent:
        return "test"
    return "dev" if percent < test_percent + dev_percent else "train"


def sample_priority(seed: int, direction: Direction, source: str, target: str) -> int:
    """A number below 2**64 that looks random but depends on the arguments alone.

    The pairs with the k smallest numbers are a uniform sample of k, another one for each
    seed. Pairs with equal keys have equal numbers.
    """
    return hash64(b"dragoman sample", str(seed), str(direction), key(source), key(target))


def hash64(purpose: bytes, *texts: str) -> int:
    """A number below 2**64 that stands for these texts; another one for each purpose (at most 16 bytes)."""
    # No key holds a newline, so the texts cannot run into each other.
    data = "\n".join(texts).encode("utf-8")
    return int.from_bytes(blake2b(data, digest_size=8, person=purpose).digest(), "big")


class Sample:
    """Draws `num_pairs` of the pairs that stream by, in memory for that many; None keeps all."""

    def __init__(self, num_pairs: int | None, seed: int, direction: Direction) -> None:
        self._num_pairs = num_pairs
        self._seed = seed
        self._direction = direction
        self._num_added = 0
        # Greatest priority first out, so both numbers are negated: the later of equal pairs goes first.
        self._heap: list[tuple[int, int, Pair]] = []

    def add(self, pair: Pair) -> None:
        """Show one more pair."""
        self._num_added += 1
        if self._num_pairs is None:
            self._heap.append((0, -self._num_added, pair))
            return
        priority = sample_priority(self._seed, self._direction, pair.source, pair.target)
        item = (-priority, -self._num_added, pair)
        if len(self._heap) < self._num_pairs:
            heapq.heappush(self._heap, item)
        else:
            heapq.heappushpop(self._heap, item)

    def pairs(self) -> list[Pair]:
        """The pairs drawn from those shown so far, in the order in which they were shown."""
        return [pair for _, _, pair in sorted(self._heap, key=lambda item: -item[1])]


# --- the report ------------------------------------------------------------------

NUM_EXAMPLES = 3
MAX_EXAMPLE_CHARS = 120


@dataclass
class Funnel:
    """What became of the rows of one direction, with examples of what was dropped."""

    read: int = 0
    """Rows read, bad ones included."""

    bad_rows: int = 0
    """Rows that hold no pair."""

    rejected: Counter[str] = field(default_factory=Counter[str])
    """Pairs dropped, by reason; `REASONS` describes them."""

    examples: dict[str, list[tuple[str, str]]] = field(default_factory=dict[str, list[tuple[str, str]]])
    """The first few pairs dropped for each reason, each side cut to 120 characters."""

    @property
    def kept(self) -> int:
        """Pairs that are left."""
        return self.read - self.bad_rows - self.rejected.total()

    def reject(self, reason: str, source: str, target: str) -> None:
        """Count a pair that is dropped, and keep it as an example if it is one of the first."""
        self.rejected[reason] += 1
        examples = self.examples.setdefault(reason, [])
        if len(examples) < NUM_EXAMPLES:
            examples.append((_shorten(source), _shorten(target)))

    def to_json(self) -> dict[str, Any]:
        """The funnel as JSON values; `rejected` holds only reasons that occurred."""
        rejected = {
            reason: {"pairs": num_pairs, "why": REASONS.get(reason, reason), "examples": self._json_examples(reason)}
            for reason, num_pairs in self._in_order()
        }
        return {"read": self.read, "bad_rows": self.bad_rows, "rejected": rejected, "kept": self.kept}

    def _json_examples(self, reason: str) -> list[list[str]]:
        return [list(example) for example in self.examples.get(reason, [])]

    def _in_order(self) -> list[tuple[str, int]]:
        names = [*REASONS, *sorted(self.rejected.keys() - REASONS.keys())]
        return [(name, self.rejected[name]) for name in names if self.rejected[name]]


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_EXAMPLE_CHARS else text[: MAX_EXAMPLE_CHARS - 1] + "…"
