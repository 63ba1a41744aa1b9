"""`dragoman export`: a model in the form in which it is shipped.

    model folder -> trimmed, if asked -> what the target wants -> the output folder

The folder appears whole or not at all. What is written is read again and compared with the
model before it gets its name: tokens on the texts, logits on some of them.
"""

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dragoman import host
from dragoman.data import sources
from dragoman.data.normalization import Normalization
from dragoman.deploy import corpora
from dragoman.deploy.directions import directions_of
from dragoman.errors import InputError, ModelError
from dragoman.languages import Direction
from dragoman.model import nllb, trim, vocabulary
from dragoman.model.vocabulary import Vocabulary
from dragoman.store.disk import Disk
from dragoman.training import state, tensor_file

Target = Literal["transformers", "ctranslate2"]
Quantization = Literal["none", "int8", "int8_float16", "float16", "bfloat16"]

MADE_HERE = {"added_tokens.json", "made_from.json"}
"""Small files of the source that would not fit what is written."""
MAX_CHECKED = 4096
"""Texts whose tokens are compared; all of a corpus would take as long as preparing it."""
NUM_LOGITS = 8
"""Texts of which all logits are compared."""
TOLERANCE = 1e-3
"""Largest difference of two logits: they are the same sums, but where there are fewer of them a library may add in
another order."""


@dataclass(frozen=True)
class Exported:
    """What was written."""

    folder: str
    target: Target
    rows_before: int
    """Of the embedding of the whole model, spare ones included."""
    rows: int
    """Of the embedding that was written."""
    bytes_before: int
    """Of all files of the model."""
    num_bytes: int
    """Of all files that were written; weights in the precision that they had, if nothing else was asked for."""
    texts_checked: int
    """Texts whose tokens were proved to be the same pieces as before."""

    def to_json(self) -> dict[str, Any]:
        """What a program may read."""
        return asdict(self)


@dataclass(frozen=True)
class Wanted:
    """What must stay as it is."""

    used: NDArray[np.int64]
    """Token ids of the texts."""
    texts: list[str]
    """Some of them."""


def export(
    model: str,
    output: Path,
    *,
    trimmed: bool = False,
    pair: Sequence[str] = (),
    data: Sequence[str] = (),
    target: Target = "transformers",
    quantization: Quantization = "none",
) -> Exported:
    """Write a model for shipping.

    Args:
        model: A run folder (its published model), a model folder, or a Hub id.
        output: A folder that is not there yet.
        trimmed: Leave out the rows that the texts cannot use.
        pair: Directions of the texts; left out: all of the run.
        data: The texts, entries as for `--data`; left out: those that the run was trained on.
        target: For whom.
        quantization: Of the weights, for CTranslate2.

    Raises:
        InputError: The folder is there, the texts cannot be found, or a package is missing.
        ModelError: There is no such model, it is not usable, or what was written is not the same.
    """
    _check(output, trimmed, pair, data, target, quantization)
    host.be_gentle()
    folder = nllb.find(model)
    directions = directions_of(pair, model)
    words = vocabulary.load(folder, {code for way in directions for code in (way.source, way.target)})
    wanted = _wanted(model, folder, words, directions, data) if trimmed else None
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as scratch:
        written = Path(scratch) / "transformers"
        rows_before, rows = _write(folder, words, wanted, written)
        checked = _compare(folder, written, words, wanted) if wanted else 0
        if target == "ctranslate2":
            written = _converted(written, Path(scratch) / target, quantization)
        sizes = _num_bytes(folder), _num_bytes(written)
        written.rename(output)
    return Exported(str(output), target, rows_before, rows, *sizes, checked)


def _check(output: Path, trimmed: bool, pair: Sequence[str], data: Sequence[str], target: str, kind: str) -> None:
    if output.exists():
        raise InputError(f"--output: {output} is there already", "a folder that is not")
    if (pair or data) and not trimmed:
        raise InputError("--pair and --data say what --trim keeps, and it is missing", "--trim")
    if data and not pair:
        raise InputError("--pair is missing: which languages does --data hold?", "--pair en-fr")
    if kind != "none" and target != "ctranslate2":
        raise InputError(f"--quantization {kind} is for CTranslate2", "--to ctranslate2")
    if target == "ctranslate2":
        _ctranslate2()


def _ctranslate2() -> Any:
    try:
        import ctranslate2
    except ImportError as error:
        raise InputError(f"--to ctranslate2 needs that package ({error})", "pip install 'dragoman[serve]'") from None
    return ctranslate2


def _wanted(
    model: str, folder: Path, words: Vocabulary, directions: Sequence[Direction], data: Sequence[str]
) -> Wanted:
    """The texts that must be written as before: those of `data`, or those of the run."""
    if data:
        sources.check_data(data, directions)
        form = Normalization.of_folder(folder) or Normalization()
        texts = [
            side
            for direction in directions
            for source in sources.open_sources(data, direction, on_bad_rows="fail")
            for pair in source.pairs()
            for side in (form.of_source(pair.source), form.of_target(pair.target))
        ]
        ids = [token for encoded in words.encode(texts) for token in encoded]
        return Wanted(np.unique(np.array(ids, dtype=np.int64)), texts)
    found = corpora.trained_on(Path(model).expanduser())
    if found is None:
        raise InputError(f"--trim: {model} is no run folder: which text must stay?", "--pair en-fr --data texts.tsv")
    if unknown := [way for way in directions if way not in found.directions]:
        raise InputError(f"--pair {unknown[0]}: the run {model} has no such text", "--data with that text")
    if found.manifest["tokenizer"] != words.digest():
        raise InputError(f"--trim: {model} was not trained with the tokenizer in its folder", "--pair and --data")
    held_out = [text for split in ("dev", "test") for text in found.texts(split)]
    sides = [side for text in held_out if text.direction in (directions or found.directions) for side in text[:2]]
    return Wanted(corpora.tokens(found, directions or found.directions), sides)


def _write(folder: Path, words: Vocabulary, wanted: Wanted | None, into: Path) -> tuple[int, int]:
    """A model folder as transformers reads it; returns the rows of the embedding, before and now."""
    model = nllb.load(folder)
    before = nllb.num_rows(model)
    vocabulary.check_codes(words, before)
    tokenizer = None
    if wanted:
        kept = trim.closed(words, wanted.used)
        trim.trim_model(model, kept)
        tokenizer = trim.trim_tokenizer((folder / "tokenizer.json").read_bytes(), kept)
    into.mkdir()
    for file in sorted(folder.iterdir()):
        if file.is_file() and file.suffix in (".json", ".md") and not file.name.endswith(".index.json"):
            shutil.copyfile(file, into / file.name)
    for name in MADE_HERE:
        (into / name).unlink(missing_ok=True)
    model.to(_precision(folder))
    weights = tensor_file.chunks(dict(nllb.weights(model)), {"format": "pt"})
    Disk().write(into / state.WEIGHTS, weights)
    for name, content in nllb.model_files(model, folder, tokenizer).items():
        (into / name).write_bytes(content)
    return before, nllb.num_rows(model)


def _precision(folder: Path) -> Any:
    """The type of number in which the weights of a folder are stored, by its configuration."""
    import torch

    config = json.loads((folder / "config.json").read_bytes())
    name = config.get("dtype") or config.get("torch_dtype") or "float32"
    return {"float16": torch.float16, "bfloat16": torch.bfloat16}.get(name, torch.float32)


def _compare(folder: Path, written: Path, words: Vocabulary, wanted: Wanted) -> int:
    """Prove that the trimmed model reads and answers as the whole one; returns how many texts were compared.

    Raises:
        ModelError: It does not: a bug, and nothing is published.
    """
    step = max(1, len(wanted.texts) // MAX_CHECKED)
    texts = wanted.texts[::step]
    trimmed = vocabulary.load(written)
    for text, before, after in zip(texts, words.encode(texts), trimmed.encode(texts), strict=True):
        old, new = ([v.tokenizer.id_to_token(token) for token in ids] for v, ids in ((words, before), (trimmed, after)))
        if old != new:
            raise ModelError(f"the trimmed tokenizer writes {text!r} as {new}, not as {old}", "report this")
    some = [text for text in texts if text][:NUM_LOGITS]
    if (off := largest_difference(folder, written, some)) > TOLERANCE:
        raise ModelError(f"the trimmed model's logits differ by {off:g}", "report this")
    return len(texts)


def largest_difference(whole: Path, trimmed: Path, texts: Sequence[str]) -> float:
    """The largest difference between logits of the tokens that both models have; each text is also its translation."""
    import torch

    words = [vocabulary.load(folder) for folder in (whole, trimmed)]
    before, after = (one.tokenizer.get_vocab(with_added_tokens=True) for one in words)
    columns = torch.tensor([before[token] for token in sorted(after, key=after.__getitem__)])
    logits: list[list[Any]] = []
    for vocabulary_, folder in zip(words, (whole, trimmed), strict=True):
        model: Any = nllb.load(folder).eval()
        english = vocabulary_.code_id("eng_Latn")
        rows = [[english, *ids, vocabulary_.eos] for ids in vocabulary_.encode(texts)]
        with torch.inference_mode():
            logits.append(
                [model(input_ids=row, decoder_input_ids=row).logits for row in (torch.tensor([ids]) for ids in rows)]
            )
        del model
    pairs = zip(*logits, strict=True)
    return max((float((whole_[..., columns] - trimmed_).abs().max()) for whole_, trimmed_ in pairs), default=0.0)


def _converted(folder: Path, into: Path, quantization: Quantization) -> Path:
    """The model as CTranslate2 reads it, beside its tokenizer; every token is where the tokenizer has it."""
    ctranslate2 = _ctranslate2()
    converter = ctranslate2.converters.TransformersConverter(str(folder))
    converter.convert(str(into), quantization=None if quantization == "none" else quantization)
    words = vocabulary.load(folder)
    for name in vocabulary.files(folder):
        shutil.copyfile(folder / name, into / name)
    tokens = json.loads((into / "shared_vocabulary.json").read_text("utf-8"))
    if tokens[: len(words)] != [words.tokenizer.id_to_token(index) for index in range(len(words))]:
        raise ModelError("CTranslate2 has given tokens other ids than the tokenizer", "report this")
    return into


def _num_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
