"""vast.ai by its own API, for those who have no SkyPilot: the cheapest sound offer, rented, looked at and destroyed.

Machines there are other people's. The search asks for verified and reliable ones that stay
as long as the run may take, and rents none above the price that was shown. A token is an
environment variable of the account, which vast.ai gives to every machine of it by itself.
"""

import json
import urllib.parse
from pathlib import Path
from typing import cast

from dragoman import host
from dragoman.errors import InputError, StoreUnavailable
from dragoman.launch import bundle, price, renting
from dragoman.launch.guard import VAST
from dragoman.launch.hub_account import Account
from dragoman.launch.job import Handle, Job, Plan, State
from dragoman.launch.jobs import IMAGE
from dragoman.launch.lost_answer import made_all_the_same
from dragoman.launch.rest import GONE, Json, NoAnswer, Rest

DISK_GB = 100
"""Rented with the machine; paid for until it is destroyed, also while it is paused."""
CUDA = 12.8
"""The oldest driver that the image's torch runs on."""
RELIABILITY = 0.98
"""Share of the time for which a machine was up."""
DOWN_MBIT = 100
"""Slowest line; model and packages are some 6 GB."""
BID = 1.1
"""What is bid for a machine that may be taken away, as a multiple of the least that is accepted."""
NUM_TRIES = 5
"""Offers that are tried; another may be faster."""
ON_START_LETTERS = 4000
"""What the start script may have; vast.ai cuts longer ones."""
PAGE = "https://cloud.vast.ai/instances/"
_SECRETS = "https://cloud.vast.ai/account/ (Environment Variables), or: vastai create env-var HF_TOKEN …"
_KEYS = "a key from https://cloud.vast.ai/manage-keys/: export VAST_API_KEY=…"
_FILES = ("~/.config/vastai/vast_api_key", "~/.vast_api_key")
"""Where `vastai set api-key` keeps it."""
_STATES: dict[str, State] = {
    "None": "waiting",
    "created": "waiting",
    "loading": "waiting",
    "rebooting": "waiting",
    "running": "running",
    "frozen": "running",
    "stopped": "ended",
    "exited": "ended",
}


def plan(job: Job) -> Plan:
    """A container of an image that has torch, and a script that fetches everything else and destroys the machine.

    Raises:
        InputError: The platform cannot do that.
    """
    if job.num_nodes > 1:
        raise InputError(f"--nodes {job.num_nodes}: machines of vast.ai are not connected", "--nodes 1")
    return renting.plan(job, VAST)


def connect() -> "VastClient":
    """The client of the account that this machine's key belongs to.

    Raises:
        InputError: There is no key.
    """
    base = host.variable(VAST.base_variable) or VAST.base
    return VastClient(Rest("vast.ai", f"{base}/api", _key(), _KEYS), Account())


class VastClient:
    """Machines of one account. See `Client`.

    Args:
        rest: The account at vast.ai, who pays.
        account: The one at the Hub, whose data set holds the bundle.
    """

    def __init__(self, rest: Rest, account: Account) -> None:
        self._rest, self._account = rest, account

    def check(self, job: Job, plan: Plan) -> None:
        """See `Client`."""
        renting.check_hub(self._account, job)
        for one in self._machines(job.name):
            raise InputError(
                f"a machine with the name {job.name} is there already: {PAGE} (it costs money until it is destroyed)",
                f"dragoman stop vast:{one.id}, or another --name",
            )
        renting.check_secrets("vast.ai", plan.secrets, self._kept(), _SECRETS)
        self._offers(job)

    def submit(self, job: Job, plan: Plan) -> Handle:
        """See `Client`."""
        bundle.publish(self._account, job)
        refused: InputError | None = None
        for offer in self._offers(job)[:NUM_TRIES]:
            body = _request(job, plan, offer)
            try:
                made = cast("Json", self._rest.ask("nothing was rented", "PUT", f"/v0/asks/{offer['id']}/", body))
            except NoAnswer as failure:
                undo = f"look at {PAGE}, and destroy it there"
                return made_all_the_same(failure, lambda: self._machines(job.name), undo)
            except InputError as error:  # somebody else was faster
                refused = error
                continue
            return _handle(made["new_contract"])
        assert refused
        raise refused

    def state(self, handle: Handle) -> State:
        """See `Client`."""
        path = f"/v0/instances/{handle.id}/?owner=me"
        try:
            found = self._rest.ask("the machine cannot be looked at", "GET", path, missing=GONE)
        except (StoreUnavailable, InputError):
            return "unknown"
        machine = found and found.get("instances")
        return _state(machine) if machine else "ended"

    def release(self, handle: Handle) -> None:
        """See `Client`."""
        path = f"/v0/instances/{handle.id}/"
        self._rest.ask(f"the machine {handle.id} was not destroyed", "DELETE", path, {}, missing=GONE)

    # --- parts -----------------------------------------------------------------------

    def _offers(self, job: Job) -> list[Json]:
        """Sound machines at most at the agreed price, the cheapest first.

        Raises:
            InputError: There is none.
        """
        gpu = job.offer.flavor.replace("_", " ")
        query: Json = {
            "verified": {"eq": True},
            "external": {"eq": False},
            "rentable": {"eq": True},
            "rented": {"eq": False},
            "gpu_name": {"eq": gpu},
            "num_gpus": {"eq": job.offer.num_gpus},
            "reliability": {"gte": RELIABILITY},
            "cuda_max_good": {"gte": CUDA},
            "inet_down": {"gte": DOWN_MBIT},
            "disk_space": {"gte": DISK_GB},
            "duration": {"gte": job.max_hours * 3600},
            "type": "bid" if job.spot else "on-demand",
            "order": [["min_bid" if job.spot else "dph_total", "asc"]],
            "allocated_storage": DISK_GB,
            "limit": 20,
        }
        found = self._rest.ask("its offers cannot be listed", "POST", "/v0/bundles/", query)["offers"]
        if not found:
            raise InputError(
                f"--gpu {gpu}: vast.ai offers no reliable one for {job.max_hours:g} hours now",
                "fewer --max-hours, or another --gpu or platform",
            )
        price.check(job, _usd(job, found[0]), f"the cheapest {gpu} at vast.ai")
        most = price.most_per_hour(job) * 1.001
        return [offer for offer in found if _usd(job, offer) <= most]

    def _machines(self, name: str) -> list[Handle]:
        """Those that bear this name, page by page."""
        found: list[Handle] = []
        more: Json = {}
        while True:
            asked = {"limit": 25, "order_by": [{"col": "id", "dir": "asc"}], **more}
            query = urllib.parse.urlencode({key: _text(value) for key, value in asked.items()})
            page = cast("Json", self._rest.ask("its machines cannot be listed", "GET", f"/v1/instances/?{query}"))
            machines = cast("list[Json]", page.get("instances") or [])
            found += [_handle(one["id"]) for one in machines if one.get("label") == name]
            if not page.get("next_token"):
                return found
            more = {"after_token": page["next_token"]}

    def _kept(self) -> set[str]:
        """Names of the account's environment variables."""
        return set(self._rest.ask("its variables cannot be listed", "GET", "/v0/secrets/").get("secrets") or {})


_ON_START = """cat > "$HOME/dragoman.sh" <<'END-OF-SCRIPT'
{script}END-OF-SCRIPT
nohup bash "$HOME/dragoman.sh" >> "$HOME/dragoman.log" 2>&1 &
"""


def _request(job: Job, plan: Plan, offer: Json) -> Json:
    """What is rented; the script goes on when a machine that was paused comes back."""
    return {
        "client_id": "me",
        "image": IMAGE,
        "label": job.name,
        "disk": DISK_GB,
        "runtype": "ssh_proxy",
        "env": dict(plan.environment),
        "onstart": _ON_START.format(script=plan.command[-1]),
        "price": _usd(job, offer) if job.spot else None,
        "cancel_unavail": True,
    }


def _usd(job: Job, offer: Json) -> float:
    """What an offer would cost in an hour, disk included."""
    if not job.spot:
        return float(offer["dph_total"])
    return round(min(float(offer["min_bid"]) * BID, max(price.most_per_hour(job), float(offer["min_bid"]))), 4)


def _handle(number: object) -> Handle:
    return Handle("vast", str(number), PAGE)


def _state(machine: Json) -> State:
    status = str(machine.get("actual_status"))
    # One that was outbid waits until it is not.
    if status == "stopped" and machine.get("intended_status") == "running":
        return "waiting"
    return _STATES.get(status, "unknown")


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _key() -> str:
    """The account's key: of the environment, else of the file that vast.ai's own tool keeps."""
    kept = [path for path in (Path(name).expanduser() for name in _FILES) if path.is_file()]
    key = host.variable("VAST_API_KEY") or (kept[0].read_text("utf-8").strip() if kept else "")
    if not key:
        raise InputError(f"no key of vast.ai: neither VAST_API_KEY nor {_FILES[0]}", _KEYS)
    return key
