"""Answers that change nothing: what is in a repository, and its files."""

import base64
import hashlib
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote

from tests.support.hub.messages import Answer, Refused, Request
from tests.support.hub.repository import Commit, NoSuchRevision, Repository
from tests.support.hub.trees import Entry, pointer

if TYPE_CHECKING:
    from tests.support.hub.hub import HubStandIn


def timestamp(seconds: float) -> str:
    """A date as the Hub writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1000):03d}Z"


def commit_at(repository: Repository, request: Request, revision: str) -> Commit:
    """The commit that a request means."""
    try:
        return repository.commit_at(revision, request.stale_commits)
    except NoSuchRevision:
        raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound") from None


def lfs_fields(entry: Entry, name: str) -> dict[str, Any]:
    """What the Hub says of the LFS object of a file; `name` is how this answer calls its SHA-256."""
    if entry.lfs is None:
        return {}
    return {"lfs": {name: entry.lfs, "size": entry.size, "pointerSize": len(pointer(entry.lfs, entry.size))}}


def paged(hub: "HubStandIn", request: Request, items: list[Any], page_size: int) -> Answer:
    """One page of a list, with a link to the next one."""
    query = request.query
    start = int(base64.urlsafe_b64decode(query["cursor"][0])) if "cursor" in query else 0
    headers = {}
    if start + page_size < len(items):
        cursor = base64.urlsafe_b64encode(str(start + page_size).encode()).decode()
        kept = "".join(
            f"&{name}={quote(value)}" for name, values in query.items() if name != "cursor" for value in values
        )
        headers["Link"] = f'<{hub.url}{request.path}?cursor={quote(cursor)}{kept}>; rel="next"'
    return Answer.json(items[start : start + page_size], headers=headers)


def info(hub: "HubStandIn", request: Request) -> Answer:
    """`model_info` and `dataset_info`."""
    repository = hub.repository(request.key)
    commit = commit_at(repository, request, request.rest[0] if request.rest else "main")
    siblings: list[dict[str, Any]] = [{"rfilename": path} for path in sorted(commit.tree)]
    if request.asks("blobs"):
        for sibling in siblings:
            entry = commit.tree[sibling["rfilename"]]
            sibling.update(size=entry.size, blobId=entry.blob, **lfs_fields(entry, "sha256"))
    newest = repository.commits[repository.head()]
    answer = {
        "_id": hashlib.sha1(repository.key.encode()).hexdigest()[:24],
        "id": repository.repo_id,
        "author": repository.repo_id.split("/")[0],
        "sha": commit.oid,
        "lastModified": timestamp(newest.date),
        "createdAt": timestamp(repository.created_at),
        "private": repository.private,
        "gated": False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": [],
        "usedStorage": repository.held_bytes,
        "siblings": siblings,
    }
    if repository.key.startswith("models/"):
        answer["modelId"] = repository.repo_id
    return Answer.json(answer)


def refs(hub: "HubStandIn", request: Request) -> Answer:
    """Branches and tags."""
    repository = hub.repository(request.key)
    branches = {name: commit_at(repository, request, name).oid for name in repository.heads}

    def listed(folder: str, targets: Mapping[str, str]) -> list[dict[str, str]]:
        return [{"name": name, "ref": f"refs/{folder}/{name}", "targetCommit": oid} for name, oid in targets.items()]

    answer = {"branches": listed("heads", branches), "converts": [], "tags": listed("tags", repository.tags)}
    if request.asks("include_prs"):
        answer["pullRequests"] = []
    return Answer.json(answer)


def commits(hub: "HubStandIn", request: Request) -> Answer:
    """The history of a revision, newest first."""
    repository = hub.repository(request.key)
    items = [
        {
            "id": commit.oid,
            "title": commit.title,
            "message": commit.message,
            "authors": [{"user": commit.author, "avatar": ""}],
            "date": timestamp(commit.date),
        }
        for commit in repository.history(commit_at(repository, request, request.rest[0]))
    ]
    return paged(hub, request, items, hub.commits_per_page)


def file_item(repository: Repository, commit: Commit, path: str, expand: bool) -> dict[str, Any]:
    """A file in a listing."""
    entry = commit.tree[path]
    item = {"type": "file", "oid": entry.blob, "size": entry.size, "path": path, **lfs_fields(entry, "oid")}
    charge = repository.charges.get(entry.lfs or "")
    if charge and charge.xet_hash:
        item["xetHash"] = charge.xet_hash
    if expand:
        last = commit
        for older in repository.history(commit):
            if older.tree.get(path) != entry:
                break
            last = older
        item["lastCommit"] = {"id": last.oid, "title": last.title, "date": timestamp(last.date)}
    return item


def folder_item(commit: Commit, folder: str) -> dict[str, Any]:
    """A folder in a listing."""
    inside = sorted((path, entry.blob) for path, entry in commit.tree.items() if path.startswith(folder + "/"))
    return {"type": "directory", "oid": hashlib.sha1(repr(inside).encode()).hexdigest(), "size": 0, "path": folder}


def folders_of(paths: Iterable[str]) -> set[str]:
    """Every folder above some paths."""
    return {path[:end] for path in paths for end, letter in enumerate(path) if letter == "/"}


def tree(hub: "HubStandIn", request: Request) -> Answer:
    """Files and folders in a folder, or under it."""
    repository = hub.repository(request.key)
    commit = commit_at(repository, request, request.rest[0])
    folder = "/".join(request.rest[1:])
    prefix = folder + "/" if folder else ""
    paths = [path for path in commit.tree if path.startswith(prefix)]
    if folder and not paths:
        raise Refused(404, f'{folder} does not exist on "{request.rest[0]}"', "EntryNotFound")
    folders = {name for name in folders_of(paths) if name.startswith(prefix)}
    if not request.asks("recursive"):
        paths = [path for path in paths if "/" not in path[len(prefix) :]]
        folders = {name for name in folders if "/" not in name[len(prefix) :]}
    expand = request.asks("expand")
    items = [folder_item(commit, name) for name in folders]
    items += [file_item(repository, commit, path, expand) for path in paths]
    items.sort(key=lambda item: item["path"])
    return paged(hub, request, items, hub.entries_per_page)


def paths_info(hub: "HubStandIn", request: Request) -> Answer:
    """Some files and folders; those that are not there are left out."""
    repository = hub.repository(request.key)
    commit = commit_at(repository, request, request.rest[0])
    if request.headers.get("content-type", "").startswith("application/json"):
        asked = request.json()
        paths, expand = list(asked.get("paths", [])), bool(asked.get("expand"))
    else:
        form = parse_qs(request.body.decode())
        paths, expand = form.get("paths", []), form.get("expand", ["false"])[0].lower() in ("1", "true")
    folders = folders_of(commit.tree)
    items = []
    for path in paths:
        if path in commit.tree:
            items.append(file_item(repository, commit, path, expand))
        elif path.rstrip("/") in folders:
            items.append(folder_item(commit, path.rstrip("/")))
    return Answer.json(items)


def resolve(hub: "HubStandIn", request: Request) -> Answer:
    """A file: its contents, or where the store behind the Hub has them."""
    repository = hub.repository(request.key)
    commit = commit_at(repository, request, request.rest[0])
    path = "/".join(request.rest[1:])
    entry = commit.tree.get(path)
    headers = {"X-Repo-Commit": commit.oid, "Accept-Ranges": "bytes"}
    if entry is None:
        raise Refused(404, "Entry not found", "EntryNotFound", headers)
    if entry.lfs:
        headers |= {"X-Linked-Size": str(entry.size), "X-Linked-ETag": f'"{entry.lfs}"'}
        headers["Location"] = f"{hub.cdn_url}/_cdn/{request.key}/{entry.lfs}"
        charge = repository.charges.get(entry.lfs)
        if charge and charge.xet_hash:
            headers["X-Xet-Hash"] = charge.xet_hash
            headers["Link"] = f'<{hub.url}/api/{request.key}/xet-read-token/{commit.oid}>; rel="xet-auth"'
        return Answer(302, b"", headers)
    return file_answer(repository, entry, request, {"ETag": f'"{entry.blob}"', **headers})


def download(hub: "HubStandIn", request: Request) -> Answer:
    """An LFS object, from the store behind the Hub."""
    repository = hub.repository(request.key)
    oid = request.rest[0]
    if oid not in repository.charges:
        raise Refused(404, "NoSuchKey")
    entry = Entry(repository.charges[oid].size, "", oid)
    return file_answer(repository, entry, request, {"ETag": f'"{oid[:32]}"', "Accept-Ranges": "bytes"})


def file_answer(repository: Repository, entry: Entry, request: Request, headers: dict[str, str]) -> Answer:
    """The contents of a file, or the range of them that is asked for."""
    headers["Content-Type"] = "application/octet-stream"
    data = repository.contents(entry)
    if data is None:
        raise Refused(404, "NoSuchKey")
    asked = request.headers.get("range", "")
    if not asked.startswith("bytes=") or "," in asked:
        return Answer(200, data, headers)
    first, _, last = asked.removeprefix("bytes=").partition("-")
    start = int(first) if first else max(len(data) - int(last), 0)
    end = min(int(last) + 1, len(data)) if first and last else len(data)
    if start >= end:
        raise Refused(416, "The requested range is not satisfiable", headers={"Content-Range": f"bytes */{len(data)}"})
    headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
    return Answer(206, data[start:end], headers)


def whoami(hub: "HubStandIn", request: Request) -> Answer:
    """Who asks."""
    if request.token is None:
        raise Refused(401, "Invalid credentials in Authorization header")
    return Answer.json(request.token.whoami())


def auth_check(hub: "HubStandIn", request: Request) -> Answer:
    """Whether a repository may be read (or written)."""
    if request.rest == ["write"] and not (request.token and request.token.may_write(request.key.split("/", 1)[1])):
        raise Refused(403, "Authorization error.")
    return Answer.json({})
