"""Translation memories in TMX: units of variants, each in a language, any number of each.

A unit with several variants of a language gives every combination. Tags are compared by
language: `EN-us` is English. Variants in other languages are no concern of a direction.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from dragoman.data.sources.markup import LANGUAGE, Element, InlineTags, children, text_of, units
from dragoman.data.sources.rows import FileSource, Pair
from dragoman.data.sources.tags import fits
from dragoman.languages import Direction


@dataclass(frozen=True)
class TmxSource(FileSource):
    """The pairs of one TMX file."""

    direction: Direction
    """Which variants are source and target."""

    tags: InlineTags
    """What becomes of the tags in a segment."""

    def pairs(self) -> Iterator[Pair]:
        """All pairs in file order.

        Raises:
            DataError: The file cannot be read, is no TMX, is damaged or uses entities that it declares.
        """
        self.rows.restart()
        for unit in units(self.path, "tmx", {"tu"}):
            variants = list(self._variants(unit))
            targets = [text for tag, text in variants if fits(tag, self.direction.target)]
            for source in (text for tag, text in variants if fits(tag, self.direction.source)):
                for target in targets:
                    self.rows.num_read += 1
                    yield Pair(source, target, unit.sourceline or 0)

    def _variants(self, unit: Element) -> Iterator[tuple[str, str]]:
        for variant in children(unit, "tuv"):
            tag = variant.get(LANGUAGE) or variant.get("lang") or ""
            for segment in children(variant, "seg"):
                yield tag, text_of(self.path, segment, self.tags)
