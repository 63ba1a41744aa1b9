"""Whether a request may do what it asks, and how it is refused if not."""

from typing import TYPE_CHECKING

from tests.support.hub.limits import count_request
from tests.support.hub.messages import Refused, Request
from tests.support.hub.routes import JOB_ROUTES, WRITES, XET_ROUTES

if TYPE_CHECKING:
    from tests.support.hub.hub import HubStandIn

NEEDS_WRITE = WRITES | {"preupload", "batch", "verify"}
SIGNED = frozenset({"upload", "part", "complete", "download"} | {*XET_ROUTES.values(), "xet_download"})
"""Requests to the store behind the Hub: their URLs are signed, or they carry a token of that store."""
NAMED_IN_BODY = frozenset({"whoami", "create", "delete", "move", "validate", "job_hardware", *JOB_ROUTES.values()})
"""Requests whose path names no repository."""


def admit(hub: "HubStandIn", request: Request) -> None:
    """Find out who asks; refuse what they may not do."""
    if request.route in SIGNED:
        if request.key not in hub.repositories:
            raise Refused(404, "NoSuchBucket")
        return
    header = request.headers.get("authorization", "")
    if header:
        request.token = hub.accounts.find(header.removeprefix("Bearer "))
        if request.token is None:
            raise Refused(401, "Invalid credentials in Authorization header")
    if request.route != "resolve":
        count_request(hub, request.user)
    if request.route not in NAMED_IN_BODY:
        authorize(hub, request, request.key)


def authorize(hub: "HubStandIn", request: Request, key: str) -> None:
    """Refuse a request for a repository that is not there, is hidden, or belongs to somebody else."""
    repository, token, repo_id = hub.repositories.get(key), request.token, key.split("/", 1)[1]
    if repository is None or (repository.private and not (token and token.may_read(repo_id))):
        if token is None:
            raise Refused(401, "Invalid username or password.", "RepoNotFound")
        raise Refused(404, "Repository not found", "RepoNotFound")
    if request.route not in NEEDS_WRITE and request.rest[:1] != ["write"]:
        return
    if token is None:
        raise Refused(401, "Invalid username or password.")
    if token.role == "read":
        raise Refused(403, "Forbidden: you must use a write token to upload to a repository.")
    if not token.may_write(repo_id):
        raise Refused(403, "Authorization error.")
