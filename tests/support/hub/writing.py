"""Requests that change a repository, and the commit that all else leads to."""

import base64
import json
from typing import TYPE_CHECKING, Any

from tests.support.hub.access import authorize
from tests.support.hub.card_check import checked
from tests.support.hub.limits import count_commit
from tests.support.hub.messages import Answer, Refused, Request
from tests.support.hub.reading import commit_at
from tests.support.hub.repository import Repository
from tests.support.hub.trees import Entry, NoSuchEntry, Operation, git_oid, pointer

if TYPE_CHECKING:
    from tests.support.hub.hub import HubStandIn

LFS_ENDINGS = (
    *(".7z", ".arrow", ".bin", ".bz2", ".ckpt", ".ftz", ".gz", ".h5", ".joblib", ".mlmodel", ".model", ".msgpack"),
    *(".npy", ".npz", ".onnx", ".ot", ".parquet", ".pb", ".pickle", ".pkl", ".pt", ".pth", ".rar", ".safetensors"),
    *(".tar", ".tflite", ".tgz", ".wasm", ".xz", ".zip", ".zst"),
)
"""Endings that the `.gitattributes` of a new repository sends to LFS."""


def is_binary(sample: bytes) -> bool:
    """Whether the beginning of a file is not text."""
    if b"\0" in sample:
        return True
    try:
        sample.decode()
    except UnicodeDecodeError as error:
        return error.start < len(sample) - 3  # a character may be cut off at the end of the sample
    return False


def preupload(hub: "HubStandIn", request: Request) -> Answer:
    """Which of some files go to LFS."""
    repository = hub.repository(request.key)
    commit = commit_at(repository, request, request.rest[0])
    files = []
    for file in request.json()["files"]:
        entry = commit.tree.get(file["path"])
        mode = "lfs" if hub.goes_to_lfs(file["path"], file["size"], base64.b64decode(file["sample"])) else "regular"
        files.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False})
        if entry:
            files[-1]["oid"] = entry.lfs or entry.blob
    return Answer.json({"commitOid": commit.oid, "files": files})


def commit(hub: "HubStandIn", request: Request) -> Answer:
    """Make a commit, unless the branch has moved on or something is missing."""
    repository = hub.repository(request.key)
    branch = request.rest[0]
    if branch not in repository.heads:
        raise Refused(404, f"Invalid rev id: {branch}", "RevisionNotFound")
    header, lines = parse_commit(request.body)
    count_commit(hub, repository)
    parent = header.get("parentCommit")
    if parent and not repository.head(branch).startswith(parent):
        raise Refused(412, "A commit has happened since. Please refresh and try again.")
    contents: dict[str, bytes] = {}
    operations = [operation_of(hub, repository, key, value, contents) for key, value in lines]
    try:
        oid = repository.commit(
            operations,
            header["summary"],
            message=header.get("description", ""),
            author=request.user,
            parent=repository.head(branch),
            date=hub.clock(),
        )
    except NoSuchEntry:
        raise Refused(404, "A file with this name doesn't exist", "EntryNotFound") from None
    for name, data in contents.items():
        repository.storage.put(name, data)
    repository.point("branch", branch, oid)
    url = f"{hub.page(request.key)}/commit/{oid}"
    return Answer.json({"success": True, "commitOid": oid, "commitUrl": url, "hookOutput": ""})


def parse_commit(body: bytes) -> tuple[dict[str, Any], list[tuple[str, dict[str, Any]]]]:
    """The header and the operations of a commit, one JSON object a line."""
    try:
        lines = [json.loads(line) for line in body.splitlines() if line.strip()]
        pairs = [(line["key"], line["value"]) for line in lines]
    except (ValueError, KeyError, TypeError):
        raise Refused(400, "Invalid JSON lines in the body of the commit") from None
    headers = [value for key, value in pairs if key == "header"]
    if len(headers) != 1 or not headers[0].get("summary"):
        raise Refused(400, "A commit needs one header with a summary")
    return headers[0], [(key, value) for key, value in pairs if key != "header"]


def operation_of(
    hub: "HubStandIn", repository: Repository, key: str, value: dict[str, Any], contents: dict[str, bytes]
) -> Operation:
    """One line of a commit; adds the contents of a file to those that are to be stored."""
    path = value["path"]
    if key == "deletedFile":
        return Operation("delete", path)
    if key == "deletedFolder":
        return Operation("delete_folder", path)
    if key == "lfsFile":
        charge = repository.charges.get(value["oid"])
        if charge is None:
            reason = "Your push was rejected because an LFS pointer pointed to a file that does not exist."
            raise Refused(400, f"{reason} Offending file: - {path}")
        entry = Entry(charge.size, git_oid(pointer(value["oid"], charge.size)), value["oid"])
        return Operation("add_lfs", path, entry)
    if key != "file":
        raise Refused(400, f"Unknown operation: {key}")
    data = base64.b64decode(value["content"])
    if len(data) > hub.lfs_from_bytes:
        raise Refused(400, f"Your push was rejected because it contains files larger than 10 MiB. Offending: {path}")
    entry = Entry(len(data), git_oid(data))
    contents[repository.blob_name(entry.blob)] = data
    return Operation("add", path, entry)


def squash(hub: "HubStandIn", request: Request) -> Answer:
    """Replace the history of a branch by one commit."""
    repository = hub.repository(request.key)
    branch = request.rest[0]
    if branch not in repository.heads:
        raise Refused(404, f"Invalid rev id: {branch}", "RevisionNotFound")
    repository.squash(branch, request.json().get("message") or "Super-squash", request.user, hub.clock())
    return Answer.json({"success": True})


def branch(hub: "HubStandIn", request: Request) -> Answer:
    """Make or delete a branch."""
    repository = hub.repository(request.key)
    name = request.rest[0]
    if request.method == "DELETE":
        if name not in repository.heads or name == "main":
            raise Refused(404 if name != "main" else 403, f"Cannot delete branch {name}", "RevisionNotFound")
        repository.point("branch", name, None)
        return Answer.json({})
    if name in repository.heads:
        raise Refused(409, f"Reference already exists: refs/heads/{name}")
    start = commit_at(repository, request, request.json().get("startingPoint") or "main")
    repository.point("branch", name, start.oid)
    return Answer.json({})


def tag(hub: "HubStandIn", request: Request) -> Answer:
    """Make or delete a tag."""
    repository = hub.repository(request.key)
    if request.method == "DELETE":
        if request.rest[0] not in repository.tags:
            raise Refused(404, f"Invalid rev id: {request.rest[0]}", "RevisionNotFound")
        repository.point("tag", request.rest[0], None)
        return Answer.json({})
    name = request.json()["tag"]
    if name in repository.tags:
        raise Refused(409, f"Tag reference exists already: {name}")
    repository.point("tag", name, commit_at(repository, request, request.rest[0]).oid)
    return Answer.json({})


def create(hub: "HubStandIn", request: Request) -> Answer:
    """Make a repository."""
    asked = request.json()
    kind = asked.get("type") or "model"
    key = f"{kind}s/{asked.get('organization') or request.user}/{asked['name']}"
    url = hub.page(key)
    if not (request.token and request.token.may_write(key.split("/", 1)[1])):
        owner = key.split("/")[1]
        raise Refused(403, f'You don\'t have the rights to create a {kind} under the namespace "{owner}"')
    if key in hub.repositories:
        return Answer.json({"error": f"You already created this {kind} repo", "url": url}, 409)
    private = asked.get("private", False) or asked.get("visibility") == "private"
    hub.make_repository(key, private)
    return Answer.json({"url": url, "name": key.split("/", 1)[1], "id": key})


def delete(hub: "HubStandIn", request: Request) -> Answer:
    """Delete a repository with all that is in it."""
    asked = request.json()
    key = f"{asked.get('type') or 'model'}s/{asked.get('organization') or request.user}/{asked['name']}"
    authorize(hub, request, key)
    hub.repositories.pop(key).remove()
    return Answer.json({})


def move(hub: "HubStandIn", request: Request) -> Answer:
    """Give a repository another name. The real Hub leads from the old name to the new one; this one does not."""
    asked = request.json()
    kind = asked.get("type") or "model"
    old, new = f"{kind}s/{asked['fromRepo']}", f"{kind}s/{asked['toRepo']}"
    authorize(hub, request, old)
    if not (request.token and request.token.may_write(asked["toRepo"])):
        raise Refused(403, f"You don't have the rights to move to {asked['toRepo']}")
    if new in hub.repositories:
        raise Refused(409, f"{asked['toRepo']} exists already")
    hub.storage.move(old, f"repositories/{old}", new, f"repositories/{new}")
    del hub.repositories[old]
    hub.repositories[new] = Repository(new, hub.storage)
    return Answer.json({})


def settings(hub: "HubStandIn", request: Request) -> Answer:
    """Show or hide a repository."""
    asked = request.json()
    private = asked.get("private", asked.get("visibility", "public") == "private")
    hub.repository(request.key).set_private(bool(private))
    return Answer.json({"private": bool(private)})


def validate(hub: "HubStandIn", request: Request) -> Answer:
    """Whether a card is well-formed."""
    asked = request.json()
    errors, warnings = checked(asked["content"], asked.get("repoType") or "model")
    found = {"errors": [{"message": each} for each in errors], "warnings": [{"message": each} for each in warnings]}
    return Answer.json(found, 400 if errors else 200)
