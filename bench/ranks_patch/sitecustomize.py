"""dragoman, whose ranks meet a fault at a chosen moment: for `bench/ranks.py` and the tests of ranks alone.

Python imports this by itself in every process whose PYTHONPATH holds this folder. RANKS_PATCH
is a JSON object; without it nothing is changed:

    {"folder": where marks go, "pace": seconds after each step, "pause": seconds before the first restart,
     "pairs": whether to note the pairs of each step,
     "faults": [{"at": moment, "rank": who is there, "step": S, "nth": N, "do": deed, "victim": to whom}]}

A fault happens once, however often the ranks start again: at the `nth` time that its rank
comes to the moment when at least `step` steps are done. Moments: `start` (before the ranks
meet), `connect`, `assemble`, `restore`, `between` (two steps), `after` (one), `microbatch`, `reduce` (a collective of
gradients), `gather` (of a tensor for a checkpoint), `write` (of a checkpoint's weights),
`evaluate`. Deeds: a signal's name, to the rank itself or to the `victim`: another rank,
`launcher` or `all`. Besides: `nan` makes the objective of the steps `steps` not finite, and
`memory` lets every microbatch of more than `tokens` tokens fail; these two happen again and
again.
"""

import importlib.abc
import importlib.machinery
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

TOLD: dict[str, Any] = json.loads(os.environ.get("RANKS_PATCH", "{}"))
FAULTS: list[dict[str, Any]] = TOLD.get("faults", [])
RANK = int(os.environ.get("RANK", "0"))
LIFE = f"{os.getppid()}:{os.environ['MASTER_PORT']}" if "MASTER_PORT" in os.environ else str(os.getpid())
"""The same for all ranks that were started together."""


class Now:
    """Where this process is."""

    done = 0
    """Steps computed, also those of earlier sessions."""
    in_step = False
    made = 0
    """The step whose microbatches are made."""


def mark(kind: str, **facts: Any) -> None:
    """Add a line to the marks of all processes."""
    line = json.dumps({"kind": kind, "time": time.time(), "rank": RANK, "life": LIFE, **facts}) + "\n"
    file = os.open(f"{TOLD['folder']}/marks.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, line.encode())
    os.close(file)


def at(moment: str) -> None:
    """This process has come to a moment: is a fault to happen?"""
    for number, fault in enumerate(FAULTS):
        if fault["at"] != moment or fault.get("rank", 0) != RANK or Now.done < fault.get("step", 0):
            continue
        fault["nth"] = fault.get("nth", 1) - 1
        if fault["nth"] == 0 and _is_first(number):
            mark("fault", number=number, step=Now.done)
            _strike(getattr(signal, fault["do"]), fault.get("victim", RANK))


def _is_first(number: int) -> bool:
    """Whether a fault happens here, among all processes that there ever are."""
    try:
        os.close(os.open(f"{TOLD['folder']}/fault-{number}", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def _strike(deed: int, victim: int | str) -> None:
    if victim == RANK:
        os.kill(os.getpid(), deed)
    elif victim == "launcher":
        os.kill(os.getppid(), deed)
    else:
        if victim == "all" and "MASTER_PORT" in os.environ:
            os.kill(os.getppid(), deed)
        others = [each for each in _crew() if each["pid"] != os.getpid() and victim in ("all", each["rank"])]
        for each in others:
            os.kill(each["pid"], deed)
        if victim == "all":
            os.kill(os.getpid(), deed)


def _crew() -> list[dict[str, Any]]:
    """The processes that were started together with this one."""
    with open(f"{TOLD['folder']}/marks.jsonl", encoding="utf-8") as file:  # noqa: PTH123  before pathlib is wanted
        marks = [json.loads(line) for line in file]
    return [each for each in marks if each["kind"] == "began" and each["life"] == LIFE]


def before(owner: Any, name: str, moment: str, during: Callable[[], bool] = lambda: True) -> None:
    """A function whose calls are a moment."""
    real = getattr(owner, name)

    def called(*args: Any, **kwargs: Any) -> Any:
        if during():
            at(moment)
        return real(*args, **kwargs)

    setattr(owner, name, called)


def stepping(module: Any) -> None:
    """Count steps."""
    real = module.train_step

    def train_step(*args: Any, **kwargs: Any) -> Any:
        Now.done, Now.in_step = kwargs["step"], True
        try:
            result = real(*args, **kwargs)
        finally:
            Now.in_step = False
        Now.done += 1
        at("after")
        time.sleep(TOLD.get("pace", 0))
        return result

    module.train_step = train_step


def meeting(module: ModuleType) -> None:
    """Orders, the opening, and the collectives of torch."""
    import torch.distributed as dist

    if "RANK" in os.environ:
        at("start")
    before(module.Ranks, "_exchanged", "between")
    before(module.Shared, "__getitem__", "restore")
    before(dist, "broadcast", "assemble")
    before(dist, "new_group", "connect")
    for name in ("all_reduce", "reduce_scatter_tensor", "all_gather_into_tensor"):
        before(dist, name, "reduce", lambda: Now.in_step)


def computing(module: ModuleType) -> None:
    """Objectives and memory."""
    import torch

    real = module.Forward.backward
    bad = [fault for fault in FAULTS if fault["do"] == "nan" and fault.get("rank", 0) == RANK]
    short = [fault for fault in FAULTS if fault["do"] == "memory" and fault.get("rank", 0) == RANK]

    def backward(self: Any, ready: Any, negatives: Any, scaled: Any, **kwargs: Any) -> Any:
        if not Now.in_step:
            return real(self, ready, negatives, scaled, **kwargs)
        at("microbatch")
        if any(Now.done + 1 >= fault["step"] and len(ready.ids_N) > fault["tokens"] for fault in short):
            mark("fault", number=FAULTS.index(short[0]), step=Now.done)
            raise torch.OutOfMemoryError("as the bench wants it")
        if any(Now.done in fault["steps"] for fault in bad):
            return real(self, ready, negatives, lambda objective: scaled(objective) * float("nan"), **kwargs)
        return real(self, ready, negatives, scaled, **kwargs)

    module.Forward.backward = backward


def feeding(module: ModuleType) -> None:
    """Note which pairs are computed here."""
    made, parts = module.Feed._made, module.Feed._parts

    def noted(self: Any, step: int, limit: int) -> Any:
        Now.made = step
        return made(self, step, limit)

    def noted_parts(self: Any, indices: Any, share: Any, limit: int) -> Any:
        mark("pairs", step=Now.made, pairs=indices[share].tolist(), ranks=int(os.environ.get("WORLD_SIZE", "1")))
        return parts(self, indices, share, limit)

    if TOLD.get("pairs"):
        module.Feed._made, module.Feed._parts = noted, noted_parts


def waiting(module: Any) -> None:
    """Shorter pauses before the ranks start again, for runs in which many faults follow each other."""
    module.PAUSE_SECONDS = TOLD.get("pause", module.PAUSE_SECONDS)


def writing(module: ModuleType) -> None:
    """The weights of a checkpoint, in the middle of their file."""
    real = module.Disk.write

    def write(self: Any, path: Any, chunks: Any) -> Any:
        def counted() -> Any:
            for number, chunk in enumerate(chunks):
                if number == 1 and path.name == "model.safetensors":
                    at("write")
                yield chunk

        return real(self, path, counted())

    module.Disk.write = write


PATCHES: dict[str, Callable[[Any], None]] = {
    "dragoman.training.loop": stepping,
    "dragoman.training.following": stepping,
    "dragoman.training.ranks": meeting,
    "dragoman.training.forward": computing,
    "dragoman.training.feed": feeding,
    "dragoman.training.dev": lambda module: before(module, "loss", "evaluate"),
    "dragoman.model.pieces": lambda module: before(module.Pieces, "_gathered", "gather"),
    "dragoman.store.disk": writing,
    "dragoman.training.crew": waiting,
}


class Patching(importlib.abc.MetaPathFinder):
    """Finds the modules to be patched as everybody does, and patches them once they are loaded."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in PATCHES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return spec
        load = spec.loader.exec_module

        def load_and_patch(module: ModuleType) -> None:
            load(module)
            PATCHES[name](module)

        spec.loader.exec_module = load_and_patch  # type: ignore[method-assign]
        return spec


if TOLD:
    sys.meta_path.insert(0, Patching())
    if "RANK" in os.environ:
        mark("began", pid=os.getpid(), interface=os.environ.get("GLOO_SOCKET_IFNAME", ""))
