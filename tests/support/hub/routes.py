"""From a path to the name of what is asked.

Tests name requests by these words when they count them or let them fail.
"""

from typing import NamedTuple
from urllib.parse import unquote

KINDS = ("models", "datasets", "spaces")

API_ROUTES = {
    ("GET", ""): "info",
    ("GET", "revision"): "info",
    ("GET", "refs"): "refs",
    ("GET", "commits"): "commits",
    ("GET", "tree"): "tree",
    ("POST", "paths-info"): "paths_info",
    ("GET", "auth-check"): "auth_check",
    ("GET", "lfs-files"): "lfs_list",
    ("POST", "lfs-files"): "lfs_delete",
    ("POST", "preupload"): "preupload",
    ("POST", "commit"): "commit",
    ("POST", "super-squash"): "squash",
    ("POST", "branch"): "branch",
    ("DELETE", "branch"): "branch",
    ("POST", "tag"): "tag",
    ("DELETE", "tag"): "tag",
    ("PUT", "settings"): "settings",
    ("GET", "xet-read-token"): "xet_token",
    ("GET", "xet-write-token"): "xet_token",
    ("GET", "runtime"): "runtime",
    ("POST", "pause"): "pause",
    ("POST", "restart"): "restart",
    ("POST", "hardware"): "hardware",
    ("POST", "sleeptime"): "sleeptime",
    ("POST", "secrets"): "secrets",
    ("POST", "variables"): "variables",
}
"""By method and the first part of the path after `/api/KIND/USER/NAME`."""

PLAIN_ROUTES = {
    ("GET", "/api/whoami-v2"): "whoami",
    ("POST", "/api/repos/create"): "create",
    ("DELETE", "/api/repos/delete"): "delete",
    ("POST", "/api/repos/move"): "move",
    ("POST", "/api/validate-yaml"): "validate",
    ("GET", "/api/jobs/hardware"): "job_hardware",
    ("POST", "/_control"): "control",
}

JOB_ROUTES = {
    ("GET", 0): "job_list",
    ("POST", 0): "job_start",
    ("GET", 1): "job_look",
    ("POST", 2): "job_cancel",
}
"""By method and number of parts after `/api/jobs/USER`: the id of a job, and `cancel`."""

OBJECT_ROUTES = {"PUT": "upload", "POST": "complete"}
"""Requests to `/_lfs/...`, which stands for the object store behind the Hub."""

DOWNLOADS = {"_cdn": "download", "_xorb": "xet_download"}
"""The same, for objects that are fetched."""

XET_ROUTES = {
    ("POST", "xorbs"): "xet_xorb",
    ("POST", "shards"): "xet_shard",
    ("GET", "chunks"): "xet_dedup",
    ("GET", "reconstructions"): "xet_reconstruction",
    ("", ""): "xet_other",
}
"""By method and the part of the path after `/_xet/KIND/USER/NAME/v1`; all else there is `xet_other`."""

OTHER_ROUTES = ("resolve", "download", "batch", "upload", "part", "complete", "verify", "xet_download")

ROUTES = frozenset(
    {*API_ROUTES.values(), *PLAIN_ROUTES.values(), *JOB_ROUTES.values(), *XET_ROUTES.values(), *OTHER_ROUTES}
    - {"control"}
)
"""Every name a request can have."""

WRITES = frozenset(
    {
        *("upload", "part", "complete", "commit", "squash", "lfs_delete", "xet_xorb", "xet_shard"),
        *("create", "delete", "move", "settings", "branch", "tag", "job_start", "job_cancel"),
        *("pause", "restart", "hardware", "sleeptime", "secrets", "variables"),
    }
)
"""Those that change something on the Hub."""


class Match(NamedTuple):
    """What a path asks for."""

    route: str
    key: str = ""
    rest: tuple[str, ...] = ()


def match(method: str, path: str) -> Match | None:
    """What a request asks for; None when nothing here answers it.

    Args:
        method: GET, HEAD, POST, PUT or DELETE.
        path: Path without the query, still quoted: a branch name may hold a quoted slash.
    """
    plain = PLAIN_ROUTES.get((method, path))
    if plain:
        return Match(plain)
    parts = [unquote(part) for part in path.split("/")[1:]]
    if parts[0] == "api":
        return _match_api(method, parts[1:])
    if parts[0] == "_lfs" and len(parts) >= 5 and method in OBJECT_ROUTES:
        route = "part" if method == "PUT" and len(parts) > 5 else OBJECT_ROUTES[method]
        return Match(route, "/".join(parts[1:4]), tuple(parts[4:]))
    if parts[0] in DOWNLOADS and len(parts) == 5:
        return Match(DOWNLOADS[parts[0]], "/".join(parts[1:4]), tuple(parts[4:]))
    if parts[0] == "_xet" and len(parts) >= 6:
        route = XET_ROUTES.get((method, parts[5]), "xet_other") if parts[4] == "v1" else "xet_other"
        return Match(route, "/".join(parts[1:4]), tuple(parts[6:]))
    kind = parts.pop(0) if parts[0] in KINDS[1:] else KINDS[0]
    return _match_page(kind, parts)


def _match_api(method: str, parts: list[str]) -> Match | None:
    if parts[0] == "jobs" and len(parts) > 1:
        route = JOB_ROUTES.get((method, len(parts) - 2))
        return Match(route, rest=tuple(parts[1:])) if route else None
    if len(parts) < 3 or parts[0] not in KINDS:
        return None
    name, *rest = parts[3:] or [""]
    route = API_ROUTES.get((method, name))
    if route == "xet_token":
        rest = [name.split("-")[1]]
    return Match(route, "/".join(parts[:3]), tuple(rest)) if route else None


def _match_page(kind: str, parts: list[str]) -> Match | None:
    if len(parts) > 3 and parts[2] == "resolve":
        return Match("resolve", f"{kind}/{parts[0]}/{parts[1]}", tuple(parts[3:]))
    if len(parts) == 6 and parts[1].endswith(".git") and parts[2:5] == ["info", "lfs", "objects"]:
        key = f"{kind}/{parts[0]}/{parts[1].removesuffix('.git')}"
        return Match(parts[5], key) if parts[5] in ("batch", "verify") else None
    return None
