"""Whether a language tag in somebody's data means one side of a direction.

Data is loose where a command line is not: `EN-us`, `en_XX`, a bare `zh` beside English.
A tag that names one NLLB language means that one and no other. A tag that may name
several fits each of them, because the direction has already said which is wanted; so
does one whose region nobody knows, by its language subtag. A script that it names counts.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import cast

from dragoman import languages

_SCRIPT = re.compile(r"[-_]([A-Za-z]{4})(?![A-Za-z0-9])")
_TAG = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{1,8})*")


def is_tag(text: str) -> bool:
    """Whether a text may be a language tag; words such as `translation` are not looked up among names."""
    return _TAG.fullmatch(text) is not None


@lru_cache(maxsize=8192)
def fits(tag: str, code: str) -> bool:
    """Whether text under `tag` serves a direction that asks for `code`.

    "id" is Indonesian as well: it counts as a language only where a direction asks for ind_Latn.
    """
    tag = tag.strip()
    if not is_tag(tag):
        return False
    found = languages.lookup(tag)
    if found["code"]:
        return found["code"] == code
    if (script := _SCRIPT.search(tag)) and script[1].title() != code.partition("_")[2]:
        return False
    if code in _candidates(found):
        return True
    subtag = re.split("[-_]", tag)[0]
    if subtag != tag and (code == (found := languages.lookup(subtag))["code"] or code in _candidates(found)):
        return True
    return languages.is_new(code) and languages.names_new(tag, code)


def pick(tags: Iterable[str], code: str) -> str | None:
    """The tag that fits best: one that names the language exactly, then the most general; None if none fits."""
    fitting = [tag for tag in tags if fits(tag, code)]
    return min(fitting, key=lambda tag: (languages.lookup(tag)["code"] != code, len(tag), tag), default=None)


def is_known(tag: str) -> bool:
    """Whether a tag names a language of NLLB, or may name several."""
    if not is_tag(tag):
        return False
    found = languages.lookup(tag)
    return bool(found["code"] or found["candidates"])


def is_language(tag: str) -> bool:
    """Whether a tag names any language; many an ending of a file does, `txt` is Citak."""
    return is_tag(tag) and languages.is_language(tag)


def short(code: str) -> str:
    """The shortest tag for the language of a code: `fr` for `fra_Latn`."""
    from langcodes import standardize_tag

    return standardize_tag(code.partition("_")[0])


def _candidates(found: dict[str, object]) -> list[str]:
    return cast("list[str]", found["candidates"])
