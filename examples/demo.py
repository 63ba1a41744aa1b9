"""`make demo`: the whole promise in a few minutes, with real commands and real text.

A small model learns English → French and English → German from the catalogues of
installed packages. In the middle its process is killed with SIGKILL; `dragoman resume`
goes on. Beside it runs an undisturbed twin, so that "exactly" is measured and not said.
"""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from dragoman import journal
from dragoman.checkpoint.log import RunLog
from dragoman.data.corpus import Text, open_corpus
from dragoman.store.local import FolderStore
from dragoman.store.record import CheckpointRecord

CONFIG = "examples/demo.yaml"
RUN, TWIN = Path("runs/demo"), Path("runs/demo-twin")
KILL_AFTER_STEP = 1040
"""Past a save by 40 steps: they are lost and done again."""
COMPARED_STEPS = 200
"""How far past the checkpoint of the resume the twin is compared."""
SHOWN = (("en-fr", 2), ("en-de", 1))
DRAGOMAN = [sys.executable, "-m", "dragoman"]


def say(text: str = "") -> None:
    print(text, file=sys.stderr, flush=True)


def start(words: list[str], quiet: bool = False) -> subprocess.Popen[bytes]:
    """Start a dragoman command as a process of its own."""
    if not quiet:
        say(f"$ dragoman {' '.join(words)}")
    return subprocess.Popen([*DRAGOMAN, *words], stderr=subprocess.DEVNULL if quiet else None)


def answer(words: list[str]) -> str:
    """Run a dragoman command; what it prints on stdout."""
    say(f"$ dragoman {' '.join(words)}")
    return subprocess.run([*DRAGOMAN, *words], stdout=subprocess.PIPE, check=True, text=True).stdout


def last_step(run: Path) -> int:
    """The newest step in the journal of a run."""
    steps = [event["step"] for event in journal.read(run / "dragoman/journal.jsonl") if event["kind"] == "step"]
    return steps[-1] if steps else 0


def wait_for_step(process: subprocess.Popen[bytes], run: Path, step: int) -> None:
    """Wait until the journal of a living run shows `step`."""
    while last_step(run) < step:
        if process.poll() is not None:
            sys.exit(f"the demo's training ended early, with exit code {process.returncode}")
        time.sleep(0.05)


def checkpoints(run: Path) -> dict[int, CheckpointRecord]:
    """Every checkpoint ever recorded, by step; the last one of each step."""
    records = RunLog(FolderStore(run)).records
    return {record.step: record for record in records if isinstance(record, CheckpointRecord)}


def train_through_a_kill() -> tuple[int, bool]:
    """Train, kill in the middle, resume; the step of the kill and whether the twin agrees bit for bit."""
    twin = start(["train", "-c", CONFIG, "--output", str(TWIN)], quiet=True)
    process = start(["train", "-c", CONFIG, "--output", str(RUN)])
    wait_for_step(process, RUN, KILL_AFTER_STEP)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    killed_at = last_step(RUN)
    safe = max(checkpoints(RUN))
    say(f"\n*** SIGKILL at step {killed_at:,}. Safe is step {safe:,}. ***\n")
    process = start(["resume", str(RUN)])
    compare_at = safe + COMPARED_STEPS
    wait_for_step(twin, TWIN, compare_at + 20)  # past the save
    twin.terminate()
    twin.wait()
    if process.wait() != 0:
        sys.exit("the resumed run did not end well")
    disturbed, undisturbed = checkpoints(RUN), checkpoints(TWIN)
    common = [step for step in disturbed if safe < step <= compare_at and step in undisturbed]
    exact = bool(common) and all(is_same(disturbed[step], undisturbed[step]) for step in common)
    say(f"weights, moments and losses at steps {common} equal those of an undisturbed twin: {exact}")
    return killed_at, exact


def is_same(one: CheckpointRecord, other: CheckpointRecord) -> bool:
    """Whether two runs had the same weights, moments and last losses, to the bit."""
    names = ("model.safetensors", "training/optimizer.safetensors")
    return one.losses == other.losses and all(one.files[name] == other.files[name] for name in names)


def show_translations() -> None:
    """A few held-out sentences, translated by the command that a user would type."""
    folder = next(path for path in (RUN / "dragoman/corpus").iterdir())
    corpus = open_corpus(folder)
    assert corpus is not None
    for pair, count in SHOWN:
        texts = [text for text in corpus.texts("test") if str(text.direction).startswith(f"eng_Latn-{LONG[pair[3:]]}")]
        chosen = [text for text in texts if 5 <= len(text.source.split()) <= 9][:count]
        words = ["translate", "--model", str(RUN), "-p", pair, *(text.source for text in chosen)]
        for text, line in zip(chosen, answer(words).splitlines(), strict=True):
            show(text, line)


LONG = {"fr": "fra", "de": "deu"}


def show(text: Text, translation: str) -> None:
    say(f"  source      {text.source}\n  translation {translation}\n  reference   {text.target}\n")


def main() -> None:
    started = time.monotonic()
    for folder in (RUN, TWIN):
        shutil.rmtree(folder, ignore_errors=True)
    killed_at, exact = train_through_a_kill()
    compared: dict[str, Any] = json.loads(answer(["evaluate", str(RUN), "--json"]))
    systems = {system["system"]: system for system in compared["systems"]}
    names = {"copy": "copy source", "before": "base", "after": "tuned"}
    say(f"\nchrF++ on {compared['pairs']} held-out pairs  copy source   before    after")
    for direction in systems["base"]["directions"]:
        scores = [systems[name]["directions"][direction]["chrf"] for name in names.values()]
        say(f"  {direction:34}{scores[0]:11.1f}{scores[1]:9.1f}{scores[2]:9.1f}")
    say()
    show_translations()
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024  # kilobytes on Linux
    say(f"the largest process took {peak / 1e6:,.0f} MB of memory")
    result: dict[str, Any] = {key: round(systems[name]["chrf"], 2) for key, name in names.items()}
    result |= {"killed_at_step": killed_at, "resumed_exact": exact, "seconds": round(time.monotonic() - started, 1)}
    print(json.dumps(result), flush=True)
    if not exact:
        sys.exit(1)


if __name__ == "__main__":
    main()
