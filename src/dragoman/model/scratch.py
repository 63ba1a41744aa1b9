"""Small NLLB-shaped models from nothing but the corpus: for tests, demos and new domains.

The vocabulary has NLLB's layout (four specials, pieces, the 202 language codes,
`<mask>`, two spare rows) and the model is transformers' M2M100, so every other part
of dragoman treats them as the real thing.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from dragoman.languages import CODES
from dragoman.model import vocabulary
from dragoman.model.nllb import be_quiet
from dragoman.model.presets import PREFIX, PRESETS, Preset, preset

__all__ = ["ALPHABET", "PREFIX", "PRESETS", "Preset", "build", "build_model", "build_tokenizer", "preset", "texts"]

ALPHABET = 1000
"""Most characters that a vocabulary can write; all others are `<unk>`."""


def build(folder: Path, texts: Iterable[str], sizes: Preset, seed: int) -> None:
    """Write tokenizer, configuration and seeded random weights to an existing empty folder."""
    build_tokenizer(folder, texts, sizes.pieces)
    build_model(folder, sizes, seed)


def build_tokenizer(folder: Path, texts: Iterable[str], pieces: int) -> None:
    """Learn byte-pair merges from `texts` and save a tokenizer in NLLB's layout.

    It has no normaliser: transformers 5 rebuilds NLLB tokenizers and would silently lose
    any but NLLB's own. Texts are cleaned before they come here.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers, processors, trainers
    from tokenizers.models import BPE

    specials = ["<s>", "<pad>", "</s>", "<unk>"]

    def dress(tokenizer: Tokenizer) -> Tokenizer:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True)
        tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always", split=True)
        return tokenizer

    learner = dress(Tokenizer(BPE(unk_token="<unk>", fuse_unk=True)))
    corpus = list(texts)
    alphabet = _alphabet(corpus)
    trainer = trainers.BpeTrainer(
        vocab_size=pieces + len(specials),
        special_tokens=specials,
        show_progress=False,
        # Left to itself the trainer picks among equally rare characters by chance.
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
    )
    learner.train_from_iterator(corpus, trainer)
    learned = sorted(learner.get_vocab(), key=learner.get_vocab().__getitem__)
    ordered = [*learned, *CODES, "<mask>"]
    model: dict[str, Any] = {"vocab": {token: index for index, token in enumerate(ordered)}, "merges": _merges(learner)}
    tokenizer = dress(Tokenizer(BPE(unk_token="<unk>", fuse_unk=True, **model)))
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in [*specials, *CODES]])
    tokenizer.add_special_tokens([AddedToken("<mask>", normalized=True, lstrip=True, special=True)])
    english = tokenizer.token_to_id("eng_Latn")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=["eng_Latn", "$A", "</s>"],
        pair=["eng_Latn", "$A", "$B", "</s>"],
        special_tokens=[("eng_Latn", english), ("</s>", vocabulary.EOS)],
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    for name, content in vocabulary.files(folder).items():
        (folder / name).write_bytes(content)


def _alphabet(texts: Iterable[str]) -> list[str]:
    """The most frequent characters of `texts`; among equals those of lower code point."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update("▁" + text.replace(" ", "▁"))
    return sorted(counts, key=lambda character: (-counts[character], character))[:ALPHABET]


def _merges(tokenizer: Any) -> list[tuple[str, str]]:
    import json

    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [tuple(merge) if isinstance(merge, list) else tuple(merge.split(" ")) for merge in merges]


def build_model(folder: Path, sizes: Preset, seed: int) -> None:
    """Save a randomly initialised M2M100 model that fits the folder's tokenizer."""
    import torch
    from transformers import M2M100Config, M2M100ForConditionalGeneration

    be_quiet()
    config = M2M100Config(
        vocab_size=len(vocabulary.load(folder)) + 2,
        d_model=sizes.width,
        encoder_layers=sizes.layers,
        decoder_layers=sizes.layers,
        encoder_attention_heads=sizes.heads,
        decoder_attention_heads=sizes.heads,
        encoder_ffn_dim=4 * sizes.width,
        decoder_ffn_dim=4 * sizes.width,
        encoder_layerdrop=0.0,
        decoder_layerdrop=0.0,
        dropout=0.1,
        attention_dropout=0.1,
        activation_dropout=0.0,
        init_std=0.05,
        max_position_embeddings=1024,
        scale_embedding=True,
        pad_token_id=vocabulary.PAD,
        bos_token_id=0,
        eos_token_id=vocabulary.EOS,
        decoder_start_token_id=vocabulary.EOS,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = M2M100ForConditionalGeneration(config)
    model.save_pretrained(folder)


def texts(pairs: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Both sides of every pair, as the tokenizer learns from them."""
    for source, target in pairs:
        yield source
        yield target
