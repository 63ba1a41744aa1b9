"""Large files: how they are uploaded, listed and deleted for ever.

An object is there, and charged, once all its bytes have arrived, committed or not. It
stays charged until it is deleted for ever, whatever commits say.
"""

import hashlib
import math
from typing import TYPE_CHECKING, Any

from tests.support.hub.limits import check_quota
from tests.support.hub.messages import Answer, Refused, Request
from tests.support.hub.reading import paged, timestamp

if TYPE_CHECKING:
    from tests.support.hub.hub import HubStandIn

LFS_TYPE = {"Content-Type": "application/vnd.git-lfs+json; charset=utf-8"}


def batch(hub: "HubStandIn", request: Request) -> Answer:
    """Where to put some objects; nothing for those that are there already."""
    asked = request.json()
    if asked.get("operation") != "upload":
        raise Refused(400, "This stand-in only speaks of uploads in LFS batches")
    repository = hub.repository(request.key)
    new = [it for it in asked["objects"] if it["oid"] not in repository.charges]
    check_quota(hub, repository, sum(it["size"] for it in new))
    multipart = "multipart" in asked.get("transfers", ())
    objects = []
    for it in asked["objects"]:
        objects.append({"oid": it["oid"], "size": it["size"], "authenticated": True})
        if it in new:
            objects[-1]["actions"] = _actions(hub, request.key, it["oid"], it["size"], multipart)
    transfer = "multipart" if any("chunk_size" in _header(it) for it in objects) else "basic"
    return Answer.json({"transfer": transfer, "objects": objects, "hash_algo": "sha256"}, headers=LFS_TYPE)


def _header(listed: dict[str, Any]) -> dict[str, str]:
    return listed.get("actions", {}).get("upload", {}).get("header", {})


def _actions(hub: "HubStandIn", key: str, oid: str, size: int, multipart: bool) -> dict[str, Any]:
    href = f"{hub.url}/_lfs/{key}/{oid}"
    verify = {"href": f"{hub.page(key)}.git/info/lfs/objects/verify"}
    if not multipart or hub.part_bytes is None or size <= hub.part_bytes:
        return {"upload": {"href": f"{href}?size={size}"}, "verify": verify}
    upload_id = hub.new_upload_id()
    numbers = range(1, math.ceil(size / hub.part_bytes) + 1)
    header = {"chunk_size": str(hub.part_bytes)}
    header |= {f"{number:05d}": f"{href}/{number}?size={size}&uploadId={upload_id}" for number in numbers}
    return {"upload": {"href": f"{href}?size={size}&uploadId={upload_id}", "header": header}, "verify": verify}


def upload(hub: "HubStandIn", request: Request) -> Answer:
    """A whole object, put to the store behind the Hub."""
    _store(hub, request, request.body)
    return Answer(200, b"", {"ETag": f'"{hashlib.md5(request.body).hexdigest()}"'})


def part(hub: "HubStandIn", request: Request) -> Answer:
    """One part of an object."""
    oid, number = request.rest
    parts = hub.repository(request.key).parts.setdefault((oid, request.query["uploadId"][0]), {})
    parts[int(number)] = request.body
    return Answer(200, b"", {"ETag": f'"{hashlib.md5(request.body).hexdigest()}"'})


def complete(hub: "HubStandIn", request: Request) -> Answer:
    """All parts of an object have been put: make it one."""
    asked = request.json()
    upload_id = request.query["uploadId"][0]
    kept = hub.repository(request.key).parts
    parts = kept.get((request.rest[0], upload_id), {})
    named = {it["partNumber"]: it["etag"].strip('"') for it in asked["parts"]}
    if {number: hashlib.md5(data).hexdigest() for number, data in parts.items()} != named:
        raise Refused(400, "InvalidPart: one or more of the specified parts could not be found")
    _store(hub, request, b"".join(parts[number] for number in sorted(parts)))
    kept.pop((request.rest[0], upload_id), None)
    return Answer.json({"success": True})


def _store(hub: "HubStandIn", request: Request, data: bytes) -> None:
    oid, size = request.rest[0], int(request.query["size"][0])
    if len(data) != size or hashlib.sha256(data).hexdigest() != oid:
        raise Refused(400, "BadDigest: the object is not what its oid and size say")
    hub.repository(request.key).charge(oid, data, hub.clock())


def verify(hub: "HubStandIn", request: Request) -> Answer:
    """Whether an object has arrived."""
    asked = request.json()
    charge = hub.repository(request.key).charges.get(asked["oid"])
    if charge is None or charge.size != asked["size"]:
        raise Refused(404, "LFS object not found or of another size")
    return Answer.json({}, headers=LFS_TYPE)


def lfs_list(hub: "HubStandIn", request: Request) -> Answer:
    """All objects that the repository is charged for."""
    repository = hub.repository(request.key)
    items = [
        {
            "fileOid": oid,
            "oid": hashlib.sha1(oid.encode()).hexdigest()[:24],
            "filename": charge.filename or oid,
            "pushedAt": timestamp(charge.pushed_at),
            "ref": "refs/heads/main" if charge.filename else None,
            "size": charge.size,
        }
        for oid, charge in sorted(repository.charges.items(), key=lambda it: -it[1].pushed_at)
    ]
    return paged(hub, request, items, hub.entries_per_page)


def lfs_delete(hub: "HubStandIn", request: Request) -> Answer:
    """Delete objects for ever."""
    asked = request.json()["deletions"]
    hub.repository(request.key).delete_objects(asked["sha"], bool(asked.get("rewriteHistory", True)))
    return Answer.json({"success": True})
