"""How fast this machine trains: some real steps of the very run, by `dragoman train` as a child process.

The child trains in a temporary folder, without a store. A corpus that the run has prepared
is used there too. What is timed is what the run would do: steps after a few that warm up,
one save, one evaluation.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dragoman import gpus, host
from dragoman.checkpoint.run_folder import CORPUS, JOURNAL
from dragoman.config import ENVIRONMENT_PREFIX, RunConfig, from_flat
from dragoman.data.corpus import Corpus
from dragoman.errors import ExitCode, InputError
from dragoman.journal import read

WARM_STEPS, STEPS, LAST_STEPS = 5, 30, 5
"""Steps that warm up, that are timed, and during which the save is written."""


@dataclass(frozen=True)
class Measured:
    """What was timed on this machine."""

    machine: str
    """As `--gpu` names it; the driver's own name of a GPU that is not known, and `cpu` without one."""
    steps: int
    """How many were timed."""
    target_tokens: int
    """In these."""
    tokens_per_second: float
    """Target tokens, evaluation and saving left out."""
    evaluation_seconds: float
    """Of one evaluation; 0 when the run has none."""
    save_seconds: float
    """For which training stood still at one save."""
    load_seconds: float
    """From prepared data to the first step: the model is loaded."""
    ranks: int = 1
    """Processes that shared the work, with a GPU each."""

    def to_json(self) -> dict[str, Any]:
        """What a program may read."""
        return {name: round(value, 3) if isinstance(value, float) else value for name, value in asdict(self).items()}


def measure(config: RunConfig, corpus: Corpus | None, say: Callable[[str], None] = lambda words: None) -> Measured:
    """Train some steps of a run in a temporary folder, and time them.

    Args:
        config: The run.
        corpus: What it was prepared with, if it was.
        say: Told what is going on.

    Raises:
        InputError: The child could not train; its own words say why.
    """
    total = WARM_STEPS + STEPS + LAST_STEPS
    say(f"training {total} steps on this machine{'' if corpus else '; the data is prepared first'}")
    with tempfile.TemporaryDirectory(prefix="dragoman-measure-") as temporary:
        folder = Path(temporary) / "run"
        if corpus:
            (folder / CORPUS).mkdir(parents=True)
            (folder / CORPUS / corpus.folder.name).symlink_to(corpus.folder.absolute(), target_is_directory=True)
        file = Path(temporary) / "run.yaml"
        file.write_text(child_config(config, folder).to_yaml(), "utf-8")
        _train(file)
        return measured(read(folder / JOURNAL), host.gpu_names())


def child_config(config: RunConfig, folder: Path) -> RunConfig:
    """The run for so few steps: in another folder, without a store, with one save and one evaluation."""
    total, usual = WARM_STEPS + STEPS + LAST_STEPS, RunConfig()
    changed: dict[str, Any] = {
        "output": str(folder),
        "max_steps": total,
        "max_hours": None,
        "log_steps": WARM_STEPS,
        "save_steps": WARM_STEPS + STEPS,
        "save_minutes": 1e6,
        "eval_steps": total if config.evaluation.eval_steps else 0,
        "resume": "never",
    }
    stores = {name: usual.flat()[name] for name in type(usual.store).model_fields}
    return from_flat(config.flat() | stores | changed)


def measured(events: Iterable[dict[str, Any]], gpu_names: list[str]) -> Measured:
    """What the journal of such a run tells.

    Args:
        events: All of them.
        gpu_names: The GPUs of the machine, in their driver's order.
    """
    by_kind: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        by_kind.setdefault(event["kind"], []).append(event)
    start, prepared = by_kind["session_started"][0], by_kind["prepared"][0]
    timed = [it for it in by_kind["step"] if WARM_STEPS < it["step"] <= WARM_STEPS + STEPS]
    tokens, seconds = sum(it["target_tokens"] for it in timed), sum(it["seconds"] for it in timed)
    return Measured(
        machine=_machine(start["device"], gpu_names),
        steps=STEPS,
        target_tokens=tokens,
        tokens_per_second=tokens / seconds,
        evaluation_seconds=sum(it["seconds"] for it in by_kind.get("evaluated", ())),
        save_seconds=by_kind["saved"][0]["waited_seconds"],
        load_seconds=start["time"] - prepared["time"],
        ranks=start.get("ranks", 1),
    )


def _machine(device: str, gpu_names: list[str]) -> str:
    """What `--gpu` calls the device on which a session trained."""
    if device == gpus.CPU:
        return gpus.CPU
    number = int(device.partition(":")[2] or 0)
    return gpus.named(gpu_names[number]) if number < len(gpu_names) else device


def _train(file: Path) -> None:
    """Run the child.

    Raises:
        InputError: It did not come to its end.
    """
    command = [sys.executable, "-m", "dragoman", "train", "--config", str(file)]
    # Options in the environment would outdo the file's: a store of theirs must not get these steps.
    environment = host.environment_without(ENVIRONMENT_PREFIX)
    done = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    if done.returncode != ExitCode.DONE:
        raise _failed(done.stderr.decode("utf-8", "replace"), done.returncode)


def _failed(words: str, code: int) -> InputError:
    lines = words.splitlines()
    begins = next((number for number, line in enumerate(lines) if line.startswith("error: ")), None)
    if begins is None:
        return InputError(f"--measure: training ended with code {code}", "dragoman train with the same options")
    message, _, hint = "\n".join(lines[begins:]).removeprefix("error: ").partition("\n  try: ")
    return InputError(f"--measure: {message}", hint)
