"""Kaggle's own client: imported when it is used, signed in, silent, and with its errors in our words."""

import contextlib
import io
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, cast

from dragoman.errors import DragomanError, InputError, StoreUnavailable

if TYPE_CHECKING:
    from requests import HTTPError


def answers(ask: Callable[[], Any]) -> bool:
    """Whether Kaggle knows of something; what is not there, it forbids as well."""
    from requests import HTTPError

    try:
        ask()
    except HTTPError as error:
        if _status(error) in (403, 404):
            return False
        raise
    return True


def sign_in() -> Any:
    """Kaggle's client with an account.

    Raises:
        InputError: It is not installed, or knows no account.
    """
    try:
        # It signs in while it is imported, and says so.
        with contextlib.redirect_stdout(io.StringIO()):
            from kaggle.api.kaggle_api_extended import KaggleApi  # pyright: ignore[reportMissingTypeStubs]
    except ImportError:
        raise InputError("launching on Kaggle needs its client", "pip install 'dragoman[launch]'") from None
    api = cast("Any", KaggleApi)()
    try:
        with contextlib.redirect_stdout(io.StringIO()), asking("signing in"):
            api.authenticate()
    except SystemExit:
        raise InputError(
            "Kaggle: no account is signed in",
            "kaggle auth login, or KAGGLE_API_TOKEN from https://www.kaggle.com/settings (API)",
        ) from None
    return api


@contextlib.contextmanager
def asking(what: str) -> Generator[None]:
    """Errors of Kaggle's client in our words, and nothing on stdout of what it prints.

    Args:
        what: What it is asked, as in "Kaggle refused …".

    Raises:
        InputError: Kaggle refuses, or the client does.
        StoreUnavailable: Kaggle does not answer, or not now.
    """
    from requests import HTTPError, RequestException

    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    except DragomanError:
        raise
    except HTTPError as error:
        status = _status(error)
        if status >= 500 or status == 429:
            raise StoreUnavailable(f"Kaggle answered {status} to {what}", "launch again later") from None
        raise InputError(f"Kaggle refused {what}: {error}", "an account with the right to do so") from None
    except RequestException as error:
        raise StoreUnavailable(f"Kaggle does not answer to {what}: {error}", "launch again later") from None
    except ValueError as error:
        raise InputError(f"Kaggle: {what}: {error}", "correct it, and launch again") from None


def _status(error: "HTTPError") -> int:
    return error.response.status_code if error.response is not None else 0
