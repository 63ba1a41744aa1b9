"""Google Colab: a notebook that a person opens, since no program can start a session there.

What can be done from here is done from here: the notebook has the run's options, and the
wheel lies in a private data set on the Hub, from which the notebook fetches it with the
token that it needs anyway.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dragoman import platforms
from dragoman.config import from_flat
from dragoman.errors import InputError
from dragoman.launch import notebook
from dragoman.launch.job import Handle, Job, Plan, State
from dragoman.launch.notebook import Cell

if TYPE_CHECKING:
    from huggingface_hub import HfApi

NOTEBOOK = "train_nllb_colab.ipynb"
PACKAGES = "dragoman-colab"
"""Name of the private data set that gets notebook and wheel, below the owner of the run."""

ADDRESS = "https://colab.research.google.com/"
"""Where the badge leads. Colab's front page offers to upload a notebook; one that is on GitHub opens at once at
ADDRESS + `github/OWNER/REPO/blob/BRANCH/PATH`."""

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


def plan(job: Job, wheel: Mapping[str, bytes] | None = None) -> Plan:
    """The notebook of a job, and what a person does with it.

    Args:
        job: Its run is kept on the Hub.
        wheel: The package by its file name, if it goes along; else the notebook installs from an index, or what
            lies beside it.

    Raises:
        InputError: The run is kept elsewhere.
    """
    carried = dict(wheel or {})
    packages = f"{notebook.repository(job.config).split('/')[0]}/{PACKAGES}" if carried else ""
    return Plan({NOTEBOOK: _notebook(job, packages), **carried}, steps=STEPS)


def _notebook(job: Job, package_repo: str) -> bytes:
    cells = [
        Cell("title", "markdown", _TITLE),
        notebook.settings(job.config, folder="run", package_repo=package_repo),
        notebook.token(_SECRET_HERE, SECRET),
        notebook.install(_UPLOAD),
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


class Client:
    """Puts notebook and wheel where a person, and the notebook, find them. Colab itself answers no program.

    Args:
        api: Of the Hub, with the token of whoever starts the run; made when it is left out.
    """

    def __init__(self, api: "HfApi | None" = None) -> None:
        self._given = api

    def check(self, job: Job, plan: Plan) -> None:
        """Look whether the token here may write for the owner of the run."""
        from dragoman.checkpoint import doctor

        found = doctor.token(f"hf://{notebook.repository(job.config)}")
        if found.verdict != "ok":
            raise InputError(found.finding, found.hint)

    def submit(self, job: Job, plan: Plan) -> Handle:
        """Upload notebook and wheel to a private data set; the steps of the plan start the run."""
        from huggingface_hub import CommitOperationAdd

        owner = notebook.repository(job.config).split("/")[0]
        repo = f"{owner}/{PACKAGES}"
        self._api.create_repo(repo, repo_type="dataset", private=True, exist_ok=True)
        changes = [CommitOperationAdd(name, content) for name, content in plan.files.items()]
        self._api.create_commit(repo, changes, repo_type="dataset", commit_message=f"Notebook of {job.name}")
        return Handle("colab", repo, f"{self._api.endpoint}/datasets/{repo}/blob/main/{NOTEBOOK}")

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

    @property
    def _api(self) -> "HfApi":
        if self._given is None:
            from dragoman import host

            host.prefer_lfs()
            from huggingface_hub import HfApi

            self._given = HfApi()
        return self._given
