"""A Docker Space: the files of a small repository, from which the Hub builds an image and runs it.

A Space has no time limit of its own that counts work: its container ends itself, at the
deadline that is set as a variable when it is made, or when all is done.
"""

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import resources
from pathlib import PurePosixPath
from typing import cast

import yaml

from dragoman.errors import DragomanError, InputError
from dragoman.launch import bundle, credentials
from dragoman.launch.carrying import FILES
from dragoman.launch.hub_account import Account
from dragoman.launch.job import Handle, Job, Plan, State
from dragoman.launch.space_api import SpaceApi
from dragoman.launch.space_card import Card, written
from dragoman.store.outcome import HubFailure

DEADLINE = "DRAGOMAN_DEADLINE"
_HUB, _CARRIED = "hf://", FILES
_EXTRAS = re.compile(r"\[[\w,-]+\]$")


def template(name: str) -> str:
    """A file of the recipe, as it is kept in the package."""
    return resources.files("dragoman.launch").joinpath("templates", "space", name).read_text("utf-8")


def plan(job: Job) -> Plan:
    """Everything that is uploaded to the Space. It is also told its deadline, as the variable DRAGOMAN_DEADLINE.

    Raises:
        InputError: A Space is one machine, and none that may be taken away for less money.
    """
    if job.num_nodes > 1:
        raise InputError(f"--nodes {job.num_nodes}: a Space is one machine", "--nodes 1")
    if job.spot:
        raise InputError("--spot: a Space is let at one price", "leave --spot out")
    package, *others = job.requires
    extras = _EXTRAS.search(package)
    dockerfile = template("Dockerfile").replace("ARG EXTRAS=\n", f"ARG EXTRAS={extras[0] if extras else ''}\n")
    requirements = template("requirements_training.txt") + "".join(f"{other}\n" for other in others)
    card = Card(title=job.name.replace("-", " "), suggested_hardware=job.offer.flavor)
    files = {
        "README.md": written(card, template("ABOUT.md")).encode(),
        "Dockerfile": dockerfile.encode(),
        "requirements_training.txt": requirements.encode(),
        bundle.RUN_FILE: bundle.run_file(job),
    }
    return Plan(
        files | {_in_space(path): data for path, data in job.carries.items()}, secrets=credentials.names(job.store)
    )


def _in_space(path: str) -> str:
    """Where a carried file lies: the working folder of the run is the Space itself."""
    parts = PurePosixPath(path).parts
    return "/".join(parts[1:] if parts[0] == _CARRIED else parts)


def connect() -> "SpaceClient":
    """The client of the account that this machine's token belongs to."""
    return SpaceClient()


class SpaceClient:
    """Spaces of one account. See `Client`.

    Args:
        endpoint: Which Hub; by default the one that HF_ENDPOINT names, else huggingface.co.
        token: Gives the token; by default as `huggingface_hub` finds it.
        clock: Seconds since 1970.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        token: Callable[[], str | None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._account, self._clock = Account(endpoint, token), clock

    def check(self, job: Job, plan: Plan) -> None:
        """See `Client`."""
        space = self._space(job)
        credentials.values(plan.secrets, self._account.tokens)
        self._account.check_writes(space.space_id)
        if job.store.startswith(_HUB):
            self._account.check_writes(job.store.removeprefix(_HUB))
        if space.exists() and _store_of(space) != job.store:
            raise InputError(
                f"there is a Space {space.space_id} already, and it does not train {job.store}", "another --name"
            )

    def submit(self, job: Job, plan: Plan) -> Handle:
        """See `Client`."""
        space = self._space(job)
        is_new = not space.exists()
        deadline = datetime.fromtimestamp(self._clock() + job.max_hours * 3600, UTC)
        told = {**plan.environment, DEADLINE: deadline.isoformat(timespec="seconds").replace("+00:00", "Z")}
        try:
            if is_new:
                space.create()
            space.give(credentials.values(plan.secrets, self._account.tokens), told)
            space.on(job.offer.flavor)
            space.put(plan.files, f"Train {job.store}")
            if not is_new:
                space.restart()  # it may be paused, and its files the same as before
        except DragomanError as error:
            raise _left(space, is_new, error) from None
        return Handle("space", space.space_id, space.page)

    def state(self, handle: Handle) -> State:
        """See `Client`."""
        try:
            return self._api(handle.id).state()
        except HubFailure:
            return "unknown"

    def release(self, handle: Handle) -> None:
        """See `Client`."""
        space = self._api(handle.id)
        if space.exists() and space.state() != "ended":
            space.pause()

    def _space(self, job: Job) -> SpaceApi:
        """The Space of a job: of the owner of its store, or of the token."""
        if job.store.startswith(_HUB):
            return self._api(f"{job.store.removeprefix(_HUB).partition('/')[0]}/{job.name}")
        return self._api(f"{self._account.user}/{job.name}")

    def _api(self, space_id: str) -> SpaceApi:
        return SpaceApi(space_id, self._account)


def _store_of(space: SpaceApi) -> str | None:
    """The store that a Space trains into, as its run file says; None where it has none."""
    text = space.read(bundle.RUN_FILE)
    values = yaml.safe_load(text) if text else None
    if not isinstance(values, dict):
        return None
    found = {str(name): str(value) for name, value in cast("dict[object, object]", values).items()}
    repo = found.get("hub_model_id")
    return found.get("store") or (f"{_HUB}{repo}" if repo else None)


def _left(space: SpaceApi, is_new: bool, error: DragomanError) -> DragomanError:
    """The error of a start that failed, after nothing of it is left that costs anything; else it says so."""
    try:
        if is_new:
            space.delete()
        elif space.state() != "ended":
            space.pause()
    except HubFailure as failure:
        is_gone = is_new and failure.status == 404  # it was never made
        if not is_gone:
            error.message += f"; and what was begun could not be undone: look at {space.page}"
    if isinstance(error, HubFailure) and not error.may_pass:
        return InputError(error.message, error.hint)
    return error
