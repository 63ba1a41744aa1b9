"""Do the notebooks install the package for real, and leave the platform's torch alone? `make notebooks`.

Builds the wheel of this version and one environment below `.venv-notebooks/` with the
transformers and huggingface_hub that Colab's image had in November 2026 (torch as in
constraints.txt, this machine's Python), and runs the notebooks' own cells there, each time without
dragoman at first:

    nowhere       no wheel, and none in the index: a message says what to bring, and nothing is trained
    beside        the wheel lies beside the notebook
    on the Hub    the wheel is in the private data set into which `launch colab` uploads it

The two that install train a tiny model to its end on a Hub on loopback. Prints a report in
Markdown and exits 1 when anything is not as it should be:

    python -m bench.notebooks > bench/notebooks_DATE.md
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi

from dragoman import platforms
from dragoman.config import from_flat
from dragoman.launch import colab, kaggle, notebook
from dragoman.launch.job import Job
from tests.support import real
from tests.support.hub import HubStandIn
from tests.support.hub_data import opus_100
from tests.support.notebooks import Page, filled
from tests.support.runs import make_pairs

ROOT = Path(__file__).resolve().parents[1]
IMAGE = ["transformers==5.15.*", "huggingface_hub==1.27.*", "ipykernel"]
STAYS = ("torch", "transformers", "huggingface_hub", "numpy", "tokenizers", "safetensors")
TOKEN = "hf_secretsecretsecret"
OPTIONS: dict[str, Any] = {
    "language_pairs": ["en-fr"],
    "hub_model_id": "ada/run",
    "max_samples": 50,
    "model": "scratch:tiny",
    "device": "cpu",
    "threads": 1,
    "max_steps": 4,
    "save_steps": 2,
    "eval_steps": 0,
}


class Wrong(Exception):
    """Something is not as it should be; the message says what."""


def main() -> int:
    """Run all cases; returns the exit code."""
    os.environ.pop("PYTHONPATH", None)  # the package shall come from the wheel alone
    say(f"# Notebooks, {time.strftime('%Y-%m-%d')}\n")
    say(f"{platform.system()} {platform.machine()}, Python {platform.python_version()}. Made by `make notebooks`.\n")
    python, wheel = environment(), build()
    say(f"Image: {versions(python)}; wheel: {notebook.WHEEL}, {len(wheel) / 1e3:,.0f} kB.\n")
    say("| notebook | where the wheel is | outcome |\n|---|---|---|")
    failed = False
    for name, where in (("colab", "nowhere"), ("colab", "beside"), ("colab", "on the Hub"), ("kaggle", "beside")):
        try:
            outcome = in_image(python, wheel, name, where)
        except Wrong as error:
            failed, outcome = True, f"FAILED: {error}"
        say(f"| {name} | {where} | {outcome} |")
    return int(failed)


def say(text: str) -> None:
    """One part of the report."""
    print(text, flush=True)


def environment() -> Path:
    """The Python of an environment like Colab's, made if it is missing."""
    folder = ROOT / ".venv-notebooks"
    python, stamp = folder / "bin/python", folder / ".installed"
    wanted = json.dumps(IMAGE)
    if not stamp.exists() or stamp.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", ROOT / "constraints.txt"]
        for packages in (["torch"], IMAGE):
            subprocess.run([*pip, *packages], check=True, capture_output=True, text=True)
        stamp.write_text(wanted)
    return python


def build() -> bytes:
    """The wheel of this version."""
    with tempfile.TemporaryDirectory() as made:
        words = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", made, str(ROOT)]
        subprocess.run(words, check=True, capture_output=True, text=True)
        return Path(made, notebook.WHEEL).read_bytes()


def listed(python: Path) -> dict[str, str]:
    """Every installed package with its version."""
    words = [python, "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"]
    said = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    return {entry["name"].lower().replace("-", "_"): entry["version"] for entry in json.loads(said)}


def versions(python: Path) -> str:
    """Versions of what must stay, as one line."""
    found = listed(python)
    return ", ".join(f"{name} {found[name]}" for name in STAYS if name in found)


def in_image(python: Path, wheel: bytes, name: str, where: str) -> str:
    """Run a notebook in the image, without dragoman at first; returns what happened."""
    pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "uninstall", "--yes", "dragoman"], check=True, capture_output=True)
    before = listed(python)
    with tempfile.TemporaryDirectory(prefix="dragoman-notebooks-") as made, HubStandIn() as hub:
        began = time.monotonic()
        folder = Path(made)
        page = prepared(folder, hub, python, wheel, name, where)
        message = page.run_all()
        seconds = time.monotonic() - began
        repositories = [seen.path for seen in hub.requests if "/repos/create" in seen.path and where == "nowhere"]
    after = listed(python)
    moved = {package: after[package] for package in before if after.get(package) != before[package]}
    if moved:
        raise Wrong(f"replaced: {moved}")
    if where == "nowhere":
        if not message.startswith("STOPPED: pip could not install dragoman") or repositories:
            raise Wrong(message or "it went on")
        return f"`{message.splitlines()[0]}`; nothing was trained"
    if message:
        raise Wrong(message)
    subprocess.run([*pip, "check"], check=True, capture_output=True)
    new = len(after) - len(before)
    return f"installed with {new - 1} new packages and none replaced, trained to its end, translated; {seconds:,.0f} s"


def prepared(folder: Path, hub: HubStandIn, python: Path, wheel: bytes, name: str, where: str) -> Page:
    """The notebook of a tiny job, with its wheel where it shall be found."""
    hub.add_token(TOKEN, "ada")
    lines = make_pairs(folder / "pairs.tsv", n=60, seed=1).read_text().splitlines()
    texts = [(source, target) for source, _, target in (line.partition("\t") for line in lines)]
    opus_100(hub, {"en-fr": {"train": [texts]}}, "Helsinki-NLP/opus-100")
    there = platforms.find(name)
    job = Job("tiny", from_flat(OPTIONS), there, there.offer())
    carried = {notebook.WHEEL: wheel} if where == "on the Hub" else None
    plan = (colab if name == "colab" else kaggle).plan(job, carried)
    if carried:
        colab.Client(HfApi(endpoint=hub.url, token=TOKEN)).submit(job, plan)
    machine = folder / "machine"
    machine.mkdir()
    if where == "beside":
        (machine / notebook.WHEEL).write_bytes(wheel)
    content = next(content for path, content in plan.files.items() if path.endswith(".ipynb"))
    variables = {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "home"), "HF_HUB_DISABLE_XET": "1"}
    shape = filled(content, folder="run")
    return Page(shape, machine, real.environment(variables), {"HF_TOKEN": {"payload": TOKEN}}, python=python)


if __name__ == "__main__":
    sys.exit(main())
