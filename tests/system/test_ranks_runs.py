"""Whole runs by two ranks, as a user starts them, end with the model of one process."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from dragoman import journal
from dragoman.checkpoint.log import RunLog
from dragoman.host import cluster
from dragoman.store.local import FolderStore
from tests.support.sessions import Lab

EXACT = 1e-12
SECONDS = 600
"""Longest that a command may take; it is ended then."""
WITHOUT_GRADIENT = "k_proj.bias"
"""See test_ranks_equal.py."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A lab in which one process has trained the run `plain`, in float64 without dropout."""
    options = {"dropout": 0.0, "precision": "fp64", "max_steps": 6, "save_steps": 2, "eval_steps": 3, "keep": 9}
    made = Lab(tmp_path_factory.mktemp("lab"), options)
    assert made.train("plain").outcome == "done"
    return made


def events(run: Path, kind: str) -> list[dict[str, Any]]:
    return [event for event in journal.read(run / "dragoman/journal.jsonl") if event["kind"] == kind]


def assert_as_plain(lab: Lab, name: str) -> None:
    """The newest checkpoint, the losses and the scores of a run are those of one process."""
    ends = [RunLog(FolderStore(lab.folder / each)).newest for each in ("plain", name)]
    one, other = (end for end in ends if end)
    assert (one.step, one.pairs_seen, one.files.keys()) == (other.step, other.pairs_seen, other.files.keys())
    assert dict(one.losses) == pytest.approx(dict(other.losses), rel=EXACT)
    for file in ("model.safetensors", "training/optimizer.safetensors"):
        alone, together = (
            load_file(lab.folder / each / end.folder / file) for each, end in (("plain", one), (name, other))
        )
        assert alone.keys() == together.keys()
        far = {
            tensor
            for tensor, expected in alone.items()
            if float((together[tensor] - expected).abs().max()) > EXACT * float(expected.abs().max())
        }
        assert {tensor for tensor in far if WITHOUT_GRADIENT not in tensor} == set()
    scores = [[event["chrf"] for event in events(lab.folder / each, "evaluated")] for each in ("plain", name)]
    assert scores[0] == pytest.approx(scores[1])


def test_two_ranks_that_are_started_by_the_command_train_the_whole_run(lab: Lab) -> None:
    lab.prepared("ddp", like="plain")
    command = [sys.executable, "-m", "dragoman", *lab.words("ddp", devices=2, parallel="ddp")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    [started] = events(lab.folder / "ddp", "session_started")
    assert (started["ranks"], started["parallel"]) == (2, "ddp")
    assert_as_plain(lab, "ddp")


def test_two_ranks_with_parts_of_the_model_go_on_from_the_checkpoint_of_one_process(lab: Lab) -> None:
    lab.prepared("fsdp", like="plain")
    assert lab.stopped("fsdp", before=3).exit_code == 75
    command = [sys.executable, "-m", "dragoman", *lab.words("fsdp", devices=2, parallel="fsdp")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    alone, several = events(lab.folder / "fsdp", "session_started")
    assert (alone["ranks"], several["ranks"], several["parallel"], several["step"]) == (1, 2, "fsdp", 4)
    assert any("ranks 1 → 2" in event["message"] for event in events(lab.folder / "fsdp", "warned"))
    assert_as_plain(lab, "fsdp")


def test_a_disk_that_fails_in_the_middle_of_a_save_holds_no_rank_up(lab: Lab) -> None:
    """The others send their parts all the same, the run goes on degraded, and the next save is whole."""
    run = lab.prepared("full", like="plain")
    options = {"devices": 2, "parallel": "fsdp", "snapshot": "stream"}
    commands = [
        [sys.executable, "-m", "tests.support.full_disk_rank", lab.config("full", **options).to_yaml()],
        [sys.executable, "-m", "dragoman", *lab.words("full", **options)],
    ]
    port, processes = cluster.free_port(), list[subprocess.Popen[bytes]]()
    try:
        for number, command in enumerate(commands):
            rank = cluster.Rank(number, 2, number, 2)
            environment = cluster.environment_of_rank(rank, "127.0.0.1", port, "lo")
            processes.append(subprocess.Popen(command, env=environment))
        assert [process.wait(SECONDS) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    [failed] = events(run, "save_failed")
    assert (failed["step"], failed["reason"]) == (2, "No space left on device")
    assert [event["step"] for event in events(run, "saved")] == [3, 4, 6]
    assert_as_plain(lab, "full")


def test_a_model_that_is_broken_ends_both_ranks_with_one_message(lab: Lab, tmp_path: Path) -> None:
    """The other rank is in the middle of an order then, and waits for the first."""
    broken = tmp_path / "broken"
    shutil.copytree(lab.folder / "plain", broken, ignore=shutil.ignore_patterns("dragoman", "checkpoint-*"))
    weights = load_file(broken / "model.safetensors")
    save_file({name: tensor * torch.nan for name, tensor in weights.items()}, broken / "model.safetensors")
    words = lab.words("broken", devices=2, model=str(broken))
    done = subprocess.run([sys.executable, "-m", "dragoman", *words], capture_output=True, text=True, timeout=90)
    assert done.returncode == 2
    assert done.stderr.count("error:") == 1
    assert "the weights are broken" in done.stderr
    assert "rank" not in done.stderr
