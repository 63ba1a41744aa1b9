"""Whether a text is written in the script that its language code names.

Letters of the prose alone are judged. Digits, punctuation and code belong to every
script, and so do names and terms in Latin letters as long as some letters of the right
script stand beside them.
"""

from functools import cache
from typing import Any

from dragoman.data.filters.placeholders import prose

MIN_LETTERS = 10
"""Below this many letters of other scripts nothing is said: "Bluetooth" stays "Bluetooth" in every language."""

LATIN_PERCENT = 50.0
"""Least share, in per cent, of Latin letters in a language that is written in them: foreign letters are rare there,
while Latin ones stand in the text of every script."""

# Codes of ISO 15924 that stand for several scripts of Unicode. Santali's is wrong in NLLB: its text is Ol Chiki.
_SCRIPTS = {
    "Hans": ("Hani", "Bopo"),
    "Hant": ("Hani", "Bopo"),
    "Jpan": ("Hani", "Hira", "Kana"),
}
_SCRIPTS_OF = {"sat_Beng": ("Olck", "Beng")}


def is_in_script(text: str, code: str, min_percent: float) -> bool:
    """Whether enough of a text's letters are in the script of a language.

    Args:
        text: Any text.
        code: NLLB code of its language; its second half names the script.
        min_percent: Least share of the letters, in per cent.

    Returns:
        False when at least `MIN_LETTERS` letters are in other scripts and fewer than
        `min_percent` per cent of all are in the right one; of a language in Latin letters,
        fewer than half. True where Unicode does not know the script.
    """
    if not min_percent:
        return True
    text = prose(text)
    letters = _letters(code)
    if letters is None:
        return True
    own, other = letters
    num_other = sum(map(len, other.findall(text)))
    if num_other < MIN_LETTERS:
        return True
    num_own = sum(map(len, own.findall(text)))
    least = max(min_percent, LATIN_PERCENT) if code.endswith("_Latn") else min_percent
    return 100 * num_own >= least * (num_own + num_other)


def other_letters(code: str) -> Any:
    """A pattern that finds runs of letters in scripts that are not a language's; None for an unknown script."""
    letters = _letters(code)
    return letters and letters[1]


@cache
def _letters(code: str) -> tuple[Any, Any] | None:
    """Runs of letters in the script of a language, and of those in scripts that are not; None for an unknown script."""
    import regex

    script = code.partition("_")[2]
    names = _SCRIPTS_OF.get(code) or _SCRIPTS.get(script) or (script,)
    own = "".join(rf"\p{{scx={name}}}" for name in names)
    # Letters that every script shares (ª, ー) are neither.
    shared = r"\p{scx=Zyyy}\p{scx=Zinh}"
    try:
        return regex.compile(rf"(?V1)[\p{{L}}&&[{own}]]+"), regex.compile(rf"(?V1)[\p{{L}}--[{own}{shared}]]+")
    except regex.error:
        return None
