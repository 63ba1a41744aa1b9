"""How large the models are that are built from nothing but the data. No torch."""

from dataclasses import dataclass

from dragoman.errors import InputError
from dragoman.languages import CODES
from dragoman.model.sizes import Sizes

PREFIX = "scratch:"
_SPECIALS = 7
"""Rows besides pieces and codes: four specials, `<mask>`, two spare ones."""


@dataclass(frozen=True)
class Preset:
    """Sizes of a model from scratch."""

    width: int
    layers: int
    """In the encoder, and again in the decoder."""
    heads: int
    pieces: int
    """Subword pieces, besides specials and codes."""

    @property
    def sizes(self) -> Sizes:
        """The model's dimensions; a small corpus may have fewer pieces."""
        rows, inner = self.pieces + len(CODES) + _SPECIALS, 4 * self.width
        return Sizes(rows, self.width, self.layers, self.layers, inner, inner, self.heads)


PRESETS = {
    "tiny": Preset(width=128, layers=2, heads=4, pieces=2000),
    "small": Preset(width=256, layers=3, heads=8, pieces=8000),
}


def preset(name: str) -> Preset | None:
    """The preset that `--model scratch:NAME` names; None when it is no scratch model.

    Raises:
        InputError: There is no such preset.
    """
    if not name.startswith(PREFIX):
        return None
    if name.removeprefix(PREFIX) not in PRESETS:
        raise InputError(f"--model: there is no {name}", " or ".join(PREFIX + known for known in PRESETS))
    return PRESETS[name.removeprefix(PREFIX)]
