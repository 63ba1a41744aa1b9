"""What a repository really held, at every commit that its branch ever pointed at; without any code of dragoman.

Nobody is asked what they believe to have stored. Bytes are compared, by their SHA-256,
with those that training wrote at each step.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.hub import HubStandIn
from tests.support.hub.repository import Commit

STATE_FILES = ("model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json")
"""What the recipe needs to continue, beside a random state for each rank; every one differs at every step."""

Origin = tuple[int, int]
"""Which trainer wrote some bytes, and at which step."""


@dataclass
class Held:
    """What one commit held."""

    root: Origin | None = None
    """Where the weights at the root come from."""
    whole: list[Origin] = field(default_factory=list)
    """Checkpoints from which training can continue exactly, the newest last."""
    torn: str = ""
    """Weights of one step with the state of another, in words."""

    @property
    def newest(self) -> int:
        """Step from which training would continue; -1 for none."""
        return self.whole[-1][1] if self.whole else -1


@dataclass
class Verdict:
    """What a repository held over its whole life."""

    commits: int
    durable: list[Origin]
    """Every save that was there, whole, at some commit."""
    torn: list[str]
    """Commits that were torn, in words."""
    end: Held
    """What it holds now."""
    duplicates: list[str]
    """Titles of commits that came twice in a row."""
    falls: list[str]
    """Where the step from which training would continue is lower than at the commit before."""
    bare: int
    """Commits with a whole checkpoint and no weights at the root, where somebody would look for the model."""
    wrong_root_seconds: float
    """How long the weights at the root were missing, or not those of the newest checkpoint."""

    @property
    def end_step(self) -> int:
        """Step from which training would continue now; -1 for none."""
        return self.end.newest


class Repository:
    """One repository of a stand-in, looked at from inside."""

    def __init__(self, hub: HubStandIn, repo: str) -> None:
        self._hub, self._repository = hub, hub.repositories.get(hub.key(repo))

    def heads(self) -> list[Commit]:
        """Every commit that `main` ever pointed at, oldest first, each with the tree that it had then."""
        if self._repository is None:
            return []
        return [self._repository.commits[oid] for oid in self._repository.heads.get("main", ())]

    def titles(self) -> list[str]:
        """Titles of the commits in the present history, oldest first; deleting bytes for ever rewrites it."""
        heads = self.heads()
        if self._repository is None or not heads:
            return []
        return [commit.title for commit in self._repository.history(heads[-1])][::-1]

    def digest(self, commit: Commit, path: str) -> str | None:
        """SHA-256 of a file at a commit; None when there is none."""
        entry = commit.tree.get(path)
        if entry is None or entry.lfs:
            return entry.lfs if entry else None
        return hashlib.sha256(self.read(commit, path)).hexdigest()

    def read(self, commit: Commit, path: str) -> bytes:
        """Bytes of a small file at a commit."""
        assert self._repository is not None
        return self._repository.contents(commit.tree[path]) or b""


def judge_recipe(hub: HubStandIn, repo: str, saved: Mapping[Origin, Mapping[str, str]], ranks: int = 1) -> Verdict:
    """Judge the recipe's layout.

    Args:
        hub: Holds the repository.
        repo: USER/NAME.
        saved: SHA-256 of every file of every save, as written on the machines.
        ranks: Processes that trained together.
    """
    states = [f"rng_state_{rank}.pth" for rank in range(ranks)] if ranks > 1 else ["rng_state.pth"]
    repository = Repository(hub, repo)
    origins: dict[str | None, set[Origin]] = {}
    for origin, files in saved.items():
        for digest in files.values():  # a scheduler's is the same for two trainers
            origins.setdefault(digest, set()).add(origin)

    def held(commit: Commit) -> Held:
        here = {name: repository.digest(commit, f"last-checkpoint/{name}") for name in (*STATE_FILES, *states)}
        root = next(iter(origins.get(repository.digest(commit, "model.safetensors"), ())), None)
        if not any(here.values()):
            return Held(root)
        common = set.intersection(*(origins.get(digest, set()) for digest in here.values()))
        if not common:
            parts = {name: origins.get(digest) for name, digest in here.items()}
            return Held(root, [], f"last-checkpoint holds {parts}")
        only = common.pop()
        return Held(root, [only], "" if root == only else f"root {_word(root)}, checkpoint {_word(only)}")

    return _verdict(repository, held)


def judge_dragoman(hub: HubStandIn, repo: str) -> Verdict:
    """Judge dragoman's layout: a checkpoint is what its record says, and the root that of the newest."""
    repository = Repository(hub, repo)

    def held(commit: Commit) -> Held:
        live: dict[str, Any] = {}
        for path in sorted(path for path in commit.tree if path.startswith("dragoman/log/")):
            record = json.loads(repository.read(commit, path))
            if record["kind"] == "checkpoint":
                live[record["nonce"]] = record
            for nonce in record.get("checkpoints", ()):
                live.pop(nonce, None)
        order = sorted(live.values(), key=lambda record: (record["epoch"], record["step"]))
        for record in order:
            if wrong := [name for name, file in record["files"].items() if not is_there(commit, record, name, file)]:
                return Held(torn=f"{record['folder']} is recorded, but not {wrong}")
            state = json.loads(repository.read(commit, f"{record['folder']}/training/state.json"))
            if state["step"] != record["step"]:
                return Held(torn=f"{record['folder']} holds the state of step {state['step']}")
        whole = [(0, int(record["step"])) for record in order]
        models = {record["files"]["model.safetensors"]["sha256"]: (0, record["step"]) for record in order}
        root = models.get(repository.digest(commit, "model.safetensors"))
        is_torn = whole and root != whole[-1] and "model.safetensors" in commit.tree
        return Held(root, whole, f"root {_word(root)}, checkpoint {_word(whole[-1])}" if is_torn else "")

    def is_there(commit: Commit, record: Any, name: str, file: Any) -> bool:
        return repository.digest(commit, f"{record['folder']}/{name}") == file["sha256"]

    return _verdict(repository, held)


def _verdict(repository: Repository, held: Callable[[Commit], Held]) -> Verdict:
    heads = repository.heads()
    seen = [held(commit) for commit in heads]
    durable = sorted({origin for one in seen for origin in one.whole}, key=lambda origin: origin[::-1])
    torn = [f"{commit.title}: {one.torn}" for commit, one in zip(heads, seen, strict=True) if one.torn]
    titles = repository.titles()
    twice = [title for title, before in zip(titles[1:], titles, strict=False) if title == before]
    bare = [bool(one.whole and "model.safetensors" not in at.tree) for at, one in zip(heads, seen, strict=True)]
    wrong = [is_bare or bool(one.torn) for is_bare, one in zip(bare, seen, strict=True)]
    until = zip(wrong, heads, heads[1:], strict=False)
    seconds = sum(max(0.0, later.date - commit.date) for is_wrong, commit, later in until if is_wrong)
    newest = [one.newest for one in seen]
    falls = [
        f"{commit.title}: from {before} to {now}"
        for commit, before, now in zip(heads[1:], newest, newest[1:], strict=False)
        if now < before
    ]
    return Verdict(len(heads), durable, torn, seen[-1] if seen else Held(), twice, falls, sum(bare), seconds)


def _word(origin: Origin | None) -> str:
    if origin is None:
        return "unknown"
    trainer, step = origin
    return f"{step}" if trainer == 0 else f"{step} of trainer {trainer + 1}"


def leaks(token: str, *folders: Path) -> list[str]:
    """Files below folders that hold a token."""
    found: list[str] = []
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and token.encode() in path.read_bytes():
                found.append(path.relative_to(folder).as_posix())
    return found


def leaked_uploads(hub: HubStandIn, repo: str, token: str) -> list[str]:
    """Paths at any commit whose bytes hold a token."""
    repository = Repository(hub, repo)
    found: set[str] = set()
    for commit in repository.heads():
        found |= {path for path in commit.tree if token.encode() in repository.read(commit, path)}
    return sorted(found)
