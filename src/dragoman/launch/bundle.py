"""How a machine gets what it needs when nothing can be uploaded to it: through a private data set on the Hub.

A bundle is a folder there that bears the job's name and the digest of all that is in it:
this package as a wheel, the run file, data files. It is made in one commit and never
changed. A fresh container fetches it, compares every byte, installs, and trains; it needs
Python, a shell and the secret `HF_TOKEN`.
"""

import hashlib
import shlex
from typing import Any

import yaml

from dragoman.config import FIELDS
from dragoman.errors import InputError
from dragoman.launch.carrying import FILES
from dragoman.launch.hub_account import Account
from dragoman.launch.job import Job
from dragoman.store.address import HUB
from dragoman.store.hub_access import check_name

RUN_FILE, SUMS = "run.yaml", "SHA256SUMS"
DATA_SET = "dragoman-launch"
COMMAND = ("python", "-m", "dragoman", "train")
"""What trains on the machine; it is given the run file."""
ENVIRONMENT = {"PYTHONUNBUFFERED": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "PIP_ROOT_USER_ACTION": "ignore"}
"""Plain variables that keep the log of a machine readable."""
_PIP = "python -m pip install --quiet --disable-pip-version-check"
_FETCH = (
    "import sys, huggingface_hub as hub; "
    'hub.snapshot_download(sys.argv[1], repo_type="dataset", allow_patterns=[sys.argv[2] + "/*"], local_dir=".")'
)


def repo_of(job: Job) -> str:
    """The data set that bundles of this job are in, as USER/NAME.

    Raises:
        InputError: Nobody said, and the store is none of the Hub's.
    """
    if job.bundle:
        check_name(job.bundle)
        return job.bundle
    if not job.store.startswith(HUB):
        raise InputError(
            f"--bundle is missing: {job.store} does not say whose private data set on the Hub the machine may read",
            f"--bundle USER/{DATA_SET}",
        )
    return f"{job.store.removeprefix(HUB).partition('/')[0]}/{DATA_SET}"


def files(job: Job) -> dict[str, bytes]:
    """All that is in the bundle, by path: run file, wheel, data, and the digest of each."""
    made = {RUN_FILE: run_file(job), **job.carries}
    sums = [f"{hashlib.sha256(data).hexdigest()}  {path}\n" for path, data in sorted(made.items())]
    return made | {SUMS: "".join(sums).encode()}


def run_file(job: Job) -> bytes:
    """The options that say more than the defaults, as the run file of the machine."""
    given = {name: value for name, value in job.config.given().items() if value != FIELDS[name][1].default}
    return yaml.safe_dump(given, sort_keys=False, allow_unicode=True).encode()


def folder(job: Job) -> str:
    """The bundle's folder in the data set."""
    return f"{job.name}-{hashlib.sha256(files(job)[SUMS]).hexdigest()[:12]}"


def script(job: Job) -> str:
    """What a fresh container runs, as a shell script; it ends as the run ends."""
    name, digest = folder(job), hashlib.sha256(files(job)[SUMS]).hexdigest()
    package, *more = job.requires
    carried = f"./{package}" if package.partition("[")[0] in job.carries else package
    installed = shlex.join([carried, *more])
    return f"""set -eu
mkdir -p "${{HOME:-/tmp}}/dragoman"
cd "${{HOME:-/tmp}}/dragoman"
{_PIP} 'huggingface_hub>=1.5'
{shlex.join(["python", "-c", _FETCH, repo_of(job), name])}
cd {name}
echo '{digest}  {SUMS}' | sha256sum --check --quiet
sha256sum --check --quiet {SUMS}
{_PIP} {installed}
mkdir -p {FILES}
cd {FILES}
exec {shlex.join(COMMAND)} -c ../{RUN_FILE}
"""


def publish(account: Account, job: Job) -> None:
    """Put the bundle into its data set, in one commit, unless it is there.

    Raises:
        InputError: The data set is public.
        StoreUnavailable: The Hub refused or did not answer; a bundle is whole or absent.
    """
    repo_id = repo_of(job)
    account.ask(
        f"datasets/{repo_id}: it cannot be created",
        lambda api: api.create_repo(repo_id, repo_type="dataset", private=True, exist_ok=True),
    )
    check_private(account, repo_id)
    top = folder(job)
    if account.ask(
        f"datasets/{repo_id}: its files cannot be listed",
        lambda api: api.get_paths_info(repo_id, f"{top}/{SUMS}", repo_type="dataset"),
    ):
        return
    content = files(job)

    def commit(api: Any) -> None:
        from huggingface_hub import CommitOperationAdd

        made = [CommitOperationAdd(f"{top}/{path}", data) for path, data in content.items()]
        api.create_commit(repo_id, made, commit_message=f"Launch {job.name}", repo_type="dataset")

    account.ask(
        f"datasets/{repo_id}: the bundle is not stored", commit, num_bytes=sum(len(data) for data in content.values())
    )


def check_private(account: Account, repo_id: str) -> None:
    """Raise `InputError` if the data set is there, and everybody can read it."""
    found = account.look(
        f"datasets/{repo_id}: cannot be looked at", lambda api: api.repo_info(repo_id, repo_type="dataset")
    )
    if found is not None and found.private is False:
        raise InputError(
            f"datasets/{repo_id} is public, and run file and data would be too",
            "make it private in its settings, or name another: --bundle USER/NAME",
        )
