"""The model card of a checkpoint: what was tuned on what, how good it is, how to use and continue it.

Every figure was measured in the run, for the very weights beside the card. Where there is
none, the card says so.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from dragoman import __version__
from dragoman.checkpoint.run_folder import run_folder
from dragoman.config import RunConfig
from dragoman.data import sources
from dragoman.data.sources import DataSetName
from dragoman.languages import Direction, name
from dragoman.model import scratch
from dragoman.store.address import HUB
from dragoman.training.about import About
from dragoman.training.card_front import front_matter

if TYPE_CHECKING:
    from dragoman.training.session import Session

DATA_SETS = "https://huggingface.co/datasets"
ANY_TEXT = "Save your changes."
"""Translated in the example where no held-out sentence may be shown."""


@dataclass(frozen=True)
class Facts:
    """What a card is made from."""

    config: RunConfig
    directions: Sequence[Direction]
    """What was learned."""
    pairs: Mapping[str, int]
    """Training pairs of each direction."""
    about: About
    """Base and held-out sentences."""
    step: int
    """Optimizer steps done."""
    total_steps: int
    """Steps of the whole run."""
    pairs_per_step: int
    scores: Mapping[str, Mapping[str, Any]]
    """`Scores` of these weights on the dev sample, by direction; empty when they were not measured."""
    computed_with: Mapping[str, str]
    """Device, precision and torch, as `Arithmetic.facts`."""
    seconds: float
    """Time of all sessions."""
    sessions: int
    """How many there were."""

    @property
    def is_derived(self) -> bool:
        """Whether the model was tuned from another one, whose licence it keeps."""
        return scratch.preset(self.config.model.model) is None

    @property
    def data_sets(self) -> list[DataSetName]:
        """The data sets on the Hub among its data."""
        return sources.data_sets(self.config.data.data)

    @property
    def name(self) -> str:
        """What the model is called."""
        return (self.config.store.url or str(run_folder(self.config))).rstrip("/").rpartition("/")[2]


def facts(run: "Session") -> Facts:
    """What the present step of a session puts into its card."""
    state = run.state
    return Facts(
        config=run.config,
        directions=[way for way in run.corpus.directions if not way.is_replay],
        pairs=run.corpus.counts("train"),
        about=run.about,
        step=state.step,
        total_steps=run.plan.total_steps,
        pairs_per_step=run.plan.pairs_per_step,
        scores=state.best_scores if state.best_step == state.step else {},
        computed_with=run.arithmetic.facts(),
        seconds=state.seconds,
        sessions=run.log.epoch,
    )


def text(facts: Facts) -> str:
    """The card, in Markdown behind the front matter that the Hub reads."""
    base = facts.config.model.model
    kind = (
        f"A fine-tuned version of `{base}`" if facts.is_derived else "A small translation model, trained from scratch"
    )
    licence = "Models derived from NLLB-200 stay under CC-BY-NC 4.0: no commercial use. " if facts.is_derived else ""
    return f"""---
{front_matter(facts).strip()}
---

# {facts.name}

{kind}, for {len(facts.directions)} direction{"s" * (len(facts.directions) > 1)}, after step {facts.step:,} of \
{facts.total_steps:,}.

{_directions(facts)}

## Scores

{_scores(facts)}

## Use

{_use(facts)}

## Training

{_training(facts)}

## Continue

The folders `checkpoint-*` hold the state of the training, `dragoman/log` says which of them are whole:

```bash
dragoman resume {facts.config.store.url or "RUN"}
```

{licence}Written by dragoman {__version__}. A card that you edit is left alone from then on.
"""


def _directions(facts: Facts) -> str:
    rows = [
        f"| {name(way.source)} → {name(way.target)} | `{way}` | {facts.pairs.get(str(way), 0):,} |"
        for way in facts.directions
    ]
    return "\n".join(["| direction | codes | training pairs |", "| --- | --- | --- |", *rows])


def _scores(facts: Facts) -> str:
    if not facts.scores:
        return "These weights were not scored."
    beams = facts.config.evaluation.num_beams
    how = "greedy decoding" if beams == 1 else f"{beams} beams"
    lines = [
        f"On sentences that were held out of the training data, by {how}. They also chose this checkpoint among those "
        "of its run, so they flatter it a little; `dragoman evaluate` compares with the base on others.",
        "",
        "| direction | chrF++ | BLEU | sentences |",
        "| --- | --- | --- | --- |",
    ]
    measured = {way: facts.scores[str(way)] for way in facts.directions if str(way) in facts.scores}
    for way, score in measured.items():
        lines.append(f"| {way.short} | {score['chrf']:.1f} | {score['bleu']:.1f} | {score['sentences']:,} |")
    signatures = {score[f"{kind}_signature"]: None for kind in ("chrf", "bleu") for score in measured.values()}
    return "\n".join([*lines, "", "Signatures of sacrebleu:", "", *(f"* `{signature}`" for signature in signatures)])


def _use(facts: Facts) -> str:
    first, url = facts.directions[0], facts.config.store.url or ""
    place = url.removeprefix(HUB) if url.startswith(HUB) else "."
    comment = "" if url.startswith(HUB) else "  # the folder that holds this card"
    shown = next((source for way, source, _ in facts.about.sentences if way == str(first)), ANY_TEXT)
    form = facts.config.data.normalize
    written = f"Write your text in the form `{form}` first (`normalization.json`). " if form != "nfc" else ""
    return f"""```python
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

MODEL = {json.dumps(place)}{comment}
tokenizer = AutoTokenizer.from_pretrained(MODEL, src_lang="{first.source}")
model = AutoModelForSeq2SeqLM.from_pretrained(MODEL)
inputs = tokenizer({json.dumps(shown, ensure_ascii=False)}, return_tensors="pt")
target = tokenizer.convert_tokens_to_ids("{first.target}")
output = model.generate(**inputs, forced_bos_token_id=target, num_beams=4, max_new_tokens=256)
print(tokenizer.batch_decode(output, skip_special_tokens=True)[0])
```

{written}Or, from a terminal{", which does that by itself" if written else ""}:

```bash
dragoman translate --model MODEL --pair {first} "…"
```"""


def _training(facts: Facts) -> str:
    training, model, computed = facts.config.training, facts.config.model, facts.computed_with
    at = f" at commit `{facts.about.commit}`" if facts.about.commit else ""
    data = [
        f"[{one.repo_id}](https://huggingface.co/datasets/{one.repo_id}) at `{one.revision}`" for one in facts.data_sets
    ]
    others = len(facts.config.data.data) - len(data)
    warmup = "" if training.warmup_steps is None else f", {training.warmup_steps:,} steps of warm-up"
    rows = {
        "base": f"`{model.model}`{at}",
        "data": ", ".join([*data, *([f"{others} of its own"] if others else [])]),
        "steps": f"{facts.step:,} of {facts.total_steps:,}, {facts.pairs_per_step:,} pairs each",
        "what is trained": f"adapters of rank {model.lora_rank} (LoRA)" if model.adapter == "lora" else "all weights",
        "vocabulary": f"{training.vocabulary}, label smoothing {training.label_smoothing:g}",
        "optimizer": f"{training.optimizer}, learning rate {training.learning_rate:g}, {training.schedule}{warmup}",
        "precision": f"{computed['precision']}{_threads(computed)}",
        "hardware": computed["device"],
        "time": f"{_duration(facts.seconds)} in {facts.sessions} session{'s' * (facts.sessions > 1)}",
        "seed": f"{training.seed}",
        "software": f"dragoman {__version__}, torch {computed['torch']}, transformers {version('transformers')}",
    }
    lines = [f"| {title} | {value} |" for title, value in rows.items()]
    return "\n".join(["| | |", "| --- | --- |", *lines])


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"


def _threads(computed: Mapping[str, str]) -> str:
    return f", CPU threads: {computed['threads']}" if computed["threads"] else ""
