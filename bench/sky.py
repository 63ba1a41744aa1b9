"""Does SkyPilot take what we write, and are we the first to say no? `make sky`.

Builds an environment of its own, `.venv-sky`, because SkyPilot pins an older click than the
Hub's client needs, and in it

    every recipe and one task of each platform   read by `Task.from_yaml_config`, and a machine found for it in a
                                                 catalogue of ours (`bench/sky_catalog`): no cloud is asked
    what cannot be                               refused by us, and what SkyPilot would have said
    the executable                               has the words that we say to it; without any cloud our client
                                                 says so before a job is handed over

Prints a report in Markdown and exits 1 when anything is not as it should be:

    python bench/sky.py > bench/sky_DATE.md
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from dragoman import platforms
from dragoman.config import from_flat
from dragoman.errors import DragomanError
from dragoman.launch import sky
from dragoman.launch.job import Job
from dragoman.launch.sky_client import SkyClient
from dragoman.store.hub_access import Tokens

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
VENV = ROOT / ".venv-sky"
REQUIREMENT = "skypilot==0.14.1"
CATALOG_VERSION = "v8"
SAID = {
    ("jobs", "launch"): ("--yes", "--detach-run", "--env", "--secret"),
    ("jobs", "queue"): ("--all", "--output"),
    ("jobs", "cancel"): ("--yes",),
    ("check",): ("--output",),
}
"""What our client says to the executable."""
wrong: list[str] = []


def main() -> int:
    """Print the report."""
    _environment()
    with tempfile.TemporaryDirectory(prefix="bench-sky-") as folder:
        home = Path(folder)
        shutil.copytree(HERE / "sky_catalog", home / ".sky/catalogs" / CATALOG_VERSION)
        asked = {"recipe " + path: data.decode() for path, data in sky.recipe().items()}
        asked |= {f"{name}": sky.plan(job).files[sky.TASK].decode() for name, job in _possible().items()}
        asked |= {name: text for name, (_, text) in _impossible().items()}
        told = json.loads(_run([VENV / "bin/python", "-P", HERE / "sky_judge.py"], home, json.dumps({"tasks": asked})))
        _report(told)
        _executable(home)
    for line in wrong:
        print(f"\n**wrong**: {line}")
    return 1 if wrong else 0


def _report(told: dict[str, Any]) -> None:
    versions = ", ".join(f"{name} {number}" for name, number in told["versions"].items())
    print(f"# SkyPilot, {time.strftime('%Y-%m-%d')}\n")
    print(
        f"{platform.system()} {platform.machine()}, Python {platform.python_version()}; {versions}, in an environment"
    )
    print("of its own. Made by `make sky`. No cloud was asked: the catalogue is `bench/sky_catalog`.\n")
    print("## What is taken\n\n| task | read | machine found | nodes | when idle | goes on after |")
    print("|---|---|---|---|---|---|")
    refused = _impossible()
    for name, one in told["tasks"].items():
        if name in refused:
            continue
        good = one["parsed"] and one["found"] and one["down"] and one["exit_codes"] == [75] and one["strategy_known"]
        if not good:
            wrong.append(f"{name}: {one}")
        ends = "down" if one.get("down") else "no"
        found = "; ".join(dict.fromkeys(one["found"])) or one["said"]
        cells = (name, "yes" if one["parsed"] else "no", found, one.get("nodes"), ends, one.get("exit_codes"))
        print(f"| {' | '.join(map(str, cells))} |")
    print(
        "\n## What is refused\n\n| asked for | our words, which come first | SkyPilot's, for the same |\n|---|---|---|"
    )
    for name, (ours, _) in refused.items():
        one = told["tasks"][name]
        if one["found"]:
            wrong.append(f"{name}: SkyPilot would have found {one['found']}")
        said = " ".join((one["said"] or "no machine").split()).replace("|", "/")[:200]
        print(f"| {name} | {ours} | {said} |")


def _executable(home: Path) -> None:
    print("\n## The executable\n")
    for verb, words in SAID.items():
        text = _run([VENV / "bin/sky", *verb, "--help"], home)
        missing = [word for word in words if word not in text]
        if missing:
            wrong.append(f"sky {' '.join(verb)} has no {missing}")
        print(f"* `sky {' '.join(verb)}` knows {', '.join(f'`{word}`' for word in words)}")
    job = _possible()["lambda"]
    os.environ["HOME"] = str(home)
    try:
        SkyClient(Tokens(lambda: "hf_nobody"), str(VENV / "bin/sky")).check(job, sky.plan(job))
        wrong.append("a job passes our check without any cloud")
    except DragomanError as error:
        if "SkyPilot has no key of Lambda" not in error.message:
            wrong.append(f"our check said: {error}")
        print(f"* without any cloud our client says: {' / '.join(str(error).splitlines())}")
    client = SkyClient(Tokens(lambda: "hf_nobody"), str(VENV / "bin/sky"))
    queue = client._queue()
    if queue:
        wrong.append(f"a new account has jobs: {queue}")
    print("* before its first job the queue is empty, and that is no error of ours")
    _run([VENV / "bin/sky", "api", "stop"], home)


def _job(name: str, gpu: str | None = None, **more: Any) -> Job:
    place = platforms.find(name)
    config = from_flat({"language_pairs": ["en-fr"], "store": "hf://USER/fine-tuned-nllb-600M"})
    return Job(name="nllb", config=config, platform=place, offer=place.offer(gpu), **more)


def _possible() -> dict[str, Job]:
    tries = {"attempts": 3, "max_hours": 8.0}
    return {
        "runpod": _job("runpod", **tries),
        "runpod, A100": _job("runpod", "a100-80"),
        "lambda": _job("lambda", **tries),
        "lambda, two nodes": _job("lambda", num_nodes=2),
        "vast": _job("vast", **tries),
        "vast, spot": _job("vast", spot=True),
        "anywhere, RTX 4090": _job("sky", "rtx4090"),
    }


def _impossible() -> dict[str, tuple[str, str]]:
    """By what is asked for: our words, and the task that SkyPilot would have been given."""
    wanted = {
        "Lambda with spot": lambda: _job("lambda", spot=True),
        "RunPod with spot": lambda: _job("runpod", spot=True),
        "vast.ai with two nodes": lambda: _job("vast", num_nodes=2),
        "RunPod with two nodes": lambda: _job("runpod", num_nodes=2),
        "a GPU that Lambda lacks": lambda: replace(_job("lambda"), offer=platforms.find("sky").offer("t4")),
    }
    found = {name: (_refusal(make()), sky.text(sky.task(make())).decode()) for name, make in wanted.items()}
    typo = yaml.safe_load(sky.text(sky.task(_job("runpod"))))
    typo["resources"]["accelerators"] = "RTX4099:1"
    try:
        platforms.find("runpod").offer("rtx4099")
        ours = "nothing"
    except DragomanError as error:
        ours = " / ".join(line.strip() for line in str(error).splitlines())
    return found | {"a GPU with a typo": (ours, yaml.safe_dump(typo))}


def _refusal(job: Job) -> str:
    try:
        sky.plan(job)
    except DragomanError as error:
        return " / ".join(line.strip() for line in str(error).splitlines())
    wrong.append(f"{job.platform.name}: we refused nothing")
    return "nothing"


def _environment() -> None:
    stamp = VENV / f".{REQUIREMENT}"
    if stamp.exists():
        return
    subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
    pip = [VENV / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, REQUIREMENT], check=True)
    stamp.touch()


def _run(words: list[Any], home: Path, text: str = "") -> str:
    """What a program of that environment prints; it finds a home of its own and no settings of ours."""
    own = {"HOME": str(home), "PATH": f"{VENV / 'bin'}:{os.environ['PATH']}", "NO_COLOR": "1", "COLUMNS": "200"}
    done = subprocess.run(list(map(str, words)), input=text, env=own, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{words[0]}: {done.stderr[-2000:]}")
    return done.stdout


if __name__ == "__main__":
    raise SystemExit(main())
