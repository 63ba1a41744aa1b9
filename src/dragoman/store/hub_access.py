"""Who we are at a Hub: which token to send, and whether it may write there.

A token is asked for anew at each request, so that a run whose secret was replaced goes on.
Where the environment still has the old one, `hf auth login` on the machine helps: a token
that was refused gives way to another one, if there is one.
"""

import contextlib
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, cast

from dragoman.errors import InputError
from dragoman.store.outcome import NEW_TOKEN, one_line

_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]*[\w-]")
_KINDS = {"models", "datasets", "spaces", "buckets"}


class Tokens:
    """The tokens that there are, and which one to send.

    Args:
        ask: Gives the token; by default that of the environment, then that of `hf auth login`.
    """

    def __init__(self, ask: Callable[[], str | None] | None = None) -> None:
        self._ask = ask
        self._refused: set[str] = set()
        self._seen: set[str] = set()

    def choose(self, tried: Collection[str] = ()) -> str | None:
        """The token to send now: the first that was not refused last time, else the first; None without any.

        Args:
            tried: Tokens that are out of the question.
        """
        found = self._found()
        self._seen.update(found)
        found.sort(key=lambda token: token in self._refused)
        return next((token for token in found if token not in tried), None)

    def note(self, token: str, *, refused: bool) -> None:
        """Remember how a request with this token ended."""
        (self._refused.add if refused else self._refused.discard)(token)

    def scrub(self, text: object) -> str:
        """A text in one line and without any token."""
        return one_line(text, tuple(self._seen))

    def _found(self) -> list[str]:
        if self._ask is not None:
            return [token for token in [self._ask()] if token]
        from huggingface_hub import constants, get_token

        found = [get_token()]
        with contextlib.suppress(OSError):
            found.append(Path(constants.HF_TOKEN_PATH).read_text().strip())
        return list(dict.fromkeys(token for token in found if token))


def check_name(repo_id: str) -> None:
    """Raise `InputError` unless this names a repository that can hold a model."""
    first = repo_id.split("/")[0]
    if first in _KINDS and repo_id.count("/") == 2:
        raise InputError(
            f"hf://{repo_id}: a run is kept in a model repository, not under {first}",
            f"hf://{repo_id.split('/')[1]}/ANOTHER-NAME",
        )
    if not _NAME.fullmatch(repo_id) or ".." in repo_id or "--" in repo_id or len(repo_id) > 96:
        raise InputError(f"hf://{repo_id}: not the name of a Hub repository", "hf://USER/REPO")


def check_identity(who: Mapping[str, Any], repo_id: str) -> None:
    """Raise `InputError` unless the owner of a token, and the token, may write to a repository.

    Args:
        who: The answer to `whoami`. What it does not say is not held against it.
        repo_id: USER/REPO.
    """
    owner, user = repo_id.split("/")[0], str(who.get("name", ""))
    token = who.get("auth", {}).get("accessToken", {})
    role = token.get("role", "")
    if role == "read":
        raise InputError(f"hf://{repo_id}: the token of {user} may only read", NEW_TOKEN)
    if role == "fineGrained":
        if not _grants(token.get("fineGrained", {}), {owner.lower(), repo_id.lower()}):
            raise InputError(
                f"hf://{repo_id}: the fine-grained token of {user} may not write there",
                f"give it the right to write to {owner} or {repo_id} at https://huggingface.co/settings/tokens",
            )
        return
    groups = {str(org.get("name", "")).lower(): str(org.get("roleInOrg", "")) for org in who.get("orgs", [])}
    if user and owner.lower() not in {user.lower(), *groups}:
        raise InputError(
            f"hf://{repo_id}: belongs to {owner}, and this token to {user}",
            f"hf://{user}/{repo_id.split('/')[1]}",
        )
    if groups.get(owner.lower()) == "read":
        raise InputError(
            f"hf://{repo_id}: {user} may only read in {owner}",
            f"ask {owner} for the right to write, or use hf://{user}/{repo_id.split('/')[1]}",
        )


def _grants(fine: Mapping[str, Any], names: set[str]) -> bool:
    """Whether a fine-grained token may write to something of these names."""
    if "repo.write" in fine.get("global", []):
        return True
    scopes = cast("list[dict[str, Any]]", fine.get("scoped", []))
    return any(
        str(scope.get("entity", {}).get("name", "")).lower() in names and "repo.write" in scope.get("permissions", [])
        for scope in scopes
    )
