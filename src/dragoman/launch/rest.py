"""JSON over HTTP to a vendor of machines: one question, one answer, in time, with every refusal in words.

The standard library's client is enough for a dozen calls. The vendors' own packages bring
web frameworks and pin what we use; which HTTP library `huggingface_hub` brings depends on its version.
"""

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Collection
from typing import Any, cast

from dragoman import __version__
from dragoman.errors import InputError, StoreUnavailable
from dragoman.store.outcome import one_line

Json = dict[str, Any]
GONE = (404, 410)
"""What is asked for is not there (any more)."""
_DENIED = (401, 403)
_BUSY = 429


class NoAnswer(StoreUnavailable):
    """The vendor did not answer, or could not; what was asked may have been done all the same."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A key is sent nowhere but where it belongs."""

    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: Any) -> None:
        return None


class Rest:
    """One account at one vendor.

    Args:
        vendor: What it is called in messages.
        base: Where its paths begin, without a slash at the end.
        key: The account's key; sent as a bearer token, and never shown.
        key_hint: Where to get another key.
        seconds: How long to wait for an answer.
    """

    def __init__(self, vendor: str, base: str, key: str, key_hint: str, seconds: float = 60.0) -> None:
        self._vendor, self._base, self._key, self._key_hint, self._seconds = vendor, base, key, key_hint, seconds
        self._open = urllib.request.build_opener(_NoRedirect).open

    def ask(self, what: str, method: str, path: str, body: Json | None = None, *, missing: Collection[int] = ()) -> Any:
        """The answer to one question: JSON, or None where it is empty.

        Args:
            what: What could not be done then, in words.
            method: HTTP's word for it.
            path: With a slash before it, and the query behind it.
            body: What is sent.
            missing: Statuses that mean that it is not there; the answer is None then.

        Raises:
            InputError: The vendor refused it.
            NoAnswer: It did not answer, or has troubles of its own.
        """
        request = urllib.request.Request(
            f"{self._base}{path}",
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={
                "Authorization": f"Bearer {self._key}",
                "Content-Type": "application/json",
                "User-Agent": f"dragoman/{__version__}",
            },
        )
        try:
            with self._open(request, timeout=self._seconds) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            with error:
                if error.code in missing:
                    return None
                raise self._refused(what, error) from None  # without its cause, which may quote headers
        except (OSError, http.client.HTTPException) as error:
            why = one_line(getattr(error, "reason", error), (self._key,))
            raise NoAnswer(f"{self._vendor}: {what}: no answer ({why})") from None
        return self._decoded(what, text)

    def _decoded(self, what: str, text: bytes) -> Any:
        try:
            return json.loads(text) if text.strip() else None
        except ValueError:
            raise NoAnswer(f"{self._vendor}: {what}: the answer cannot be read") from None

    def _refused(self, what: str, error: urllib.error.HTTPError) -> InputError | NoAnswer:
        if error.code in _DENIED:
            return InputError(f"{self._vendor}: {what}: the key is refused ({error.code})", self._key_hint)
        message = f"{self._vendor}: {what}: {self._reason(error)}"
        if error.code == _BUSY or error.code >= 500 or error.code < 400:
            return NoAnswer(message, retry_after=_seconds(error.headers.get("Retry-After")))
        return InputError(message, "look whether the run file asks for something that it does not have")

    def _reason(self, error: urllib.error.HTTPError) -> str:
        """What the vendor says of it, in one line; else the status."""
        try:
            said = error.read().decode("utf-8", "replace")
        except (OSError, http.client.HTTPException):
            said = ""
        words = _words(said) or f"{error.reason}"
        return f"{one_line(words, (self._key,))} ({error.code})"


def _words(said: str) -> str:
    try:
        told = json.loads(said)
    except ValueError:
        return "" if said.lstrip().startswith("<") else said
    if not isinstance(told, dict):
        return str(told)
    fields = cast("Json", told)
    found = [str(fields[name]) for name in ("detail", "msg", "message", "error") if fields.get(name)]
    return ": ".join([*found[:1], *map(str, cast("list[object]", fields.get("errors") or []))])


def _seconds(text: str | None) -> float:
    try:
        return max(0.0, float(text or 0))
    except ValueError:
        return 0.0
