"""Our stateless encoding against the stateful tokenizer of transformers, id by id."""

import json
from functools import cache
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dragoman.data.encode import decoder_input, sentence
from dragoman.data.filters import clean
from dragoman.errors import ModelError
from dragoman.languages import CODES
from dragoman.model import vocabulary
from dragoman.model.vocabulary import Vocabulary
from tests.support.shared import catalogue, catalogue_vocabulary

SAMPLE = ("eng_Latn", "fra_Latn", "arb_Arab", "zho_Hans", CODES[0], CODES[-1])


@cache
def theirs() -> Any:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(catalogue_vocabulary().folder)
    assert type(tokenizer).__name__ == "NllbTokenizer"
    return tokenizer


def stateful(source: str, target: str, source_code: str, target_code: str) -> tuple[list[int], list[int], list[int]]:
    """Source, labels and decoder input as transformers makes them."""
    import torch
    from transformers.models.m2m_100.modeling_m2m_100 import shift_tokens_right

    tokenizer = theirs()
    tokenizer.src_lang, tokenizer.tgt_lang = source_code, target_code
    made = tokenizer(source, text_target=target)
    shifted = shift_tokens_right(torch.tensor([made["labels"]]), vocabulary.PAD, vocabulary.EOS)
    return made["input_ids"], made["labels"], shifted[0].tolist()


def stateless(source: str, target: str, source_code: str, target_code: str) -> tuple[list[int], list[int], list[int]]:
    """The same three as we make them."""
    ours = catalogue_vocabulary()
    sides = ours.encode([source, target])
    codes = (ours.code_id(source_code), ours.code_id(target_code))
    source_ids, labels = (sentence(code, ids, ours.eos) for code, ids in zip(codes, sides, strict=True))
    return source_ids.tolist(), labels.tolist(), decoder_input(labels).tolist()


@pytest.mark.parametrize("locale", ["fr", "ar"])
def test_catalogue_text_gives_the_ids_of_transformers_for_all_pairs_of_codes(locale: str) -> None:
    pairs = catalogue(locale)
    assert len(pairs) > 200
    chunks = [pairs[i::30] for i in range(30)]
    for (source_code, target_code), chunk in zip(permutations(SAMPLE, 2), chunks, strict=True):
        for source, target in chunk:
            codes = (source_code, target_code)
            assert stateless(source, target, *codes) == stateful(source, target, *codes), (source, target)


def test_every_code_stands_where_transformers_puts_it() -> None:
    for code in CODES:
        source, labels, start = stateless("Save", "Save", code, code)
        assert (source, labels, start) == stateful("Save", "Save", code, code)
        assert source[0] == labels[0] == start[1] == theirs().convert_tokens_to_ids(code)
        assert start[0] == source[-1] == vocabulary.EOS


AWKWARD = {
    "emoji": "😀 fine 👩‍👩‍👧",
    "right to left": "שלום، مرحبا!",
    "no-break spaces": "12\u00a0% de\u202fplus",
    "nothing but unknown characters": "漢字漢字",
    "one character": "x",
    "nothing": "",
    "spaces at the ends": "  two  spaces ",
    "tab and newline": "a\tb\nc",
    "the piece that stands for a space": "▁a▁",
    "an accent of its own": "e\u0301",
    "zero width": "a\u200bb\ufeff",
    "a language code": "I write fra_Latn here",
    "only a language code": "fra_Latn",
    "end of sentence": "one </s> two",
    "other specials": "<s> <pad> <unk> <mask>",
    "a mask after a space": "a <mask> b",
}


@pytest.mark.parametrize("text", AWKWARD.values(), ids=AWKWARD.keys())
@pytest.mark.parametrize("tidy", [False, True], ids=["as it is", "cleaned"])
def test_awkward_text_gives_the_ids_of_transformers(text: str, tidy: bool) -> None:
    text = clean(text) if tidy else text
    assert stateless(text, text, "eng_Latn", "arb_Arab") == stateful(text, text, "eng_Latn", "arb_Arab")


def test_what_looks_like_a_special_token_becomes_one_as_in_transformers() -> None:
    # Known and shared with transformers: such text is not spelled, and the model takes it for what it names.
    ours = catalogue_vocabulary()
    assert ours.encode(["fra_Latn"]) == [[ours.code_id("fra_Latn")]]
    assert ours.eos in ours.encode(["one </s> two"])[0]
    assert ours.decode(ours.encode(["one </s> two"])[0]) == theirs().decode(
        ours.encode(["one </s> two"])[0], skip_special_tokens=True
    )


def test_white_space_of_every_kind_is_the_same_after_cleaning() -> None:
    ours = catalogue_vocabulary()
    kinds = ["Save as", "Save\u00a0as", " Save\u202f\u202fas ", "Save\nas", "Save\u2028as"]
    assert len({tuple(ours.encode([clean(kind)])[0]) for kind in kinds}) == 1


def test_only_unknown_characters_become_one_unknown_token_each_word() -> None:
    ours = catalogue_vocabulary()
    assert ours.encode(["漢字"])[0].count(ours.unk) == 1


def test_decoding_gives_the_catalogue_text_back_and_leaves_out_what_is_no_text() -> None:
    ours = catalogue_vocabulary()
    for text in [side for pair in catalogue("fr") for side in pair]:
        ids = sentence(ours.code_id("fra_Latn"), ours.encode([text])[0], ours.eos).tolist()
        assert ours.decode([ours.eos, *ids, ours.pad, len(ours), len(ours) + 1]) == text


def test_ids_read_from_a_small_type_do_not_overflow() -> None:
    made = sentence(256_047, np.array([1, 2], dtype=np.uint16), 2)
    assert made.tolist() == [256_047, 1, 2, 2]
    assert made.dtype == np.int64


# --- the tokenizer's file ----------------------------------------------------------


def other(tmp_path: Path, old: str, new: str) -> Path:
    """A folder with our tokenizer.json after one replacement."""
    content = (catalogue_vocabulary().folder / "tokenizer.json").read_text("utf-8")
    assert old in content
    (tmp_path / "tokenizer.json").write_text(content.replace(old, new), "utf-8")
    return tmp_path


def test_a_code_that_is_missing_is_named(tmp_path: Path) -> None:
    folder = other(tmp_path, "fra_Latn", "fra_Xxxx")
    assert len(vocabulary.load(folder, ["eng_Latn"])) == len(catalogue_vocabulary())
    with pytest.raises(ModelError, match="the language code fra_Latn is missing"):
        vocabulary.load(folder, ["eng_Latn", "fra_Latn"])


def test_specials_at_other_ids_are_refused(tmp_path: Path) -> None:
    folder = other(tmp_path, "<pad>", "<pod>")
    with pytest.raises(ModelError, match=r"<pad> is token None, in NLLB it is 1"):
        vocabulary.load(folder)


def test_a_folder_without_a_tokenizer_or_with_a_broken_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"holds no tokenizer\.json"):
        vocabulary.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match=r"tokenizer\.json is not a tokenizer"):
        vocabulary.load(tmp_path)


def test_padding_and_cutting_that_were_saved_are_switched_off(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(catalogue_vocabulary().folder / "tokenizer.json"))
    tokenizer.enable_padding(length=64)
    tokenizer.enable_truncation(4)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    texts = ["Save", "Please correct the errors below."]
    assert vocabulary.load(tmp_path).encode(texts) == catalogue_vocabulary().encode(texts)


class Codes:
    """A tokenizer that knows nothing but the ids of the codes."""

    def __init__(self, first: int) -> None:
        self.ids = {code: first + index for index, code in enumerate(CODES)}

    def token_to_id(self, token: str) -> int | None:
        return self.ids.get(token)


def with_codes_from(first: int) -> Vocabulary:
    tokenizer: Any = Codes(first)
    return Vocabulary(tokenizer, Path("somewhere"))


def test_codes_of_the_real_vocabulary_must_stand_where_nllb_has_them() -> None:
    rows = vocabulary.REAL_VOCABULARY
    vocabulary.check_codes(with_codes_from(256_001), rows)
    assert with_codes_from(256_001).code_id("eng_Latn") == 256_047  # as published
    with pytest.raises(ModelError, match=r"ace_Arab is 256000, not 256001"):
        vocabulary.check_codes(with_codes_from(256_000), rows)
    missing = with_codes_from(256_001)
    del missing.tokenizer.ids["fra_Latn"]  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ModelError, match="the language codes are not where NLLB has them"):
        vocabulary.check_codes(missing, rows)


def test_codes_beyond_the_embedding_are_refused() -> None:
    vocabulary.check_codes(with_codes_from(100), 302)
    with pytest.raises(ModelError, match="has tokens up to 301, the model only 301 rows"):
        vocabulary.check_codes(with_codes_from(100), 301)


def test_the_saved_settings_are_those_that_old_and_new_transformers_read(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(catalogue_vocabulary().folder).save_pretrained(tmp_path)  # as 5.x alone writes them
    made = vocabulary.files(tmp_path)
    settings, specials = (json.loads(made[name]) for name in ("tokenizer_config.json", "special_tokens_map.json"))
    for found in (settings, specials):
        assert found["additional_special_tokens"] == list(CODES)
        assert (found["mask_token"], found["unk_token"]) == ("<mask>", "<unk>")
    assert not {"extra_special_tokens", "backend", "is_local", "local_files_only"} & set(settings)
    ours = catalogue_vocabulary()
    assert {entry["content"]: int(token) for token, entry in settings["added_tokens_decoder"].items()} == {
        token: ours.tokenizer.token_to_id(token) for token in ("<s>", "<pad>", "</s>", "<unk>", "<mask>", *CODES)
    }
