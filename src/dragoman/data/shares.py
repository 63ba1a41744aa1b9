"""Which chunks are this machine's when several prepare one corpus: every n-th, beginning with the i-th."""

import re
from dataclasses import dataclass

from dragoman.errors import InputError


@dataclass(frozen=True)
class Share:
    """One of `of` machines."""

    number: int = 1
    """From 1."""

    of: int = 1

    def has(self, chunk: int) -> bool:
        """Whether the chunk with this number, from 0 over all sources, is ours."""
        return chunk % self.of == self.number - 1

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


ALL = Share()
"""The share of a machine that is alone."""


def parse(text: str) -> Share:
    """What `--shard i/n` means.

    Raises:
        InputError: It is not two numbers, or not 1 <= i <= n.
    """
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
    share = Share(int(found[1]), int(found[2])) if found else None
    if share is None or not 1 <= share.number <= share.of:
        raise InputError(f"--shard: {text!r} is no part of a whole", "on four machines: --shard 1/4 to --shard 4/4")
    return share
