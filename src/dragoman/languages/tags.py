"""Which NLLB language a tag names: one, a question, or none.

A wrong guess here trains a model on the wrong language without a word, so whatever
names two languages is asked back with its candidates.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from enum import IntEnum
from functools import lru_cache

from dragoman.errors import UnknownLanguageError
from dragoman.languages.codes import (
    ARABIC,
    BY_LANGUAGE,
    CHINESE,
    CODES,
    EXACT,
    GROUPS,
    NAMES,
    NEIGHBOURS,
    SAME_SCRIPT,
    STANDS_FOR,
)

_LIST_HINT = "`dragoman languages` lists the 202 languages of NLLB-200"
_GLOTTOCODE = re.compile(r"(?<=-[a-z]{4})-[a-z]{4}[0-9]{4}$")  # FLORES+: apc_Arab_nort3139

_WRITTEN_OUT = re.compile(r"[a-z]{3}_[A-Z][a-z]{3}")


class Kind(IntEnum):
    """How much is known about a tag, the most useful first."""

    FOUND = 0
    ASK = 1
    LACKS = 2
    UNKNOWN = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """What is known about a tag."""

    kind: Kind
    reason: str
    """One sentence; empty when the tag names one language."""

    codes: tuple[str, ...] = ()
    """The language that it names, or those that it may mean."""

    def error(self) -> UnknownLanguageError:
        """The complaint about a tag that does not name one language."""
        hint = ", ".join(f"{code} = {name(code)}" for code in self.codes)
        return UnknownLanguageError(self.reason, self.codes, hint or _LIST_HINT)


def is_new(code: str) -> bool:
    """Whether `code` has the form of NLLB's codes, such as `tyv_Cyrl`, and is none of them."""
    return bool(_WRITTEN_OUT.fullmatch(code)) and code not in CODES


def new_among(codes: Iterable[str]) -> tuple[str, ...]:
    """Those of `codes` that are new, each once: what the model of a run was or is taught besides NLLB's languages."""
    return tuple(dict.fromkeys(code for code in codes if is_new(code)))


def resolve(tag: str, also: Sequence[str] = ()) -> str:
    """Return the NLLB code that `tag` names.

    Takes ISO 639-1, -2 and -3, BCP-47 in either case with `-` or `_`, and the codes
    of NLLB, FLORES-200 and FLORES+.

    Args:
        tag: What the user wrote.
        also: Codes that the model was taught besides NLLB's; each is found by itself and by its language (`names_new`).

    Raises:
        UnknownLanguageError: With candidates when the tag may mean several languages,
            a script NLLB does not write, or is a name or a typo; without when NLLB
            lacks the language.
    """
    finding = find(tag, also)
    if finding.kind is not Kind.FOUND:
        raise finding.error()
    return finding.codes[0]


def lookup(tag: str, also: Sequence[str] = ()) -> dict[str, object]:
    """Return `{"tag", "code", "candidates", "reason"}`: what `resolve` knows about a tag, without raising.

    `code` is None unless the tag names exactly one language; `reason` is one sentence.
    """
    finding = find(tag, also)
    found = finding.kind is Kind.FOUND
    return {
        "tag": tag,
        "code": finding.codes[0] if found else None,
        "candidates": [] if found else list(finding.codes),
        "reason": f"{tag!r} is {name(finding.codes[0])}" if found else finding.reason,
    }


def find(tag: str, also: Sequence[str] = ()) -> Finding:
    """What a tag names, may mean, or why it means nothing; never raises."""
    finding = _find_in_nllb(tag)
    if not also or finding.kind is Kind.FOUND:
        return finding
    meant = tuple(code for code in dict.fromkeys(also) if names_new(tag, code))
    names_script = any(len(part) == 4 and part.isalpha() for part in re.split("[-_]", tag.strip())[1:])
    if finding.kind is Kind.ASK and not (meant and names_script):
        return Finding(Kind.ASK, finding.reason, (*finding.codes, *meant))
    if len(meant) == 1:
        return Finding(Kind.FOUND, "", meant)
    return Finding(Kind.ASK, f"{tag!r} may mean several languages of this model", meant) if meant else finding


@lru_cache(maxsize=8192)
def names_new(tag: str, code: str) -> bool:
    """Whether a tag names the language of a new code, in its script or in none: `tyv`, `tyv-RU`, `cv` for chv_Cyrl."""
    from langcodes import Language

    plain = tag.strip().replace("_", "-")
    if plain.lower() == code.lower().replace("_", "-"):
        return True
    language, _, script = code.partition("_")
    try:
        parsed = Language.get(plain)
        same = parsed.is_valid() and not parsed.extlangs and parsed.to_alpha3() == language
        return same and parsed.script in (None, script)
    except (ValueError, LookupError):
        return False


def is_language(tag: str) -> bool:
    """Whether a tag is that of any language, also of one that NLLB lacks."""
    return _find_in_nllb(tag).kind is not Kind.UNKNOWN


@lru_cache(maxsize=4096)
def _find_in_nllb(tag: str) -> Finding:
    from langcodes import Language

    plain = tag.strip().replace("_", "-").lower()
    if plain in EXACT:
        return Finding(Kind.FOUND, "", (EXACT[plain],))
    try:
        parsed = Language.get(_GLOTTOCODE.sub("", plain))
        iso3 = parsed.to_alpha3()
    except (ValueError, LookupError):
        return _find_by_name(tag, plain)
    if not parsed.is_valid() or parsed.extlangs or iso3 in ("mis", "mul", "und", "zxx"):
        return _find_by_name(tag, plain)

    if iso3 == "fas" and parsed.territory == "AF":
        return Finding(Kind.FOUND, "", ("prs_Arab",))
    language = STANDS_FOR.get(iso3, iso3)
    codes = GROUPS.get(language) or BY_LANGUAGE.get(language)
    if codes is None:
        known = parsed.language_name()
        called = f"language {tag!r}" if known.startswith("Unknown") else f"{known} ({tag!r})"
        return Finding(Kind.LACKS, f"NLLB-200 has no {called}")

    several = f"{tag!r} may mean several languages of NLLB-200"
    territory = parsed.territory or ""
    if iso3 == "ara" and territory not in ("", "001"):
        spoken = {ARABIC[territory]} if territory in ARABIC else set(ARABIC.values())
        return Finding(Kind.ASK, several, (*codes, *(f"{each}_Arab" for each in sorted(spoken))))
    script = parsed.script or (CHINESE.get(territory) if language == "zho" else None)
    if script:
        fitting = tuple(code for code in codes if code.endswith(SAME_SCRIPT.get(script, script)))
    elif territory and len(codes) == 1 and parsed.maximize().script != Language.get(iso3).maximize().script:
        fitting = ()  # az-IR, pa-PK, sr-ME: this region writes another script than the language usually does.
    else:
        fitting = codes
    if len(fitting) == 1:
        return Finding(Kind.FOUND, "", fitting)
    if fitting:
        return Finding(Kind.ASK, several, fitting)
    reason = f"{tag!r}: NLLB-200 writes {parsed.language_name()} in another script"
    return Finding(Kind.ASK, reason, (*codes, *NEIGHBOURS.get(iso3, ())))


def _find_by_name(tag: str, plain: str) -> Finding:
    """Not a tag: perhaps a name (`french`) or a typo (`fra_Lat`)."""
    import langcodes

    reason = f"{tag!r} is not a language tag"
    # langcodes looks names up in a trie that a control character takes apart.
    if not 4 <= len(plain) <= 40 or not plain.isprintable():
        return Finding(Kind.UNKNOWN, reason)
    if close := get_close_matches(plain, EXACT, n=3, cutoff=0.85):
        return Finding(Kind.UNKNOWN, reason, tuple(dict.fromkeys(EXACT[spelling] for spelling in close)))
    try:
        named = _find_in_nllb(langcodes.find(plain).to_tag())
    except LookupError:
        by_name = {name(code).lower(): code for code in CODES}
        close = [each for each in by_name if plain in each] or get_close_matches(plain, by_name, n=3, cutoff=0.75)
        return Finding(Kind.UNKNOWN, reason, tuple(by_name[each] for each in close))
    return named if named.kind is Kind.LACKS else Finding(Kind.UNKNOWN, reason, named.codes)


@lru_cache(maxsize=len(CODES))
def name(code: str) -> str:
    """Return the English name of an NLLB code, with the script where NLLB has several: "Chinese (Simplified)".

    One that NLLB lacks has its name too, or, where nobody has given it one, is its own name.

    Raises:
        UnknownLanguageError: `code` names no language.
    """
    from langcodes import Language

    if is_new(code):
        called = Language.get(code[:3]).language_name()
        return code if called.startswith("Unknown") or called == code[:3] else called
    code = resolve(code)
    language = Language.get(code)
    plain = NAMES.get(code[:3]) or language.language_name()
    return f"{plain} ({language.script_name()})" if len(BY_LANGUAGE[code[:3]]) > 1 else plain


@lru_cache(maxsize=len(CODES))
def short(code: str) -> str:
    """The shortest tag that names the language of a code and no other one: `fr`, but `zho_Hans`."""
    from langcodes import standardize_tag

    tag = standardize_tag(code[:3])
    finding = find(tag)
    return tag if finding.kind is Kind.FOUND and finding.codes == (code,) else code


def search(query: str, also: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Return (code, name) of every language whose code, tag or part of the name is `query`, the likeliest first.

    An empty query returns all 202, behind those of `also`.
    """
    query = query.strip()
    finding = find(query, also)
    hits = dict.fromkeys(finding.codes if finding.kind <= Kind.ASK else ())
    # Two letters are a tag; as part of a name they would match half of the table.
    if len(query) != 2:
        hits |= dict.fromkeys(code for code in (*also, *CODES) if query.lower() in f"{code}\n{name(code)}".lower())
    return [(code, name(code)) for code in hits or finding.codes]
