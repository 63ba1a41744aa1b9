"""Kaggle: a private notebook that its API saves and runs, with two free T4 for thirty hours a week.

Two things only a person can do there, in the notebook's page: attach the secret, and end
a session before its time. So a new notebook is saved without being run, one that is there
already runs at once, and every session gets the limit at which Kaggle itself ends it.
"""

import json
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dragoman.errors import DragomanError, InputError, StoreUnavailable
from dragoman.launch import notebook
from dragoman.launch.colab import example_job
from dragoman.launch.job import Handle, Job, Plan, State
from dragoman.launch.kaggle_account import answers, asking, sign_in
from dragoman.launch.notebook import Cell

NOTEBOOK, METADATA = "train_nllb_kaggle.ipynb", "kernel-metadata.json"
PACKAGE_FOLDER, PACKAGE_METADATA = "package", "dataset-metadata.json"
"""What lies in this folder of a plan becomes a private data set of its own."""
YOU = "YOUR-KAGGLE-NAME"
"""Stands for the account in a plan, which knows none."""

SECRET = (
    "In the notebook's editor open Add-ons, Secrets, add HF_TOKEN with the token as its value, and tick it, so that it "
    "is attached to this notebook."
)
_SETTLING_SECONDS, _SETTLES_AFTER = 5.0, 120
"""How often, and how many times, a new data set is asked whether it is ready."""

_KERNEL = {"accelerator": "nvidiaTeslaT4", "isGpuEnabled": True, "isInternetEnabled": True, "language": "python"}

_TITLE = f"""
# Fine-tune NLLB-200 on Kaggle

1. In **Settings**: Accelerator **GPU T4 x2**, Internet **on** (both need an account with a verified phone number).
2. {SECRET}
3. Fill in the settings below, then **Save Version → Save & Run All**: it runs without this page.

Kaggle ends a session after 9 to 12 hours, without a warning, and gives 30 hours of GPU a week. Every 500 steps or 10
minutes a checkpoint goes to your private repository on the Hub. When the session is cut, **Save & Run All** once more:
it goes on from the newest one.
"""

_SECRET_HERE = '''
def platform_secret():
    """The secret that is attached to this notebook; nothing outside Kaggle."""
    try:
        from kaggle_secrets import UserSecretsClient
    except ImportError:
        return None
    return UserSecretsClient().get_secret("HF_TOKEN")
'''

_UPLOAD = "Add Input, Upload, New Dataset; attach it to this notebook, and run all cells again."

_END = """
All above is done, and everything is on the Hub. A saved version ends here by itself and uses no more of your quota; at
this page, press the power symbol (**Stop session**).
"""


def plan(job: Job) -> Plan:
    """Notebook and metadata of a job; with what it carries, the private data set for that.

    Raises:
        InputError: The run is kept elsewhere than on the Hub, or wants several machines.
    """
    notebook.check(job)
    files = {NOTEBOOK: _notebook(job), METADATA: _json(_metadata(job))}
    if job.carries:
        dataset = {"id": f"{YOU}/{_name(job)}", "title": _name(job), "licenses": [{"name": "other"}]}
        files[f"{PACKAGE_FOLDER}/{PACKAGE_METADATA}"] = _json(dataset)
        files |= {f"{PACKAGE_FOLDER}/{name}": content for name, content in job.carries.items()}
    steps = (
        f"Open the notebook's page, https://www.kaggle.com/code/{YOU}/{_name(job)}, and press Edit.",
        SECRET,
        "Press Save Version, Save & Run All; after a cut, do so again, or launch again from here.",
    )
    return Plan(files, secrets=(), steps=steps)


def _notebook(job: Job) -> bytes:
    cells = [
        Cell("title", "markdown", _TITLE),
        # What lies in /kaggle/working is kept with the version, and is cut at 20 GB: checkpoints of a 600M are more.
        notebook.settings(job.config, folder="/tmp/run", carried_in=""),
        notebook.token(_SECRET_HERE, SECRET),
        notebook.install(job, _UPLOAD),
        notebook.train(),
        notebook.trial(),
        Cell("end", "markdown", _END),
    ]
    return notebook.render(cells, {"kaggle": _KERNEL})


def _name(job: Job) -> str:
    """Of the notebook, and of the data set with what the job carries; Kaggle wants 6 to 50 characters."""
    return f"nllb-{job.name}"


def _metadata(job: Job) -> dict[str, Any]:
    """What `kaggle kernels push` reads (docs/kernels_metadata.md of kaggle-cli)."""
    return {
        "id": f"{YOU}/{_name(job)}",
        "title": _name(job).replace("-", " "),
        "code_file": NOTEBOOK,
        "language": "python",
        "kernel_type": "notebook",
        "is_private": True,
        "enable_gpu": True,
        "enable_internet": True,
        "machine_shape": job.offer.flavor,
        "dataset_sources": [f"{YOU}/{_name(job)}"] if job.carries else [],
        "competition_sources": [],
        "kernel_sources": [],
        "model_sources": [],
    }


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()


def recipe() -> Mapping[str, bytes]:
    """Notebook and metadata for someone without this package, by path below `recipes/`."""
    return {f"kaggle/{name}": content for name, content in plan(example_job("kaggle")).files.items()}


# --- handing it over -------------------------------------------------------------


def connect() -> "KaggleClient":
    """The client; it signs in when it is first asked."""
    return KaggleClient()


class KaggleClient:
    """Kaggle's own client, in the name of the account that it is signed in with. See `Client`.

    Args:
        pause: Waits for so many seconds.
    """

    def __init__(self, pause: Callable[[float], None] = time.sleep) -> None:
        self._pause = pause
        self._signed_in: Any = None

    def check(self, job: Job, plan: Plan) -> None:
        """Look whether the account is known, has GPU hours left, and no session of this job runs.

        Raises:
            InputError: One of these is not so.
            StoreUnavailable: Kaggle does not answer.
        """
        if (state := self.state(self._handle(job))) in ("waiting", "running"):
            # A new version would not end the one before, and both would use up the week's hours.
            raise InputError(
                f"Kaggle: {self._handle(job).id} is {state} already",
                f"wait for it, or stop it at {self._handle(job).url}",
            )
        with asking("the hours that are left"):
            quota = self._api.quota_view().gpu_quota
        if quota.total_time_allowed <= quota.time_used + quota.time_reserved:
            raise InputError("Kaggle: no GPU hours are left this week", "wait for the next week, or another platform")

    def submit(self, job: Job, plan: Plan) -> Handle:
        """Save the notebook, and run it where it was saved before: a new one waits for its secret.

        Raises:
            InputError: Kaggle refused it; nothing runs.
            StoreUnavailable: Kaggle does not answer; when it was the last request, a session may be running.
        """
        handle = self._handle(job)
        is_new = not self._has_kernel(_name(job))
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            for name, content in plan.files.items():
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                is_metadata = path.suffix == ".json"  # nothing else has the account's name in it
                path.write_bytes(content.replace(YOU.encode(), self._user.encode()) if is_metadata else content)
            if (folder / PACKAGE_FOLDER).is_dir():
                self._carry(f"{self._user}/{_name(job)}", folder / PACKAGE_FOLDER)
            with asking("saving the notebook; look at its page whether it runs"):
                limit = str(int(3600 * min(job.max_hours, job.platform.limit_hours(job.offer) or job.max_hours)))
                answer = self._api.kernels_push(made, timeout=limit, no_run=is_new)
        refused = answer.error or ", ".join(answer.invalidDatasetSources or [])
        if refused:
            raise InputError(f"Kaggle refused the notebook: {refused}", "correct it, and launch again")
        return handle

    def state(self, handle: Handle) -> State:
        """What Kaggle says of the newest session of the notebook."""
        api = self._api
        try:
            with asking("its state"):
                status = str(api.kernels_status(handle.id).status.name)
        except DragomanError:
            return "unknown"
        if status == "QUEUED":
            return "waiting"
        return "running" if status in ("RUNNING", "CANCEL_REQUESTED") else "ended"

    def release(self, handle: Handle) -> None:
        """Refused: Kaggle's public API tells nobody the number of a session (kaggle-cli issue 1169, August 2026).

        Raises:
            InputError: Always; it says what ends the session.
        """
        raise InputError(
            "Kaggle: no program can end a session from elsewhere",
            f"in its page, {handle.url}: View Active Events, Stop; it ends by itself with its run or its limit",
        )

    def _carry(self, dataset: str, folder: Path) -> None:
        """Make the private data set of the job, or a new version of it, and wait until it can be attached."""
        with asking(f"uploading files to {dataset}"):
            if self._has_dataset(dataset):
                answer = self._api.dataset_create_version(
                    str(folder), "dragoman", quiet=True, delete_old_versions=True, dir_mode="zip"
                )
            else:
                answer = self._api.dataset_create_new(str(folder), public=False, quiet=True, dir_mode="zip")
            if answer.error:
                raise InputError(f"Kaggle refused {dataset}: {answer.error}", "correct it, and launch again")
            status = ""
            for _ in range(_SETTLES_AFTER):
                status = self._api.dataset_status(dataset)
                if status in ("ready", "failed"):
                    break
                self._pause(_SETTLING_SECONDS)
        if status != "ready":
            raise StoreUnavailable(f"Kaggle: {dataset} is {status} after a while; nothing was started", "launch again")

    def _has_dataset(self, dataset: str) -> bool:
        return answers(lambda: self._api.dataset_status(dataset))

    def _has_kernel(self, name: str) -> bool:
        from kagglesdk.kernels.types.kernels_api_service import (  # pyright: ignore[reportMissingTypeStubs]
            ApiGetKernelRequest,
        )

        asked = ApiGetKernelRequest()
        asked.user_name, asked.kernel_slug = self._user, name
        with asking("whether the notebook is there"), self._api.build_kaggle_client() as kaggle:
            return answers(lambda: kaggle.kernels.kernels_api_client.get_kernel(asked))

    def _handle(self, job: Job) -> Handle:
        return Handle("kaggle", f"{self._user}/{_name(job)}", f"https://www.kaggle.com/code/{self._user}/{_name(job)}")

    @property
    def _user(self) -> str:
        return str(self._api.config_values["username"])

    @property
    def _api(self) -> Any:
        if self._signed_in is None:
            self._signed_in = sign_in()
        return self._signed_in
