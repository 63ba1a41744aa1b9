"""What a run has to do: pairs become steps and tokens, by the arithmetic of training itself.

From a prepared corpus the steps are exact, because the same plan is made of it. Without
one the pairs are those that the user names (`--max-samples`), which is exact when the
data has as many, or the rows of local files, of which cleaning will leave fewer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dragoman.checkpoint.run_folder import CORPUS, run_folder
from dragoman.config import RunConfig
from dragoman.data import planning, prepare, replay
from dragoman.data.corpus import Corpus, open_corpus
from dragoman.data.loader import OVERHEAD
from dragoman.data.sources import are_local
from dragoman.errors import InputError
from dragoman.languages import Direction, parse_pairs

TOKENS_PER_PAIR = 27.0
"""Target tokens of a pair where nothing is prepared: 25 pieces, language code and `</s>`."""

Basis = Literal["corpus", "rows", "samples"]
"""Where the pairs come from: a prepared corpus, the rows of local data, or the user's word."""


@dataclass(frozen=True)
class Work:
    """All that a run computes."""

    basis: Basis
    num_directions: int
    """Rehearsed ones included."""
    num_pairs: int
    """Different pairs to train on."""
    pairs_per_step: int
    steps: int
    pairs_seen: int
    """In all steps, repetitions counted."""
    target_tokens: float
    """Of all steps, language codes and `</s>` included."""
    source_tokens: float
    """Likewise."""
    rows: int | None = None
    """Rows of the embedding that an active vocabulary trains; None when only a corpus could tell."""
    data_bytes: int = 0
    """Size of the prepared corpus; 0 when it is not known."""

    @property
    def target_per_step(self) -> float:
        """Target tokens of a step."""
        return self.target_tokens / self.steps

    @property
    def source_per_step(self) -> float:
        """Source tokens of a step."""
        return self.source_tokens / self.steps

    @property
    def tokens_per_pair(self) -> float:
        """Target tokens of a pair."""
        return self.target_tokens / self.pairs_seen

    def to_json(self) -> dict[str, Any]:
        """What a program may read."""
        names = ("basis", "num_directions", "num_pairs", "pairs_per_step", "steps", "pairs_seen")
        return {name: getattr(self, name) for name in names} | {
            "target_tokens": round(self.target_tokens),
            "source_tokens": round(self.source_tokens),
        }


def work_of(config: RunConfig, tokens_per_pair: float | None = None) -> Work:
    """What a run has to do: by its prepared corpus if there is one, else by its options.

    Args:
        config: The run.
        tokens_per_pair: Target tokens of a pair where nothing is prepared.

    Raises:
        InputError: Languages are wrong, or nothing tells how many pairs there are.
    """
    directions = directions_of(config)
    if corpus := corpus_of(config, directions):
        return of_corpus(config, corpus)
    counts, basis = _counts(config, directions)
    return of_counts(config, counts, tokens_per_pair or TOKENS_PER_PAIR, basis)


def directions_of(config: RunConfig) -> list[Direction]:
    """The directions to learn, then those to rehearse.

    Raises:
        InputError: There are none, or one is not known.
    """
    if not config.data.language_pairs:
        raise InputError("--language-pairs is missing", "--language-pairs en-fr en-de --max-samples 20000")
    learned = [way for pair in config.data.language_pairs for way in parse_pairs(pair, config.data.new_codes)]
    return [*dict.fromkeys(learned), *replay.directions_of(config.data)]


def of_corpus(config: RunConfig, corpus: Corpus) -> Work:
    """What a run has to do with a prepared corpus; its steps are exact."""
    plan, train = planning.plan_of(config, corpus), corpus.manifest["splits"]["train"]
    pairs, target_tokens = planning.epoch_tokens(corpus, plan.mix)
    pieces = train["target_tokens"] - OVERHEAD * train["count"]
    source_tokens = train["tokens"] - pieces + OVERHEAD * train["count"]
    seen = plan.total_pairs
    return Work(
        basis="corpus",
        num_directions=len(corpus.directions),
        num_pairs=plan.num_pairs,
        pairs_per_step=plan.pairs_per_step,
        steps=plan.total_steps,
        pairs_seen=seen,
        target_tokens=seen * target_tokens / pairs,
        source_tokens=seen * source_tokens / train["count"],
        rows=corpus.manifest["rows"]["count"],
        data_bytes=sum(path.stat().st_size for path in corpus.folder.iterdir()),
    )


def of_counts(
    config: RunConfig, counts: Mapping[Direction, int], tokens_per_pair: float, basis: Basis = "samples"
) -> Work:
    """What a run has to do with so many training pairs of each direction.

    Args:
        config: The run.
        counts: Those to rehearse count once each: their share decides, not their number.
        tokens_per_pair: Target tokens of a pair, and source tokens too.
        basis: What is known of the counts.
    """
    mix, num_pairs, per_step = planning.mix_of_counts(config, counts), sum(counts.values()), config.pairs_per_step
    if config.training.batch_tokens:
        per_step = planning.pairs_with(config.training.batch_tokens, num_pairs, num_pairs * tokens_per_pair)
    plan = planning.plan_of_counts(config, num_pairs, per_step, mix)
    tokens = plan.total_pairs * tokens_per_pair
    return Work(basis, len(counts), num_pairs, per_step, plan.total_steps, plan.total_pairs, tokens, tokens)


def corpus_of(config: RunConfig, directions: Sequence[Direction]) -> Corpus | None:
    """The corpus that this very run was prepared with, in its folder; None when there is none.

    Where the data is not at hand, or lies on the Hub, the newest corpus of these directions counts.
    """
    folders = sorted(run_folder(config).glob(f"{CORPUS}/*/"), key=lambda path: path.stat().st_mtime)
    found = [corpus for path in folders if (corpus := open_corpus(path)) and corpus.directions == list(directions)]
    if not found:
        return None
    if _is_local(config):
        try:
            inputs = prepare.inputs_digest(config.data, directions, config.training.seed)
            return next((corpus for corpus in found if corpus.manifest["inputs"] == inputs), None)
        except InputError:
            pass
    return found[-1]


def _counts(config: RunConfig, directions: Sequence[Direction]) -> tuple[dict[Direction, int], Basis]:
    """Training pairs of each direction: the rows of local data, but no more than `--max-samples`."""
    data, most = config.data, config.data.max_samples
    if "data" not in config.given() or not _is_local(config):
        if most is None:
            raise InputError(
                "how many pairs are there? Nothing is prepared, and the data is not on this machine",
                "--max-samples 20000 (per direction), or dragoman prepare with the same options first",
            )
        return dict.fromkeys(directions, most), "samples"
    counts: dict[Direction, int] = {}
    for way in directions:
        rows = sum(1 for source in replay.open_for(data, way) for _ in source.pairs())
        kept = rows if way.is_replay else rows * (100 - data.dev_percent - data.test_percent) / 100
        counts[way] = min(most or round(kept), max(1, round(kept)))
    return counts, "rows"


def _is_local(config: RunConfig) -> bool:
    entries = [*config.data.data, *(it.entry for it in replay.replays(config.data))]
    return are_local(entries, config.data.new_codes)
