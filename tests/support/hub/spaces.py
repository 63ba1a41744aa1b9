"""What runs in a Space: its machine, secrets and variables, and whether it is paused.

Nothing is built or run: `hub.spaces[USER/NAME]` says what was asked for, and who plays the
platform looks at it, and moves `stage` on.
"""

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from tests.support.hub.messages import Answer, Refused, Request

if TYPE_CHECKING:
    from tests.support.hub.hub import HubStandIn


@dataclass
class Space:
    """One Space, as far as it is not files."""

    stage: str = "NO_APP_FILE"
    hardware: str = "cpu-basic"
    sleep_seconds: int | None = None
    secrets: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    pauses: int = 0
    """How often it was asked to pause."""

    def runtime(self) -> dict[str, Any]:
        """As the Hub answers."""
        hardware = {"current": self.hardware, "requested": self.hardware}
        return {"stage": self.stage, "hardware": hardware, "gcTimeout": self.sleep_seconds, "replicas": {"current": 1}}


def space(hub: "HubStandIn", repo: str) -> dict[str, Any]:
    """What is known of a Space, for tests."""
    return asdict(hub.spaces.setdefault(repo, Space()))


def _asked(hub: "HubStandIn", request: Request) -> Space:
    kind, _, repo = request.key.partition("/")
    if kind != "spaces":
        raise Refused(404, "Not a Space")
    return hub.spaces.setdefault(repo, Space())


def runtime(hub: "HubStandIn", request: Request) -> Answer:
    """Its stage and machine."""
    return Answer.json(_asked(hub, request).runtime())


def pause(hub: "HubStandIn", request: Request) -> Answer:
    """Stop it, and its cost."""
    found = _asked(hub, request)
    found.stage = "PAUSED"
    found.pauses += 1
    return Answer.json(found.runtime())


def restart(hub: "HubStandIn", request: Request) -> Answer:
    """Start it (again)."""
    found = _asked(hub, request)
    found.stage = "BUILDING"
    return Answer.json(found.runtime())


def hardware(hub: "HubStandIn", request: Request) -> Answer:
    """Ask for a machine."""
    found, asked = _asked(hub, request), request.json()
    found.hardware = asked["flavor"]
    found.sleep_seconds = asked.get("sleepTimeSeconds", found.sleep_seconds)
    return Answer.json(found.runtime())


def sleeptime(hub: "HubStandIn", request: Request) -> Answer:
    """After how long without visits it sleeps."""
    found = _asked(hub, request)
    found.sleep_seconds = request.json()["seconds"]
    return Answer.json(found.runtime())


def secrets(hub: "HubStandIn", request: Request) -> Answer:
    """Set a secret; nobody can read it again."""
    asked = request.json()
    _asked(hub, request).secrets[asked["key"]] = asked["value"]
    return Answer.json({})


def variables(hub: "HubStandIn", request: Request) -> Answer:
    """Set a variable."""
    found, asked = _asked(hub, request), request.json()
    found.variables[asked["key"]] = asked["value"]
    return Answer.json({key: {"key": key, "value": value} for key, value in found.variables.items()})
