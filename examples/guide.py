"""`make guide`: the starting document's steps 2 to 5, typed as they are written there.

Two pairs, then five; a look at the Hub; the machine lost with its disk, twice; restarted
once as it was and once by the name of the repository; downloaded and tested. The commands
are the document's, to the letter. The Hub is a stand-in on this machine, model and data
set are small, and the number of steps between two saves is set by a variable of the Space.
"""

import json
import re
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.faults_machine import Machine, Process
from dragoman import journal
from examples import guide_hub
from examples.guide_hub import TOKEN, USER
from tests.support.hub import hub_process

ROOT = Path(__file__).parent.parent
WORK = Path("runs/guide")
REPO = f"{USER}/fine-tuned-nllb-600M"
TRAIN, DOWNLOAD = "train_nllb_hf_spaces.py", "download_finetuned_model.py"
STEP_2 = "--language_pairs en-fr en-de --max_samples 20000 --epochs 1"
STEP_4 = "--language_pairs en-fr en-de en-es en-it en-pt --max_samples 50000 --epochs 3"
RESUME = f"--resume_from_checkpoint {REPO}"
STEP_5 = f"--model_name {REPO} --test"
VARIABLES = {
    "DRAGOMAN_SAVE_STEPS": "100",  # as 500 there: steps and samples are scaled down
    "DRAGOMAN_LOG_STEPS": "20",  # as 100 there
    "DRAGOMAN_COMMITS_PER_HOUR": "3600",  # as 30 there: an hour of the guide takes less than a minute here
    "DRAGOMAN_DEVICE": "cpu",
}
"""Variables of the Space, besides HF_TOKEN."""
KILL_AFTER = (1, 2)
"""Saves that a machine has on the Hub when it is lost."""
LONGEST_SECONDS = 900.0


def say(text: str = "") -> None:
    print(text, file=sys.stderr, flush=True)


class Space(Machine):
    """A container: an empty disk with what a person uploaded, and the variables of its settings."""

    def __init__(self, folder: Path, hub: Any, number: int) -> None:
        disk = folder / f"machine-{number}"
        # SPACE_ID is how a process knows that it is in a Space.
        environment = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "SPACE_ID": f"{USER}/trainer", **VARIABLES}
        environment["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
        super().__init__(disk, environment, disk)
        for script in (ROOT / "recipes/space" / TRAIN, ROOT / "recipes" / DOWNLOAD):
            shutil.copy(script, disk)
        self._shown: dict[Path, int] = {}

    def type(self, script: str, words: str) -> Process:
        """Start a command as a person types it."""
        say(f"$ python {script} {words}")
        return self.start("said", [script, *shlex.split(words)])

    def follow(self, process: Process, until: Callable[[], bool] = lambda: False) -> None:
        """Show what a process says until it ends, or something is so."""
        deadline = time.monotonic() + LONGEST_SECONDS
        while process.exit_code is None and not until():
            self.show(process)
            if time.monotonic() > deadline:
                sys.exit(f"nothing came of it in {LONGEST_SECONDS:.0f} s")
            time.sleep(0.05)
        self.show(process)

    def show(self, process: Process) -> None:
        """What it has said since."""
        text = process.said_to.read_text("utf-8", "replace")
        new = text[self._shown.get(process.said_to, 0) :]
        self._shown[process.said_to] = len(text)
        sys.stderr.write(new)
        sys.stderr.flush()

    def steps(self) -> list[int]:
        """Every step that was done here, and where it began."""
        events = [event for path in self.folder.glob("runs/*/dragoman/journal.jsonl") for event in journal.read(path)]
        return [event["step"] for event in events if event["kind"] in ("step", "session_started")]

    def lose(self) -> None:
        """Every process is gone at once, and the disk is wiped."""
        self.vanish()
        shutil.rmtree(self.folder)


class Guide:
    """The story, and what is measured on the way."""

    def __init__(self, hub: Any, folder: Path) -> None:
        self.hub, self.folder = hub, folder
        self.num_machines = 0
        self.lost: list[dict[str, int]] = []

    def space(self) -> Space:
        """A new machine."""
        self.num_machines += 1
        return Space(self.folder, self.hub, self.num_machines)

    def checkpoints(self) -> list[int]:
        """Steps of the checkpoints that the page of the repository shows."""
        try:
            names = self.hub.names(REPO)
        except RuntimeError:
            return []  # there is no repository yet
        found = {re.match(r"checkpoint-(\d+)[^/]*/model\.safetensors", name) for name in names}
        return sorted(int(match[1]) for match in found if match)

    def small_dataset(self) -> list[int]:
        """Steps 2 and 3: two pairs, and a look at the Hub meanwhile."""
        say("\n## Step 2: two pairs\n")
        space = self.space()
        process = space.type(TRAIN, STEP_2)
        space.follow(process, lambda: bool(self.checkpoints()))
        seen = self.checkpoints()
        say(f"\n## Step 3: https://huggingface.co/{REPO} shows {' '.join(f'checkpoint-{step}/' for step in seen)}\n")
        space.follow(process)
        expect(process.exit_code == 0, "the small run ends well")
        space.lose()
        return seen

    def scaled_up(self) -> None:
        """Step 4: five pairs; the machine is lost twice, and the last one finishes."""
        say("\n## Step 4: five pairs\n")
        self.trained(STEP_4, KILL_AFTER[0])
        say("\n## The Space starts again by itself, with the same command\n")
        self.trained(STEP_4, KILL_AFTER[1])
        say("\n## Restarted by hand, on an empty disk, with nothing but the name of the repository\n")
        self.trained(RESUME, None)

    def trained(self, words: str, saves: int | None) -> None:
        """Train on a new machine; it is lost between two saves, once so many are on the Hub, or ends by itself."""
        space = self.space()
        before = max(self.checkpoints(), default=0) if self.lost else 0
        process = space.type(TRAIN, words)
        every = int(VARIABLES["DRAGOMAN_SAVE_STEPS"])

        def enough() -> bool:
            steps, safe = space.steps(), self.checkpoints()
            first = steps[0] if steps else 0
            is_there = bool(saves) and bool(safe) and steps != [] and safe[-1] >= first + (saves or 0) * every
            return is_there and steps[-1] >= safe[-1] + every // 3

        space.follow(process, enough if saves else lambda: False)
        if self.lost:
            began = space.steps()[0]
            expect(began == before > 0, f"it goes on at step {before}, not at {began}")
            self.lost[-1]["went_on_at"] = began
        if saves:
            expect(process.exit_code is None, "it trains still when its machine is lost")
            self.lost.append({"lost_at": space.steps()[-1]})
            space.lose()
            say(f"\n*** SIGKILL to every process at step {self.lost[-1]['lost_at']:,}, and the disk is wiped ***")
        else:
            expect(process.exit_code == 0, "the resumed run ends well")
            space.lose()

    def downloaded(self) -> list[str]:
        """Step 5: the model on another machine, and whether it translates."""
        say("\n## Step 5: download and test\n")
        with self.space() as machine:
            process = machine.type(DOWNLOAD, STEP_5)
            machine.follow(process)
            expect(process.exit_code == 0, "the test passes")
            lines = [line for line in process.talk if re.match(r"[a-z]{2}-[a-z]{2}: .* → .", line)]
            expect({line[:5] for line in lines} == set(guide_hub.PAIRS), "every direction is shown")
            self.used_as_the_card_says(machine)
        return lines

    def used_as_the_card_says(self, machine: Space) -> None:
        """The example of the card, in a Python without dragoman's help."""
        card = self.hub.read(REPO, "README.md").decode()
        (code,) = re.findall("```python\n(.*?)```", card, re.DOTALL)
        (machine.folder / "card.py").write_text(code)
        say("\n## The example of the model card, as it stands\n\n$ python card.py")
        process = machine.start("card", ["card.py"])
        machine.follow(process)
        expect(process.exit_code == 0 and bool(process.talk), "the card's example runs")


def expect(holds: bool, what: str) -> None:
    """End here unless what was promised holds."""
    if not holds:
        sys.exit(f"the guide does not hold: {what}")


def main() -> None:
    started = time.monotonic()
    WORK.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="dragoman-guide-") as folder,
        hub_process(Path(folder) / "hub", "--token", f"{TOKEN}:{USER}:write") as hub,
    ):
        guide_hub.fill(hub, WORK, say)
        guide = Guide(hub, Path(folder))
        variables = " ".join(f"{name}={value}" for name, value in VARIABLES.items())
        say(f"variables of the Space, besides HF_TOKEN: {variables}")
        seen = guide.small_dataset()
        guide.scaled_up()
        lines = guide.downloaded()
    lost = [one["lost_at"] - one["went_on_at"] for one in guide.lost]
    result: dict[str, Any] = {"checkpoints_seen": seen, "machines_lost": guide.lost, "lost_steps": lost}
    result |= {"sentences": len(lines), "seconds": round(time.monotonic() - started, 1)}
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
