"""Looking words up gives what the tokenizer gives, whatever the tokenizer and the text."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import BPE

from dragoman.data import words
from dragoman.data.filters import clean
from dragoman.data.words import SeenWords
from dragoman.model.vocabulary import Vocabulary
from tests.support.shared import catalogue, catalogue_vocabulary

NFKC_AND_ONE_SPACE = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
"""As in the tokenizers that transformers makes of sentencepiece models, NLLB's among them."""

PRE_TOKENIZERS = {
    "metaspace": pre_tokenizers.Metaspace("▁", "always"),
    "metaspace first": pre_tokenizers.Metaspace("▁", "first"),
    "white space, metaspace": pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace("▁", "always")]
    ),
}


def dressed(normalizer: object = None, pre_tokenizer: object = None, added: Sequence[AddedToken] = ()) -> Vocabulary:
    """The catalogue tokenizer with other clothes."""
    tokenizer = Tokenizer.from_str(catalogue_vocabulary().tokenizer.to_str())
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer or PRE_TOKENIZERS["metaspace"]
    tokenizer.add_tokens(list(added))
    return Vocabulary(tokenizer, Path())


def encoded(seen: SeenWords, texts: Sequence[str]) -> list[list[int]]:
    lengths, ids = seen.encode(texts)
    found, start = list[list[int]](), 0
    for length in lengths.tolist():
        found.append(ids[start : start + length].tolist())
        start += length
    assert start == len(ids)
    return found


VOCABULARIES = {
    "as it is": catalogue_vocabulary,
    "normalised": lambda: dressed(NFKC_AND_ONE_SPACE),
    "first": lambda: dressed(NFKC_AND_ONE_SPACE, PRE_TOKENIZERS["metaspace first"]),
    "split at white space": lambda: dressed(NFKC_AND_ONE_SPACE, PRE_TOKENIZERS["white space, metaspace"]),
    "strips before a token": lambda: dressed(added=[AddedToken("<mask>", lstrip=True), AddedToken("●", rstrip=True)]),
}


@pytest.mark.parametrize("name", VOCABULARIES)
def test_real_text_has_the_same_pieces(name: str) -> None:
    vocabulary = VOCABULARIES[name]()
    assert vocabulary.splits_at_spaces
    for locale in ("fr", "ar"):
        for side in (0, 1):
            texts = [pair[side] for pair in catalogue(locale)]
            seen = SeenWords(vocabulary)
            for _ in range(2):  # words that are new, words that are known
                assert encoded(seen, texts) == vocabulary.encode(texts)


AWKWARD = " aé\u0301\u0308¨´\u200b\u2581●中文…½ﬁ<>mask</s>fra_Latn\u00a0\ufeffÅ\u1100\u1161"


@settings(max_examples=150, deadline=None)
@given(texts=st.lists(st.text(st.sampled_from(AWKWARD), min_size=1, max_size=30).map(clean).filter(bool), max_size=8))
@pytest.mark.parametrize("name", VOCABULARIES)
def test_awkward_text_has_the_same_pieces(name: str, texts: list[str]) -> None:
    vocabulary = VOCABULARIES[name]()
    # Words that come again, so that they are looked up.
    texts = [*texts, *texts, *(f"{text} {text} {text}" for text in texts)]
    assert encoded(SeenWords(vocabulary), texts) == vocabulary.encode(texts)


def test_known_words_are_not_tokenised_again() -> None:
    asked: list[str] = []

    class Counting(Vocabulary):
        def encode(self, texts: Sequence[str]) -> list[list[int]]:
            asked.extend(texts)
            return super().encode(texts)

    ours = catalogue_vocabulary()
    seen = SeenWords(Counting(ours.tokenizer, ours.folder))
    texts = ["Save the file", "Save the file again", "the file"] * 2
    seen.encode(texts)
    asked.clear()
    assert encoded(seen, texts) == ours.encode(texts)
    assert asked == []


def test_memory_of_words_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "MOST_WORDS", 50)
    vocabulary = catalogue_vocabulary()
    seen = SeenWords(vocabulary)
    for start in range(0, 2000, 20):
        texts = [f"{number} {number} Save Save" for number in range(start, start + 20)]
        assert encoded(seen, texts) == vocabulary.encode(texts)
        assert len(seen._places) <= 50 + 21  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize(
    "pre_tokenizer",
    [pre_tokenizers.Metaspace("▁", "always", split=False), pre_tokenizers.ByteLevel(), None],
)
def test_tokenizers_that_may_join_words_are_asked_for_whole_texts(pre_tokenizer: object) -> None:
    vocabulary = dressed()
    vocabulary.tokenizer.pre_tokenizer = pre_tokenizer
    assert not vocabulary.splits_at_spaces
    texts = ["a b a b", "a b a b"]
    assert encoded(SeenWords(vocabulary), texts) == vocabulary.encode(texts)


def test_a_token_of_two_words_or_chance_makes_words_depend_on_others() -> None:
    assert not dressed(added=[AddedToken("New York")]).splits_at_spaces
    chance = dressed()
    chance.tokenizer.model = BPE(unk_token="<unk>", dropout=0.1)
    assert not chance.splits_at_spaces


def test_no_text_is_no_text() -> None:
    lengths, ids = SeenWords(catalogue_vocabulary()).encode([])
    assert len(lengths) == len(ids) == 0
