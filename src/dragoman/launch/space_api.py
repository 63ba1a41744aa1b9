"""Every question to the Hub about one Space, each with a deadline, and each refusal in words."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from dragoman.launch.hub_account import Account
from dragoman.launch.job import State
from dragoman.store.outcome import NOT_FOUND, HubFailure

if TYPE_CHECKING:
    from huggingface_hub import HfApi, SpaceRuntime

T = TypeVar("T")

NEVER = -1
"""The sleep time of a Space that does not sleep."""
_STATES: dict[str, State] = {
    **dict.fromkeys(("RUNNING", "RUNNING_BUILDING", "RUNNING_APP_STARTING"), "running"),
    **dict.fromkeys(("BUILDING", "APP_STARTING"), "waiting"),
    **dict.fromkeys(("PAUSED", "STOPPED", "SLEEPING", "DELETING"), "ended"),
    **dict.fromkeys(("BUILD_ERROR", "RUNTIME_ERROR", "CONFIG_ERROR", "NO_APP_FILE"), "ended"),
}


class SpaceApi:
    """One Space, as a Hub shows it. Everything here raises `HubFailure` when the Hub refused or did not answer in time.

    Args:
        space_id: USER/NAME.
        account: Whoever asks; by default the owner of the token that is found.
    """

    def __init__(self, space_id: str, account: Account | None = None) -> None:
        self.space_id = space_id
        self._account = account or Account()

    @property
    def page(self) -> str:
        """Where a person watches it."""
        return f"{self._account.endpoint}/spaces/{self.space_id}"

    def state(self) -> State:
        """What the Hub says of it; `ended` when it is not there."""
        try:
            return _STATES.get(str(self._runtime().stage), "unknown")
        except HubFailure as failure:
            if failure.status == NOT_FOUND:
                return "ended"
            raise

    def exists(self) -> bool:
        """Whether there is a Space of this name that we may see."""
        try:
            self._ask("it cannot be looked for", lambda api: api.space_info(self.space_id))
        except HubFailure as failure:
            if failure.status == NOT_FOUND:
                return False
            raise
        return True

    def read(self, path: str) -> bytes | None:
        """One of its files; None when there is none."""

        def asked(api: "HfApi") -> bytes:
            with tempfile.TemporaryDirectory() as folder:
                found = cast("Any", api).hf_hub_download(self.space_id, path, repo_type="space", local_dir=folder)
                return Path(found).read_bytes()

        try:
            return self._ask(f"{path} cannot be read", asked)
        except HubFailure as failure:
            if failure.status == NOT_FOUND:
                return None
            raise

    def create(self) -> None:
        """Make it, private and empty: nothing runs before it has a Dockerfile."""
        self._ask(
            "it cannot be created",
            lambda api: api.create_repo(self.space_id, repo_type="space", space_sdk="docker", private=True),
        )

    def give(self, secrets: Mapping[str, str], variables: Mapping[str, str]) -> None:
        """Set secrets and plain variables of its machine."""
        for name, value in secrets.items():
            self._ask(
                f"its secret {name} cannot be set",
                lambda api, name=name, value=value: api.add_space_secret(self.space_id, name, value),
            )
        for name, value in variables.items():
            self._ask(
                f"its variable {name} cannot be set",
                lambda api, name=name, value=value: api.add_space_variable(self.space_id, name, value),
            )

    def put(self, files: Mapping[str, bytes], message: str) -> None:
        """Make its files these, in one commit, which builds and starts it."""
        from huggingface_hub import CommitOperationAdd

        def asked(api: "HfApi") -> object:
            operations = [CommitOperationAdd(path, data) for path, data in files.items()]
            return api.create_commit(self.space_id, operations, commit_message=message, repo_type="space")

        self._ask("its files cannot be uploaded", asked, sum(map(len, files.values())))

    def on(self, flavor: str) -> None:
        """Ask for a machine, one that does not sleep while nobody looks."""
        from huggingface_hub import SpaceHardware

        self._ask(
            f"it cannot have {flavor}",
            lambda api: api.request_space_hardware(self.space_id, SpaceHardware(flavor), sleep_time=NEVER),
        )

    def stay_awake(self) -> None:
        """Never let it sleep: the Hub counts visits to its page, not work."""
        if (self._runtime().sleep_time or NEVER) != NEVER:
            self._ask("its sleep time cannot be set", lambda api: api.set_space_sleep_time(self.space_id, NEVER))

    def restart(self) -> None:
        """Start it again after a pause."""
        self._ask("it cannot be restarted", lambda api: api.restart_space(self.space_id))

    def pause(self) -> None:
        """Stop paying for it, until somebody restarts it. What is paused already stays so."""
        try:
            self._ask("it cannot be paused", lambda api: api.pause_space(self.space_id))
        except HubFailure as failure:
            if not failure.may_pass or self.state() != "ended":
                raise

    def delete(self) -> None:
        """Remove it."""
        self._ask("it cannot be removed", lambda api: api.delete_repo(self.space_id, repo_type="space"))

    def _runtime(self) -> "SpaceRuntime":
        return self._ask("its state cannot be asked for", lambda api: api.get_space_runtime(self.space_id))

    def _ask(self, what: str, call: "Callable[[HfApi], T]", num_bytes: int = 0) -> T:
        return self._account.answer(f"Space {self.space_id}: {what}", call, about=self.space_id, num_bytes=num_bytes)
