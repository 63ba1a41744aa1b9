"""Equal loss at equal steps: dragoman beside `Seq2SeqTrainer`, same weights, pairs, learning rate, no dropout.

The Trainer is right when it does not accumulate: one microbatch of 16 pairs. At 4 x 4 it
reports, and differentiates, four times the mean of its microbatches; that curve is shown too.
"""

import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import NllbTokenizer, PrinterCallback, Seq2SeqTrainer

from bench import speed_ours as ours
from bench import speed_trainer as theirs
from bench.speed_clock import Pair
from bench.speed_trainer import Collator, Pairs, TrainerSide
from bench.speed_world import Scale

RATE = 1e-4
SHARED = {"lr_scheduler_type": "constant", "learning_rate": RATE, "weight_decay": 0.01, "max_grad_norm": 1.0}
OURS = {"schedule": "constant", "learning_rate": RATE, "weight_decay": 0.01, "clip_norm": 1.0, "warmup_steps": 0}
NAIVE = "Seq2SeqTrainer 1 x 16"


class Recording(Seq2SeqTrainer):
    """Notes the loss of every microbatch as it was differentiated."""

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss = super().training_step(*args, **kwargs)
        self.seen: list[float] = [*getattr(self, "seen", []), float(loss)]
        return loss


def part(scale: Scale, folder: Path, device: torch.device, *, steps: int = 60) -> dict[str, Any]:
    """The curves of both, in nats per target token, and how far ours lie from the Trainer's."""
    corpus = ours.corpus_of(folder)
    pairs = ours.pairs_in_order(corpus, 16 * steps)
    curves = {NAIVE: _trainer(TrainerSide("", 16), pairs, scale, folder, device, steps)}
    curves["recipe 4 x 4, as it reports"] = _trainer(theirs.RECIPE, pairs, scale, folder, device, steps)
    for rung in ours.equal_pairs():
        if not rung.missing:
            model = scale.model(device, dropout=0.0)
            with ours.training_of(rung, scale, corpus, model, device, **OURS) as training:
                curves[rung.name] = [training.loss(number, RATE) for number in range(steps)]
    base = curves[NAIVE]
    return {
        "scale": scale.name,
        "steps": steps,
        "learning_rate": RATE,
        "curves": curves,
        "largest_relative_difference": {
            name: max(abs(mine - its) / its for mine, its in zip(curve, base, strict=True))
            for name, curve in curves.items()
            if name.startswith("dragoman")
        },
    }


def _trainer(
    side: TrainerSide, pairs: list[Pair], scale: Scale, folder: Path, device: torch.device, steps: int
) -> list[float]:
    model, tokenizer = scale.model(device, dropout=0.0), NllbTokenizer.from_pretrained(folder / "base")
    with tempfile.TemporaryDirectory() as output:
        trainer = Recording(
            model=model,
            args=theirs.arguments(side, device, output, max_steps=steps, **SHARED),
            train_dataset=Pairs(pairs),
            data_collator=Collator(tokenizer, model, side.padding),
            processing_class=tokenizer,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    per_step = [
        trainer.seen[start : start + side.accumulation] for start in range(0, len(trainer.seen), side.accumulation)
    ]
    return [sum(losses) for losses in per_step]
