"""What a translation leaves alone: fields that a program fills in, and other code within the text."""

import re
from collections import Counter

# A bare conversion (%s, %2$d) is none behind a digit ("100%ige"), has no space flag ("100 % de")
# and a minus only before a width ("%-encoding"): as text these are common, as formats they are not.
# Every alternative begins with a plain character, the look back too: only so the search skips all other text.
_PLACEHOLDER = re.compile(
    r"""
      %%
    | %\((?P<named>[^()]*)\)[#0+-]*\d*(?:\.\d+)?[a-zA-Z]
    | %(?<!\d%)(?:\d+\$)?[#0+]*(?:-(?=[\d*]))?(?:\d+|\*)?(?:\.(?:\d+|\*))?(?:hh?|ll?|[qjzt])?
      (?P<bare>[diouxXeEfFgGcrsa])
    | \{\{ | \}\}
    | \{(?P<brace>(?:[A-Za-z_]\w*|\d*)(?:\.\w+|\[[^{}\s\]]+\])*)(?:![rsa])?(?::[^{}\s]*)?\}
    """,
    re.VERBOSE,
)
_SAME_CONVERSION = {"i": "d", "u": "d"}


def may_hold_fields(text: str) -> bool:
    """Whether there is a character with which a field begins."""
    return "%" in text or "{" in text


def placeholders(text: str) -> Counter[str]:
    """The printf (`%s`, `%(name)s`, `%1$d`) and brace (`{}`, `{0}`, `{name}`) fields of `text`, counted.

    Order, position numbers, flags, widths and the case of `%x` are left out: translations
    may change them. `%%`, `{{` and `}}` are not fields.
    """
    found: Counter[str] = Counter()
    if not may_hold_fields(text):
        return found
    for match in _PLACEHOLDER.finditer(text):
        named, bare, brace = match.group("named", "bare", "brace")
        if named is not None:
            found[f"%({named})"] += 1
        elif bare is not None:
            conversion = bare.lower()
            found["%" + _SAME_CONVERSION.get(conversion, conversion)] += 1
        elif brace is not None:
            found[f"{{{brace}}}"] += 1
    return found


def have_same(one: str, other: str) -> bool:
    """Whether two texts have the same `placeholders`."""
    if not may_hold_fields(one) and not may_hold_fields(other):
        return True
    # Most translations keep the order too, and then there is nothing to count.
    return _PLACEHOLDER.findall(one) == _PLACEHOLDER.findall(other) or placeholders(one) == placeholders(other)


# After tags and entities: a whole run of ASCII with one of these signs inside, which is an address, a path, an option
# or a name in a program. It begins where a run begins, so that a long one is looked through once.
_CODE = re.compile(r"<[^<>]*>|&#?\w+;|(?<![!-;=?-~])[!-;=?-~]*[A-Za-z0-9][_/@\\=.][!-;=?-~]+")


def prose(text: str) -> str:
    """What is left of a text without all that is nobody's language: fields, tags, addresses, names in code."""
    if may_hold_fields(text):
        text = _PLACEHOLDER.sub(" ", text)
    return " ".join(_CODE.sub(" ", text).split())
