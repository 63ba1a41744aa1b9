"""XLIFF 1.2 and 2.x: what translators deliver, with the state of each translation.

Only what somebody has translated counts: a target that is not empty and has no state, or
is translated, reviewed, signed off or final. Suggestions of other memories (`alt-trans`,
`matches`) are not part of the text, and files in other languages are passed over.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from dragoman.data.sources.markup import LANGUAGE, Element, InlineTags, children, name_of, text_of, units
from dragoman.data.sources.rows import FileSource, Pair
from dragoman.data.sources.tags import fits
from dragoman.languages import Direction

_DONE = {"", "translated", "reviewed", "signed-off", "final"}


@dataclass(frozen=True)
class XliffSource(FileSource):
    """The pairs of one XLIFF file."""

    direction: Direction
    """What its languages must be, in this order or the other."""

    tags: InlineTags
    """What becomes of the tags in a segment."""

    def pairs(self) -> Iterator[Pair]:
        """All pairs in file order.

        Raises:
            DataError: The file cannot be read, is no XLIFF, is damaged or uses entities that it declares.
        """
        self.rows.restart()
        languages = ("", "")
        for element in units(self.path, "xliff", {"trans-unit", "segment"}, {"xliff", "file"}):
            match name_of(element):
                case "xliff":  # 2.x names them here, 1.2 in each file
                    languages = element.get("srcLang") or "", element.get("trgLang") or ""
                case "file":
                    own = element.get("source-language"), element.get("target-language")
                    languages = (own[0], own[1] or "") if own[0] else languages
                case _:
                    yield from self._unit(element, *languages)

    def _unit(self, unit: Element, source_tag: str, target_tag: str) -> Iterator[Pair]:
        source, target = next(children(unit, "source"), None), next(children(unit, "target"), None)
        if source is None or target is None:
            return
        state = target.get("state") or unit.get("state") or ""
        if state not in _DONE or not text_of(self.path, target, "strip").strip():
            return
        forth = self._order(source_tag or source.get(LANGUAGE) or "", target_tag or target.get(LANGUAGE) or "")
        if forth is None:
            return
        self.rows.num_read += 1
        first, second = (
            text_of(self.path, side, self.tags) for side in ((source, target) if forth else (target, source))
        )
        yield Pair(first, second, unit.sourceline or 0)

    def _order(self, source_tag: str, target_tag: str) -> bool | None:
        """Whether the file's languages are those of the direction, or those in reverse; None when neither.

        In 1.2 a file may leave its target language out; then it is the other one of the direction.
        """
        for forth, (first, second) in (
            (True, (self.direction.source, self.direction.target)),
            (False, (self.direction.target, self.direction.source)),
        ):
            if fits(source_tag, first) and (not target_tag or fits(target_tag, second)):
                return forth
        return None
