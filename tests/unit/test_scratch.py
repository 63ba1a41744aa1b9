"""Models from nothing: always the same bytes, and NLLB's layout."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dragoman.errors import InputError
from dragoman.languages import CODES
from dragoman.model import nllb, scratch, vocabulary
from tests.support.runs import contents
from tests.support.shared import catalogue, prepared

SMALL = scratch.Preset(width=32, layers=1, heads=2, pieces=400)


def many_characters() -> list[str]:
    """3,000 different characters, each as rare as the other: more than a vocabulary takes."""
    characters = [chr(0x4E00 + (7919 * n) % 3000) for n in range(3000)]
    return ["".join(characters[start : start + 10]) for start in range(0, 3000, 10)]


def build(folder: Path, seed: int = 1) -> dict[str, bytes]:
    folder.mkdir()
    texts = [*scratch.texts(catalogue("fr")), *many_characters()]
    scratch.build(folder, texts, SMALL, seed)
    return contents(folder)


def test_two_builds_are_equal_to_the_byte_also_in_another_process(tmp_path: Path) -> None:
    first = build(tmp_path / "one")
    assert set(first) >= {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    child = (
        f"from tests.unit.test_scratch import build; from pathlib import Path; build(Path({str(tmp_path / 'two')!r}))"
    )
    subprocess.run([sys.executable, "-c", child], check=True, env=os.environ | {"PYTHONHASHSEED": "4711"})
    assert contents(tmp_path / "two") == first
    other = build(tmp_path / "three", seed=2)
    assert [name for name in first if first[name] != other[name]] == ["model.safetensors"]


def test_building_does_not_touch_the_random_numbers_of_the_process(tmp_path: Path) -> None:
    import torch

    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    build(tmp_path / "one")
    assert torch.equal(torch.rand(3), wanted)


def test_the_most_frequent_characters_are_those_that_can_be_written(tmp_path: Path) -> None:
    texts = [*many_characters(), *(["été"] * 5)]
    scratch.build_tokenizer(tmp_path, texts, 2000)
    words = vocabulary.load(tmp_path)
    known = [character for character in "".join(texts) if words.tokenizer.token_to_id(character) is not None]
    assert {"é", "t"} <= set(known)
    # Besides é, t and the mark of a word's beginning, those of the lowest code points.
    rare = sorted(set(known) - {"é", "t"})
    assert rare == [chr(0x4E00 + n) for n in range(scratch.ALPHABET - 3)]


def test_the_vocabulary_has_the_layout_of_nllb() -> None:
    folder = prepared().made.base
    words = vocabulary.load(folder, CODES)
    first = words.code_id(CODES[0])
    assert [words.tokenizer.id_to_token(token) for token in range(4)] == ["<s>", "<pad>", "</s>", "<unk>"]
    assert [words.code_id(code) for code in CODES] == list(range(first, first + 202))
    assert words.tokenizer.token_to_id("<mask>") == first + 202 == len(words) - 1
    assert nllb.num_rows(nllb.load(folder)) == len(words) + 2


def test_all_codes_survive_the_tokenizer_of_transformers(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    folder = prepared().made.base
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    again, ours = vocabulary.load(tmp_path, CODES), vocabulary.load(folder)
    assert [again.code_id(code) for code in CODES] == [ours.code_id(code) for code in CODES]
    texts = ["the red cat sees le chat rouge", "été", "x"]
    assert again.encode(texts) == ours.encode(texts)


@pytest.mark.parametrize("name", scratch.PRESETS)
def test_a_preset_has_the_size_that_it_names(tmp_path: Path, name: str) -> None:
    sizes = scratch.preset(f"scratch:{name}")
    assert sizes == scratch.PRESETS[name]
    assert sizes is not None
    scratch.build(tmp_path, ["a b c"], sizes, seed=1)
    model = nllb.load(tmp_path)
    assert {(parameter.shape[-1]) for parameter in [model.model.shared.weight]} == {sizes.width}
    assert (len(model.model.encoder.layers), len(model.model.decoder.layers)) == (sizes.layers, sizes.layers)
    assert model.config.encoder_attention_heads == model.config.decoder_attention_heads == sizes.heads
    assert model.config.encoder_ffn_dim == model.config.decoder_ffn_dim == 4 * sizes.width


def test_the_tokenizer_learns_no_more_pieces_than_the_preset_says(tmp_path: Path) -> None:
    scratch.build_tokenizer(tmp_path, scratch.texts(catalogue("fr")), 700)
    assert len(vocabulary.load(tmp_path)) == 4 + 700 + 202 + 1


def test_a_preset_that_does_not_exist_is_refused_and_other_names_are_not_presets() -> None:
    with pytest.raises(InputError, match="there is no scratch:huge") as refusal:
        scratch.preset("scratch:huge")
    assert "scratch:tiny" in refusal.value.hint
    assert scratch.preset("facebook/nllb-200-distilled-600M") is None
