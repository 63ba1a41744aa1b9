"""It learns: what a model must be able to learn, it learns exactly, on sentences it never saw."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from dragoman.config import from_flat
from dragoman.data.corpus import open_corpus
from dragoman.deploy import translate
from dragoman.languages import parse_pair
from dragoman.training import inputs, loop

WORDS = ["ba", "de", "fi", "go", "ku", "la", "me", "ni", "po", "ru"]
NUM_ROWS = 3000

TASKS: dict[str, Callable[[list[str]], str]] = {
    # A plain copy would be filtered out as identical.
    "copy": lambda words: " ".join([*words, "."]),
    "reversal": lambda words: " ".join(words[::-1]),
}


def rows(answer: Callable[[list[str]], str]) -> str:
    """Sentences of two to six words with their answers, none twice and no answer equal to its sentence."""
    chooser = random.Random(7)
    made: dict[str, str] = {}
    while len(made) < NUM_ROWS:
        words = [chooser.choice(WORDS) for _ in range(chooser.randint(2, 6))]
        made[" ".join(words)] = answer(words)
    return "".join(f"{sentence}\t{right}\n" for sentence, right in made.items() if sentence != right)


@pytest.mark.parametrize("task", TASKS)
def test_a_tiny_model_learns_the_task_on_sentences_it_never_saw(tmp_path: Path, task: str) -> None:
    data = tmp_path / "pairs.tsv"
    data.write_text(rows(TASKS[task]))
    options = {
        "language_pairs": ["en-fr"],
        "data": [f"en-fr={data}"],
        "model": "scratch:tiny",
        "batch_size": 32,
        "gradient_accumulation": 1,
        "max_steps": 200,
        "learning_rate": 2e-3,
        "warmup_steps": 30,
        "label_smoothing": 0.0,
        "dropout": 0.0,
        "eval_steps": 0,
        "dev_percent": 0,
        "test_percent": 5,
        "threads": 1,
        "device": "cpu",
        "output": str(tmp_path / "run"),
    }
    ending = loop.run(from_flat(options))
    assert ending.outcome == "done"
    folder = next((ending.folder / inputs.CORPUS).iterdir())
    corpus = open_corpus(folder)
    assert corpus is not None
    test = corpus.texts("test")
    assert len(test) > 100
    found = list(translate.load(str(ending.folder), "cpu").translate([t.source for t in test], parse_pair("en-fr"), 1))
    right = sum(hypothesis == pair.target for hypothesis, pair in zip(found, test, strict=True))
    assert right / len(test) > 0.95, f"{right} of {len(test)}, such as {test[0]} -> {found[0]!r}"
