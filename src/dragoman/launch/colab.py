"""Google Colab: a notebook that a person opens, since no program can start a session there.

What can be done from here is done from here: the notebook has the run's options, and a
private data set on the Hub has the package and the run's files, which the notebook fetches
with the token that it needs anyway.
"""

from collections.abc import Mapping
from typing import Any

from dragoman import platforms
from dragoman.config import from_flat
from dragoman.errors import InputError
from dragoman.launch import bundle, notebook
from dragoman.launch.hub_account import Account
from dragoman.launch.job import Handle, Job, Plan, State
from dragoman.launch.notebook import Cell

NOTEBOOK = "train_nllb_colab.ipynb"
ADDRESS = "https://colab.research.google.com/"
"""Where the badge leads. Colab's front page offers to upload a notebook; one that is on GitHub opens at once at
ADDRESS + `github/OWNER/REPO/blob/BRANCH/PATH`."""

HUB_PAGE = "https://huggingface.co"

SECRET = (
    "In the bar at the left press the key, add a secret with the name HF_TOKEN and the token as its value, and switch "
    "Notebook access on."
)
STEPS = (
    f"Open {ADDRESS} and upload {NOTEBOOK} (File, Upload notebook).",
    "Choose a T4 (Runtime, Change runtime type).",
    SECRET,
    "Run all cells (Runtime, Run all); after a cut, run all cells again.",
)

_METADATA: dict[str, Any] = {"accelerator": "GPU", "colab": {"gpuType": "T4", "provenance": []}}

_TITLE = f"""
[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({ADDRESS})

# Fine-tune NLLB-200 on Colab

1. **Runtime → Change runtime type → T4 GPU**
2. {SECRET}
3. Fill in the settings below, then **Runtime → Run all**.

Colab ends a free session after 12 hours at the latest, and after some 90 minutes without anyone at this page, without a
warning. Every 500 steps or 10 minutes a checkpoint goes to your private repository on the Hub. When the session is cut,
open this notebook again and **Run all**: it goes on from the newest one.
"""

_SECRET_HERE = '''
def platform_secret():
    """The secret of this notebook; nothing outside Colab."""
    try:
        from google.colab import userdata
    except ImportError:
        return None
    return userdata.get("HF_TOKEN")
'''

_UPLOAD = "press the folder at the left, upload it there, and run all cells again."

_RELEASE = """
# @title 6. Give the machine back
# @markdown All above is done, and everything is on the Hub: an idle machine only uses up your units.
release = True  # @param {type:"boolean"}
if release:
    try:
        from google.colab import runtime
    except ImportError:
        print("this is not Colab: nothing to give back")
    else:
        print("the run is done and on the Hub; this machine is given back")
        runtime.unassign()
"""


def plan(job: Job) -> Plan:
    """The notebook of a job, what it fetches, and what a person does with it.

    Raises:
        InputError: The run is kept elsewhere than on the Hub, or wants several machines.
    """
    notebook.check(job)
    if not job.carries:
        return Plan({NOTEBOOK: _notebook(job, "")}, secrets=(), steps=STEPS)
    carried_in = f"{bundle.repo_of(job)}/{bundle.folder(job)}"
    return Plan({NOTEBOOK: _notebook(job, carried_in), **bundle.files(job)}, secrets=(), steps=STEPS)


def _notebook(job: Job, carried_in: str) -> bytes:
    cells = [
        Cell("title", "markdown", _TITLE),
        # Not relative: where files are carried, the cells work in their folder.
        notebook.settings(job.config, folder="/content/run", carried_in=carried_in),
        notebook.token(_SECRET_HERE, SECRET),
        notebook.install(job, _UPLOAD),
        notebook.train(),
        notebook.trial(),
        Cell("release", "code", _RELEASE),
    ]
    return notebook.render(cells, _METADATA)


def recipe() -> Mapping[str, bytes]:
    """The notebook for someone without this package, by its path below `recipes/`."""
    return {f"colab/{NOTEBOOK}": plan(example_job("colab")).files[NOTEBOOK]}


def example_job(platform: str) -> Job:
    """The run of the starting document, for a platform that runs notebooks."""
    there = platforms.find(platform)
    config = from_flat(
        {
            "language_pairs": ["en-fr", "en-de"],
            "max_samples": 20000,
            "epochs": 3,
            "batch_size": 4,
            "hub_model_id": "USER/fine-tuned-nllb-600M",
        }
    )
    return Job("fine-tuned-nllb-600m", config, there, there.offer(), max_hours=there.session_hours or 12)


def connect() -> "ColabClient":
    """The client; its account is that of the Hub."""
    return ColabClient(Account())


class ColabClient:
    """Puts the notebook, and what it fetches, where a person and the notebook find them. See `Client`.

    Colab itself answers no program.

    Args:
        account: Of the Hub, whose the run is.
    """

    def __init__(self, account: Account) -> None:
        self._account = account

    def check(self, job: Job, plan: Plan) -> None:
        """Look whether the token may write to the repository of the run and to the data set that carries it."""
        self._account.check_writes(notebook.repository(job.config))
        self._account.check_writes(bundle.repo_of(job))
        bundle.check_private(self._account, bundle.repo_of(job))

    def submit(self, job: Job, plan: Plan) -> Handle:
        """Upload all to the private data set; the steps of the plan start the run."""
        bundle.publish(self._account, job)
        repo_id, path = bundle.repo_of(job), f"{bundle.folder(job)}/{NOTEBOOK}"

        def upload(api: Any) -> None:
            api.upload_file(
                path_or_fileobj=plan.files[NOTEBOOK], path_in_repo=path, repo_id=repo_id, repo_type="dataset"
            )

        self._account.ask(f"datasets/{repo_id}: the notebook is not stored", upload)
        return Handle("colab", f"{repo_id}/{bundle.folder(job)}", f"{HUB_PAGE}/datasets/{repo_id}/blob/main/{path}")

    def state(self, handle: Handle) -> State:
        """Not known: Colab tells nobody. The run itself says it, through its store."""
        return "unknown"

    def release(self, handle: Handle) -> None:
        """Refused: only the notebook itself, or a person at its page, can give the machine back.

        Raises:
            InputError: Always.
        """
        raise InputError(
            "Colab: no program can end a session from elsewhere",
            "in its page: Runtime, Disconnect and delete runtime; the last cell does it when the run is done",
        )
