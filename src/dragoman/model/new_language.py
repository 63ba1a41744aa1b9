"""A language that NLLB does not know: its code and its characters, at the end of the vocabulary.

Nothing that NLLB has moves. The new tokens get the ids behind its last one (the two spare
rows of its embedding are the first of them), and a row each that is a mean of rows which
mean something already:

    a code        of the codes of the relatives: the model begins by writing a relative
    a character   of the letter that it is written upon (ң: н) or its other case; one that
                  has neither, of the pieces of the same texts, as often as they occur

A row of its own for `<unk>`, or a random one, would have to be learned from nothing, and
until then the decoder is told to write no language at all.
"""

import contextlib
import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dragoman import languages
from dragoman.errors import InputError
from dragoman.model.vocabulary import Vocabulary

if TYPE_CHECKING:
    from transformers import M2M100ForConditionalGeneration

MAX_CHARACTERS = 4096
"""Characters that are added at most, the most frequent first; Yi, the largest syllabary, has 1,165."""
USUAL_TEXTS = 10_000
"""Texts whose pieces say how the language is usually written."""
CODE_HINT = "three letters of ISO 639-3, `_`, four letters of the script: tyv_Cyrl"


@dataclass(frozen=True)
class NewLanguage:
    """A language that the model is to be taught."""

    code: str
    like: tuple[str, ...]
    """Codes of related languages that the model knows; none when it knows this one too."""


@dataclass(frozen=True)
class Addition:
    """A token that the vocabulary lacks."""

    token: str
    is_code: bool
    like: Mapping[int, float]
    """Token ids and their weights, whose mean its row begins as."""


def parse(new_language: Sequence[str], like: Sequence[str]) -> list[NewLanguage]:
    """The languages that `--new-language` and `--like` name.

    Args:
        new_language: Codes, each alone or as `tyv_Cyrl=kaz_Cyrl,kir_Cyrl`.
        like: Relatives of those that stand alone, separated by commas or one by one.

    Raises:
        InputError: A code is known to NLLB, stands twice or is none; a relative is unknown; `--like` is for nobody.
    """
    from langcodes import Language

    found: dict[str, NewLanguage] = {}
    common = _relatives("--like", like)
    for text in new_language:
        code, equals, own = text.partition("=")
        where = f"--new-language {text}"
        if not languages.is_new(code):
            known = languages.lookup(code)["code"]
            if known == code:
                raise InputError(f"{where}: NLLB-200 knows {code}", "leave it out")
            raise InputError(f"{where}: {code!r} is not a code as NLLB writes them", CODE_HINT)
        if not Language.make(script=code[4:]).is_valid():
            raise InputError(f"{where}: there is no script {code[4:]} in ISO 15924", CODE_HINT)
        if code in found:
            raise InputError(f"--new-language names {code} twice", "name each language once")
        found[code] = NewLanguage(code, _relatives(where, [own]) if equals else common)
    if like and new_language and all("=" in text for text in new_language):
        raise InputError("--like: every --new-language names its own relatives", "leave --like out, or one `=`")
    return list(found.values())


def _relatives(where: str, texts: Sequence[str]) -> tuple[str, ...]:
    """The codes of a list of tags, each once."""
    tags = [tag.strip() for text in texts for tag in text.split(",") if tag.strip()]
    try:
        return tuple(dict.fromkeys(languages.resolve(tag) for tag in tags))
    except InputError as error:
        raise InputError(f"{where}: {error.message}", error.hint) from None


def additions(vocabulary: Vocabulary, taught: Sequence[NewLanguage], texts: Iterable[str]) -> list[Addition]:
    """What the vocabulary lacks to read and write these languages: first all codes, then characters.

    Args:
        vocabulary: The model's.
        taught: The languages.
        texts: What the model will be trained on in these languages; they pass by once.

    Raises:
        InputError: A language is new to the model and has no relatives.
        ModelError: The model does not know a relative.
    """
    codes: list[Addition] = []
    for language in taught:
        if vocabulary.tokenizer.token_to_id(language.code) is None:
            codes.append(Addition(language.code, True, _mean_of_relatives(vocabulary, language)))
    return codes + _characters(vocabulary, texts)


def _mean_of_relatives(vocabulary: Vocabulary, language: NewLanguage) -> dict[int, float]:
    if not language.like:
        message = f"--new-language {language.code}: the model does not know it, and no relative is named"
        raise InputError(message, "related languages of NLLB-200, e.g. --like kaz_Cyrl,kir_Cyrl")
    return {vocabulary.code_id(code): 1 / len(language.like) for code in language.like}


def _characters(vocabulary: Vocabulary, texts: Iterable[str]) -> list[Addition]:
    """The characters that become `<unk>`, the most frequent first; among equals those of lower code point."""
    known = vocabulary.pieces()
    normalizer: Any = vocabulary.tokenizer.normalizer
    counts: Counter[str] = Counter()
    first: list[str] = []
    for text in texts:
        counts.update(normalizer.normalize_str(text) if normalizer else text)
        if len(first) < USUAL_TEXTS:
            first.append(text)
    missing = [character for character in counts if character not in known and not character.isspace()]
    missing.sort(key=lambda character: (-counts[character], character))
    usual = _usual_pieces(vocabulary, first) if missing else {}
    return [
        Addition(character, False, {known[like]: 1.0} if (like := _written_upon(character, known)) else usual)
        for character in missing[:MAX_CHARACTERS]
    ]


def _written_upon(character: str, known: Mapping[str, int]) -> str | None:
    """A known letter that a character is a form of: without its marks, or in the other case."""
    forms = [character, character.lower(), character.upper()]
    bases = [base for form in forms if len(form) == 1 for base in _bases(form)]
    return next((base for base in (*bases, *forms) if base != character and base in known), None)


def _bases(letter: str) -> list[str]:
    """A letter without its marks, by its decomposition and by its name (ң has none, but is EN WITH DESCENDER)."""
    plain, marked, _ = unicodedata.name(letter, "").partition(" WITH ")
    found = [unicodedata.normalize("NFKD", letter)[:1]]
    if marked:
        with contextlib.suppress(KeyError):  # some letters have no name without their marks
            found.append(unicodedata.lookup(plain))
    return found


def _usual_pieces(vocabulary: Vocabulary, texts: Sequence[str]) -> dict[int, float]:
    """The pieces by which these texts are written, and the share of each among them."""
    counts = Counter(token for ids in vocabulary.encode(texts) for token in ids if token != vocabulary.unk)
    total = counts.total()
    if not total:  # not even a space: every piece there is
        ids = sorted(vocabulary.pieces().values())
        return dict.fromkeys(ids, 1 / len(ids))
    return {token: count / total for token, count in sorted(counts.items())}


def extend_tokenizer(content: bytes, added: Sequence[Addition]) -> bytes:
    """A `tokenizer.json` with more tokens behind all that it has."""
    tokenizer = json.loads(content)
    ids: dict[str, int] = tokenizer["model"]["vocab"]
    # A token that only `added_tokens` holds gets the id behind the model's pieces wherever the file is read: with
    # more pieces it would move.
    ids |= {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    first = max(ids.values()) + 1
    for token_id, addition in enumerate(added, start=first):
        ids[addition.token] = token_id
        if addition.is_code:
            plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
            tokenizer["added_tokens"].append({"id": token_id, "content": addition.token} | plain)
    return json.dumps(tokenizer, ensure_ascii=False).encode()


def extend_model(model: "M2M100ForConditionalGeneration", first: int, added: Sequence[Addition]) -> None:
    """Give the model the rows of added tokens, in place; its embeddings stay tied.

    Args:
        model: On any device.
        first: Id of the first added token.
        added: As they were given to `extend_tokenizer`.
    """
    import torch

    wanted = first + len(added)
    if wanted > model.config.vocab_size:
        with torch.random.fork_rng(devices=[]):
            model.resize_token_embeddings(wanted, mean_resizing=False)
    weight_VD: Any = model.model.shared.weight
    with torch.no_grad():
        for token_id, addition in enumerate(added, start=first):
            weights_K = torch.tensor(list(addition.like.values()), dtype=weight_VD.dtype, device=weight_VD.device)
            weight_VD[token_id] = weights_K @ weight_VD[list(addition.like)]
