"""What went wrong at a Hub, in words, from whatever its client raised.

An exception never says whether a change took effect: a commit may land and its answer be
lost, or be a 500. So nothing here decides that; only reading back does. These are the
words that a person sees while a run is degraded, one line each, and never a token.
"""

import re
from collections.abc import Iterator
from typing import Any, cast

from dragoman.errors import StoreUnavailable

NO_ANSWER = 0
"""The status of a request that was not answered."""
NOT_FOUND, CONFLICT, MOVED_ON, TOO_OFTEN = 404, 409, 412, 429
DENIED = (401, 403)

TOKENS_PAGE = "https://huggingface.co/settings/tokens"
NEW_TOKEN = f"make a token with the role write at {TOKENS_PAGE} and put it into HF_TOKEN, or run: hf auth login"

_TOKEN = re.compile(r"\bhf_\w{6,}|(?<=Bearer )\S+")
_QUOTA = re.compile(r"storage|quota|\bspace\b|payment|billing|\bplan\b", re.IGNORECASE)
_WAIT = re.compile(r"r\s*=\s*0\s*;\s*t\s*=\s*(\d+)")
_ADDRESS = re.compile(r"name or service|name resolution|nodename|getaddrinfo|no address", re.IGNORECASE)
_SAFETY = re.compile(r"certificate|ssl|tls", re.IGNORECASE)
_CUT = {"RemoteProtocolError", "ReadError", "WriteError", "LocalProtocolError", "CloseError"}


class HubFailure(StoreUnavailable):
    """The Hub refused a request or did not answer it.

    Args:
        message: Which store, what was asked of it, and what it answered.
        hint: What a person can do.
        retry_after: Seconds after which it wants to be asked again; 0 when it did not say.
        status: The HTTP status; `NO_ANSWER` when there was none.
        code: The Hub's own word for it, such as `RevisionNotFound`.
    """

    def __init__(
        self, message: str, hint: str = "", retry_after: float = 0.0, *, status: int = NO_ANSWER, code: str = ""
    ) -> None:
        super().__init__(message, hint, retry_after)
        self.status, self.code = status, code

    @property
    def may_pass(self) -> bool:
        """Whether the same request may succeed a moment later: a cut, or a failure of the server."""
        return self.status == NO_ANSWER or self.status >= 500


class AskedTooOften(Exception):
    """The server wants to be left alone for longer than its client should sleep for us."""

    def __init__(self, response: Any) -> None:
        super().__init__()
        self.response = response


def explain(error: BaseException, what: str, repo: str, *, has_token: bool = True) -> HubFailure:
    """The failure that an exception of the Hub's client means.

    Args:
        error: What it raised.
        what: Store and request, in words.
        repo: USER/REPO.
        has_token: Whether the request bore a token.
    """
    response = next((found for one in _chain(error) if (found := getattr(one, "response", None)) is not None), None)
    if response is None:
        return HubFailure(f"{what}: {_without_answer(error)}")
    status, code = int(response.status_code), str(response.headers.get("X-Error-Code") or "")
    reason, hint = _refusal(status, code, _words(response), repo, has_token)
    wait = wait_seconds(response) if status in (TOO_OFTEN, 503) else 0.0
    if wait:
        reason += f"; it wants to be asked again in {wait:g} s"
    return HubFailure(f"{what}: {status}: {reason}", hint, wait, status=status, code=code)


def wait_seconds(response: Any) -> float:
    """How long a server asks us to wait; 0 when it does not."""
    asked = str(response.headers.get("Retry-After") or "").strip()
    if asked.isdigit():
        return float(asked)
    window = _WAIT.search(str(response.headers.get("RateLimit") or ""))
    return float(window.group(1)) if window else 0.0


def one_line(text: object, secrets: tuple[str, ...] = ()) -> str:
    """A text without line breaks, tokens and endless tails."""
    line = " ".join(str(text).split())
    for secret in secrets:
        line = line.replace(secret, "hf_…")
    return _TOKEN.sub("hf_…", line)[:300]


def _refusal(status: int, code: str, words: str, repo: str, has_token: bool) -> tuple[str, str]:
    """Reason and hint for a status."""
    said = f" ({words})" if words else ""
    owner = repo.split("/")[0]
    if status == 401 and not has_token:
        return "no token, and it is private or not there (HF_TOKEN is not set)", NEW_TOKEN
    if status == 401:
        return "the token is not valid (HF_TOKEN, or the file of hf auth login)", NEW_TOKEN
    if status in (402, 403, 413) and _QUOTA.search(words):
        hint = "free space at https://huggingface.co/settings/billing, keep fewer checkpoints, or use another store"
        return f"the storage of {owner} is full, or its plan does not allow this{said}", hint
    if status == 403:
        return f"this token may not do that in {repo}{said}", NEW_TOKEN
    if status == NOT_FOUND and code == "RevisionNotFound":
        return f"a commit is not shown (yet, or no more){said}", ""
    if status == NOT_FOUND and code == "EntryNotFound":
        return f"a file is not there{said}", ""
    if status == NOT_FOUND:
        return f"{repo} is gone, or hidden from this token{said}", "look at its page, and at which token HF_TOKEN holds"
    if status == CONFLICT:
        return f"another change is in progress{said}", ""
    if status == MOVED_ON:
        return "somebody else changed the repository at the same moment", ""
    if status == TOO_OFTEN:
        return f"asked too often (the Hub takes about 128 commits an hour){said}", ""
    if status >= 500:
        return f"the Hub failed{said}", ""
    return f"refused{said}", ""


def _words(response: Any) -> str:
    """What the server says itself."""
    said = response.headers.get("X-Error-Message")
    if not said:
        try:
            body: object = response.json()
        except Exception:  # not read, not JSON, not text: then it says nothing
            return ""
        said = cast("dict[str, object]", body).get("error") if isinstance(body, dict) else ""
    return one_line(said or "")[:160].rstrip(".")


def _without_answer(error: BaseException) -> str:
    """The reason for a request that got no answer."""
    texts = [f"{type(one).__name__}: {one}" for one in _chain(error)]
    kinds = {kind.__name__ for one in _chain(error) for kind in type(one).__mro__}
    text = " ".join(texts)
    if "OfflineModeIsEnabled" in kinds:
        return "HF_HUB_OFFLINE forbids to ask it"
    if kinds & {"TimeoutException", "TimeoutError"}:
        return f"no answer ({type(error).__name__})"
    if "LFS batch API returned errors" in text:
        return one_line(text.split("LFS batch API returned errors:")[-1])
    if _ADDRESS.search(text):
        return "its name cannot be resolved (no network, or a wrong HF_ENDPOINT)"
    if "ConnectError" in kinds and _SAFETY.search(text):
        return f"no safe connection: {one_line(list(_chain(error))[-1])}"
    if kinds & {"ConnectError", "ConnectionRefusedError", "ProxyError"}:
        return f"it cannot be reached ({one_line(list(_chain(error))[-1])})"
    if kinds & (_CUT | {"ConnectionError"}):
        return "the connection was cut"
    return one_line(texts[0])


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception and what led to it."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or one.__context__
