"""The Hub of `make guide`: a stand-in on this machine with all that the starting document takes from the real one.

It has `facebook/nllb-200-distilled-600M`, which here is a model of NLLB's shape with a
million parameters, and `Helsinki-NLP/opus-100`, in its layout, filled from the gettext
catalogues of installed packages. Neither the model nor the text is kept in the project.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dragoman.config import DEFAULT_MODEL
from dragoman.data import sources
from dragoman.languages import parse_pair
from tests.support.hub_data import opus_100

USER, TOKEN = "ada", "hf_tokenOfAdaInThisStandIn"
OPUS = "Helsinki-NLP/opus-100"
PAIRS = ("en-fr", "en-de", "en-es", "en-it", "en-pt")
DATA = "gettext:wagtail,django"
"""What the data set holds, and the base model has read; sentences that are held out it has not seen either."""
BASE_STEPS = 2000
MAX_CHARS = 40
"""Of each side: more than a model with a million parameters can put together is not asked of it."""
MOST_PAIRS = 1000
"""Of each direction in the data set; opus-100 has a million."""


def fill(hub: Any, work: Path, say: Callable[[str], None]) -> None:
    """Put base model and data set on a Hub.

    Args:
        hub: A stand-in.
        work: A folder that may be kept: the base model is made once.
        say: Told what takes long.
    """
    say(f"making the base model: {BASE_STEPS:,} steps on catalogues of installed packages")
    base = made_base(work)
    hub.create(DEFAULT_MODEL, private=False)
    for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        hub.write(DEFAULT_MODEL, name, (base / name).read_bytes())
    hub.write(DEFAULT_MODEL, "model.safetensors", (base / "model.safetensors").read_bytes())
    configurations = {"-".join(sorted(pair.split("-"))): {"train": [texts_of(pair)]} for pair in PAIRS}
    opus_100(hub, configurations, OPUS)


def made_base(work: Path) -> Path:
    """The folder of the base model, trained from scratch in five directions."""
    words = ["train", "--language-pairs", *PAIRS, "--data", DATA, "--model", "scratch:tiny", "--dropout", "0.1"]
    words += ["--max-steps", str(BASE_STEPS), "--batch-size", "32", "--gradient-accumulation", "1"]
    words += ["--learning-rate", "3e-3", "--label-smoothing", "0", "--eval-steps", "0"]
    words += ["--max-chars", str(MAX_CHARS), "--device", "cpu", "--output", str(work / "base")]
    subprocess.run([sys.executable, "-m", "dragoman", *words], check=True, stderr=subprocess.DEVNULL)
    return work / "base"


def texts_of(pair: str) -> list[tuple[str, str]]:
    """Pairs of one direction as the data set has them: its columns are in the order of the alphabet."""
    opened = sources.open_sources([DATA], parse_pair(pair), on_bad_rows="skip")
    found = dict.fromkeys((one.source, one.target) for source in opened for one in source.pairs())
    texts = [texts for texts in found if max(map(len, texts)) <= MAX_CHARS][:MOST_PAIRS]
    return texts if pair.split("-") == sorted(pair.split("-")) else [(target, text) for text, target in texts]
