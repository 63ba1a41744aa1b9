"""A run at home in a container: where its folder, its store and its end are, and what the store says of it."""

from datetime import UTC, datetime
from pathlib import Path

from dragoman import host
from dragoman.checkpoint.place import open_run
from dragoman.checkpoint.remote_status import remote_status
from dragoman.checkpoint.status_shape import Status
from dragoman.config import RunConfig
from dragoman.errors import DragomanError, InputError
from dragoman.store import hub_repos
from dragoman.store.address import HUB

FOLDER = Path("runs/here")
"""The run folder, where the configuration names none."""


def at_home(config: RunConfig, platform: str | None, now: float) -> RunConfig:
    """The configuration as a container needs it: with a folder, a store that outlives it, a limit that restarts keep.

    Args:
        config: As the user gave it.
        platform: Where this is.
        now: Seconds since 1970.

    Raises:
        InputError: There is no store.
    """
    store = config.store
    if store.url is None and store.resume_from_checkpoint is None:
        if platform != "space":
            raise InputError("there is no --store, and the disk of a container goes with it", "--store hf://USER/REPO")
        owner = host.name().partition("/")[0]  # of the Space, who may be an organisation
        store = store.model_copy(update={"store": f"{HUB}{owner}/{hub_repos.usual_name(config.model.model)}"})
    save = config.save.model_copy(update={"output": config.save.output or FOLDER})
    changed = config.model_copy(update={"store": store, "save": save})
    if hours := config.training.max_hours:
        until = now + hours * 3600
        if (given := config.machine.deadline_time) is not None:
            until = min(until, given)
        deadline = datetime.fromtimestamp(until, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        training = config.training.model_copy(update={"max_hours": None})
        machine = config.machine.model_copy(update={"deadline": deadline})
        changed = changed.model_copy(update={"training": training, "machine": machine})
    return changed


def is_ours(known: Status) -> bool:
    """Whether the last to work on the run was an earlier container of this very machine."""
    return known["lease"] is not None and known["lease"]["host"] == host.name()


def taking_over(config: RunConfig) -> RunConfig:
    """The same, without waiting for whoever holds the lease of the run."""
    return config.model_copy(update={"store": config.store.model_copy(update={"take_over": True})})


def look(config: RunConfig, now: float) -> Status | None:
    """What the store says of the run; None when it holds none, or cannot be asked now.

    Args:
        config: As `at_home` made it.
        now: Seconds since 1970.
    """
    place = config.store.resume_from_checkpoint or config.store.url
    assert place
    try:
        return remote_status(open_run(place), now)
    except DragomanError:  # training says it better
        return None
