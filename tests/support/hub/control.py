"""Another process steers a stand-in: what tests do directly, as JSON over `POST /_control`.

remote = RemoteHub(url)
remote.write("ada/run", "README.md", b"edited")
fault = remote.add_fault("commit", hold=True, after_effect=True)
remote.is_held(fault); remote.release(fault)
"""

import base64
import http.client
import json
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from tests.support.hub.hub import HubStandIn

DIRECT = (
    *("add_token", "revoke", "create", "head", "names", "read", "write", "held_bytes", "peak_bytes", "damage"),
    *("lose_machine", "restore", "commits", "space"),
)
"""Methods of `HubStandIn`."""

SETTINGS = (
    *("private_quota_bytes", "commits_per_hour", "retry_after_seconds", "requests_per_five_minutes"),
    *("lfs_from_bytes", "part_bytes", "entries_per_page", "commits_per_page"),
)


def control(hub: "HubStandIn", body: bytes) -> dict[str, Any]:
    """Do what another process asks."""
    asked = json.loads(body)
    args = [_unpacked(value) for value in asked["args"]]
    kwargs = {name: _unpacked(value) for name, value in asked["kwargs"].items()}
    try:
        return {"result": _packed(_call(hub, asked["call"], args, kwargs))}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def _call(hub: "HubStandIn", call: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    from tests.support.hub.faults import Fault

    if call in DIRECT:
        return getattr(hub, call)(*args, **kwargs)
    if call == "add_fault":
        route = args[0] if args and isinstance(args[0], str) else tuple(args[0]) if args else "any"
        return hub.faults.add(Fault(route, **kwargs)).number
    if call == "clear_faults":
        return hub.faults.clear()
    if call in ("release", "drop_held"):
        return getattr(hub.faults.find(args[0]), call)()
    if call == "is_held":
        return hub.faults.find(args[0]).held.is_set()
    if call == "num_matched":
        return hub.faults.find(args[0]).num_matched
    if call == "requests":
        return list(hub.requests)
    if call == "set" and args[0] in SETTINGS:
        return setattr(hub, args[0], args[1])
    raise ValueError(f"no such call: {call}")


def _packed(value: Any) -> Any:
    """As JSON can say it."""
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    if hasattr(value, "_asdict"):
        return {name: _packed(item) for name, item in value._asdict().items()}
    if isinstance(value, dict):
        return {name: _packed(item) for name, item in value.items()}
    if isinstance(value, set):
        return sorted(value)
    if isinstance(value, (list, tuple)):
        return [_packed(item) for item in value]
    return value if isinstance(value, (str, int, float, type(None))) else repr(value)


def _unpacked(value: Any) -> Any:
    return base64.b64decode(value["base64"]) if isinstance(value, dict) and value.keys() == {"base64"} else value


class RemoteHub:
    """A stand-in in another process."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        return partial(self._call, name)

    def _call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=60)
        try:
            body = json.dumps({"call": name, "args": _packed(args), "kwargs": _packed(kwargs)})
            connection.request("POST", "/_control", body)
            answer = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return _unpacked(answer["result"])
