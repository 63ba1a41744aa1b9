"""Which secrets a machine needs for its store, and what they are here.

Their names are in a plan; their values go from the environment of this machine straight to
the secrets of the platform, never into a file, an argument or a plain variable.
"""

from collections.abc import Sequence
from pathlib import Path

from dragoman import host
from dragoman.errors import InputError
from dragoman.store.hub_access import Tokens
from dragoman.store.outcome import NEW_TOKEN

HUB_TOKEN = "HF_TOKEN"
NEEDED = {
    "s3": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    "gs": ("GOOGLE_SERVICE_ACCOUNT_KEY",),
    "az": ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY"),
}
"""Without these a store of that kind does not open."""
USEFUL = {"s3": ("AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL")}
"""Given along where they are set here."""
_LEAST_LENGTH = 8
_KEY_FILE = "GOOGLE_APPLICATION_CREDENTIALS"


def names(store: str) -> tuple[str, ...]:
    """The variables that the platform keeps secret, for a run with this store."""
    kind = store.partition("://")[0]
    return (HUB_TOKEN, *NEEDED.get(kind, ()), *USEFUL.get(kind, ()))


def values(wanted: Sequence[str], tokens: Tokens) -> dict[str, str]:
    """What they are on this machine; those that are only useful are left out where they are not set.

    Raises:
        InputError: One that is needed is missing.
    """
    needed = {HUB_TOKEN, *(name for kind in NEEDED.values() for name in kind)}
    found: dict[str, str] = {}
    for name in wanted:
        value = tokens.choose() if name == HUB_TOKEN else _value(name)
        if value:
            found[name] = value
        elif name in needed:
            raise InputError(
                f"{name} is not set, and the machine needs it",
                NEW_TOKEN if name == HUB_TOKEN else f"export {name}=… on this machine; it is sent as a secret",
            )
    return found


def known(wanted: Sequence[str]) -> list[str]:
    """The values of those that are set on this machine and long enough to be told from other text."""
    found = [Tokens().choose() if name == HUB_TOKEN else _value(name) for name in wanted if not _is_plain(name)]
    return [value for value in found if value and len(value) >= _LEAST_LENGTH]


def _is_plain(name: str) -> bool:
    """Whether it may be read by anybody: where a store is, not how to open it."""
    return name.endswith(("REGION", "URL", "ACCOUNT_NAME"))


def _value(name: str) -> str | None:
    value = host.variable(name)
    if value is None and name == "GOOGLE_SERVICE_ACCOUNT_KEY" and (path := host.variable(_KEY_FILE)):
        try:
            return Path(path).expanduser().read_text("utf-8")  # a path means nothing on the other machine
        except OSError as error:
            raise InputError(f"{_KEY_FILE}: cannot read {path}: {error.strerror}", "the path of a key file") from None
    return value
