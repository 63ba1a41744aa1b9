"""What makes two texts the same one."""

import unicodedata
from functools import cache, lru_cache
from hashlib import blake2b
from typing import Any

from dragoman.data.normalization import clean, one_spaced


@lru_cache(maxsize=8)
def key(text: str) -> str:
    """What stays the same when only case, width or white space differ: NFKC and casefold of `clean`."""
    if text.isascii():  # the same, sooner
        return one_spaced(text.lower())
    return clean(unicodedata.normalize("NFKC", text).casefold())


def near_key(text: str) -> str:
    """What stays the same when digits and punctuation differ as well: the words of `key`, in letters and marks.

    Empty for a text that has none, such as a number: nothing can be said about it.
    """
    return _rest().sub(" ", key(text)).strip()


@cache
def _rest() -> Any:
    import regex

    # Marks belong to the letters before them: in the scripts of India they are the vowels.
    return regex.compile(r"[^\p{L}\p{M}]+")


def hash64(purpose: bytes, *texts: str) -> int:
    """A 64-bit hash of keys; `purpose`, at most 16 bytes, keeps the uses of it apart."""
    # No key holds a newline, so the texts cannot run into each other.
    data = "\n".join(texts).encode("utf-8")
    return int.from_bytes(blake2b(data, digest_size=8, person=purpose).digest(), "big")
