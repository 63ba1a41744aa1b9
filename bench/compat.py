"""Does what we save open elsewhere, and do we run on other versions? `make compat`.

Builds one environment each below `.venv-compat-*/` (torch as in constraints.txt), and in them

    transformers-4.57   opens a model saved by this environment: equal ids, loss and greedy output
    hub-1.27            installs dragoman beside huggingface_hub 1.27 and transformers 5.17 (Colab's):
                        a run is killed, resumed, evaluated and used; it equals an undisturbed one; the
                        store on the Hub and its faults
    newest              the same with the newest of everything that pip finds

Prints a report in Markdown and exits 1 when anything differs:

    python bench/compat.py > bench/compat_DATE.md
    python bench/compat.py hub-1.27        only that environment
"""

import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
OPEN_SAVED = ROOT / "tests/compat/open_saved.py"
ENVIRONMENTS = {
    "transformers-4.57": ["transformers==4.57.*", "safetensors"],
    "hub-1.27": ["huggingface_hub==1.27.*", "transformers==5.17.*", "pytest", "hypothesis", "-e", str(ROOT)],
    "newest": ["--upgrade", "--upgrade-strategy", "eager", "pytest", "hypothesis", "-e", str(ROOT)],
}
SHOWN = ("torch", "transformers", "tokenizers", "huggingface_hub", "safetensors", "numpy", "cyclopts", "pydantic")
STEPS = 12
KINDS = ("run", "taught", "trimmed")
"""Models that another transformers opens: tuned, taught a language that NLLB lacks, and with a smaller vocabulary."""
MAKE = """
from pathlib import Path
from dragoman.cli.app import run as dragoman
from tests.support.runs import small_run, train_args

folder = Path("{folder}")
run, new = small_run(folder), folder / "new.tsv"
new.write_text((folder / "pairs.tsv").read_text().replace("ou", "ꙋ"))
options = dict(model=run, new_language="qaa_Latn", like="fra_Latn", language_pairs="en-qaa_Latn")
assert dragoman(train_args(folder, **options, data=f"en-qaa={{new}}", output=folder / "taught")) == 0
assert dragoman(["export", str(run), "--trim", "--output", str(folder / "trimmed")]) == 0
"""
TESTS = [
    "tests/unit/test_nllb.py",
    "tests/compat",
    "tests/store/test_hub.py",
    "tests/store/test_hub_faults.py",
    "tests/unit/test_launch_jobs.py",
]
"""Tests that look at what the other versions do."""


class Differs(Exception):
    """A comparison failed; the message says which."""


def main(names: list[str]) -> int:
    """Run the named environments, all by default; returns the exit code."""
    say(f"# Compatibility, {time.strftime('%Y-%m-%d')}\n")
    say(f"{platform.system()} {platform.machine()}, Python {platform.python_version()}. Made by `make compat`.\n")
    say("| environment | versions | outcome |\n|---|---|---|")
    outcomes: dict[str, list[str]] = {}
    failed = False
    for name in names or list(ENVIRONMENTS):
        try:
            python = environment(name)
            outcomes[name] = open_saved(python) if name.startswith("transformers") else end_to_end(python)
            versions, outcome = installed(python), "passed"
        except (Differs, subprocess.CalledProcessError) as error:
            failed = True
            versions, outcome = "", f"FAILED: {why(error)}"
        say(f"| {name} | {versions} | {outcome} |")
    for name, lines in outcomes.items():
        say(f"\n## {name}\n")
        say("\n".join(f"* {line}" for line in lines))
    return int(failed)


def say(text: str) -> None:
    """One part of the report."""
    print(text, flush=True)


def why(error: Exception) -> str:
    """The last line that a failed command said."""
    if isinstance(error, subprocess.CalledProcessError):
        said = str(error.stderr or error.stdout or "").strip().splitlines()
        return f"{Path(error.cmd[0]).name} {' '.join(map(str, error.cmd[1:4]))}…: {said[-1] if said else error}"
    return str(error)


def environment(name: str) -> Path:
    """The Python of an environment, made if it is missing."""
    folder = ROOT / f".venv-compat-{name}"
    python, stamp = folder / "bin/python", folder / ".installed"
    wanted = json.dumps(ENVIRONMENTS[name])
    if not stamp.exists() or stamp.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", ROOT / "constraints.txt"]
        for packages in (["torch"], ENVIRONMENTS[name]):
            subprocess.run([*pip, *packages], check=True, capture_output=True, text=True)
        stamp.write_text(wanted)
    return python


def installed(python: Path) -> str:
    """Versions of the packages that matter, as one line."""
    said = run([python, "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"])
    versions = {entry["name"].lower().replace("-", "_"): entry["version"] for entry in json.loads(said)}
    return ", ".join(f"{name} {versions[name]}" for name in SHOWN if name in versions)


def run(command: list[Any], **options: Any) -> str:
    """Standard output of a command that must succeed."""
    settings = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": str(ROOT)}
    # A stray HF_* setting or an installed run option must not decide what is compared.
    quiet = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "DRAGOMAN_"))}
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env=quiet | settings, timeout=900, cwd=ROOT, **options
    )
    return done.stdout


def in_a_folder(work: Callable[[Path], list[str]]) -> list[str]:
    """Do the work in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="dragoman-compat-") as folder:
        return work(Path(folder))


# --- what we save, opened by another transformers --------------------------------------


def open_saved(python: Path) -> list[str]:
    """Save a trained model here, look at it with both environments, compare what they see."""

    def work(folder: Path) -> list[str]:
        run([sys.executable, "-c", MAKE.format(folder=folder)])
        return [line for kind in KINDS for line in compared(kind, folder / kind)]

    def compared(kind: str, folder: Path) -> list[str]:
        seen = {name: json.loads(run([which, OPEN_SAVED, folder])) for name, which in both.items()}
        here, there = seen["here"], seen["there"]
        for what in ("codes", "ids", "labels", "generated", "tied", "vocabulary"):
            if here[what] != there[what]:
                odd = [pair for pair in zip(here[what], there[what], strict=False) if pair[0] != pair[1]][:1]
                raise Differs(f"{kind}: {what} differ, such as {odd}")
        off = abs(here["loss"] - there["loss"]) / here["loss"]
        if not off < 1e-5:
            raise Differs(f"{kind}: the loss is {here['loss']} here and {there['loss']} there")
        return [
            f"{kind}: opened by {there['classes']} of transformers {there['version']}, saved beside {here['version']}:"
            f" {len(here['codes'])} language codes at equal ids, all embeddings tied; {len(here['ids'])} texts to equal"
            f" ids, as source and as target, by AutoTokenizer; loss of a batch of {here['rows']} pairs equal to"
            f" {off:.1e}; greedy output of {len(here['generated'])} sentences equal",
        ]

    both = {"here": sys.executable, "there": python}
    return in_a_folder(work)


# --- the whole path, on other versions ---------------------------------------------------


def end_to_end(python: Path) -> list[str]:
    """Train, be killed, resume, evaluate and translate in that environment; compare with an undisturbed run."""
    return in_a_folder(lambda folder: _end_to_end(python, folder))


def _end_to_end(python: Path, folder: Path) -> list[str]:
    run([python, "-m", "pip", "check", "--disable-pip-version-check"])
    dragoman = [python, "-m", "dragoman"]
    words = arguments(folder)
    run([*dragoman, *words, "--output", folder / "whole"])
    killed_at = train_and_kill([*dragoman, *words, "--output", folder / "killed"], folder / "killed")
    run([*dragoman, "resume", folder / "killed"])
    digests = {name: sha256(folder / name / "model.safetensors") for name in ("whole", "killed")}
    if len(set(digests.values())) != 1:
        raise Differs(f"killed at step {killed_at} and resumed: other weights")
    status = json.loads(run([*dragoman, "status", folder / "killed", "--json"]))
    if (status["state"], status["step"]) != ("done", STEPS):
        raise Differs(f"status says {status}")
    scores = json.loads(run([*dragoman, "evaluate", folder / "killed", "--num-beams", "2", "--json"]))
    names = [system["system"] for system in scores["systems"]]
    if names != ["copy source", "base", "tuned"]:
        raise Differs(f"evaluate compares {names}")
    translate = [*dragoman, "translate", "--model", folder / "killed", "-p", "en-fr"]
    lines = run(translate, input="the red cat\n\nthe old dog\n").split("\n")
    if len(lines) != 4 or lines[1]:
        raise Differs(f"translate gives {lines}")
    told = run([python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS]).strip().splitlines()[-1]
    return [
        "`pip check` finds no conflict",
        f"killed with SIGKILL after step {killed_at} of {STEPS}, resumed: model.safetensors equal to the byte to an"
        + " undisturbed run",
        f"`status`: done; `evaluate`: {', '.join(names)} on {scores['pairs']} pairs; `translate`: 3 lines for 3 lines",
        f"{' '.join(TESTS)}: {told.split(' in ')[0]} (beside a stand-in of the Hub)",
    ]


def arguments(folder: Path) -> list[str]:
    """A run of `STEPS` steps on toy pairs, with dropout, as words after `dragoman`."""
    from tests.support.runs import train_args

    words = train_args(folder, max_steps=STEPS, save_steps=1, eval_steps=6, output=None)
    return [str(word) for word in words]


def train_and_kill(command: list[Any], folder: Path) -> int:
    """Start training, kill it with SIGKILL once a few steps are safe; returns the last step that it told."""
    quiet = {name: value for name, value in os.environ.items() if not name.startswith("DRAGOMAN_")}
    settings = quiet | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    child = subprocess.Popen(command, env=settings, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    journal, step = folder / "dragoman/journal.jsonl", 0
    deadline = time.monotonic() + 300
    while child.poll() is None and time.monotonic() < deadline:
        events = [json.loads(line) for line in journal.read_text().splitlines()[:-1]] if journal.exists() else []
        step = max((event["step"] for event in events if event["kind"] == "saved"), default=0)
        if step >= 3:
            child.kill()
            child.wait()
            if step < STEPS:
                return step
        time.sleep(0.002)
    child.kill()
    child.wait()
    raise Differs("training ended before it could be killed")


def sha256(path: Path) -> str:
    """Digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main(sys.argv[1:]))
