"""The sides that are not ours: `Seq2SeqTrainer` as the starting document writes it, and as an expert would.

Nothing is saved, evaluated or reported on any side, so that training alone is compared. Two
bugs of transformers in this model do not touch its speed, and are left as they are: gradient
accumulation multiplies loss and gradient (4 x 4 trains at four times the loss), and label
smoothing crashes (so no side smooths).
"""

import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import (
    DataCollatorForSeq2Seq,
    NllbTokenizer,
    PrinterCallback,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    TrainerCallback,
)
from transformers.trainer_pt_utils import LengthGroupedSampler
from transformers.utils import logging

from bench.speed_clock import Clock, Counts, Pair
from bench.speed_world import MAX_TOKENS, RATE

FEWEST_BY_LENGTH = 4
"""Steps that a side which sorts by length counts at least in a round: their speeds differ with the length."""


@dataclass(frozen=True)
class TrainerSide:
    """One setting of Seq2SeqTrainer."""

    name: str
    batch_size: int
    accumulation: int = 1
    precision: str = "fp32"
    padding: str | bool = True
    """True: to the longest of the microbatch; `max_length`: to 128."""
    by_length: bool = False
    """Batches of similar length from all pairs; else the pairs and the order of the other sides."""

    @property
    def pairs_per_step(self) -> int:
        """Pairs of one optimizer step."""
        return self.batch_size * self.accumulation


RECIPE = TrainerSide("recipe", 4, 4)
"""The starting document's 4 x 4, on a CPU, where its `fp16` does not exist."""


def sides(half: str, larger: tuple[int, ...], recipe_precision: str = "fp32") -> list[TrainerSide]:
    """The recipe, and what an expert would make of it in the precision `half` with more pairs per step."""
    found = [
        replace(RECIPE, precision=recipe_precision),
        TrainerSide("recipe max_length", 4, 4, recipe_precision, padding="max_length"),
        TrainerSide("expert fp32 16", 16),
        TrainerSide("expert fp32 16 by length", 16, by_length=True),
    ]
    return found + [TrainerSide(f"expert {half} {n} by length", n, 1, half, by_length=True) for n in (16, *larger)]


class Pairs(Dataset[dict[str, list[int]]]):
    """Tokenized pairs as the Trainer wants them."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self.rows = [
            {"input_ids": pair.source_ids, "attention_mask": [1] * len(pair.source_ids), "labels": pair.label_ids}
            for pair in pairs
        ]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        return self.rows[index]


class Collator:
    """The usual collator; notes what it collated, which costs nothing that could be measured."""

    def __init__(self, tokenizer: NllbTokenizer, model: Any, padding: str | bool) -> None:
        longest = MAX_TOKENS if padding == "max_length" else None
        self.inner = DataCollatorForSeq2Seq(tokenizer, model=model, padding=padding, max_length=longest)
        self.seen: list[Counts] = []

    def __call__(self, features: list[dict[str, list[int]]]) -> Any:
        batch = self.inner(features)
        source = sum(len(row["input_ids"]) for row in features)
        target = sum(len(row["labels"]) for row in features)
        self.seen.append(Counts(source, batch["input_ids"].numel(), target, batch["labels"].numel()))
        return batch


class StopWatch(TrainerCallback):
    """Starts the clock at the end of the last step that warms up, stops it at the end of the last step."""

    def __init__(self, clock: Clock, warmup: int, last: int) -> None:
        self.clock, self.warmup, self.last = clock, warmup, last

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.warmup:
            self.clock.start()
        if state.global_step == self.last:
            self.clock.stop()


def arguments(side: TrainerSide, device: torch.device, output: str, **more: Any) -> Seq2SeqTrainingArguments:
    """The settings of the starting document, without saving and reporting."""
    logging.set_verbosity_error()
    values: dict[str, Any] = {
        "output_dir": output,
        "per_device_train_batch_size": side.batch_size,
        "gradient_accumulation_steps": side.accumulation,
        "learning_rate": RATE,
        "bf16": side.precision == "bf16",
        "fp16": side.precision == "fp16",
        "train_sampling_strategy": "sequential",
        "use_cpu": device.type == "cpu",
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        # It only warns where there is no GPU.
        "dataloader_pin_memory": device.type == "cuda",
    }
    return Seq2SeqTrainingArguments(**values | more)


def run(
    side: TrainerSide,
    pairs: Sequence[Pair],
    base: Path,
    model: Any,
    device: torch.device,
    *,
    first_pair: int,
    num_pairs: int,
    warmup: int,
    seed: int = 1,
) -> Clock:
    """Train over the pairs at `first_pair` and on; `warmup` steps before them are not counted."""
    counted = num_steps(side, num_pairs)
    steps = warmup + counted
    if side.by_length:
        chosen = some_batches(side, pairs, warmup, counted, seed)
    else:
        chosen = pairs[first_pair - warmup * side.pairs_per_step : first_pair + num_pairs]
    tokenizer = NllbTokenizer.from_pretrained(base)
    clock, collator = Clock(device), Collator(tokenizer, model, side.padding)
    with tempfile.TemporaryDirectory() as output:
        trainer = Seq2SeqTrainer(
            model=model,
            args=arguments(side, device, output, max_steps=steps, seed=seed),
            train_dataset=Pairs(chosen),
            data_collator=collator,
            processing_class=tokenizer,
            callbacks=[StopWatch(clock, warmup, steps)],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    seen = collator.seen[warmup * side.accumulation : steps * side.accumulation]
    clock.counts = sum(seen, Counts())
    return clock


def num_steps(side: TrainerSide, num_pairs: int) -> int:
    """Steps that count; some more where each draws pairs of another length."""
    return max(num_pairs // side.pairs_per_step, FEWEST_BY_LENGTH if side.by_length else 1)


def by_length(side: TrainerSide, pairs: Sequence[Pair], seed: int) -> list[list[Pair]]:
    """The batches of a pass with `group_by_length`, in their order: each stretch of 50 from the longest down."""
    lengths = [len(pair.source_ids) for pair in pairs]
    generator = torch.Generator().manual_seed(seed)
    order = list(LengthGroupedSampler(side.pairs_per_step, lengths=lengths, generator=generator))
    size = side.pairs_per_step
    return [[pairs[index] for index in order[start : start + size]] for start in range(0, len(order) - size + 1, size)]


def some_batches(side: TrainerSide, pairs: Sequence[Pair], warmup: int, counted: int, seed: int) -> list[Pair]:
    """Pairs of such batches: to warm up the longest, which come first there too, then `counted` of every length.

    The first batches of a pass alone would all be long ones, and so faster for each token.
    """
    batches = sorted(by_length(side, pairs, seed), key=lambda batch: sum(len(pair.source_ids) for pair in batch))
    chance = random.Random(seed)
    offset = chance.random()
    chosen = [batches[int((number + offset) * len(batches) / counted)] for number in range(counted)]
    chance.shuffle(chosen)
    return [pair for batch in [*[batches[-1]] * warmup, *chosen] for pair in batch]


def positions(side: TrainerSide, pairs: Sequence[Pair], base: Path) -> Counts:
    """Positions and tokens of one pass over `pairs`, without training."""
    order = [pair for batch in by_length(side, pairs, seed=1) for pair in batch] if side.by_length else pairs
    data = Pairs(order)
    collator = Collator(NllbTokenizer.from_pretrained(base), None, side.padding)
    size = side.batch_size
    for start in range(0, len(data) - size + 1, size):
        collator([data[index] for index in range(start, start + size)])
    return sum(collator.seen, Counts())
