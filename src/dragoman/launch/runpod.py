"""RunPod by its own API, for those who have no SkyPilot: one pod, made, looked at and deleted.

Its second API, `https://api.runpod.io/v2`: the first one answers nothing since November
2026. Pods that may be taken away exist in neither any more. A token stays a secret of the
account: a pod is given its name, and RunPod puts the value there when the pod starts.
"""

import tomllib
from pathlib import Path
from typing import Any, cast

from dragoman import host
from dragoman.errors import InputError, StoreUnavailable
from dragoman.launch import bundle, price, renting
from dragoman.launch.guard import RUNPOD
from dragoman.launch.hub_account import Account
from dragoman.launch.job import Handle, Job, Plan, State
from dragoman.launch.jobs import IMAGE
from dragoman.launch.lost_answer import made_all_the_same
from dragoman.launch.rest import GONE, Json, NoAnswer, Rest

DISK_GB = 100
"""Of the container; it ends with the pod."""
CUDA = "12.8"
"""The oldest driver that the image's torch runs on."""
PAGE = "https://console.runpod.io/pods"
_SECRETS = "https://console.runpod.io/user/secrets"
_KEYS = "a key that may read and write pods, from https://console.runpod.io/user/settings: export RUNPOD_API_KEY=…"
_FILE = "~/.runpod/config.toml"
"""Where `runpodctl config` and `runpod config` keep a key."""
_STATES: dict[str, State] = {
    "PROVISIONING": "waiting",
    "STARTING": "waiting",
    "RUNNING": "running",
    "EXITED": "ended",
    "ERROR": "ended",
    "TERMINATED": "ended",
}


def plan(job: Job) -> Plan:
    """A container of an image that has torch, and a script that fetches everything else and ends the pod.

    Raises:
        InputError: The platform cannot do that.
    """
    if job.num_nodes > 1:
        raise InputError(f"--nodes {job.num_nodes}: a pod of RunPod is one machine", "--nodes 1")
    if job.spot:
        raise InputError("--spot: RunPod lets no machines any more that may be taken away", "leave it out")
    return renting.plan(job, RUNPOD)


def connect() -> "RunPodClient":
    """The client of the account that this machine's key belongs to.

    Raises:
        InputError: There is no key.
    """
    base = host.variable(RUNPOD.base_variable) or RUNPOD.base
    return RunPodClient(Rest("RunPod", f"{base}/v2", _key(), _KEYS), Account())


class RunPodClient:
    """Pods of one account. See `Client`.

    Args:
        rest: The account at RunPod, who pays.
        account: The one at the Hub, whose data set holds the bundle.
    """

    def __init__(self, rest: Rest, account: Account) -> None:
        self._rest, self._account = rest, account

    def check(self, job: Job, plan: Plan) -> None:
        """See `Client`."""
        renting.check_hub(self._account, job)
        for pod in self._pods(job.name):
            raise InputError(
                f"a pod with the name {job.name} is there already: {pod.url}",
                f"dragoman stop runpod:{pod.id}, or another --name",
            )
        renting.check_secrets("RunPod", plan.secrets, self._secrets(), _SECRETS)
        self._check_gpu(job)

    def submit(self, job: Job, plan: Plan) -> Handle:
        """See `Client`."""
        bundle.publish(self._account, job)
        body = self._request(job, plan)
        try:
            pod = cast("Json", self._rest.ask("the pod was not made", "POST", "/pods", body))
        except NoAnswer as failure:
            undo = f"look at {PAGE}, and delete it there"
            return made_all_the_same(failure, lambda: self._pods(job.name), undo)
        handle = _handle(pod)
        try:
            price.check(job, float(pod.get("cost") or 0), f"the pod {job.name}")
        except InputError:
            self.release(handle)
            raise
        return handle

    def state(self, handle: Handle) -> State:
        """See `Client`."""
        try:
            pod = self._rest.ask("the pod cannot be looked at", "GET", f"/pods/{handle.id}", missing=GONE)
        except (StoreUnavailable, InputError):
            return "unknown"
        return "ended" if pod is None else _state(pod)

    def release(self, handle: Handle) -> None:
        """See `Client`."""
        self._rest.ask(f"the pod {handle.id} was not deleted", "DELETE", f"/pods/{handle.id}", missing=GONE)

    # --- parts -----------------------------------------------------------------------

    def _request(self, job: Job, plan: Plan) -> Json:
        """What a pod is made of. No port is open: whoever watches the run reads its store."""
        kept = self._secrets()
        references = {name: f"{{{{ RUNPOD_SECRET_{name} }}}}" for name in plan.secrets if name in kept}
        return {
            "name": job.name,
            "image": IMAGE,
            "cloud": "SECURE",
            "gpu": {"id": job.offer.flavor, "count": job.offer.num_gpus, "minCudaVersion": CUDA},
            "disk": DISK_GB,
            "ports": [],
            "env": {**plan.environment, **references},
            "cmd": list(plan.command),
        }

    def _check_gpu(self, job: Job) -> None:
        """Whether the machine is to be had now, and for the price that was shown."""
        wanted = job.offer.flavor
        query = f"include=AVAILABILITY&product=POD&cloud=SECURE&count={job.offer.num_gpus}&minCudaVersion={CUDA}"
        types = self._rest.ask("its GPUs cannot be listed", "GET", f"/catalog/gpus?{query}")["gpus"]
        found = next((one for one in types if one["id"] == wanted), None)
        if found is None:
            known = ", ".join(sorted(one["id"] for one in types))
            raise InputError(f"--gpu {wanted}: RunPod has it no more", f"one of: {known}")
        if found.get("availability") == "NONE":
            raise InputError(f"--gpu {wanted}: none is free at RunPod now", "wait, or another --gpu or platform")
        price.check(job, float(found["price"]["secure"]) * job.offer.num_gpus, f"{wanted} at RunPod")

    def _pods(self, name: str) -> list[Handle]:
        """Those of this name that have not ended."""
        pods = cast("list[Json]", self._rest.ask("its pods cannot be listed", "GET", "/pods")["pods"])
        return [_handle(pod) for pod in pods if pod["name"] == name and _state(pod) != "ended"]

    def _secrets(self) -> set[str]:
        listed = self._rest.ask("its secrets cannot be listed", "GET", "/account/secrets")["secrets"]
        return {str(one["name"]) for one in listed}


def _handle(pod: Json) -> Handle:
    return Handle("runpod", str(pod["id"]), f"{PAGE}?id={pod['id']}")


def _state(pod: Json) -> State:
    return _STATES.get(str(pod.get("status")), "unknown")


def _key() -> str:
    """The account's key: of the environment, else of the file that RunPod's own tools keep."""
    kept: Any = {}
    path = Path(_FILE).expanduser()
    if path.is_file():
        try:
            kept = tomllib.loads(path.read_text("utf-8"))
        except (OSError, ValueError):
            kept = {}
    key = host.variable(RUNPOD.key_variable) or kept.get("apikey") or kept.get("default", {}).get("api_key")
    if not key:
        raise InputError(f"no key of RunPod: neither RUNPOD_API_KEY nor {_FILE}", _KEYS)
    return str(key)
