"""XML that streams: one unit of a translation memory in memory at a time.

Entities that a document declares are never replaced, wherever they point: a document
that uses one is refused, and so is one that is cut off. Nothing is fetched.
"""

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast
from xml.sax.saxutils import escape

from dragoman.data.sources.opening import opened
from dragoman.errors import DataError

InlineTags: TypeAlias = Literal["strip", "keep"]
"""What becomes of the tags in a segment."""
Element: TypeAlias = Any
"""An element of lxml, whose types are not published."""

MAX_UNIT_ELEMENTS = 100_000
"""No unit of a translation memory has more elements."""

LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"

# Codes of the format that the text was taken from, and what they hold; `hi`, `g`, `mrk` and `pc` are part of the text.
_DROPPED = {"bpt", "ept", "it", "ph", "ut", "sub"}


def _etree() -> Any:
    from lxml import etree  # pyright: ignore

    return cast("Any", etree)


def name_of(element: Element) -> str:
    """The name of an element without its namespace."""
    return str(element.tag).rpartition("}")[2]


def units(path: Path, root: str, wanted: Collection[str], around: Collection[str] = ()) -> Iterator[Element]:
    """The elements named `wanted` when they are complete; those `around` them when they begin, with attributes only.

    An element is emptied when the next one is asked for.

    Args:
        path: An XML file, perhaps with gzip, in any encoding that it declares.
        root: What its first element must be called.
        wanted: Names of the elements to give, which do not lie in each other.
        around: Names of others to give.

    Raises:
        DataError: The file cannot be read, is not such a document, is cut off, or holds a unit that is none.
    """
    etree = _etree()
    with opened(path, any_gzip=True) as file:
        try:
            yield from _walk(path, file, root, wanted, around)
        except etree.XMLSyntaxError as error:
            why = re.sub(r", line \d+, column \d+$", "", str(error.msg))
            where = f" line {error.lineno:,}" if error.lineno else ""
            raise DataError(f"{path}{where}: damaged or no XML: {why}", "export or download the file again") from error


def _walk(path: Path, file: Any, root: str, wanted: Collection[str], around: Collection[str]) -> Iterator[Element]:
    etree = _etree()
    walk: Any = etree.iterparse(
        file,
        events=("start", "end"),
        resolve_entities=False,
        load_dtd=False,
        no_network=True,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    is_first, depth, count = True, 0, 0
    for event, element in walk:
        name = name_of(element)
        if is_first and name != root:
            raise DataError(f"{path}: its root is <{name}>, expected <{root}>", "check what the file holds")
        is_first = False
        if event == "start":
            if depth or name in wanted:
                depth, count = depth + 1, count + 1
                if count > MAX_UNIT_ELEMENTS:
                    why = f"{path} line {element.sourceline:,}: a unit of over {MAX_UNIT_ELEMENTS:,} elements"
                    raise DataError(why, "check what the file holds")
            elif name in around:
                yield element
            continue
        if depth:
            depth -= 1
            if depth:
                continue
            count = 0
            yield element
        _forget(element)


def _forget(element: Element) -> None:
    """Empty an element and remove those before it: the tree stays as deep as it is and never grows."""
    element.clear()
    parent = element.getparent()
    while parent is not None and element.getprevious() is not None:
        del parent[0]


def text_of(path: Path, element: Element, tags: InlineTags) -> str:
    """The text of a segment, without the codes in it.

    Args:
        path: Of the file.
        element: The segment, or an element in it.
        tags: `strip`: tags are no text. `keep`: they are, `<g id="1">OK</g>` and `<ph id="2"/>`.

    Raises:
        DataError: It uses an entity that the document declares.
    """
    etree = _etree()
    parts = [element.text or ""]
    for child in element:
        if child.tag is etree.Entity:
            raise DataError(
                f"{path} line {element.sourceline:,}: uses the entity {child.text}, which is never replaced",
                "write the text itself; only &amp; &lt; &gt; &quot; &apos; and &#…; are read",
            )
        inner = text_of(path, child, tags) if name_of(child) not in _DROPPED else ""
        parts.append(_in_tags(child, inner) if tags == "keep" else inner)
        parts.append(child.tail or "")
    return "".join(parts)


def _in_tags(element: Element, inner: str) -> str:
    """An element as it is written, but for what is in it, which is text; nothing is said of namespaces."""
    quoted = ((name.rpartition("}")[2], escape(value, {'"': "&quot;"})) for name, value in element.attrib.items())
    name, attributes = name_of(element), "".join(f' {name}="{value}"' for name, value in quoted)
    return f"<{name}{attributes}>{inner}</{name}>" if inner else f"<{name}{attributes}/>"


def children(element: Element, name: str) -> Iterator[Element]:
    """The children of that name; what lies deeper, or in another namespace, belongs to something else."""
    namespace = str(element.tag).rpartition("}")[0]
    return (
        child
        for child in element
        if isinstance(child.tag, str) and child.tag.rpartition("}")[0] == namespace and name_of(child) == name
    )
