"""What all sides of the speed bench share: the size of the model, its tokenizer, its random weights, the text.

A small model flatters nobody only if its parts cost what they cost in NLLB. What decides is
the vocabulary's share of the work, so that share is kept. In multiplications per target
token, with as many source as target tokens, width d, L layers on each side, 4 d wide inside:

    encoder layer          4 d² attention + 8 d² inside                    = 12 d²
    decoder layer          4 d² + 4 d² (2 of them over the source) + 8 d²  = 16 d²
    vocabulary of V rows   V d

so it is V / (V + 28 L d): 43 % for the 600M (V = 256,206, L = 12, d = 1,024; 44 % where the
sources are a little shorter). V is therefore scaled with L d. As in NLLB the ids that the
text uses lie spread over all rows, and are about an eighth of them: the other rows are
fillers that no text contains.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import M2M100Config, M2M100ForConditionalGeneration

from dragoman.languages import CODES
from dragoman.model import scratch, vocabulary

PACKAGES = "gettext:django,wagtail,sphinx,allauth,rest_framework,wtforms"
"""Where the text is: catalogues of installed packages, read at run time and never copied."""
MAX_TOKENS = 128
"""Longer pairs are left out on all sides, so that `padding="max_length"` cuts nothing."""
RATE = 5e-5
"""Learning rate of every side where only speed is asked."""
NUM_SPECIALS = 4
REAL_LAYERS, REAL_WIDTH = 12, 1024


@dataclass(frozen=True)
class Scale:
    """Sizes of a model with NLLB's proportions, and the text that goes with it."""

    name: str
    width: int
    layers: int
    """In the encoder, and again in the decoder."""
    pieces: int
    """Subword pieces that the text is written with; the other rows are fillers."""
    languages: tuple[str, ...]
    """Targets; the source is English."""
    min_chars: int = 40
    """Shorter pairs are left out: catalogues are half menu labels, and what is translated in earnest is sentences."""

    @property
    def rows(self) -> int:
        """Rows of the vocabulary: NLLB's, scaled as the rest of the model is."""
        return round(vocabulary.REAL_VOCABULARY * self.layers * self.width / (REAL_LAYERS * REAL_WIDTH))

    @property
    def pairs(self) -> list[str]:
        """The directions, as `--language-pairs` takes them."""
        return [f"en-{language}" for language in self.languages]

    def weights(self) -> int:
        """Weights that a token is multiplied with in the forward pass, without embeddings looked up."""
        return self.rows * self.width + 28 * self.layers * self.width**2

    def vocabulary_share(self) -> float:
        """The vocabulary's share of the multiplications."""
        return self.rows * self.width / self.weights()

    def flops(self, source_tokens: int, target_tokens: int) -> float:
        """Forward and backward over real tokens with the whole vocabulary, attention scores left out."""
        per_source = (12 + 2) * self.layers * self.width**2
        per_target = 14 * self.layers * self.width**2 + self.rows * self.width
        return 6.0 * (per_source * source_tokens + per_target * target_tokens)

    def config(self, dropout: float = 0.1) -> M2M100Config:
        """NLLB's configuration in this size."""
        return M2M100Config(
            vocab_size=self.rows,
            d_model=self.width,
            encoder_layers=self.layers,
            decoder_layers=self.layers,
            encoder_attention_heads=self.width // 64,
            decoder_attention_heads=self.width // 64,
            encoder_ffn_dim=4 * self.width,
            decoder_ffn_dim=4 * self.width,
            encoder_layerdrop=0.0,
            decoder_layerdrop=0.0,
            dropout=dropout,
            attention_dropout=dropout,
            activation_dropout=0.0,
            init_std=0.02,
            max_position_embeddings=1024,
            scale_embedding=True,
            pad_token_id=vocabulary.PAD,
            bos_token_id=0,
            eos_token_id=vocabulary.EOS,
            decoder_start_token_id=vocabulary.EOS,
            tie_word_embeddings=True,
        )

    def model(self, device: torch.device, dropout: float = 0.1, seed: int = 1) -> M2M100ForConditionalGeneration:
        """A model with seeded random weights in float32, made on the device, in training mode."""
        torch.manual_seed(seed)
        with torch.device(device):
            model = M2M100ForConditionalGeneration(self.config(dropout))
        model.tie_weights()
        return model.train()


FIVE = ("fr", "de", "es", "it", "pt")
MANY = (*FIVE, "nl", "pl", "ru", "cs", "sv", "tr", "uk", "ro", "hu", "fi", "el", "bg", "ca", "sk", "id", "vi")
SCALES = {
    scale.name: scale
    for scale in (
        Scale("tiny", width=128, layers=2, pieces=700, languages=("fr",)),
        Scale("scaled", width=384, layers=4, pieces=4_000, languages=FIVE),
        Scale("600m", width=1024, layers=12, pieces=32_000, languages=MANY, min_chars=75),
    )
}


def build_tokenizer(folder: Path, texts: list[str], scale: Scale) -> None:
    """Learn the pieces of `texts`, then spread them over the scale's rows; saved in `folder`."""
    scratch.build_tokenizer(folder, texts, scale.pieces)
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(spread(json.loads(path.read_text("utf-8")), scale.rows)), encoding="utf-8")
    for name, content in vocabulary.files(folder).items():
        (folder / name).write_bytes(content)


def spread(tokenizer: dict[str, Any], rows: int) -> dict[str, Any]:
    """A scratch `tokenizer.json` whose pieces lie evenly over `rows`; codes, `<mask>`, two spare rows last, as in NLLB.

    The rows between hold pieces that no merge leads to, so that no text ever contains them.
    """
    old: dict[str, int] = tokenizer["model"]["vocab"]
    ordered = sorted(old, key=old.__getitem__)
    tail = [*CODES, "<mask>"]
    head, pieces = ordered[:NUM_SPECIALS], ordered[NUM_SPECIALS : -len(tail)]
    room = rows - 2 - len(tail) - len(head)
    if len(pieces) > room:
        raise ValueError(f"{len(pieces)} pieces do not fit in {rows} rows")
    slots: list[str] = [f"\ue000filler{index}" for index in range(room)]
    for index, piece in enumerate(pieces):
        slots[index * room // len(pieces)] = piece
    new = {token: index for index, token in enumerate([*head, *slots, *tail])}
    tokenizer["model"]["vocab"] = new
    for token in tokenizer["added_tokens"]:
        token["id"] = new[token["content"]]
    for token, entry in tokenizer["post_processor"]["special_tokens"].items():
        entry["ids"] = [new[token]]
    return tokenizer
