"""The plan of a run: what its options say about its corpus, or about a number of pairs when there is none yet."""

from collections.abc import Mapping, Sequence

import numpy as np

from dragoman.config import RunConfig
from dragoman.data import replay
from dragoman.data.batch_plan import BatchPlan
from dragoman.data.corpus import Corpus
from dragoman.data.loader import OVERHEAD
from dragoman.data.mixing import Mix, mix_of
from dragoman.errors import InputError
from dragoman.languages import Direction, parse_pairs

SAMPLED = 10_000
"""Pairs of a direction from which the length of its targets is reckoned."""


def weights_of(config: RunConfig, learned: Sequence[Direction]) -> dict[Direction, float] | None:
    """The weights that `--mix` names; None without it.

    Raises:
        InputError: An entry is no weight, names no direction to learn, or one is missing.
    """
    training = config.training
    if not training.mix:
        return None
    if training.mix_temperature != 1:
        raise InputError("--mix and --mix-temperature exclude each other", "one of the two")
    weights: dict[Direction, float] = {}
    for text in training.mix:
        pair, _, number = text.rpartition("=")
        weight = _weight(text, number)
        for way in _directions(text, pair, config.data.new_codes):
            if way not in learned:
                trained = " ".join(map(str, learned))
                raise InputError(f"--mix {text}: {way} is not learned", f"directions of --language-pairs: {trained}")
            if way in weights:
                raise InputError(f"--mix names {way} twice", "name each direction once")
            weights[way] = weight
    if missing := [str(way) for way in learned if way not in weights]:
        raise InputError(f"--mix leaves out {' '.join(missing)}", f"--mix {' '.join(training.mix)} {missing[0]}=1")
    return weights


def mix_for(config: RunConfig, corpus: Corpus) -> Mix | None:
    """The mix of a run with its corpus; None when every pair occurs once in an epoch."""
    pairs = corpus.counts("train")
    return mix_of_counts(config, {way: pairs[str(way)] for way in corpus.directions})


def mix_of_counts(config: RunConfig, counts: Mapping[Direction, int]) -> Mix | None:
    """The same for so many training pairs of each direction, those to rehearse behind those to learn."""
    weights = weights_of(config, [way for way in counts if not way.is_replay])
    return mix_of(counts, weights, config.training.mix_temperature, replay.shares(config.data, counts))


def plan_of(config: RunConfig, corpus: Corpus) -> BatchPlan:
    """The order of the run's pairs."""
    mix = mix_for(config, corpus)
    per_step = config.pairs_per_step
    if config.training.batch_tokens:
        per_step = pairs_with(config.training.batch_tokens, *epoch_tokens(corpus, mix))
    return plan_of_counts(config, corpus.manifest["splits"]["train"]["count"], per_step, mix)


def plan_of_counts(config: RunConfig, num_pairs: int, per_step: int, mix: Mix | None) -> BatchPlan:
    """The same for so many pairs, and so many of them in a step.

    Raises:
        InputError: There is no pair.
    """
    training = config.training
    return BatchPlan(num_pairs, per_step, training.seed, training.epochs, training.max_steps, mix)


def pairs_with(batch_tokens: int, num_pairs: int, target_tokens: float) -> int:
    """How many pairs have `batch_tokens` target tokens on average, where `num_pairs` have `target_tokens`."""
    return max(1, round(batch_tokens * num_pairs / target_tokens))


def epoch_tokens(corpus: Corpus, mix: Mix | None) -> tuple[int, float]:
    """Pairs of an epoch and their target tokens, codes and `</s>` included.

    With a mix they are reckoned from pairs at even distances: a large corpus is not read.
    """
    train = corpus.manifest["splits"]["train"]
    if mix is None:
        return train["count"], train["target_tokens"]
    arrays, total = corpus.arrays("train"), 0.0
    for part in mix.parts:
        some = np.unique(np.linspace(0, part.num_pairs - 1, SAMPLED).astype(np.int64))
        total += part.quota * float(arrays.lengths(part.first + some)[:, 1].mean() + OVERHEAD)
    return mix.pairs_per_epoch, total


def _weight(text: str, number: str) -> float:
    try:
        weight = float(number)
    except ValueError:
        weight = 0.0
    if not 0 < weight < float("inf"):
        raise InputError(f"--mix {text}: it does not end in a weight above 0", "PAIR=WEIGHT, such as en-fr=2")
    return weight


def _directions(text: str, pair: str, also: Sequence[str]) -> list[Direction]:
    try:
        return parse_pairs(pair, also)
    except InputError as error:
        message = error.message.replace("--language-pairs", f"--mix {text}:", 1)
        raise InputError(message, error.hint) from None
