"""The third pass: the token ids of the chosen pairs, chunk by chunk.

A chunk whose ids are there already for just these pairs is left as it is. When only some of
them are (another machine could not know all that would be chosen), only the others are tokenised.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dragoman.data import cleaning, work, workers
from dragoman.data.choosing import TRAIN, Choice, Fates
from dragoman.data.cleaning import SPLITS
from dragoman.data.encode import Encoder
from dragoman.data.filters import Funnel
from dragoman.data.progress import Progress
from dragoman.data.unknown import UnknownCharacters
from dragoman.data.words import SeenWords
from dragoman.data.workers import Call
from dragoman.languages import Direction

OVERHEAD = 2
"""Tokens of a side besides its pieces: language code and `</s>`."""

Texts = list[tuple[str, str]]


class Tokenizing:
    """What all chunks share: the tokenizer, and what was learned of it."""

    def __init__(self, encoder: Encoder, max_tokens: int) -> None:
        self.encoder = encoder
        self.max_tokens = max_tokens
        self.words = SeenWords(encoder)
        self.unknown = UnknownCharacters(encoder)


class Pieces(NamedTuple):
    """Token ids of pairs of one chunk."""

    pairs: NDArray[np.uint32]
    """Which pairs of the cleaned chunk, ascending."""
    is_short: NDArray[np.bool_]
    """Whether a pair has few enough tokens; of others there are no ids."""
    lengths: NDArray[np.uint32]
    """Shape (short pairs, 2): tokens of source and target."""
    ids: NDArray[np.uint32]
    """Of source and target of every short pair in turn."""

    def only(self, chosen: NDArray[np.bool_]) -> "Pieces":
        """The same for some of the pairs."""
        short = chosen[self.is_short]
        ids = self.ids[np.repeat(short, self.lengths.sum(axis=1, dtype=np.int64))]
        return Pieces(self.pairs[chosen], self.is_short[chosen], self.lengths[short], ids)


def tokenize_all(
    choice: Choice,
    directions: tuple[Direction, ...],
    tokenizing: Tokenizing,
    processes: int | None,
    progress: Progress,
) -> None:
    """Tokenise what was chosen of every chunk, unless that was done before."""
    tokenizer = tokenizing.encoder.digest()

    def calls() -> Iterator[Call]:
        for place, chunk in enumerate(choice.chunks):
            pairs = choice.kept(place)
            path, fates = choice.folder.encoded(chunk, tokenizer), choice.fates[place][pairs]
            if _is_done(path, pairs, fates):
                progress.add(len(pairs), earlier=True)
            else:
                arguments = choice.folder.cleaned(chunk), path, directions[chunk.direction], pairs, fates
                yield Call(len(pairs), arguments)

    workers.each(_tokenize_chunk, tokenizing, calls(), processes, lambda call: progress.add(call.num_pairs))


def _is_done(path: Path, pairs: NDArray[np.uint32], fates: Fates) -> bool:
    if not work.is_whole(path):
        return False
    before, fates_before = work.load(path, "pairs", "fate")
    return np.array_equal(before, pairs) and np.array_equal(fates_before, fates)


def _tokenize_chunk(
    tokenizing: Tokenizing,
    cleaned: Path,
    path: Path,
    direction: Direction,
    pairs: NDArray[np.uint32],
    fates: Fates,
) -> None:
    """Write the arrays of `Pieces`, `fate` of each pair, `used` (the different ids), and of pairs held out alone:

    held_of, held_lengths, held_ids     as above, of short pairs only
    held_text, held_text_lengths        their text, as in a cleaned chunk
    """
    texts: Texts = cleaning.texts_at(cleaned, pairs)
    pieces = _merged(_before(path), pairs, texts, tokenizing)
    short_fates = fates[pieces.is_short]
    short_texts = [texts[place] for place in np.flatnonzero(pieces.is_short)]
    facts = {
        "num_train": int((short_fates == TRAIN).sum()),
        "funnel": _too_long(texts, pieces),
        "unknown": _unknown(tokenizing, direction, pieces, short_fates, short_texts),
    }
    is_held = pieces.is_short & (fates != TRAIN)
    held = pieces.only(is_held)
    held_texts = [side.encode() for place in np.flatnonzero(is_held) for side in texts[place]]
    arrays: dict[str, NDArray[Any]] = {
        **pieces._asdict(),
        "fate": fates,
        "used": np.flatnonzero(np.bincount(pieces.ids)).astype(np.uint32),
        "held_of": held.pairs,
        "held_lengths": held.lengths,
        "held_ids": held.ids,
        "held_text": np.frombuffer(b"".join(held_texts), np.uint8),
        "held_text_lengths": np.fromiter(map(len, held_texts), np.uint32, len(held_texts)).reshape(-1, 2),
    }
    work.save(path, facts, **arrays)


def _before(path: Path) -> Pieces | None:
    """What was tokenised of this chunk before."""
    return Pieces(*work.load(path, *Pieces._fields)) if work.is_whole(path) else None


def _merged(before: Pieces | None, pairs: NDArray[np.uint32], texts: Texts, tokenizing: Tokenizing) -> Pieces:
    """The pieces of the pairs at `pairs`, from before where they are there."""
    if before is None:
        return _tokenized(pairs, texts, tokenizing)
    is_there = np.isin(pairs, before.pairs)
    old = before.only(np.isin(before.pairs, pairs))
    missing = np.flatnonzero(~is_there)
    new = _tokenized(pairs[missing], [texts[place] for place in missing], tokenizing)
    if not len(missing):
        return old
    return _joined(old, new)


def _joined(one: Pieces, other: Pieces) -> Pieces:
    """Two disjoint sets of pairs of a chunk as one, in order."""
    pairs = np.concatenate((one.pairs, other.pairs))
    order = np.argsort(pairs)
    is_short = np.concatenate((one.is_short, other.is_short))
    lengths, ids = np.concatenate((one.lengths, other.lengths)), np.concatenate((one.ids, other.ids))
    rank = np.cumsum(is_short) - 1
    short_order = rank[order[is_short[order]]]
    sizes = lengths.sum(axis=1, dtype=np.int64)
    starts = np.cumsum(sizes) - sizes
    moved = sizes[short_order]
    places = np.repeat(starts[short_order] - (np.cumsum(moved) - moved), moved) + np.arange(int(moved.sum()))
    return Pieces(pairs[order], is_short[order], lengths[short_order], ids[places])


def _tokenized(pairs: NDArray[np.uint32], texts: Texts, tokenizing: Tokenizing) -> Pieces:
    (source_lengths, source_ids), (target_lengths, target_ids) = (
        tokenizing.words.encode([pair[side] for pair in texts]) for side in (0, 1)
    )
    lengths = np.stack((source_lengths, target_lengths), axis=1).astype(np.uint32)
    ids = np.empty(int(lengths.sum()), np.uint32)
    is_target = np.repeat(np.tile([False, True], len(texts)), lengths.ravel())
    ids[~is_target], ids[is_target] = source_ids, target_ids
    is_short = lengths.max(axis=1, initial=0) + OVERHEAD <= tokenizing.max_tokens
    every = Pieces(pairs, np.ones(len(pairs), bool), lengths, ids)
    return every if is_short.all() else every.only(is_short)._replace(pairs=pairs, is_short=is_short)


def _too_long(texts: Texts, pieces: Pieces) -> dict[str, Any]:
    funnel = Funnel()
    for place in np.flatnonzero(~pieces.is_short):
        funnel.reject("too_many_tokens", *texts[place])
    return cleaning.funnel_facts(funnel)


def _unknown(
    tokenizing: Tokenizing, direction: Direction, pieces: Pieces, fates: Fates, texts: Texts
) -> dict[str, dict[str, Any]]:
    """Per split and language: tokens, how many of them are `<unk>`, and characters that became it."""
    owners = np.repeat(np.arange(2 * len(texts)), pieces.lengths.ravel())
    where = owners[pieces.ids == tokenizing.encoder.unk]
    unknown = np.bincount(where, minlength=2 * len(texts)).reshape(-1, 2)
    found: dict[str, dict[str, Any]] = {}
    for number, split in enumerate(SPLITS):
        chosen = fates == number
        if not chosen.any():
            continue
        found[split] = {}
        for side, code in enumerate((direction.source, direction.target)):
            characters = Counter[str]()
            if unknown[chosen, side].any():
                affected = np.flatnonzero(chosen & (unknown[:, side] > 0))
                characters = tokenizing.unknown.count([texts[place][side] for place in affected])
            found[split][code] = [int(pieces.lengths[chosen, side].sum()), int(unknown[chosen, side].sum()), characters]
    return found
