"""One request, its answer, and how a request is refused in the Hub's words."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from tests.support.hub.accounts import Token

REASONS = {
    200: "OK",
    206: "Partial Content",
    302: "Found",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    409: "Conflict",
    412: "Precondition Failed",
    413: "Payload Too Large",
    416: "Range Not Satisfiable",
    429: "Too Many Requests",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


class Refused(Exception):
    """The request has no effect; the client gets an error."""

    def __init__(self, status: int, message: str, code: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code
        self.headers = dict(headers or {})


@dataclass
class Answer:
    """What is sent back."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> "Answer":
        """An answer with a JSON body."""
        body = json.dumps(value, separators=(",", ":")).encode()
        return Answer(status, body, {"Content-Type": "application/json; charset=utf-8", **(headers or {})})

    @staticmethod
    def refusal(refused: Refused) -> "Answer":
        """The answer to a refused request: the reason is in the body and in a header."""
        headers = {"X-Error-Message": refused.message, **refused.headers}
        if refused.code:
            headers["X-Error-Code"] = refused.code
        return Answer.json({"error": refused.message}, refused.status, headers)


@dataclass
class Request:
    """One request as a handler sees it."""

    method: str
    route: str
    """What is asked, see `routes.py`."""
    path: str
    """Path as sent, without the query."""
    key: str = ""
    """Repository: KIND/USER/NAME with kind `models`, `datasets` or `spaces`; empty where none is named."""
    rest: list[str] = field(default_factory=list)
    """Parts of the path after the name of the route, unquoted."""
    query_text: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    """By lower-case name."""
    body: bytes = b""
    token: Token | None = None
    """Who asks; None for nobody."""
    stale_commits: int = 0
    """Branches are shown as they were this many heads ago."""

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(self.query_text, keep_blank_values=True)

    def asks(self, name: str) -> bool:
        """Whether a switch in the query is on."""
        return self.query.get(name, ["false"])[0].lower() in ("1", "true")

    def json(self) -> dict[str, Any]:
        """The body, which must be a JSON object."""
        try:
            value = json.loads(self.body or b"{}")
        except ValueError:
            raise Refused(400, "Invalid JSON") from None
        if not isinstance(value, dict):
            raise Refused(400, "Invalid JSON: expected an object")
        return value

    @property
    def user(self) -> str:
        return self.token.user if self.token else ""
