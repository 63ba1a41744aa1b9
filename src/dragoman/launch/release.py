"""Stop paying for the machine that we are on, from inside: pause, delete, destroy or terminate it.

Each platform has one request for it, which its own key allows. Doing so twice does no
harm. Where the end of the command ends the cost, there is nothing to do.
"""

from dragoman import __version__, host
from dragoman.errors import InputError, StoreUnavailable
from dragoman.launch.space_api import SpaceApi
from dragoman.store.deadline import within
from dragoman.store.outcome import DENIED, TOO_OFTEN, HubFailure, one_line

_ANSWER_SECONDS = 60.0
RUNPOD, VAST = "RUNPOD_API_BASE_URL", "VAST_URL"
"""Variables that name another server, as the platforms' own clients read them."""
_SERVERS = {
    RUNPOD: "https://api.runpod.io",
    VAST: "https://console.vast.ai",
}
_GONE = 404


def can_release(platform: str | None) -> bool:
    """Whether this machine costs money until it is released; else the end of the command is all that is needed."""
    return platform in {"space", "runpod", "vast", "lambda"}


def release_here(platform: str | None) -> str:
    """Stop paying for this machine; says what was done, in words.

    Args:
        platform: Where it is, as `platforms/facts.yaml` names it.

    Raises:
        InputError: There is no key, or it may not do that: somebody must stop it by hand.
        StoreUnavailable: The platform did not answer; it may be tried again.
    """
    match platform:
        case "space":
            return _pause_space(SpaceApi(_known("SPACE_ID")))
        case "runpod":
            pod = _known("RUNPOD_POD_ID")
            _ask("DELETE", RUNPOD, f"/v2/pods/{pod}", "RUNPOD_API_KEY")
            return f"pod {pod} is deleted"
        case "vast":
            instance = _known("CONTAINER_ID", host.variable("VAST_CONTAINERLABEL") or "").removeprefix("C.")
            _ask("DELETE", VAST, f"/api/v0/instances/{instance}/", "CONTAINER_API_KEY", "VAST_API_KEY")
            return f"instance {instance} is destroyed"
        case "lambda":
            # Lambda tells a machine neither its name nor a key that may do no more than end it.
            raise InputError(
                "a machine of Lambda cannot end itself",
                "https://cloud.lambda.ai/instances; after `dragoman launch lambda` SkyPilot does it",
            )
        case _:
            return "the end of this command ends the cost"


def _pause_space(space: SpaceApi) -> str:
    try:
        space.pause()
    except HubFailure as failure:
        if not failure.may_pass and failure.status != TOO_OFTEN:
            raise InputError(failure.message, f"pause it by hand: {space.page}/settings") from None
        raise
    return f"Space {space.space_id} is paused"


def _known(name: str, otherwise: str = "") -> str:
    value = host.variable(name) or otherwise
    if not value:
        raise InputError(f"{name} is not set, so this machine cannot end itself", "stop it in the platform's page")
    return value


def _ask(method: str, server: str, path: str, *keys: str) -> None:
    """One request to a platform; that there is no such machine (any more) is success."""
    from huggingface_hub.utils import get_session

    key = next((value for name in keys if (value := host.variable(name))), None)
    if key is None:
        raise InputError(f"{keys[0]} is not set, so this machine cannot end itself", "stop it in the platform's page")
    url = (host.variable(server) or _SERVERS[server]).rstrip("/") + path
    headers = {"Authorization": f"Bearer {key}", "User-Agent": f"dragoman/{__version__}"}
    what = f"{method} {url}"
    try:
        answer = within(_ANSWER_SECONDS, what, lambda: get_session().request(method, url, headers=headers))
    except StoreUnavailable:
        raise
    except Exception as error:
        raise StoreUnavailable(f"{what}: {one_line(error, (key,))}") from None
    if answer.status_code in DENIED:
        raise InputError(f"{what}: {answer.status_code}: {keys[0]} may not do that", "stop it in the platform's page")
    if answer.status_code >= 400 and answer.status_code != _GONE:
        raise StoreUnavailable(f"{what}: {answer.status_code}: {one_line(answer.text, (key,))}")
