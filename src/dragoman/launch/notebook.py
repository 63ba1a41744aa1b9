"""A notebook for someone who only has a browser: few cells, the same bytes every time.

Colab and Kaggle get the same cells but for the first text, the place of the token and
the end. What can be in the package is not in a cell (`cells.py`); what has to run
before the package is there stands here as text.

The format is nbformat 4.5, a small piece of JSON. It is written without the library of
that name: a core installation must be able to launch, and that library draws the ids
of cells at random.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from dragoman import __version__
from dragoman.config import RunConfig
from dragoman.errors import InputError
from dragoman.launch.carrying import FILES
from dragoman.launch.job import Job
from dragoman.store.address import HUB, normal

TOKENS_PAGE = "https://huggingface.co/settings/tokens"

_FIELDS = ("language_pairs", "data", "max_samples", "epochs", "batch_size", "model")
"""Options with a field of their own; all others are words."""
_NOT_HERE = ("store", "hub_model_id", "output", "resume", "resume_from_checkpoint", "take_over")
"""What the notebook itself decides."""


@dataclass(frozen=True)
class Cell:
    """One cell."""

    name: str
    """Its id: letters, digits and dashes, once in a notebook."""
    kind: Literal["markdown", "code"]
    source: str


def render(cells: Sequence[Cell], metadata: Mapping[str, Any]) -> bytes:
    """The notebook as a file, without outputs."""
    return (json.dumps(_notebook(cells, metadata), indent=1, ensure_ascii=False) + "\n").encode()


def _notebook(cells: Sequence[Cell], metadata: Mapping[str, Any]) -> dict[str, Any]:
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    language = {"language_info": {"name": "python"}}
    return {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": kernel | language | dict(metadata),
        "cells": [_cell(cell) for cell in cells],
    }


def _cell(cell: Cell) -> dict[str, Any]:
    lines = cell.source.strip("\n").splitlines(keepends=True)
    common: dict[str, Any] = {"cell_type": cell.kind, "id": cell.name, "metadata": {}, "source": lines}
    return common | ({"execution_count": None, "outputs": []} if cell.kind == "code" else {})


def check(job: Job) -> None:
    """Raise `InputError` where a notebook cannot do what the job asks for."""
    if job.num_nodes > 1:
        raise InputError(f"--nodes {job.num_nodes}: a notebook is one machine", "--nodes 1")
    repository(job.config)


def repository(config: RunConfig) -> str:
    """USER/REPO of the Hub in which the run is kept.

    Raises:
        InputError: It is kept elsewhere, or nowhere: a notebook has the secret of the Hub only.
    """
    url = normal(config.store.url) if config.store.url else ""
    if not url.startswith(HUB):
        found = f"this run is kept in {url}" if url else "this run has no durable store"
        raise InputError(
            f"{found}, and a notebook loses its disk and holds the Hub's secret only",
            "--hub-model-id USER/REPO",
        )
    return url.removeprefix(HUB)


# --- the cells that both platforms have ------------------------------------------


def settings(config: RunConfig, *, folder: str, carried_in: str) -> Cell:
    """The first cell of code: every choice, as a form where the page knows forms.

    Args:
        config: The run.
        folder: Where the run folder is on that machine.
        carried_in: Folder of a private data set on the Hub with what the run needs, as USER/NAME/FOLDER; empty: none.
    """
    data, training = config.data, config.training
    fields: list[tuple[str, Any, str, str]] = [
        ("hub_model_id", repository(config), "string", "Where the run is kept, private: USER/NAME on the Hub."),
        ("language_pairs", " ".join(data.language_pairs), "string", "Directions to learn."),
        ("data", shlex.join(data.data), "string", "Data sets on the Hub, or paths of files on this machine."),
        ("max_samples", data.max_samples or 0, "integer", "Pairs per direction; 0 takes all."),
        ("epochs", training.epochs, "number", "Passes over them."),
        ("batch_size", training.batch_size, "integer", "Times four (`--gradient-accumulation`): the pairs of a step."),
        ("model", config.model.model, "string", "What is tuned."),
        ("more_options", shlex.join(_other_words(config)), "string", "More options of `dragoman train`, as words."),
        ("carried_in", carried_in, "string", "Filled in by `dragoman launch`: USER/NAME/FOLDER of a data set."),
        ("folder", folder, "string", "Where this machine keeps the run while it lives."),
    ]
    lines = ['# @title 1. Settings { display-mode: "form" }']
    for name, value, kind, meaning in fields:
        lines += [f"# @markdown {meaning}", f'{name} = {_literal(value)}  # @param {{type:"{kind}"}}']
    return Cell("settings", "code", "\n".join(lines))


def _literal(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _other_words(config: RunConfig) -> list[str]:
    """The options of a run that have no field, as words of a command line."""
    words: list[str] = []
    for name, value in config.given().items():
        if name in _FIELDS or name in _NOT_HERE or value in (None, False, []):
            continue
        words.append("--" + name.replace("_", "-"))
        if value is not True:
            words += [str(item) for item in cast("list[Any]", value if isinstance(value, list) else [value])]
    return words


def token(asking: str, missing: str) -> Cell:
    """The cell that puts the token into the environment, and nowhere else.

    Args:
        asking: Lines of `def platform_secret()`, which gives the token, or raises where it cannot.
        missing: Where a person has to click.
    """
    return Cell("token", "code", _TOKEN.format(asking=asking.strip("\n"), missing=missing, page=TOKENS_PAGE))


_TOKEN = '''
# @title 2. Token
import os


class Stop(Exception):
    """Ends `Run all` with one message instead of a traceback."""

    def _render_traceback_(self):
        return [f"STOPPED: {{self}}"]


{asking}


token, why = "", ""
try:
    token = (platform_secret() or "").strip()
except Exception as error:
    why = f" ({{type(error).__name__}}: {{error}})"
token = token or os.environ.get("HF_TOKEN", "").strip()
if not token:
    raise Stop(
        f"there is no token{{why}}; nothing was started.\\n"
        "1. Make one that may write at {page}.\\n"
        "2. {missing}\\n"
        "3. Run all cells again."
    )
os.environ["HF_TOKEN"] = token  # only here: it is written to no file, and not shown
'''


def install(job: Job, upload: str) -> Cell:
    """The cell that installs the package, and changes neither torch nor anything that fits already.

    Args:
        job: Says what is carried, and what is needed besides.
        upload: How a person brings the wheel to that machine.
    """
    package, *more = job.requires
    name, bracket, extras = package.partition("[")
    version = name.removeprefix("dragoman-").partition("-")[0] if name in job.carries else __version__
    data = next((path for path in sorted(job.carries) if path.startswith(f"{FILES}/")), "")
    source = _INSTALL.format(
        version=version, extras=bracket + extras, more=json.dumps(more), data=data, home=FILES, upload=upload
    )
    return Cell("install", "code", source)


_INSTALL = """
# @title 3. Install
import importlib
import importlib.metadata
import pathlib
import subprocess
import sys
import tempfile

VERSION, EXTRAS, MORE = "{version}", "{extras}", {more}
DATA, BRING = "{data}", "{upload}"
PLACES = (".", "/kaggle/input")  # beside this notebook, and what is attached to it
FIXED = ("torch", "nvidia-", "triton", "numpy")  # of this machine's image: they fit its GPU, and are never replaced
START = globals().get("START", pathlib.Path.cwd())


def version_here():
    try:
        return importlib.metadata.version("dragoman")
    except importlib.metadata.PackageNotFoundError:
        return None


def found(name):
    paths = (path for place in PLACES for path in sorted(pathlib.Path(place).rglob(name)))
    return next((str(path.absolute()) for path in paths), "")


def fetch():
    from huggingface_hub import snapshot_download

    owner, name, folder = carried_in.split("/")
    try:
        snapshot_download(f"{{owner}}/{{name}}", repo_type="dataset", allow_patterns=f"{{folder}}/*", local_dir=".")
    except Exception as error:
        raise Stop(f"{{carried_in}} cannot be fetched: {{error}}") from None


def install(*wanted):
    with tempfile.TemporaryDirectory() as made:
        constraints = pathlib.Path(made, "constraints.txt")
        fixed = [d for d in importlib.metadata.distributions() if d.metadata["Name"].lower().startswith(FIXED)]
        constraints.write_text("".join(f"{{d.metadata['Name']}}=={{d.version}}\\n" for d in fixed))
        words = [sys.executable, "-m", "pip", "install", "--quiet", "--constraint", str(constraints), *wanted]
        done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        print(done.stderr)
        raise Stop(f"pip could not install {{wanted[0]}}; the lines above say why")


os.chdir(START)
if carried_in:
    fetch()
if version_here() != VERSION:
    wheel = found(f"dragoman-{{VERSION}}*.whl")
    if not wheel:  # no index is asked for it: there anybody may take the name
        raise Stop(f"the wheel of dragoman {{VERSION}} is not here. Bring it: {{BRING}}")
    install(f"{{wheel}}{{EXTRAS}}", *MORE)
    importlib.invalidate_caches()
print(f"dragoman {{version_here()}}")
if DATA:
    os.chdir(found(DATA).removesuffix(DATA) + "{home}")  # the files of the run keep their names
"""


def train() -> Cell:
    """The cell that checks the token's rights, then trains."""
    return Cell("train", "code", _TRAIN)


_TRAIN = """
# @title 4. Train
from dragoman.launch import cells

cells.check_token(hub_model_id)
cells.train(
    hub_model_id=hub_model_id,
    language_pairs=language_pairs,
    data=data,
    max_samples=max_samples,
    epochs=epochs,
    batch_size=batch_size,
    model=model,
    more_options=more_options,
    folder=folder,
)
"""


def trial() -> Cell:
    """The cell that brings the model of the finished run back from the Hub, and tests it."""
    return Cell("trial", "code", _TRIAL)


_TRIAL = """
# @title 5. Download and test
# @markdown Works when the run is done, also in a later session: then run the cells 1 to 3 and this one.
# @markdown A sentence of your own, in the language that you translate from; empty: only the test.
sentence = ""  # @param {type:"string"}
try:
    from dragoman.launch import cells

    run = {"hub_model_id": hub_model_id, "folder": folder}
except (ImportError, NameError):
    raise SystemExit("this session is not set up: run the cells 1 to 3 first, then this one") from None
model_here = cells.download_and_test(**run)
for pair in language_pairs.split():
    if sentence:
        cells.run("translate", "--model", model_here, "--pair", pair, sentence)
"""
