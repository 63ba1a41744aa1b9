"""How text is written before any tokenizer sees it, and the record of that beside the weights.

A model that was tuned on straight quotes has to be asked with straight quotes. So what
training did to its text is a small file in the model's folder, and translating,
evaluating and serving read it there: `Normalization.of_folder`.
"""

import json
import re
import unicodedata
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args

from dragoman.config import DataConfig, Form
from dragoman.errors import ModelError

FILE = "normalization.json"
"""Beside the weights of a model, in every checkpoint and at the root of a run."""

FORMAT = 1


def normalized(text: str, form: Form) -> str:
    """A text in one of three forms; in each a run of white space is one space, and there is none at the ends.

    nfc: Unicode's composed characters. nfkc: also one character for all that mean the
    same (ﬁ is fi, ２ is 2). nllb: as the text that NLLB-200 was trained on, with Moses's
    punctuation (straight quotes, three dots, plain hyphens), without invisible
    characters, and nfkc.
    """
    if form == "nllb":
        text = _as_nllb(text)
    return one_spaced(unicodedata.normalize("NFC" if form == "nfc" else "NFKC", text))


def one_spaced(text: str) -> str:
    """The text with every run of white space as one space, and none at the ends."""
    if text.isprintable() and "  " not in text:  # the same, sooner: of white space only a plain space is printable
        return text.strip()
    return " ".join(text.split())


def clean(text: str) -> str:
    """Unicode NFC with every run of white space, newlines included, as one space, and none at the ends."""
    return normalized(text, "nfc")


@dataclass(frozen=True)
class Normalization:
    """The forms of both sides of a pair."""

    source: Form = "nfc"
    """What is translated from."""

    target: Form = "nfc"
    """What the model learns to write."""

    def of_source(self, text: str) -> str:
        """A text to translate, as the model wants it."""
        return normalized(text, self.source)

    def of_target(self, text: str) -> str:
        """A translation, as the model learns it."""
        return normalized(text, self.target)

    def to_json(self) -> bytes:
        """The record that stands beside the weights."""
        return (json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n").encode()

    @classmethod
    def of(cls, data: DataConfig) -> "Normalization":
        """What the options of a run say."""
        return cls(data.normalize, data.normalize_target or data.normalize)

    @classmethod
    def of_folder(cls, folder: Path) -> "Normalization | None":
        """What the model in a folder was trained with; None when nothing is recorded there.

        Raises:
            ModelError: The record cannot be read, or is of a later version.
        """
        path = folder / FILE
        if not path.exists():
            return None
        try:
            stored = json.loads(path.read_bytes())
            forms = cls(stored["source"], stored["target"])
            is_known = stored["format"] == FORMAT and {forms.source, forms.target} <= set(get_args(Form))
        except (OSError, ValueError, LookupError, TypeError):
            is_known, forms = False, cls()
        if not is_known:
            raise ModelError(f"{path} does not say how text is normalised", "a newer dragoman, or download it again")
        return forms


# --- as NLLB's own text ------------------------------------------------------------

_NAMED_FIELD = re.compile(r"(%\([^()]*\)[#0+-]*\d*(?:\.\d+)?[a-zA-Z])")


def _as_nllb(text: str) -> str:
    """Moses's punctuation, then no invisible characters; `normalized` adds NFKC.

    As in stopes (`monolingual_line_processor`), but for two things: the joiners of Persian
    and of the scripts of India stay, and so do placeholders such as `%(name)s`, into
    which Moses would put a space. A second time may change the text again, so nobody
    normalises what a corpus holds.
    """
    parts = _NAMED_FIELD.split(text) if "%(" in text else [text]
    parts[::2] = map(_with_plain_punctuation, parts[::2])
    return _invisible().sub(_without, "".join(parts))


def _with_plain_punctuation(text: str) -> str:
    for needed, pattern, replacement in _moses():
        if needed in text:
            text = pattern.sub(replacement, text)
    return text


def _without(found: Any) -> str:
    # A zero-width space parts words in Thai and Khmer; soft hyphens and marks of direction part nothing.
    character = found.group()
    return "" if unicodedata.category(character) == "Cf" and character != "\u200b" else " "


@cache
def _moses() -> list[tuple[str, re.Pattern[str], str]]:
    """Moses's rules for English, which NLLB took for every language, each behind a character that it needs."""
    import sacremoses  # pyright: ignore[reportMissingTypeStubs]  it ships no types

    rules: Any = sacremoses.MosesPunctNormalizer(lang="en").substitutions
    # What is not ASCII stands in these rules for itself.
    needed = [next((character for character in rule if not character.isascii()), "") for rule, _ in rules]
    return [(one, re.compile(rule), text) for one, (rule, text) in zip(needed, rules, strict=True)]


@cache
def _invisible() -> Any:
    import regex

    return regex.compile(r"(?V1)[\p{C}--[\u200c\u200d]]")
