"""A model card that knows whether a person has edited it.

A card that we write ends in the digest of what stands before. Where the two agree,
nobody changed a letter since, and a newer card may take its place. Where they do not,
somebody put work into it, and it stays theirs.
"""

import hashlib

_BEGIN = b"<!-- dragoman sha256:"
_END = b" -->\n"


def seal(text: str) -> bytes:
    """The card as it is stored: `text`, and a last line over all before it."""
    body = text.encode()
    if not body.endswith(b"\n"):
        body += b"\n"
    return body + _line(body)


def is_ours(data: bytes) -> bool:
    """Whether these bytes are a card that `seal` made and nobody changed since."""
    start = data.rfind(_BEGIN)
    return start >= 0 and data[start:] == _line(data[:start])


def _line(body: bytes) -> bytes:
    return _BEGIN + hashlib.sha256(body).hexdigest().encode() + _END
