"""What only a GPU can show. Not part of `make test`; run with `pytest -m gpu tests/gpu`."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dragoman.checkpoint.log import RunLog
from dragoman.host import cluster
from dragoman.journal import Warned, read
from dragoman.store.local import FolderStore
from dragoman.training import graphs
from dragoman.training.snapshot import HostBuffers
from tests.support.sessions import Lab, final, trained

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


@pytest.mark.parametrize(
    "options",
    [
        {"precision": "fp32"},
        {"precision": "bf16"},
        {"precision": "fp16"},
        {"adapter": "lora", "vocabulary": "active"},
        {"optimizer": "adamw8bit"},
        {"optimizer": "adafactor", "precision": "fp16"},
        {"static_shapes": True, "precision": "fp16"},
        {"static_shapes": True, "vocabulary": "full"},
    ],
    ids=str,
)
def test_a_deterministic_resume_is_bit_identical(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, str]
) -> None:
    if options.get("precision") == "bf16" and torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("this GPU only emulates bf16")
    lab = Lab(tmp_path, {"device": "cuda", "deterministic": True} | options)
    lab.train("plain")
    assert lab.stopped("stopped", before=4).exit_code == 75
    assert lab.train("stopped").exit_code == 0
    assert trained(tmp_path / "stopped") == trained(tmp_path / "plain")
    assert final(tmp_path / "stopped") == final(tmp_path / "plain")


@pytest.mark.parametrize("options", [{"precision": "fp32"}, {"precision": "fp16"}, {"adapter": "lora"}], ids=str)
def test_graphs_repeat_what_the_plain_pass_computes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, str]
) -> None:
    """In deterministic mode bit for bit: dropout, negatives and accumulation included."""
    lab = Lab(tmp_path, {"device": "cuda", "deterministic": True, "static_shapes": True, "max_steps": 30} | options)
    replays: list[int] = []
    real = torch.cuda.CUDAGraph.replay
    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", lambda self: replays.append(1) or real(self))
    monkeypatch.setattr(graphs, "SEEN_BEFORE", 1)
    lab.train("graphs")
    assert not [event.message for event in lab.events if isinstance(event, Warned) and "CUDA graphs" in event.message]
    assert len(replays) > 20
    monkeypatch.setattr(graphs, "SEEN_BEFORE", 10**6)
    lab.prepared("plain", like="graphs")
    lab.train("plain")
    assert trained(tmp_path / "graphs") == trained(tmp_path / "plain")


def test_a_copy_that_runs_beside_the_training_holds_what_was_there_when_it_was_asked_for() -> None:
    weight = torch.zeros(64 << 20, device="cuda")
    buffers = HostBuffers()
    for expected in (1.0, 2.0, 3.0):
        weight.fill_(expected)
        copies, wait = buffers.copy({"file": {"weight": weight}})
        busy = weight @ weight  # what goes before the update runs beside the copy
        buffers.wait_before_update()
        weight.fill_(-1.0)
        wait()
        copy = copies["file"]["weight"]
        assert copy.is_pinned()
        assert bool((copy == expected).all())
        assert torch.isfinite(busy)


def test_saves_beside_the_training_hold_the_same_bytes_as_streamed_ones(tmp_path: Path) -> None:
    lab = Lab(tmp_path, {"device": "cuda", "deterministic": True})
    lab.train("streamed", snapshot="stream")
    lab.train("copied", snapshot="copy")
    assert trained(tmp_path / "copied") == trained(tmp_path / "streamed")


def test_memory_running_out_on_a_real_gpu_halves_the_microbatch(tmp_path: Path) -> None:
    lab = Lab(tmp_path, {"device": "cuda", "batch_size": 16, "gradient_accumulation": 1})
    lab.train("plain", max_steps=1)
    used = torch.cuda.max_memory_reserved() / torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(used * 0.7)
    try:
        torch.cuda.empty_cache()
        lab.train("small")
        assert "out_of_memory" in lab.kinds()
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_one_rank_over_nccl_learns_what_a_process_without_ranks_does(tmp_path: Path, parallel: str) -> None:
    lab = Lab(tmp_path, {"device": "cuda", "deterministic": True, "precision": "fp32", "dropout": 0.0})
    lab.train("alone")
    lab.prepared("rank", like="alone")
    words = lab.words("rank", devices=1, parallel=parallel)
    environment = cluster.environment_of_rank(cluster.Rank(0, 1, 0, 1), "127.0.0.1", cluster.free_port(), "lo")
    done = subprocess.run([sys.executable, "-m", "dragoman", *words], env=environment, timeout=600)
    assert done.returncode == 0
    losses = []
    for name in ("alone", "rank"):
        newest = RunLog(FolderStore(tmp_path / name)).newest
        assert newest
        losses.append(dict(newest.losses))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    [started] = [
        event for event in read(tmp_path / "rank/dragoman/journal.jsonl") if event["kind"] == "session_started"
    ]
    assert started["parallel"] == parallel
