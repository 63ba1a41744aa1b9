"""Hugging Face Jobs: one container, billed by the minute, that ends with its command.

The machine's limit is the job's own `timeout`; a job without one ends after half an hour.
"""

import hashlib
import inspect
import secrets
from collections.abc import Callable
from typing import Any

from dragoman.errors import InputError, StoreUnavailable
from dragoman.launch import bundle, credentials
from dragoman.launch.hub_account import Account
from dragoman.launch.job import Handle, Job, Plan, State
from dragoman.launch.lost_answer import made_all_the_same
from dragoman.store.outcome import HubFailure

IMAGE = "pytorch/pytorch:2.8.0-cuda12.8-cudnn9-runtime"
"""Has torch for all drivers since CUDA 12, so that installing takes a minute; Python 3.11."""
_ROUNDING = 1.01
"""Prices by the minute and by the hour differ by so much at most."""
_STATES: dict[str, State] = {"SCHEDULING": "waiting", "RUNNING": "running"}
_ENDED = {"COMPLETED", "CANCELED", "ERROR", "DELETED"}
_NAME, _STORE, _NONCE = "name", "dragoman-store", "dragoman-nonce"
"""Labels: the job's name, the run that it trains, and one that no other job has."""


def plan(job: Job) -> Plan:
    """A container of an image that has torch, and a script that fetches everything else.

    Raises:
        InputError: The platform cannot do that.
    """
    if job.num_nodes > 1:
        raise InputError(f"--nodes {job.num_nodes}: a job of Hugging Face is one machine", "--nodes 1")
    return Plan(
        files=bundle.files(job),
        command=("bash", "-c", bundle.script(job)),
        environment=bundle.ENVIRONMENT,
        secrets=credentials.names(job.store),
    )


def connect() -> "JobsClient":
    """The client of the account that this machine's token belongs to."""
    return JobsClient(Account())


class JobsClient:
    """Jobs of one account. See `Client`.

    Args:
        account: Whose they are, and who pays.
        nonce: Gives a text that no other job has.
    """

    def __init__(self, account: Account, nonce: Callable[[], str] = lambda: secrets.token_hex(4)) -> None:
        self._account, self._nonce = account, nonce

    def check(self, job: Job, plan: Plan) -> None:
        """See `Client`."""
        account = self._account
        credentials.values(plan.secrets, account.tokens)
        repo_id = bundle.repo_of(job)
        account.check_writes(repo_id)
        if job.store.startswith("hf://"):
            account.check_writes(job.store.removeprefix("hf://"))
        account.check_may("job.write", "start jobs")
        self._check_client(job)
        bundle.check_private(account, repo_id)
        self._check_flavor(job)
        for other in self._listed():
            if _stage(other) not in _ENDED and _labels(other).get(_STORE) == _label(job.store):
                raise InputError(
                    f"a job that trains {job.store} is there already: {other.url}",
                    f"dragoman stop jobs:{account.user}/{other.id}, or another store for another run",
                )

    def submit(self, job: Job, plan: Plan) -> Handle:
        """See `Client`."""
        account = self._account
        bundle.publish(account, job)
        nonce = self._nonce()
        more: dict[str, Any] = {"attempts": job.attempts} if job.attempts > 1 else {}

        def start(api: Any) -> Any:
            return api.run_job(
                image=IMAGE,
                command=list(plan.command),
                env=dict(plan.environment),
                secrets=credentials.values(plan.secrets, account.tokens),
                flavor=job.offer.flavor,
                timeout=int(job.max_hours * 3600),
                labels={_NAME: job.name, _STORE: _label(job.store), _NONCE: nonce},
                namespace=account.user,
                **more,
            )

        try:
            return self._handle(account.ask("the job was not started", start))
        except StoreUnavailable as failure:
            if isinstance(failure, HubFailure) and not failure.may_pass:
                raise InputError(failure.message, failure.hint) from None  # refused: nothing runs
            undo = f"look at https://huggingface.co/jobs/{account.user}, and cancel it there"
            return made_all_the_same(failure, lambda: self._of_start(nonce), undo)

    def state(self, handle: Handle) -> State:
        """See `Client`."""
        owner, _, job_id = handle.id.rpartition("/")
        try:
            found = self._account.look(
                f"job {handle.id}: cannot be looked at",
                lambda api: api.inspect_job(job_id=job_id, namespace=owner),
            )
        except (StoreUnavailable, InputError):
            return "unknown"
        if found is None or _stage(found) in _ENDED:
            return "ended"
        return _STATES.get(_stage(found), "unknown")

    def release(self, handle: Handle) -> None:
        """See `Client`."""
        owner, _, job_id = handle.id.rpartition("/")
        try:
            self._account.ask(
                f"job {handle.id}: cannot be cancelled",
                lambda api: api.cancel_job(job_id=job_id, namespace=owner),
            )
        except (HubFailure, InputError):
            if self.state(handle) != "ended":  # a job that has ended may refuse it
                raise

    # --- parts -----------------------------------------------------------------------

    def _check_client(self, job: Job) -> None:
        from huggingface_hub import HfApi, __version__

        if job.attempts > 1 and "attempts" not in inspect.signature(HfApi.run_job).parameters:
            raise InputError(
                f"--attempts {job.attempts}: huggingface_hub {__version__} cannot ask for it",
                "pip install -U 'huggingface_hub>=2.4', or leave it out",
            )

    def _check_flavor(self, job: Job) -> None:
        """Whether the machine is to be had, and still for the price that was shown."""
        hardware = self._account.ask("its machines cannot be listed", lambda api: api.list_jobs_hardware())
        found = next((one for one in hardware if one.name == job.offer.flavor), None)
        if found is None:
            known = ", ".join(one.name for one in hardware)
            raise InputError(f"--gpu {job.offer.flavor}: Hugging Face Jobs has it no more", f"one of: {known}")
        minutes = {"minute": 60, "hour": 1}.get(str(found.unit_label))
        if minutes is None:
            return
        said = job.most_usd if job.max_usd is None else job.max_usd
        usd = found.unit_cost_usd * minutes * job.max_hours * job.attempts
        if usd > said * _ROUNDING:
            raise InputError(
                f"{job.offer.flavor} costs ${found.unit_cost_usd * minutes:.2f} an hour now, which may come to "
                f"${usd:.2f}, more than ${said:.2f}",
                f"--max-usd {usd:.2f} --max-hours {job.max_hours:g}, if that is worth it",
            )

    def _listed(self) -> list[Any]:
        user = self._account.user
        return self._account.ask("its jobs cannot be listed", lambda api: list(api.list_jobs(namespace=user)))

    def _of_start(self, nonce: str) -> list[Handle]:
        """The job that bears the label of one start, if there is one."""
        return [self._handle(other) for other in self._listed() if _labels(other).get(_NONCE) == nonce]

    def _handle(self, found: Any) -> Handle:
        return Handle("jobs", f"{found.owner.name}/{found.id}", found.url)


def _stage(found: Any) -> str:
    stage = found.status.stage
    return str(getattr(stage, "value", stage))


def _labels(found: Any) -> dict[str, str]:
    return found.labels or {}


def _label(store: str) -> str:
    """A store's URL as a label, which takes few characters, may hold it."""
    return hashlib.sha256(store.encode()).hexdigest()[:16]
