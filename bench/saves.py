"""What one save costs: ours against safetensors' own `save_file`, interleaved in one run.

Ours streams the tensors to the disk, hashes them on the way and fsyncs; `save_file`
writes and is fsynced here, but hashes nothing. Prints a table and writes it to bench/.
"""

import datetime
import hashlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file

from dragoman.store.disk import Disk
from dragoman.training import tensor_file

ROUNDS = 7
TENSORS = {f"layer.{i}.weight": torch.randn(1024, 4096) for i in range(24)} | {
    f"layer.{i}.bias": torch.randn(1024) for i in range(200)
}


def ours(path: Path) -> None:
    Disk().write(path, tensor_file.chunks(TENSORS, {"format": "pt"}))


def theirs(path: Path) -> None:
    save_file(TENSORS, path, metadata={"format": "pt"})
    with path.open("rb") as file:
        os.fsync(file.fileno())


def theirs_hashed(path: Path) -> None:
    theirs(path)
    with path.open("rb") as file:
        hashlib.file_digest(file, "sha256")


def main() -> None:
    ways: dict[str, Callable[[Path], None]] = {
        "dragoman: stream, sha256, fsync": ours,
        "safetensors.save_file, fsync": theirs,
        "safetensors.save_file, fsync, read back for sha256": theirs_hashed,
    }
    size = sum(tensor.nbytes for tensor in TENSORS.values()) / 1e6
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory(dir=".") as folder:
        for round_ in range(ROUNDS):
            for name, way in ways.items():
                path = Path(folder) / f"{round_}.safetensors"
                started = time.perf_counter()
                way(path)
                seconds[name].append(time.perf_counter() - started)
                path.unlink()
    today = datetime.date.today().isoformat()
    baseline = statistics.median(seconds["safetensors.save_file, fsync"])
    lines = [f"# One save of {size:,.0f} MB, {today}, CPU, {os.cpu_count()} cores", ""]
    lines += [f"Made by `make bench`; {ROUNDS} interleaved rounds, medians.", ""]
    lines += ["| way | seconds | against save_file | all rounds |", "|---|---|---|---|"]
    for name, values in seconds.items():
        median = statistics.median(values)
        raw = " ".join(f"{value:.2f}" for value in values)
        lines.append(f"| {name} | {median:.2f} | {median / baseline:.2f}x | {raw} |")
    report = "\n".join(lines) + "\n"
    Path(f"bench/saves_cpu_{today}.md").write_text(report, encoding="utf-8")
    print(report)


if __name__ == "__main__":
    main()
