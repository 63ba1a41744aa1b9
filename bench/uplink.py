"""`make bench`: does a slow uplink slow training down? Pairs of runs, with and without a store, in turn.

Each run is the real command on a small model, on one thread. With a store, a replicator uploads to a
stand-in for the Hub on this machine, held to one megabyte per second; a checkpoint has 12 MB, so it
uploads all the time. Compared is the time of a step as the journal tells it, saves left out.

Usage: python bench/uplink.py [--rounds 5]
"""

import argparse
import datetime
import itertools
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from dragoman import journal
from tests.support import real
from tests.support.hub import hub_process
from tests.support.runs import train_args

TOKEN = "hf_ada_ada_ada"
STEPS = 300


def step_seconds(run: Path) -> float:
    """Median over windows of the seconds per step, the first window left out."""
    events = [event for event in journal.read(run / "dragoman/journal.jsonl") if event["kind"] == "step"]
    widths = [later["step"] - former["step"] for former, later in itertools.pairwise(events)]
    return statistics.median(event["seconds"] / width for event, width in zip(events[1:], widths, strict=True))


def one(folder: Path, name: str, variables: dict[str, str], **options: object) -> float:
    common = {"max_steps": STEPS, "batch_size": 16, "gradient_accumulation": 1, "save_steps": 25, "eval_steps": 0}
    words = train_args(folder, **(common | {"log_steps": 20, "threads": 1} | options), output=folder / name)
    done = real.run(words, variables)
    assert done.returncode in (0, 75), done.stderr
    real.kill_copying(folder / name)
    return step_seconds(folder / name)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    alone: list[float] = []
    beside: list[float] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with hub_process(folder / "hub", "--token", f"{TOKEN}:ada:write") as hub:
            variables = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HOME": str(folder / "hf")}
            for number in range(rounds):
                store = {"hub_model_id": f"ada/run-{number}", "upload_megabytes": 1, "drain_minutes": 0}
                alone.append(one(folder, f"alone-{number}", variables))
                beside.append(one(folder, f"beside-{number}", variables, **store))
    ratio = statistics.median(b / a for a, b in zip(alone, beside, strict=True))
    today = datetime.date.today().isoformat()
    raw = {"alone_seconds": alone, "beside_seconds": beside, "ratio": ratio, "cores": os.cpu_count()}
    rows = [
        f"| {n + 1} | {1000 * a:.2f} | {1000 * b:.2f} | {b / a:.3f} |"
        for n, (a, b) in enumerate(zip(alone, beside, strict=True))
    ]
    lines = [
        f"# A slow uplink beside training, {today}, CPU, {os.cpu_count()} cores",
        "",
        "Made by `make bench` (`bench/uplink.py`): the same run without a store, and with one on a stand-in for the",
        "Hub, uploads held to 1 MB/s; in turn, one thread each; milliseconds per step, median over windows of 20",
        "steps.",
        "",
        "| round | no store | uploading at 1 MB/s | ratio |",
        "| --- | --- | --- | --- |",
        *rows,
        "",
        f"Median of the ratios: **{ratio:.3f}**.",
        "",
        "Not measured: a GPU, a real network, a machine with one core.",
    ]
    Path(f"bench/uplink_cpu_{today}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    Path(f"bench/uplink_cpu_{today}.json").write_text(json.dumps(raw, indent=1) + "\n", encoding="utf-8")
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
