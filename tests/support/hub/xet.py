"""Xet, the way large files go when `hf_xet` is installed: chunks in xorbs, and shards that say how files are made.

    xet-write-token     where the store is
    /v1/xorbs/...       chunks, each compressed, many in one xorb
    /v1/shards          files, as ranges of chunks; from here on an object is there, and charged
    /v1/reconstructions what a file is made of, for a download

What arrives is kept as a plain LFS object, so everything else is as without Xet. A file is
served as one xorb that is made up from that object: clients do not compare hashes.
Source: https://huggingface.co/docs/xet (version 1.1.0 of the specification).
"""

import hashlib
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tests.support.hub.limits import check_quota
from tests.support.hub.lz4 import decompressed
from tests.support.hub.messages import Answer, Refused, Request

if TYPE_CHECKING:
    from tests.support.hub.hub import HubStandIn

ENTRY_BYTES = 48
"""Size of everything in a shard."""
HAS_VERIFICATION, HAS_SHA256 = 1 << 31, 1 << 30
BOOKEND = b"\xff" * 32
CHUNK_HEADER_BYTES = 8
SERVED_CHUNK_BYTES = 1 << 16
AS_IS, LZ4, GROUPED_LZ4 = range(3)
TOKEN_SECONDS = 3600


def as_text(hash_bytes: bytes) -> str:
    """A hash as it stands in paths: four little-endian numbers, in hexadecimal digits."""
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", hash_bytes))


def xet_token(hub: "HubStandIn", request: Request) -> Answer:
    """Where the store of a repository is, and leave to use it."""
    if request.rest == ["write"]:
        check_quota(hub, hub.repository(request.key), more=1)
    url, token, expires = f"{hub.url}/_xet/{request.key}", f"xet-{request.rest[0]}", int(hub.clock()) + TOKEN_SECONDS
    headers = {"X-Xet-Cas-Url": url, "X-Xet-Access-Token": token, "X-Xet-Token-Expiration": str(expires)}
    return Answer.json({"casUrl": url, "accessToken": token, "exp": expires}, headers=headers)


def xet_dedup(hub: "HubStandIn", request: Request) -> Answer:
    """Whether a chunk is known from elsewhere: never."""
    raise Refused(404, "Not found")


def xet_other(hub: "HubStandIn", request: Request) -> Answer:
    """Newer ways to do the same: clients fall back on the older ones here."""
    raise Refused(404, "Not found")


def xet_xorb(hub: "HubStandIn", request: Request) -> Answer:
    """Keep a xorb."""
    hub.storage.put(f"{request.key}/xorbs/{request.rest[-1]}", request.body)
    return Answer.json({"was_inserted": True})


def xet_shard(hub: "HubStandIn", request: Request) -> Answer:
    """Make the files of a shard from xorbs that have arrived."""
    repository = hub.repository(request.key)
    for file_hash, terms in files_of(request.body):
        data = bytearray()
        for xorb, start, end in terms:
            stored = hub.storage.get(f"{request.key}/xorbs/{xorb}")
            if stored is None:
                raise Refused(400, f"xorb {xorb} was never uploaded")
            data += b"".join(list(chunks_of(stored))[start:end])
        oid = hashlib.sha256(data).hexdigest()
        repository.charge(oid, bytes(data), hub.clock())
        repository.name_for_xet(oid, file_hash)
    return Answer.json({"result": 1})


def files_of(shard: bytes) -> Iterator[tuple[str, list[tuple[str, int, int]]]]:
    """The files of a shard: hash, and for each range of chunks the xorb, the first and the one after the last."""
    at = ENTRY_BYTES
    while shard[at : at + 32] != BOOKEND:
        file_hash, flags, num_terms = struct.unpack_from("<32sII", shard, at)
        at += ENTRY_BYTES
        terms = []
        for _ in range(num_terms):
            xorb, _, _, start, end = struct.unpack_from("<32s4I", shard, at)
            terms.append((as_text(xorb), start, end))
            at += ENTRY_BYTES
        at += ENTRY_BYTES * (num_terms * bool(flags & HAS_VERIFICATION) + bool(flags & HAS_SHA256))
        yield as_text(file_hash), terms


def chunks_of(xorb: bytes) -> Iterator[bytes]:
    """The chunks of a xorb, decompressed."""
    at = 0
    while at < len(xorb) and xorb[at] == 0:  # what may follow the chunks does not begin with this version
        packed, kind, unpacked = _length(xorb, at + 1), xorb[at + 4], _length(xorb, at + 5)
        at += CHUNK_HEADER_BYTES
        data = xorb[at : at + packed]
        at += packed
        if kind != AS_IS:
            data = decompressed(data)
        if kind == GROUPED_LZ4:
            data = ungrouped(data)
        if len(data) != unpacked:
            raise Refused(400, "a chunk is not as long as it says")
        yield data


def _length(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 3], "little")


def ungrouped(data: bytes) -> bytes:
    """Bytes that were sorted by their position modulo four, in their order again."""
    whole, at = bytearray(len(data)), 0
    for group in range(4):
        size = len(range(group, len(data), 4))
        whole[group::4] = data[at : at + size]
        at += size
    return bytes(whole)


def xet_reconstruction(hub: "HubStandIn", request: Request) -> Answer:
    """What a file (or the range of it that is asked for) is made of."""
    file_hash = request.rest[-1]
    oid = hub.repository(request.key).xet_oid(file_hash)
    if oid is None:
        raise Refused(404, "Not found")
    size = hub.repository(request.key).charges[oid].size
    first, _, last = request.headers.get("range", "bytes=0-").removeprefix("bytes=").partition("-")
    begin, end = int(first), min(int(last or size), size - 1) + 1
    if begin >= size:
        raise Refused(416, "Range Not Satisfiable")
    chunks = begin // SERVED_CHUNK_BYTES, -(-end // SERVED_CHUNK_BYTES)
    offsets = [min(chunk * SERVED_CHUNK_BYTES, size) for chunk in chunks]
    packed = [offset + chunk * CHUNK_HEADER_BYTES for offset, chunk in zip(offsets, chunks, strict=True)]
    covered = {"start": chunks[0], "end": chunks[1]}
    fetch = {
        "range": covered,
        "url": f"{hub.cdn_url}/_xorb/{request.key}/{oid}",
        "url_range": {"start": packed[0], "end": packed[1] - 1},
    }
    return Answer.json(
        {
            "offset_into_first_range": begin - offsets[0],
            "terms": [{"hash": file_hash, "unpacked_length": offsets[1] - offsets[0], "range": covered}],
            "fetch_info": {file_hash: [fetch]},
        }
    )


def xet_download(hub: "HubStandIn", request: Request) -> Answer:
    """A range of the xorb that an object is served as."""
    data = hub.storage.get(hub.repository(request.key).blob_name(request.rest[0]))
    if data is None:
        raise Refused(404, "NoSuchKey")
    pieces = [data[at : at + SERVED_CHUNK_BYTES] for at in range(0, len(data), SERVED_CHUNK_BYTES)]
    sizes = [len(piece).to_bytes(3, "little") for piece in pieces]
    xorb = b"".join(b"\0" + size + bytes([AS_IS]) + size + piece for size, piece in zip(sizes, pieces, strict=True))
    first, _, last = request.headers["range"].removeprefix("bytes=").partition("-")
    served = xorb[int(first) : int(last) + 1]
    headers = {"Content-Range": f"bytes {first}-{int(first) + len(served) - 1}/{len(xorb)}"}
    return Answer(206, served, {"Content-Type": "application/octet-stream", **headers})
