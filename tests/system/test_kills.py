"""SIGKILL, for real: processes of the real command die, and the weights do not notice; `make chaos` kills twenty."""

import json
import subprocess
from pathlib import Path

import pytest

from dragoman.checkpoint.log import RunLog
from dragoman.store.local import FolderStore
from dragoman.store.record import CheckpointRecord
from tests.support.killing import command, kill_repeatedly
from tests.support.runs import train_args
from tests.support.sessions import final, fingerprint

OPTIONS = {
    "language_pairs": ["en-fr", "fr-en"],
    "max_steps": 40,
    "batch_size": 4,
    "gradient_accumulation": 2,
    "dropout": 0.2,
    "save_steps": 1,
    "eval_steps": 20,
    "threads": 1,
}


def finish(words: list[str]) -> None:
    done = subprocess.run(command(words), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    finish(train_args(folder, **OPTIONS))
    return folder


def test_after_kills_at_random_instants_the_weights_are_bit_identical(undisturbed: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = train_args(undisturbed, **OPTIONS, output=run)
    met = kill_repeatedly(words, run, kills=2, seed=1, longest=0.8)
    assert met.steps[-1] < 40
    finish(words)
    assert final(run) == final(undisturbed / "run")
    assert every_checkpoint(run) == every_checkpoint(undisturbed / "run")


def every_checkpoint(run: Path) -> dict[int, object]:
    """Weights, moments and losses of each step ever saved: they must agree in every session that saved it."""
    found: dict[int, object] = {}
    for record in RunLog(FolderStore(run)).records:
        if isinstance(record, CheckpointRecord):
            assert found.setdefault(record.step, fingerprint(record)) == fingerprint(record), record.folder
    return found


def test_status_says_what_a_killed_run_has_saved(undisturbed: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = train_args(undisturbed, **OPTIONS, output=run)
    met = kill_repeatedly(words, run, kills=1, seed=3, longest=0.8)
    answered = subprocess.run(command(["status", str(run), "--json"]), capture_output=True, text=True, check=True)
    found = json.loads(answered.stdout)
    assert found["state"] == "interrupted"
    saved = found["safe"]["step"] if found["safe"] else 0  # on a busy machine it may die before its first save
    assert saved == met.steps[0]
