"""Decompress an LZ4 frame, slowly: tests need no fast one, and no package for it."""

import struct

MAGIC = 0x184D2204
HAS_BLOCK_SUM, HAS_SIZE, HAS_DICTIONARY = 1 << 4, 1 << 3, 1 << 0


def decompressed(frame: bytes) -> bytes:
    """The contents of one frame; sums are not compared."""
    magic, flags = struct.unpack_from("<IB", frame)
    assert magic == MAGIC, "not an LZ4 frame"
    at = 7 + 8 * bool(flags & HAS_SIZE) + 4 * bool(flags & HAS_DICTIONARY)
    out = bytearray()
    while size := struct.unpack_from("<I", frame, at)[0]:
        at += 4
        length = size & 0x7FFFFFFF
        block = frame[at : at + length]
        if size >> 31:
            out += block
        else:
            _decompress_block(block, out)
        at += length + 4 * bool(flags & HAS_BLOCK_SUM)
    return bytes(out)


def _decompress_block(block: bytes, out: bytearray) -> None:
    at = 0
    while at < len(block):
        token = block[at]
        at += 1
        literals, at = _length(token >> 4, block, at)
        out += block[at : at + literals]
        at += literals
        if at >= len(block):
            return  # the last sequence has no match
        offset = block[at] | block[at + 1] << 8
        matched, at = _length(token & 15, block, at + 2)
        matched += 4
        start = len(out) - offset
        while matched:  # a match may overlap what it makes
            piece = out[start : start + matched]
            out += piece
            start += len(piece)
            matched -= len(piece)


def _length(first: int, block: bytes, at: int) -> tuple[int, int]:
    """A length that goes on in more bytes while they are full, and where the next thing is."""
    length = first
    more = 255 if first == 15 else 0
    while more == 255:
        more = block[at]
        length += more
        at += 1
    return length, at
