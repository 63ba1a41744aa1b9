"""One account at a Hub, as starting machines needs it: every question with a deadline, every refusal in words."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from dragoman import __version__, host
from dragoman.errors import DragomanError, InputError
from dragoman.store.deadline import Patience, within
from dragoman.store.hub_access import Tokens, check_identity
from dragoman.store.hub_upload import no_bars
from dragoman.store.outcome import DENIED, NEW_TOKEN, NOT_FOUND, HubFailure, explain

if TYPE_CHECKING:
    from huggingface_hub import HfApi

T = TypeVar("T")

_NO_CREDIT = 402


class Account:
    """Whoever the token belongs to.

    Args:
        endpoint: Which Hub; by default that of HF_ENDPOINT, else huggingface.co.
        token: Gives the token; by default as `huggingface_hub` finds it.
        patience: How long to wait.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        token: Callable[[], str | None] | None = None,
        patience: Patience | None = None,
    ) -> None:
        host.prefer_lfs()
        self.tokens = Tokens(token)
        self._given_endpoint, self._patience = endpoint, patience or Patience()
        self._who: dict[str, object] | None = None

    @property
    def endpoint(self) -> str:
        """Where the Hub is, without a slash at the end."""
        from huggingface_hub import constants

        return self._given_endpoint or constants.ENDPOINT

    @property
    def user(self) -> str:
        """Its name.

        Raises:
            InputError: There is no token, or the Hub does not take it.
            HubFailure: The Hub does not answer.
        """
        return str(self.who()["name"])

    def who(self) -> dict[str, object]:
        """What the Hub says of the token and its owner; asked once.

        Raises:
            InputError: There is no token, or the Hub does not take it.
            HubFailure: The Hub does not answer.
        """
        if self._who is None:
            if self.tokens.choose() is None:
                raise InputError("no token of the Hub: neither HF_TOKEN nor hf auth login", NEW_TOKEN)
            self._who = self.ask("the token cannot be checked", _whoami)
        return self._who

    def check_writes(self, repo_id: str) -> None:
        """Raise `InputError` unless the token may write to repositories like this one."""
        check_identity(self.who(), repo_id)

    def check_may(self, permission: str, what: str) -> None:
        """Raise `InputError` if this is a fine-grained token to which a permission was not given.

        Args:
            permission: As the Hub calls it, such as `job.write`.
            what: What it allows, in words.
        """
        token = cast("dict[str, dict[str, dict[str, object]]]", self.who()).get("auth", {}).get("accessToken", {})
        if token.get("role") != "fineGrained":
            return
        fine = cast("dict[str, list[object]]", token.get("fineGrained", {}))
        scopes = cast("list[dict[str, list[str]]]", fine.get("scoped", []))
        granted = {*fine.get("global", []), *(one for scope in scopes for one in scope.get("permissions", []))}
        if permission not in granted:
            raise InputError(
                f"the fine-grained token of {self.user} may not {what}",
                f"give it {permission} at https://huggingface.co/settings/tokens",
            )

    def ask(self, what: str, call: "Callable[[HfApi], T]", *, num_bytes: int = 0) -> T:
        """The answer to one question, in time or not at all.

        Args:
            what: What could not be done then, in words.
            call: Asks it.
            num_bytes: What is uploaded with it.

        Raises:
            InputError: The Hub does not let this token do that.
            HubFailure: It refused for another reason, or did not answer in time.
        """
        try:
            return self.answer(what, call, num_bytes=num_bytes)
        except HubFailure as failure:
            if failure.status == _NO_CREDIT:
                raise InputError(
                    f"{what}: the account has no credit for it", "https://huggingface.co/settings/billing"
                ) from None
            if failure.status in DENIED:
                raise InputError(failure.message, failure.hint or NEW_TOKEN) from None
            raise

    def answer(self, what: str, call: "Callable[[HfApi], T]", *, about: str = "this account", num_bytes: int = 0) -> T:
        """The same for whoever looks at the status of a refusal: each is a failure of the Hub.

        Args:
            what: What could not be done then, in words.
            call: Asks it.
            about: What it is about, as USER/NAME.
            num_bytes: What is uploaded with it.

        Raises:
            HubFailure: The Hub refused it, or did not answer in time.
        """
        token = self.tokens.choose()
        patience = self._patience
        seconds = patience.for_bytes(num_bytes) if num_bytes else patience.answer_seconds
        try:
            with no_bars():
                return within(seconds, what, lambda: call(self._api(token)))
        except DragomanError:
            raise
        except Exception as error:  # the client raises its own, the HTTP library's, RuntimeError, OSError …
            failure = explain(error, what, about, has_token=token is not None)
        # Without its cause: that may quote headers.
        raise HubFailure(
            self.tokens.scrub(failure.message),
            failure.hint,
            failure.retry_after,
            status=failure.status,
            code=failure.code,
        )

    def look(self, what: str, call: "Callable[[HfApi], T]") -> T | None:
        """The same for something that may not be there; None then."""
        try:
            return self.ask(what, call)
        except HubFailure as failure:
            if failure.status == NOT_FOUND:
                return None
            raise

    def _api(self, token: str | None) -> "HfApi":
        from huggingface_hub import HfApi

        return HfApi(
            endpoint=self._given_endpoint, token=token or False, library_name="dragoman", library_version=__version__
        )


def _whoami(api: "HfApi") -> dict[str, object]:
    return cast("Any", api).whoami()
