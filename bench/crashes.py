"""`make crashes`: the starting document's worst case, a crash every 30 minutes, with a minute as one second.

A Space trains through the document's own script. Every 30 seconds, give or take five, its machine is lost:
all processes by SIGKILL, and the disk with them. It is started again with the same command, on
an empty disk. The machine after the last crash is asked to stop; so there are ten crashes, however fast
this computer is. Measured at every crash: how much work was lost, against promise 6 (with the disk
lost: one interval between two saves and two upload times). In the end weights and moments are
compared with those of a run that nobody disturbed, at the same step.

Usage: python -m bench.crashes [--crashes 10] [--minutes 30] [--report bench/crashes_cpu_DATE.md]
"""

import argparse
import datetime
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.faults_machine import Machine, wait_until
from dragoman import journal
from dragoman.checkpoint.log import RunLog
from dragoman.errors import ExitCode
from dragoman.store.address import Access, open_store
from dragoman.store.record import CheckpointRecord
from tests.support.hub import hub_process
from tests.support.sessions import fingerprint

ROOT = Path(__file__).parent.parent
SCALE = 60.0
"""Seconds of the guide in one second here."""
SAVE_MINUTES = 10.0
UPLOAD_SECONDS = 90.0
"""Of one checkpoint, in the guide's time: 7.4 GB at 80 MB/s."""
CHECKPOINT_MEGABYTES = 14.6
UNSCALED_SECONDS = 3.0
"""What does not shrink with the scale: the replicator looks once a second, and every request takes its time."""
SPREAD_MINUTES = SAVE_MINUTES / 2
"""A crash comes up to so much sooner or later, drawn with a seed: so it meets every moment between two saves."""
LONGEST_SECONDS = 900.0
"""That anything else is waited for."""
REPO, TOKEN = "ada/crashes", "hf_tokenOfAdaInThisStandIn"
OPTIONS = {
    "--language_pairs": "en-fr en-de",
    "--data": "gettext:django,wagtail",
    "--model_name": "scratch:tiny",
    "--learning_rate": "1e-3",
    "--eval_steps": "400",
    "--eval_samples": "20",
    "--log_steps": "1",
    "--max_steps": "100000",
    "--device": "cpu",
    "--threads": "1",
}


@dataclass
class Life:
    """What one machine did until it was lost."""

    began: int
    """Step that it began at."""
    reached: int
    """Its last step."""
    step_times: dict[int, float]
    """When each of its steps was done."""
    started: float
    """When its first step began, about."""
    uploads: list[float]
    """Seconds that each upload took."""


def life_of(folder: Path) -> Life:
    """Read the journal of a machine before it is wiped."""
    events = [event for path in folder.glob("runs/*/dragoman/journal.jsonl") for event in journal.read(path)]
    steps = {event["step"]: event["time"] for event in events if event["kind"] == "step"}
    began = next((event for event in events if event["kind"] == "session_started"), None)
    first = began["step"] if began else -1
    uploads = [event["seconds"] for event in events if event["kind"] == "replicated"]
    return Life(first, max(steps, default=first), steps, began["time"] if began else time.time(), uploads)


def words(options: dict[str, str]) -> list[str]:
    return [word for name, value in options.items() for word in (name, *value.split())]


class Replay:
    """Machines one after the other, and one store."""

    def __init__(self, hub: Any, folder: Path, minutes: float) -> None:
        self.hub, self.folder, self.minutes = hub, folder, minutes
        self.options = OPTIONS | {
            "--save_minutes": f"{SAVE_MINUTES / SCALE:.6f}",
            "--commits_per_hour": str(int(30 * SCALE)),
            "--upload_megabytes": f"{CHECKPOINT_MEGABYTES / UPLOAD_SECONDS * SCALE:.3f}",
            "--hub_model_id": REPO,
        }
        self.lives: list[Life] = []
        self._chance = random.Random(1)

    def run(self, crashes: int) -> None:
        """Lose machine after machine, and ask the one after the last crash to stop."""
        for number in range(crashes + 1):
            disk = self.folder / f"machine-{number}"
            environment = {"HF_ENDPOINT": self.hub.url, "HF_TOKEN": TOKEN, "SPACE_ID": "ada/trainer"}
            with Machine(disk, environment, disk) as machine:
                shutil.copy(ROOT / "recipes/space/train_nllb_hf_spaces.py", disk)
                process = machine.start("said", ["train_nllb_hf_spaces.py", *words(self.options)])
                instant = self.minutes + self._chance.uniform(-SPREAD_MINUTES, SPREAD_MINUTES)
                ended = process.ended(instant * 60 / SCALE)
                if number == crashes:
                    process.popen.terminate()
                    ended = not process.ended(LONGEST_SECONDS) or process.exit_code != ExitCode.RESUME_ME
                machine.vanish()
                if ended:
                    sys.exit(f"machine {number} ended otherwise:\n" + "\n".join(process.talk[-20:]))
                self.lives.append(life_of(disk))
            shutil.rmtree(disk)
            print(f"machine {number}: steps {self.lives[-1].began} to {self.lives[-1].reached}", file=sys.stderr)

    def rows(self) -> list[tuple[str, ...]]:
        """One for each crash, and what was lost in it, in the guide's minutes."""
        found: list[tuple[str, ...]] = []
        for life, after in zip(self.lives, self.lives[1:], strict=False):
            lost_seconds = self.lost_seconds(life, after.began)
            bound = self.bound(life)
            verdict = "yes" if lost_seconds <= bound else "**NO**"
            found.append(
                (
                    f"{max(life.began, 0):,}",
                    f"{max(life.reached, 0):,}",
                    f"{max(after.began, 0):,}",
                    f"{max(life.reached, 0) - max(after.began, 0):,}",
                    f"{lost_seconds * SCALE / 60:.1f}",
                    f"{bound * SCALE / 60:.1f}",
                    verdict,
                )
            )
        return found

    @staticmethod
    def lost_seconds(life: Life, resumed: int) -> float:
        """Work of a machine that the next one does again."""
        last = life.step_times.get(life.reached, life.started)
        return last - life.step_times.get(resumed, life.started)

    @staticmethod
    def bound(life: Life) -> float:
        """Promise 6: an interval and two upload times, and what the scale does not shrink."""
        upload = max(life.uploads, default=UPLOAD_SECONDS / SCALE)
        return SAVE_MINUTES * 60 / SCALE + 2 * upload + UNSCALED_SECONDS


def undisturbed(run: Path, step: int) -> CheckpointRecord:
    """The checkpoint of that step in the same run when nobody disturbs it."""
    options = OPTIONS | {"--output": str(run), "--save_steps": str(step)}
    renamed = [word.replace("--model_name", "--model") for word in words(options)]
    process = subprocess.Popen([sys.executable, "-m", "dragoman", "train", *renamed], stderr=subprocess.DEVNULL)
    is_saved = wait_until(lambda: (run / f"checkpoint-{step}").exists() or process.poll() is not None, LONGEST_SECONDS)
    process.terminate()
    assert is_saved, "the undisturbed run takes too long"
    assert process.wait() == ExitCode.RESUME_ME, "the undisturbed run ended otherwise"
    records = RunLog(open_store(f"file://{run}", Access())).records
    return next(record for record in records if isinstance(record, CheckpointRecord) and record.step == step)


def report(replay: Replay, last: CheckpointRecord, is_same: bool, seconds: float) -> str:
    rows = replay.rows()
    lost = [float(row[4]) for row in rows]
    uploads = [upload * SCALE / 60 for life in replay.lives for upload in life.uploads]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    date = datetime.datetime.now(datetime.UTC).date()
    same = "yes" if is_same else "**NO**"
    mean, most, slowest = sum(lost) / max(len(lost), 1), max(lost, default=0), max(uploads, default=0)
    return f"""# A crash every {replay.minutes:g} minutes, {date}, CPU

Made by `make crashes` in {seconds:.0f} s. A minute of the guide is {60 / SCALE:g} s here: a save every
{SAVE_MINUTES:g} minutes, an upload capped so that a checkpoint takes {UPLOAD_SECONDS / 60:g} minutes, and
every {replay.minutes:g} minutes, up to {SPREAD_MINUTES:g} sooner or later, SIGKILL to every process and a wiped disk.
Each machine begins empty, with the same command of `train_nllb_hf_spaces.py`. The start of Python and the
preparation of the data are not scaled: they take some seconds, which are minutes here, as they are with real models.

| began at step | reached | the next began at | steps lost | minutes lost | promise 6 | kept |
|---|---|---|---|---|---|---|
{table}

Promise 6 with a lost disk: one interval between two saves and two upload times (the slowest of that machine), and
{UNSCALED_SECONDS:.0f} s that the scale does not shrink, as the replicator looks once a second.

{len(rows)} crashes, then a stop that was asked for, at step {last.step:,}. Lost per crash: mean {mean:.1f} minutes,
most {most:.1f}. {len(uploads)} uploads, the slowest {slowest:.1f} minutes. Weights, moments and losses of that
step equal those of an undisturbed run, bit for bit: {same}.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--crashes", type=int, default=10, help="how many")
    parser.add_argument("--minutes", type=float, default=30.0, help="of the guide, between two crashes")
    parser.add_argument("--report", type=Path)
    wanted = parser.parse_args()
    started = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="dragoman-crashes-") as temporary,
        hub_process(Path(temporary) / "hub", "--token", f"{TOKEN}:ada:write") as hub,
    ):
        os.environ |= {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN}  # before the Hub's client is imported
        replay = Replay(hub, Path(temporary), wanted.minutes)
        replay.run(wanted.crashes)
        last = RunLog(open_store(f"hf://{REPO}", Access())).newest
        assert last is not None, "nothing ever reached the store"
        is_same = fingerprint(last) == fingerprint(undisturbed(Path(temporary) / "plain", last.step))
    text = report(replay, last, is_same, time.monotonic() - started)
    print(text)
    if wanted.report:
        wanted.report.write_text(text, "utf-8")
    return 0 if is_same and all(row[-1] == "yes" for row in replay.rows()) else 1


if __name__ == "__main__":
    sys.exit(main())
