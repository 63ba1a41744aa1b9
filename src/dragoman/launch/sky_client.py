"""The `sky` executable: started with a task in a folder of its own, asked in JSON, and never imported.

A secret goes from our environment into that of `sky`, which is told only its name.
"""

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from dragoman import host
from dragoman.errors import InputError, StoreUnavailable
from dragoman.launch import credentials, sky
from dragoman.launch.job import Handle, Job, Plan, State
from dragoman.store.hub_access import Tokens
from dragoman.store.outcome import one_line

INSTALL = "uv tool install 'skypilot[runpod,lambda,vast]', or the same with pipx: in an environment of its own"
_SECONDS = 600.0
"""Longest wait for an answer: the first question starts SkyPilot's own server."""
_START_SECONDS = 3600.0
"""Longest wait until a job is handed over: the controller's machine may have to be made first."""
_NONE = "No in-progress managed jobs"
_CLOUDS = {"runpod": "RunPod", "lambda": "Lambda", "vast": "Vast"}
"""As `sky check` calls them."""
_STATES: dict[str, State] = {
    "PENDING": "waiting",
    "SUBMITTED": "waiting",
    "STARTING": "waiting",
    "RECOVERING": "waiting",
    "RUNNING": "running",
    "WINDING_DOWN": "running",
    "CANCELLING": "running",
    "SUCCEEDED": "ended",
    "CANCELLED": "ended",
}


def is_there() -> bool:
    """Whether SkyPilot is installed on this machine."""
    return shutil.which("sky") is not None


def connect() -> "SkyClient":
    """The client of whoever has set up SkyPilot on this machine."""
    return SkyClient(Tokens())


class _NoJobs(Exception):
    """SkyPilot has no controller of jobs: none was ever started, or it was taken down with its last job."""


class SkyClient:
    """Managed jobs of SkyPilot. See `Client`.

    Args:
        tokens: Gives the Hub's token.
        executable: SkyPilot's command, or its path.
        clock: Gives the time, in seconds since 1970.
    """

    def __init__(self, tokens: Tokens, executable: str = "sky", clock: Callable[[], float] = time.time) -> None:
        self._tokens, self._executable, self._clock = tokens, executable, clock

    def check(self, job: Job, plan: Plan) -> None:
        """See `Client`."""
        credentials.values(plan.secrets, self._tokens)
        self._check_cloud(job)
        for one in self._queue():
            if one.get("job_name") == job.name and _state(one) != "ended":
                raise InputError(
                    f"a job with the name {job.name} is there already: sky jobs logs {one['job_id']}",
                    f"dragoman stop sky:{one['job_id']}, or another --name",
                )

    def submit(self, job: Job, plan: Plan) -> Handle:
        """See `Client`."""
        values = credentials.values(plan.secrets, self._tokens)
        ends = int(self._clock() + job.max_hours * job.attempts * 3600)
        named = [word for name in values for word in ("--secret", name)]
        with tempfile.TemporaryDirectory(prefix="dragoman-sky-") as folder:
            for path, data in plan.files.items():
                place = Path(folder, path)
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(data)
            asked = ["jobs", "launch", "--yes", "--detach-run", "--env", f"{sky.ENDS}={ends}", *named, sky.TASK]
            lost: StoreUnavailable | None = None
            try:
                self._sky(asked, cwd=folder, more=values, seconds=_START_SECONDS)
            except StoreUnavailable as failure:
                lost = failure
        found = self._started(job)
        if found is None:
            said = (
                f"{lost.message}; it may run all the same"
                if lost
                else f"SkyPilot took {job.name}, and does not show it"
            )
            raise StoreUnavailable(said, f"sky jobs queue --all; sky jobs cancel --name {job.name}")
        return Handle("sky", str(found["job_id"]))

    def state(self, handle: Handle) -> State:
        """See `Client`."""
        try:
            found = [one for one in self._queue() if str(one.get("job_id")) == handle.id]
        except (StoreUnavailable, InputError):
            return "unknown"
        return _state(found[0]) if found else "ended"

    def release(self, handle: Handle) -> None:
        """See `Client`."""
        try:
            self._sky(["jobs", "cancel", "--yes", handle.id])
        except _NoJobs:
            return

    # --- parts -----------------------------------------------------------------------

    def _check_cloud(self, job: Job) -> None:
        """Whether SkyPilot has the key of the cloud."""
        infra = sky.INFRA[job.platform.name]
        answer = self._json(["check", "--output", "json", *([infra] if infra else [])])
        clouds = {str(cloud) for enabled in cast("Mapping[str, list[str]]", answer).values() for cloud in enabled}
        wanted = _CLOUDS.get(job.platform.name)
        if not clouds or (wanted and not any(cloud.startswith(wanted) for cloud in clouds)):
            name = wanted or "any cloud"
            raise InputError(
                f"SkyPilot has no key of {name}", f"sky check {infra or ''}".rstrip() + " says how to give it one"
            )

    def _queue(self) -> list[dict[str, Any]]:
        try:
            return cast("list[dict[str, Any]]", self._json(["jobs", "queue", "--all", "--output", "json"]))
        except _NoJobs:
            return []

    def _started(self, job: Job) -> dict[str, Any] | None:
        """The newest job of this name that is alive."""
        try:
            found = [one for one in self._queue() if one.get("job_name") == job.name and _state(one) != "ended"]
        except (StoreUnavailable, InputError):
            return None
        return max(found, key=lambda one: int(one["job_id"]), default=None)

    def _json(self, words: list[str]) -> Any:
        """What it says, without what it says around it."""
        said = self._sky(words)
        for start in sorted(place for place in (said.find("["), said.find("{")) if place >= 0):
            try:
                return json.JSONDecoder().raw_decode(said, start)[0]
            except ValueError:
                continue
        raise StoreUnavailable(f"sky {' '.join(words[:2])}: no JSON in its answer", "sky api status")

    def _sky(
        self,
        words: list[str],
        *,
        cwd: str | None = None,
        more: Mapping[str, str] | None = None,
        seconds: float = _SECONDS,
    ) -> str:
        what = f"sky {' '.join(words[:2])}"
        hidden = tuple((more or {}).values())
        try:
            done = subprocess.run(
                [self._executable, *words],
                cwd=cwd,
                env={**host.options(""), **(more or {}), "NO_COLOR": "1"},
                capture_output=True,
                text=True,
                timeout=seconds,
                check=False,
            )
        except FileNotFoundError:
            raise InputError("SkyPilot is not installed: there is no command sky", INSTALL) from None
        except subprocess.TimeoutExpired:
            raise StoreUnavailable(f"{what}: no answer within {seconds / 60:.0f} minutes", "sky api status") from None
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip())[-600:]
            if _NONE in said:
                raise _NoJobs
            raise InputError(f"{what}: {one_line(said, hidden)}", f"{what} --help, or sky api logs")
        return done.stdout


def _state(one: Mapping[str, Any]) -> State:
    status = str(one.get("status")).rpartition(".")[2]
    return "ended" if status.startswith("FAILED") else _STATES.get(status, "unknown")
