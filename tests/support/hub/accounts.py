"""Who may do what: access tokens with a role and an owner."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from tests.support.hub.storage import Storage

Role = Literal["write", "read", "fineGrained"]
LOG = "tokens"
READ_SCOPES = {"repo.content.read", "repo.write"}


@dataclass(frozen=True)
class Token:
    """One access token."""

    name: str
    """The secret itself, `hf_...`."""
    user: str
    role: Role = "write"
    orgs: Sequence[str] = ()
    """Organisations of the user, who may write there."""
    scopes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Of a fine-grained token: permissions such as `repo.write` by user, organisation or USER/NAME."""

    def may_write(self, repo_id: str) -> bool:
        """Whether this token may change a repository (given as USER/NAME) or make it."""
        if self.role == "fineGrained":
            return "repo.write" in self._granted(repo_id)
        return self.role == "write" and self._is_own(repo_id)

    def may_read(self, repo_id: str) -> bool:
        """Whether this token shows a private repository."""
        if self.role == "fineGrained":
            return bool(READ_SCOPES.intersection(self._granted(repo_id)))
        return self._is_own(repo_id)

    def may_run_jobs(self, owner: str) -> bool:
        """Whether this token may start jobs that `owner` pays."""
        if self.role == "fineGrained":
            return "job.write" in self._granted(owner)
        return self.role == "write" and self._is_own(owner)

    def _is_own(self, repo_id: str) -> bool:
        return repo_id.split("/")[0] in (self.user, *self.orgs)

    def _granted(self, repo_id: str) -> list[str]:
        return [*self.scopes.get(repo_id, ()), *self.scopes.get(repo_id.split("/")[0], ())]

    def whoami(self) -> dict[str, Any]:
        """The answer to `whoami-v2`."""
        access: dict[str, Any] = {
            "displayName": f"token of {self.user}",
            "role": self.role,
            "createdAt": "2026-01-01T00:00:00.000Z",
        }
        if self.role == "fineGrained":
            access["fineGrained"] = {
                "canReadGatedRepos": False,
                "global": [],
                "scoped": [
                    {
                        "entity": {"_id": f"{name}-id", "type": self._kind(name), "name": name},
                        "permissions": list(permissions),
                    }
                    for name, permissions in self.scopes.items()
                ],
            }
        return {
            "type": "user",
            "id": f"{self.user}-id",
            "name": self.user,
            "fullname": self.user,
            "email": f"{self.user}@example.org",
            "emailVerified": True,
            "canPay": False,
            "isPro": False,
            "periodEnd": None,
            "avatarUrl": "",
            "orgs": [
                {"type": "org", "id": f"{org}-id", "name": org, "fullname": org, "roleInOrg": "write", "isPro": False}
                for org in self.orgs
            ],
            "auth": {"type": "access_token", "accessToken": access},
        }

    def _kind(self, name: str) -> str:
        if "/" in name:
            return "model"
        return "org" if name in self.orgs else "user"


class Accounts:
    """All valid tokens."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._tokens: dict[str, Token] = {}
        for line in storage.lines(LOG):
            self._apply(json.loads(line))

    def add(self, token: Token) -> None:
        """Make a token valid, or change what it may do."""
        self._record(asdict(token))

    def revoke(self, name: str) -> None:
        """Make a token invalid, as its owner does in the settings."""
        self._record({"revoked": name})

    def find(self, name: str) -> Token | None:
        """The token of that name, if it is valid."""
        return self._tokens.get(name)

    def _record(self, event: dict[str, Any]) -> None:
        self._storage.append(LOG, json.dumps(event))
        self._apply(event)

    def _apply(self, event: dict[str, Any]) -> None:
        if "revoked" in event:
            self._tokens.pop(event["revoked"], None)
        else:
            self._tokens[event["name"]] = Token(**event)
