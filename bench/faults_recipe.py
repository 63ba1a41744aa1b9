"""The recipe that everybody copies, as a person would write it from the starting document; nothing of dragoman.

What a fault did to it is seen from outside, but for one thing: `Witness` writes down what
was trained and saved, and holds the steps back to the pace of a larger model.

Started by torchrun it trains on several ranks, each of which has a witness of its own.

Usage: python bench/faults_recipe.py --base DIR --data FILE --output DIR --repo USER/REPO --witness FILE [...]
"""

import argparse
import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    TrainerCallback,
)
from transformers.trainer_utils import get_last_checkpoint

RANK = int(os.environ.get("RANK", 0))


class Pairs(Dataset[dict[str, Any]]):
    """Tokenized sentence pairs; notes which were asked for."""

    def __init__(self, path: Path, tokenizer: Any) -> None:
        rows = [line.split("\t") for line in path.read_text("utf-8").splitlines()]
        self.encoded = [dict(tokenizer(source, text_target=target, truncation=True)) for source, target in rows]
        self.asked: list[int] = []

    def __len__(self) -> int:
        return len(self.encoded)

    def __getitem__(self, index: int) -> dict[str, Any]:
        self.asked.append(index)
        return self.encoded[index]


class Witness(TrainerCallback):
    """Writes down, one JSON object a line, what happened; sleeps at the end of each step."""

    def __init__(self, path: Path, pairs: Pairs, pace: float) -> None:
        self.path, self.pairs, self.pace = path, pairs, pace

    def write(self, event: str, **fields: Any) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps({"event": event, "time": time.time(), **fields}) + "\n")

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.write("begin", step=state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        batch = args.per_device_train_batch_size
        done = (state.global_step - self.first_step(state)) * batch
        self.write("step", step=state.global_step, pairs=self.pairs.asked[done - batch : done])
        time.sleep(self.pace)

    def first_step(self, state: Any) -> int:
        self._first = getattr(self, "_first", state.global_step - 1)
        return self._first

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if "loss" in logs:
            self.write("log", step=state.global_step, loss=logs["loss"], gradient_norm=logs["grad_norm"])

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        paths = list(folder.iterdir()) if RANK == 0 else [folder / f"rng_state_{RANK}.pth"]
        files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
        self.write("saved", step=state.global_step, files=files)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("base", "data", "output", "witness"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--repo", required=True)
    parser.add_argument("--strategy", default="checkpoint")
    parser.add_argument("--max_steps", type=int, default=-1)
    parser.add_argument("--batch_size", type=int, default=4)
    parser.add_argument("--gradient_accumulation_steps", type=int, default=1)
    parser.add_argument("--logging_steps", type=int, default=5)
    parser.add_argument("--save_total_limit", type=int)
    parser.add_argument("--hub_token")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--resume_from_checkpoint", help="a folder, True, or newest: True when there is one")
    parser.add_argument("--ddp_backend")
    parser.add_argument("--enable_jit_checkpoint", action="store_true")
    parser.add_argument("--pace", type=float, default=0.0)
    parser.add_argument("--final_push", action="store_true", help="once a line comes on standard input")
    options = parser.parse_args()

    tokenizer = AutoTokenizer.from_pretrained(options.base, src_lang="eng_Latn", tgt_lang="fra_Latn")
    model = AutoModelForSeq2SeqLM.from_pretrained(options.base)
    pairs = Pairs(options.data, tokenizer)
    path = options.witness if RANK == 0 else options.witness.with_stem(f"{options.witness.stem}_{RANK}")
    witness = Witness(path, pairs, options.pace)

    arguments = Seq2SeqTrainingArguments(
        output_dir=str(options.output),
        per_device_train_batch_size=options.batch_size,
        gradient_accumulation_steps=options.gradient_accumulation_steps,
        num_train_epochs=1,
        max_steps=options.max_steps,
        learning_rate=1e-3,
        save_steps=5,
        save_total_limit=options.save_total_limit,
        push_to_hub=True,
        hub_model_id=options.repo,
        hub_strategy=options.strategy,
        hub_token=options.hub_token,
        hub_private_repo=True,
        logging_steps=options.logging_steps,
        report_to="none",
        seed=options.seed,
        use_cpu=True,
        ddp_backend=options.ddp_backend,
        enable_jit_checkpoint=options.enable_jit_checkpoint,
    )
    trainer = Seq2SeqTrainer(
        model=model,
        args=arguments,
        train_dataset=pairs,
        data_collator=DataCollatorForSeq2Seq(tokenizer, model=model),
        processing_class=tokenizer,
        callbacks=[witness],
    )
    resume: str | bool | None = options.resume_from_checkpoint
    if resume == "newest":
        resume = "True" if options.output.is_dir() and get_last_checkpoint(str(options.output)) else None
    trainer.train(resume_from_checkpoint=True if resume == "True" else resume)
    weights = model.state_dict()
    digest = hashlib.sha256(b"".join(weights[name].numpy().tobytes() for name in sorted(weights))).hexdigest()
    witness.write("returned", step=trainer.state.global_step, weights=digest)
    if options.final_push and RANK == 0:
        sys.stdin.readline()
        trainer.push_to_hub()
        witness.write("pushed")


if __name__ == "__main__":
    main()
