"""The sides of the bench of preparing, each one measurement in a process of its own; prints JSON.

`ours` is what `dragoman prepare` does between the data and the corpus. `recipe` is what the
example `run_translation` of transformers does with the same pairs: `load_dataset`, then
`map` in batches with the tokenizer and `text_target`. CPU seconds are those of the process
and its children, from after the imports on.

Usage: python bench/prepare_sides.py SIDE FOLDER (arguments of the side)
"""

import json
import os
import resource
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MAX_TOKENS = 256
BASE = "base"
"""In the bench's folder: the tokenizer of both sides."""


def ours(folder: Path, name: str, processes: str) -> dict[str, Any]:
    """Prepare a TSV file."""
    from dragoman import host
    from dragoman.config import from_flat
    from dragoman.data import prepare
    from dragoman.languages import parse_pair
    from dragoman.model import vocabulary
    from dragoman.store.disk import Disk

    host.be_gentle()
    made = folder / "corpus"
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir()
    data = from_flat({"language_pairs": ["en-fr"], "data": [f"en-fr={folder / name}.tsv"]}).data
    encoder, ways = vocabulary.load(folder / BASE), [parse_pair("en-fr")]
    clock = Clock()
    inputs = prepare.inputs_digest(data, ways, 1)
    chosen = clock("digest", lambda: None) or prepare.select(
        data, ways, 1, prepare.work_of(made, inputs), processes=int(processes) or None
    )
    clock("read, clean, choose", lambda: None)
    clock("tokenise", lambda: prepare.tokenize(chosen, encoder, MAX_TOKENS))
    corpus = prepare.build(made, inputs, chosen, ways, encoder, MAX_TOKENS, Disk())
    prepare.clear(made)
    clock("write", lambda: None)
    funnel = corpus.manifest["funnel"][str(ways[0])]
    return clock.total() | {"read": funnel["read"], "kept": funnel["kept"], "digest": corpus.digest}


def recipe(folder: Path, name: str, processes: str) -> dict[str, Any]:
    """Load and tokenise the same pairs from a JSONL file, as `run_translation` does."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    if int(processes) > 1:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
    import datasets
    from transformers import AutoTokenizer

    datasets.disable_progress_bars()
    cache = folder / "datasets"
    shutil.rmtree(cache, ignore_errors=True)
    tokenizer: Any = AutoTokenizer.from_pretrained(str(folder / BASE), src_lang="eng_Latn", tgt_lang="fra_Latn")

    def preprocess_function(examples: dict[str, Any]) -> Any:
        inputs = [example["en"] for example in examples["translation"]]
        targets = [example["fr"] for example in examples["translation"]]
        model_inputs = tokenizer(inputs, max_length=MAX_TOKENS, padding=False, truncation=True)
        labels = tokenizer(text_target=targets, max_length=MAX_TOKENS, padding=False, truncation=True)
        model_inputs["labels"] = labels["input_ids"]
        return model_inputs

    clock = Clock()
    files = {"train": str(folder / f"{name}.jsonl")}
    raw: Any = clock("load", lambda: datasets.load_dataset("json", data_files=files, cache_dir=str(cache)))["train"]
    num_proc = int(processes) if int(processes) > 1 else None
    done = clock(
        "map",
        lambda: raw.map(
            preprocess_function,
            batched=True,
            num_proc=num_proc,
            remove_columns=raw.column_names,
            load_from_cache_file=False,
        ),
    )
    return clock.total() | {"read": len(raw), "kept": len(done)}


def opened(folder: Path, corpus: str, step: str) -> dict[str, Any]:
    """Open a corpus and take the batch of a step, as a session that continues does."""
    from dragoman.data.batch_plan import BatchPlan
    from dragoman.data.corpus import open_corpus
    from dragoman.data.loader import Loader

    before, started = _resident(), time.perf_counter()
    found = open_corpus(folder / corpus)
    assert found is not None
    pairs = sum(found.counts("train").values())
    loader = Loader(found, BatchPlan(pairs, 16, seed=1, epochs=3))
    batch = loader.packed(loader.batch(int(step)))
    seconds = time.perf_counter() - started
    return {
        "pairs": pairs,
        "step": int(step),
        "steps": loader.plan.total_steps,
        "seconds": seconds,
        "grown_megabytes": (_resident() - before) / 1e6,
        "target_tokens": batch.target_tokens,
    }


class Clock:
    """Wall and CPU seconds of one stage after the other, children included."""

    def __init__(self) -> None:
        self.stages: dict[str, dict[str, float]] = {}
        self._last = self._first = self._now()

    def __call__(self, stage: str, work: Callable[[], Any]) -> Any:
        """Do `work`; the stage is everything since the one before."""
        result, now = work(), None
        now = self._now()
        self.stages[stage] = {"wall": now[0] - self._last[0], "cpu": now[1] - self._last[1]}
        self._last = now
        return result

    def total(self) -> dict[str, Any]:
        """Seconds since the beginning, and of each stage."""
        wall, cpu = (last - first for last, first in zip(self._last, self._first, strict=True))
        return {"wall": wall, "cpu": cpu, "stages": self.stages}

    @staticmethod
    def _now() -> tuple[float, float]:
        usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return time.perf_counter(), sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    side, place, *arguments = sys.argv[1:]
    print(json.dumps({"ours": ours, "recipe": recipe, "opened": opened}[side](Path(place), *arguments)))
