"""What a person uploads, platform by platform: the files of `recipes/`, by their path there.

They are made from the same templates and plans as what `dragoman launch` sends, and written
by `make recipes`; a test keeps them fresh.
"""

from collections.abc import Mapping
from importlib import resources

from dragoman.launch import colab, kaggle, sky
from dragoman.launch.space import template
from dragoman.launch.space_card import Card, written

DOWNLOAD = "download_finetuned_model.py"


def recipes() -> Mapping[str, bytes]:
    """Every recipe."""
    kept = resources.files("dragoman.launch").joinpath("templates", DOWNLOAD)
    return {DOWNLOAD: kept.read_bytes(), **_space(), **colab.recipe(), **kaggle.recipe(), **sky.recipe()}


def _space() -> dict[str, bytes]:
    """A Docker Space for somebody who only has a browser."""
    card = Card(title="Fine-tune NLLB-200", suggested_hardware="t4-small")
    kept = resources.files("dragoman.launch").joinpath("templates", "space")
    names = sorted(file.name for file in kept.iterdir() if file.name != "ABOUT.md")
    files = {name: template(name).encode() for name in names}
    files["README.md"] = written(card, template("ABOUT.md")).encode()
    return {f"space/{name}": data for name, data in files.items()}
