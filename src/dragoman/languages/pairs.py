"""Directions of translation, and how a user writes them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from dragoman.errors import InputError, UnknownLanguageError
from dragoman.languages.tags import Kind, find, name, resolve, short

_ARROW = re.compile(r"\s*(?:->|=>|→|>|:)\s*")
# `<` and `>` mean something to a shell; two hyphens do not, and no language tag holds them.
_BOTH_WAYS = re.compile(r"\s*(?:<->|<=>|<>|↔|--)\s*")


@dataclass(frozen=True, slots=True, order=True)
class Direction:
    """Translation from one NLLB language into another; printed as `eng_Latn-fra_Latn`."""

    source: str
    """NLLB code of the language translated from."""

    target: str
    """NLLB code of the language translated into."""

    is_replay: bool = False
    """Whether its pairs are only rehearsed: mixed in so that the model does not forget, held out for nothing."""

    def __str__(self) -> str:
        return f"{self.source}-{self.target}{' (replay)' if self.is_replay else ''}"

    @property
    def plain(self) -> "Direction":
        """The same direction as one that is learned."""
        return Direction(self.source, self.target)

    @property
    def short(self) -> str:
        """As people write it: `en-fr`; a code where a tag would name several languages."""
        return f"{short(self.source)}-{short(self.target)}"

    @property
    def reversed(self) -> "Direction":
        """The same two languages the other way round."""
        return Direction(self.target, self.source, self.is_replay)


def parse_pairs(text: str, also: Sequence[str] = ()) -> list[Direction]:
    """Read one direction, or two that are written as one: `en<->fr`, or `en--fr`, which needs no quotes in a shell.

    Args:
        text: What the user wrote.
        also: Codes that the model was taught besides NLLB's.

    Raises:
        UnknownLanguageError: A side is ambiguous (with candidates) or not in NLLB.
        InputError: The text is no direction, or has two meanings.
    """
    sides = _BOTH_WAYS.split(text.strip())
    if len(sides) != 2:
        return [parse_pair(text, also)]
    # With an arrow each side is one language, so the meaning is that of `resolve`.
    there = parse_pair(f"{sides[0]}->{sides[1]}", also)
    return [there, there.reversed]


def parse_pair(text: str, also: Sequence[str] = ()) -> Direction:
    """Read a direction: `en-fr`, `eng_Latn-fra_Latn`, `en-pt-BR`, `zh-Hant_en`, `en:fr`, `en->fr`.

    Every place where the text can be cut is tried; it must have exactly one meaning. A
    two-letter subtag in upper case after one that is not belongs to what precedes it,
    so `fr-CA` is one language and `fr-ca` French into Catalan.

    Args:
        text: What the user wrote.
        also: Codes that the model was taught besides NLLB's.

    Raises:
        UnknownLanguageError: A side is ambiguous (with candidates) or not in NLLB.
        InputError: One language, the same language twice, two meanings or both directions.
    """
    text = text.strip()
    if len(sides := _BOTH_WAYS.split(text)) > 1:
        there, back = "-".join(sides), "-".join(reversed(sides))
        raise InputError(f"--language-pairs {text!r}: a pair has one direction here", f"{there}, or {back}")
    meanings = _meanings(text, also)
    if not meanings:
        raise _not_a_pair(text, also)
    if len(meanings) > 1:
        readings = " or ".join(map(str, meanings))
        raise InputError(f"--language-pairs {text!r} may mean {readings}", "write the one you mean in this longer form")
    if meanings[0].source == meanings[0].target:
        raise InputError(f"--language-pairs {text!r}: source and target are both {name(meanings[0].source)}")
    return meanings[0]


def _meanings(text: str, also: Sequence[str]) -> list[Direction]:
    for cuts in _cuts(text):
        fitting = [cut for cut in cuts if _worst(cut, also) is Kind.FOUND]
        if found := {Direction(resolve(source, also), resolve(target, also)) for source, target in fitting}:
            return sorted(found)
    return []


def _cuts(text: str) -> list[list[tuple[str, str]]]:
    """Ways to cut `text` in two, grouped by separator; the first group with a meaning wins."""
    if len(sides := _ARROW.split(text)) > 1:
        return [[(sides[0], sides[1])]] if len(sides) == 2 else []
    # In `en-pt_BR` the hyphen parts the languages; in `en_pt-BR` only the underscore can.
    groups = [[(text[: at.start()], text[at.end() :]) for at in re.finditer(mark, text)] for mark in "-_"]
    return [[cut for cut in cuts if not _cuts_off_a_region(*cut)] for cuts in groups]


def _cuts_off_a_region(left: str, right: str) -> bool:
    before, after = re.split("[-_]", left)[-1], re.split("[-_]", right)[0]
    return len(after) == 2 and after.isupper() and not before.isupper()


def _worst(cut: tuple[str, str], also: Sequence[str]) -> Kind:
    return max(find(cut[0], also).kind, find(cut[1], also).kind)


def _not_a_pair(text: str, also: Sequence[str]) -> InputError:
    """The most useful thing to say about a text that no cut makes a direction."""
    where = f"--language-pairs {text!r}"
    whole = find(text, also)
    pair = f"{text}-fr" if whole.codes[:1] == ("eng_Latn",) else f"en-{text}"
    best = min((cut for cuts in _cuts(text) for cut in cuts), key=lambda cut: _worst(cut, also), default=None)
    if whole.kind < Kind.LACKS and (best is None or _worst(best, also) is Kind.UNKNOWN):
        hint = f"a source and a target: {pair}"
        if _meanings(text.lower(), also):
            hint += f"; in lower case, {text.lower()}, these are two languages"
        which = f" ({name(whole.codes[0])})" if whole.kind is Kind.FOUND else ""
        return InputError(f"{where} is one language{which}; a pair has two", hint)
    if best is None:
        return InputError(f"{where} is not a pair of languages", "a source and a target in lower case: en-fr")
    finding = max((find(side, also) for side in best), key=lambda side: side.kind)
    error = finding.error()
    if finding.kind is Kind.LACKS and whole.kind is Kind.FOUND:
        error.hint = f"if {text!r} is one language, a source and a target: {pair}"
    return UnknownLanguageError(f"{where}: {error.message}", error.candidates, error.hint)
