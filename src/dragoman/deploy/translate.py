"""Translating with a tuned model: a run folder, any model folder or a Hub id."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from dragoman import host
from dragoman.data.normalization import Normalization
from dragoman.errors import ModelError
from dragoman.evaluation.decode import Request, decode
from dragoman.languages import Direction
from dragoman.model import nllb, scratch, vocabulary
from dragoman.model.vocabulary import Vocabulary
from dragoman.training.optimizer import choose_arithmetic

if TYPE_CHECKING:
    from transformers import M2M100ForConditionalGeneration

LINES_AT_ONCE = 512


@dataclass(frozen=True)
class Translator:
    """A loaded model with its vocabulary."""

    model: "M2M100ForConditionalGeneration"
    vocabulary: Vocabulary
    normalization: Normalization
    """How the model wants its text."""

    def check(self, direction: Direction) -> None:
        """Raises `ModelError` when the model does not know one of the languages."""
        for code in (direction.source, direction.target):
            self.vocabulary.code_id(code)

    def translate(self, lines: Iterable[str], direction: Direction, num_beams: int = 4) -> Iterator[str]:
        """One translation per line, in order; an empty line stays empty.

        Raises:
            ModelError: The model does not know one of the languages.
        """
        self.check(direction)
        remaining = iter(lines)
        while chunk := list(islice(remaining, LINES_AT_ONCE)):
            requests = [Request(self.normalization.of_source(line), direction) for line in chunk]
            yield from decode(self.model, self.vocabulary, requests, num_beams)


def load(name: str, device: str = "auto") -> Translator:
    """Load a model for translating.

    Args:
        name: A run folder (its published model), a model folder, or a Hub id.
        device: auto, cpu or cuda.

    Raises:
        ModelError: There is no such model, or it is not a usable NLLB model.
    """
    host.be_gentle()
    folder = nllb.find(name)
    if (folder / "dragoman").is_dir() and not (folder / "model.safetensors").exists():
        raise ModelError(f"{folder}: this run has no checkpoint yet", "wait for the first one: dragoman status")
    words = vocabulary.load(folder)
    model = nllb.load(folder)
    vocabulary.check_codes(words, nllb.num_rows(model))
    model.eval()
    form = Normalization.of_folder(folder) or Normalization()
    return Translator(nllb.to_device(model, choose_arithmetic(device, "fp32").device), words, form)


def base_of(name: str) -> str | None:
    """The model that the run in folder `name` started from.

    None when `name` is no run folder, or its start was made on another machine.
    """
    from dragoman.checkpoint.run_folder import stored_config
    from dragoman.training import inputs

    folder = Path(name).expanduser()
    config = stored_config(folder) if folder.is_dir() else None
    if config is None:
        return None
    base = folder / inputs.BASE
    if base.is_dir():
        return str(base)
    was_made = scratch.preset(config.model.model) is not None or config.data.new_language
    return None if was_made else config.model.model
