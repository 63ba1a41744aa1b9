"""The two that are compared: the recipe that everybody copies, and the `dragoman` command.

Both train a model of the same size on the same pairs, with the same number of steps, at
the same pace, and save as often. What each of them says is kept; what is true is judged
by `faults_judge`.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.faults_judge import Origin, Verdict, judge_recipe
from bench.faults_machine import Machine, Process
from dragoman import journal
from tests.support.hub import HubStandIn

REPO, TOKEN, NEW_TOKEN = "ada/run", "hf_firstSecretOfAda", "hf_secondSecretOfAda"
STEPS, SAVE_STEPS, BATCH = 30, 5, 4
PACE_SECONDS = 0.34
"""Pause after each step: with it a save comes every 1.7 s, as in the first measurement of the recipe."""
START_SECONDS = 180.0
"""The longest that a process may take to import its packages from a cold disk, and to resume."""


Pace = float | dict[str, str]
"""Seconds of pause after each step; or files for which dragoman waits, by the number of steps done before."""


@dataclass
class Resumed:
    """A fresh process on an empty machine, from what the repository held."""

    step: int | None
    """The step from which it really continued; None when it did not."""
    exact: bool
    """Whether it ended with the weights of an undisturbed run."""
    exit_code: int | None
    note: str = ""
    """The line that says why not, or what it warned of."""
    talk: list[str] = field(default_factory=list)
    """All that it said."""


class Side(ABC):
    """One of the two.

    Args:
        base: Folder of the untrained model.
        data: Sentence pairs.
        ranks: Processes that share the work.
    """

    name: str

    def __init__(self, base: Path, data: Path, ranks: int = 1) -> None:
        self.base, self.data, self.ranks = base, data, ranks
        self.weights = ""
        """Digest of the weights that an undisturbed run ends with."""

    def machine(self, folder: Path, hub: HubStandIn, token: str = TOKEN) -> Machine:
        """A new machine that uses a hub."""
        return Machine(folder, {"HF_ENDPOINT": hub.url, "HF_TOKEN": token, **self.environment(0.0)})

    @abstractmethod
    def start(self, machine: Machine, pace: Pace = PACE_SECONDS, **options: object) -> Process:
        """Train from nothing."""

    @abstractmethod
    def has_begun(self, machine: Machine) -> bool:
        """Whether it trains."""

    @abstractmethod
    def saved(self, machine: Machine) -> list[int]:
        """Steps that were saved on the machine's own disk."""

    @abstractmethod
    def trained(self, machine: Machine) -> list[tuple[int, float]]:
        """Steps that were trained, each with its time in seconds since 1970, in the order in which they were."""

    @abstractmethod
    def final(self, folder: Path) -> str:
        """Digest of the weights that a run which has ended has on its machine's disk; empty when there are none."""

    @abstractmethod
    def has_trained(self, machine: Machine) -> bool:
        """Whether training has ended by itself, uploads included."""

    @abstractmethod
    def judge(self, hub: HubStandIn, machines: Sequence[Machine]) -> Verdict:
        """What the repository held."""

    @abstractmethod
    def resume(self, machine: Machine, hub: HubStandIn, **options: object) -> Resumed:
        """Continue on an empty machine from what the repository holds."""

    @abstractmethod
    def environment(self, pace: Pace) -> Mapping[str, str]:
        """What its processes see besides the usual."""


def names_there(hub: HubStandIn) -> set[str]:
    """Paths of all files of the repository; none before there is a commit."""
    repository = hub.repositories.get(hub.key(REPO))
    return set(repository.commit_at("main").tree) if repository and "main" in repository.heads else set()


def words_of(options: Mapping[str, object], dash: str) -> list[str]:
    """Options as words; None is left out, True is a switch."""
    words: list[str] = []
    for name, value in options.items():
        if value is not None:
            words += [f"--{name.replace('_', dash)}"] + ([] if value is True else [str(value)])
    return words


class Recipe(Side):
    """`bench/faults_recipe.py`; with several ranks under torchrun, each with its part of the batch."""

    name = "recipe"

    def start(self, machine: Machine, pace: Pace = PACE_SECONDS, **options: object) -> Process:
        """Train, and push the final model when told to go on."""
        options = {
            "base": self.base,
            "data": self.data,
            "output": machine.folder / "run",
            "witness": machine.folder / "witness.jsonl",
            "repo": REPO,
            "batch_size": BATCH // self.ranks,
            "ddp_backend": "gloo" if self.ranks > 1 else None,
            "pace": pace,
            "final_push": True,
        } | options
        restarts = options.pop("max_restarts", 0)
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", self.ranks]
        launcher = [*launcher, "--max-restarts", restarts] if self.ranks > 1 else []
        return machine.start("recipe", [*launcher, "bench/faults_recipe.py", *words_of(options, "_")])

    def events(self, machine: Machine, kind: str, rank: int = 0) -> list[dict[str, Any]]:
        """What the witness of a rank wrote."""
        path = machine.folder / (f"witness_{rank}.jsonl" if rank else "witness.jsonl")
        return [event for event in journal.read(path) if event["event"] == kind]

    def saved(self, machine: Machine) -> list[int]:
        return [event["step"] for event in self.events(machine, "saved")]

    def has_begun(self, machine: Machine) -> bool:
        return bool(self.events(machine, "begin"))

    def trained(self, machine: Machine) -> list[tuple[int, float]]:
        return [(event["step"], event["time"]) for event in self.events(machine, "step")]

    def final(self, folder: Path) -> str:
        written = journal.read(folder / "witness.jsonl")
        returned = [event for event in written if event["event"] == "returned"]
        return returned[0]["weights"] if returned else ""

    def has_trained(self, machine: Machine) -> bool:
        return bool(self.events(machine, "returned"))

    def judge(self, hub: HubStandIn, machines: Sequence[Machine]) -> Verdict:
        saved: dict[Origin, dict[str, str]] = {}
        for number, machine in enumerate(machines):
            for event in (event for rank in range(self.ranks) for event in self.events(machine, "saved", rank)):
                unlike = {name: digest for name, digest in event["files"].items() if "token" not in name}
                known = saved.setdefault((number, event["step"]), {})
                known |= {name: digest for name, digest in unlike.items() if name not in known}
        return judge_recipe(hub, REPO, saved, self.ranks)

    def resume(self, machine: Machine, hub: HubStandIn, **options: object) -> Resumed:
        """Download the repository and continue from its `last-checkpoint`, as users do; the START's way is another."""
        from huggingface_hub import snapshot_download

        given = options.pop("resume_from_checkpoint", None)
        if given is None:
            download = machine.folder / "download"
            token = machine.environment["HF_TOKEN"]
            snapshot_download(
                REPO, local_dir=download, endpoint=hub.url, token=token, cache_dir=machine.folder / "cache"
            )
            inner = download / "last-checkpoint"
            given = inner if inner.is_dir() else download
        options = {"resume_from_checkpoint": given, "final_push": None} | options
        process = self.start(machine, 0.0, **options)
        process.ended(START_SECONDS)
        begun = self.events(machine, "begin")
        step = begun[0]["step"] if begun else None
        exact = self.final(machine.folder) == self.weights
        return Resumed(step, exact, process.exit_code, last_error(process.talk), process.talk)

    def environment(self, pace: Pace) -> Mapping[str, str]:
        return {"PYTHONPATH": "", "GLOO_SOCKET_IFNAME": "lo"}


_ERROR = re.compile(r"^(\w+\.)*\w*(Error|Exception)\b|^error:")


def last_error(talk: Sequence[str]) -> str:
    """The last error, with the lines that belong to it."""
    begins = [number for number, line in enumerate(talk) if _ERROR.match(line)]
    return " ".join(" ".join(talk[begins[-1] :]).split()) if begins else ""
