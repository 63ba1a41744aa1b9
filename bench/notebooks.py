"""Do the notebooks install the package for real, and leave the platform's torch alone? `make notebooks`.

Makes the wheel that `dragoman launch` carries, and one environment below `.venv-notebooks/` with
the transformers and huggingface_hub that Colab's image had in November 2026 (torch as in
constraints.txt, this machine's Python), and runs the notebooks' own cells there, each time without
dragoman, and what it needs besides, at first:

    nowhere       no wheel: a message says what to bring, no index is asked for it, and nothing is trained
    beside        the wheel lies beside the notebook
    on the Hub    wheel and pairs are in the private data set into which `launch colab` uploads them

Those that install train a tiny model to its end on a Hub on loopback. Prints a report in
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

from dragoman import platforms
from dragoman.config import from_flat
from dragoman.launch import colab, kaggle, wheel
from dragoman.launch.hub_account import Account
from dragoman.launch.job import Job
from tests.support import real
from tests.support.hub import HubStandIn
from tests.support.notebooks import Page, filled
from tests.support.runs import make_pairs

ROOT = Path(__file__).resolve().parents[1]
IMAGE = ["transformers==5.15.*", "huggingface_hub==1.27.*", "ipykernel"]
STAYS = ("torch", "transformers", "huggingface_hub", "numpy", "tokenizers", "safetensors")
TOKEN = "hf_secretsecretsecret"
OPTIONS: dict[str, Any] = {
    "language_pairs": ["en-fr"],
    "data": ["en-fr=pairs.tsv"],
    "hub_model_id": "ada/run",
    "max_samples": 50,
    "model": "scratch:tiny",
    "device": "cpu",
    "threads": 1,
    "max_steps": 4,
    "save_steps": 2,
    "eval_steps": 0,
}


CASES = (("colab", "nowhere"), ("colab", "beside"), ("colab", "on the Hub"), ("kaggle", "beside"))


class Wrong(Exception):
    """Something is not as it should be; the message says what."""


def main() -> int:
    """Run all cases; returns the exit code."""
    os.environ.pop("PYTHONPATH", None)  # the package shall come from the wheel alone
    say(f"# Notebooks, {time.strftime('%Y-%m-%d')}\n")
    say(f"{platform.system()} {platform.machine()}, Python {platform.python_version()}. Made by `make notebooks`.\n")
    python, (name, content) = environment(), wheel.contents()
    say(f"Image: {versions(python)}; wheel: {name}, {len(content) / 1e3:,.0f} kB.\n")
    say("| notebook | where the wheel is | outcome |\n|---|---|---|")
    failed = False
    for platform_name, where in CASES:
        try:
            outcome = in_image(python, platform_name, where)
        except Wrong as error:
            failed, outcome = True, f"FAILED: {error}"
        say(f"| {platform_name} | {where} | {outcome} |")
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


def listed(python: Path) -> dict[str, str]:
    """Every installed package with its version."""
    words = [python, "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"]
    said = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    return {entry["name"].lower().replace("-", "_"): entry["version"] for entry in json.loads(said)}


def versions(python: Path) -> str:
    """Versions of what must stay, as one line."""
    found = listed(python)
    return ", ".join(f"{name} {found[name]}" for name in STAYS if name in found)


def in_image(python: Path, name: str, where: str) -> str:
    """Run a notebook in the image, without dragoman at first; returns what happened."""
    pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    before = listed(python)
    with tempfile.TemporaryDirectory(prefix="dragoman-notebooks-") as made, HubStandIn() as hub:
        began = time.monotonic()
        folder = Path(made)
        page = prepared(folder, hub, python, name, where)
        message = page.run_all()
        seconds = time.monotonic() - began
        repositories = [seen.path for seen in hub.requests if "/repos/create" in seen.path and where == "nowhere"]
    after = listed(python)
    broken = subprocess.run([*pip, "check"], capture_output=True, text=True).stdout.strip()
    if new := [package for package in after if package not in before]:
        subprocess.run([*pip, "uninstall", "--yes", *new], check=True, capture_output=True)
    moved = {package: after[package] for package in before if after.get(package) != before[package]}
    if moved or broken:
        raise Wrong(f"replaced: {moved}; {broken}")
    if where == "nowhere":
        if not message.startswith("STOPPED: the wheel of dragoman ") or repositories:
            raise Wrong(message or "it went on")
        return f"`{message.splitlines()[0]}`; nothing was trained"
    if message:
        raise Wrong(message)
    return (
        f"{len(new)} packages installed and none replaced, trained to its end, downloaded and tested; {seconds:,.0f} s"
    )


def prepared(folder: Path, hub: HubStandIn, python: Path, name: str, where: str) -> Page:
    """The notebook of a tiny job, with its wheel where it shall be found."""
    hub.add_token(TOKEN, "ada")
    pairs = make_pairs(folder / "pairs.tsv", n=60, seed=1).read_bytes()
    there = platforms.find(name)
    package, content = wheel.contents()
    carries = {package: content, "files/pairs.tsv": pairs} if where == "on the Hub" else {package: content}
    job = Job("tiny", from_flat(OPTIONS), there, there.offer(), carries=carries, requires=(package,))
    plan = (colab if name == "colab" else kaggle).plan(job)
    if where == "on the Hub":
        client = colab.ColabClient(Account(hub.url, lambda: TOKEN))
        client.check(job, plan)
        client.submit(job, plan)
    machine = folder / "machine"
    machine.mkdir()
    if where == "beside":
        (machine / package).write_bytes(content)
    if where != "on the Hub":
        (machine / "pairs.tsv").write_bytes(pairs)
    text = next(text for path, text in plan.files.items() if path.endswith(".ipynb"))
    variables = {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "home"), "HF_HUB_DISABLE_XET": "1"}
    values = {"folder": str(folder / "run")} | ({} if where == "on the Hub" or name == "kaggle" else {"carried_in": ""})
    secrets = {"HF_TOKEN": {"payload": TOKEN}}
    return Page(filled(text, **values), machine, real.environment(variables), secrets, python=python)


if __name__ == "__main__":
    sys.exit(main())
