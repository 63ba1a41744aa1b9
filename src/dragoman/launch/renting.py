"""What starting a rented container takes at any vendor, before anything is spent."""

from collections.abc import Collection, Sequence

from dragoman.errors import InputError
from dragoman.launch import bundle, credentials
from dragoman.launch.guard import Release, guarded
from dragoman.launch.hub_account import Account
from dragoman.launch.job import Job, Plan
from dragoman.store.address import HUB


def plan(job: Job, release: Release) -> Plan:
    """A container of an image that has torch: it fetches everything else, trains, and gives itself back.

    Args:
        job: What runs there, on one machine.
        release: How it gives itself back.
    """
    return Plan(
        files=bundle.files(job),
        command=("bash", "-c", guarded(bundle.script(job), job.max_hours, release)),
        environment={"PYTHONUNBUFFERED": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"},
        secrets=credentials.names(job.store),
    )


def check_hub(account: Account, job: Job) -> None:
    """Whether the bundle can be put where the machine finds it, and the run can be kept.

    Raises:
        InputError: The token may not write there, or the data set is public.
        StoreUnavailable: The Hub does not answer.
    """
    repo_id = bundle.repo_of(job)
    account.check_writes(repo_id)
    if job.store.startswith(HUB):
        account.check_writes(job.store.removeprefix(HUB))
    bundle.check_private(account, repo_id)


def check_secrets(vendor: str, wanted: Sequence[str], kept: Collection[str], page: str) -> None:
    """Whether the account there keeps what the machine needs.

    Args:
        vendor: What it is called.
        wanted: Names of a plan's secrets; those that are only useful may be missing.
        kept: Names that the account has.
        page: Where they are made.

    Raises:
        InputError: One is missing.
    """
    needed = {credentials.HUB_TOKEN, *(name for names in credentials.NEEDED.values() for name in names)}
    missing = [name for name in wanted if name in needed and name not in kept]
    if missing:
        names = " and ".join(missing)
        raise InputError(
            f"{vendor} keeps no secret {names} for you, and the machine needs it", f"make it once at {page}"
        )
