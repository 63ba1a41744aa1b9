"""Pairs that came before, exactly or nearly."""

from collections.abc import Callable

from dragoman.data.filters.keys import hash64, key


class Duplicates:
    """Remembers every pair it was shown, by a 64-bit hash of the keys of its sides.

    About 110 bytes per distinct pair. Among ten million pairs the chance that even one is
    wrongly taken for a duplicate is 3 in a million.
    """

    def __init__(self, same: Callable[[str], str] = key) -> None:
        """Nothing was shown yet.

        Args:
            same: What makes two texts the same one; a pair with a side of which it makes nothing is always new.
        """
        self._same = same
        self._seen: set[int] = set()

    def is_new(self, source: str, target: str) -> bool:
        """Whether no pair with equal keys was shown before; from now on one was."""
        sides = self._same(source), self._same(target)
        if not all(sides):
            return True
        before = len(self._seen)
        self._seen.add(hash64(b"dragoman pair", *sides))
        return len(self._seen) > before
