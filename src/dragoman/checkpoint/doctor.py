"""Whether a store and this machine will do, found out before a run of days depends on them.

Each check says what was found, and for what is wrong a way out. A problem stops a run or
loses work; a warning is worth knowing. No token is ever part of an answer.
"""

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, cast

from dragoman import __version__, host
from dragoman.checkpoint.lease import check_same_run
from dragoman.checkpoint.log import RunLog
from dragoman.checkpoint.remote_status import remote_status
from dragoman.errors import CheckSaidNo, DragomanError
from dragoman.store.address import HUB, Access, open_store
from dragoman.store.hub_access import Tokens, check_identity
from dragoman.store.hub_api import HubApi
from dragoman.store.local import FolderStore
from dragoman.store.outcome import DENIED, NEW_TOKEN, HubFailure
from dragoman.store.probes import PATIENCE, Probe, open_probe

PROBE_BYTES = 1 << 20
"""Written to the store and removed again."""
BESIDES = 2
"""Checkpoints that a disk must take besides those that are kept: the best, and the one that is being written."""
CLOCK_SECONDS = 300.0
"""A clock that is wrong by more than this is said."""
_WAIT = "try again in a while; if it stays so, look at the network and at the address"
_PACKAGES = ("torch", "transformers", "huggingface_hub", "obstore")


@dataclass(frozen=True)
class Check:
    """What one check found."""

    name: str
    """What was looked at."""
    verdict: Literal["ok", "warning", "problem"]
    """Whether it will do."""
    finding: str
    """What was found."""
    hint: str = ""
    """What to try."""
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The same in numbers, for programs."""

    def to_json(self) -> dict[str, Any]:
        """The check for programs."""
        return asdict(self)


def refuse_problems(checks: list[Check], who: str = "doctor") -> None:
    """Raise `CheckSaidNo` when one of the checks, which `who` has made, is a problem."""
    problems = [check.name for check in checks if check.verdict == "problem"]
    if problems:
        number = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise CheckSaidNo(f"{who} found {number}: {', '.join(problems)}", "what stands behind each above")


def versions() -> Check:
    """What is installed."""
    found = {"dragoman": __version__, "system": host.system()} | {name: _version(name) for name in _PACKAGES}
    words = [f"{name} {version or 'is not installed'}" for name, version in found.items() if name != "system"]
    return Check("versions", "ok", ", ".join([host.system(), *words]), facts=found)


def token(url: str | None) -> Check:
    """Whether there is a valid token for the Hub, whose it is, and what it may do.

    Args:
        url: The run's store, if it has one.
    """
    repo = url.removeprefix(HUB) if url and url.startswith(HUB) else ""
    host.prefer_lfs()
    tokens = Tokens()
    if tokens.choose() is None:
        if repo:
            return Check("token", "problem", "there is none (HF_TOKEN is not set)", NEW_TOKEN)
        return Check("token", "ok", "there is none; only hf:// stores and private models need one")
    try:
        who = HubApi(repo, endpoint=None, tokens=tokens, patience=PATIENCE, beat=lambda: None).whoami()
        if repo:
            check_identity(who, repo)
    except HubFailure as failure:
        verdict = "problem" if repo or failure.status in DENIED else "warning"
        return Check("token", verdict, tokens.scrub(failure.message), failure.hint or _WAIT)
    except DragomanError as error:
        return Check("token", "problem", tokens.scrub(error.message), error.hint or _WAIT)
    role, scopes = _rights(who)
    words = f"valid, of {who.get('name')}, role {role}" + (f": {'; '.join(scopes)}" if scopes else "")
    return Check("token", "ok", tokens.scrub(words), facts={"user": who.get("name"), "role": role, "scopes": scopes})


def _rights(who: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Role and scopes of a token."""
    access = cast("dict[str, Any]", who.get("auth", {}).get("accessToken", {}))
    fine = cast("dict[str, Any]", access.get("fineGrained", {}))
    scopes = [f"everywhere: {right}" for right in cast("list[str]", fine.get("global", []))]
    for scope in cast("list[dict[str, Any]]", fine.get("scoped", [])):
        scopes.append(f"{scope.get('entity', {}).get('name')}: {', '.join(scope.get('permissions', []))}")
    return str(access.get("role", "not told")), scopes


# --- the store -------------------------------------------------------------------


def store(url: str, *, single_writer: bool = False, clock: Callable[[], float] = time.time) -> Iterator[Check]:
    """Try the store of a run: everything that a run will ask of it.

    Args:
        url: As `address.normal` gives it.
        single_writer: `--single-writer`.
        clock: This machine's, in seconds since 1970.
    """
    try:
        probe = open_probe(url)
        if not probe.is_there():
            found = f"{url} is not there yet, or hidden from this token, so it was not tried; dragoman train makes it"
            yield Check("store", "warning", found, "run doctor again when training has begun")
            return
    except DragomanError as error:
        yield _problem("store", error)
        return
    try:
        yield _written(probe, url)
    except DragomanError as error:
        yield _problem("store", error)
        with suppress(DragomanError, OSError):
            probe.clear()
        return
    for name, check in (("one writer", _one_writer), ("clock", _clock)):
        try:
            yield check(probe, url, single_writer, clock)
        except DragomanError as error:
            yield _problem(name, error)
    try:
        probe.clear()
    except (DragomanError, OSError) as error:
        yield _cannot_delete(url, error)


def _written(probe: Probe, url: str) -> Check:
    data = secrets.token_bytes(PROBE_BYTES)
    started = time.monotonic()
    probe.write(data)
    written = time.monotonic()
    if probe.read() != data:
        return Check("store", "problem", f"{url} gives back other bytes than it was given", "use another store")
    seconds = {"write_seconds": written - started, "read_seconds": time.monotonic() - written}
    speed = f"{PROBE_BYTES / 1e6:.1f} MB written in {seconds['write_seconds']:.1f} s"
    found = f"{url}: {speed}, read back in {seconds['read_seconds']:.1f} s as they were"
    return Check("store", "ok", found, facts=seconds | {"num_bytes": PROBE_BYTES})


def _one_writer(probe: Probe, url: str, single_writer: bool, _: object) -> Check:
    if probe.keeps_one_writer():
        return Check("one writer", "ok", f"{url} refuses the second of two machines that write the same record")
    if single_writer:
        found = f"{url} cannot keep two machines apart; --single-writer says that there is one"
        return Check("one writer", "warning", found, "never let another machine write there")
    return Check(
        "one writer",
        "problem",
        f"{url} cannot keep two machines apart: it takes the same name twice",
        "use another store, or --single-writer if no other machine will ever write there",
    )


def _clock(probe: Probe, url: str, _: bool, clock: Callable[[], float]) -> Check:
    before = clock()
    there = probe.clock()
    ahead = (before + clock()) / 2 - there
    facts = {"ahead_seconds": ahead}
    if abs(ahead) <= CLOCK_SECONDS:
        return Check("clock", "ok", f"{abs(ahead):.0f} s from that of {url}", facts=facts)
    way = "ahead of" if ahead > 0 else "behind"
    found = f"this machine's is {abs(ahead) / 60:,.0f} min {way} that of {url}"
    return Check("clock", "warning", found, "nothing in dragoman depends on it, but a store may refuse it", facts)


def _cannot_delete(url: str, error: DragomanError | OSError) -> Check:
    words = error.message if isinstance(error, DragomanError) else str(error)
    hint = "give it the right to delete: else the store only grows"
    return Check("delete", "problem", f"{url}: what was written cannot be removed: {words}", hint)


def _problem(name: str, error: DragomanError) -> Check:
    return Check(name, "problem", error.message, error.hint or _WAIT)


def run(url: str, folder: Path, now: float) -> Check:
    """The run in a store, and whether it is the one in a run folder.

    Args:
        url: The store.
        folder: The run folder; it need not be there.
        now: Seconds since 1970.
    """
    try:
        log, here = RunLog(open_store(url, Access())), RunLog(FolderStore(folder))
        check_same_run(log, here.run)
        if not log.run:
            return Check("run", "ok", f"{url} holds none yet")
        found = remote_status(log, now)
    except DragomanError as error:
        return _problem("run", error)
    safe, lease = found["safe"], found["lease"]
    words = f"{found['run']} in {url} is {found['state']}"
    words += f"; step {safe['step']:,} is safe there, saved {safe['age_seconds'] / 60:,.0f} min ago" if safe else ""
    words += f"; {lease['host']} was last seen {lease['age_seconds'] / 60:,.0f} min ago" if lease else ""
    facts = {"state": found["state"], "safe": safe, "lease": lease}
    if here.run and _is_ahead(log, here):
        hint = f"dragoman resume {url} goes on from there"
        return Check("run", "warning", f"{words}; the store is ahead of {folder}", hint, facts)
    return Check("run", "ok", words, facts=facts)


def _is_ahead(log: RunLog, here: RunLog) -> bool:
    """Whether a store holds a checkpoint that a folder has never had, and that is newer than its own."""
    if log.newest is None or log.newest.nonce in {record.nonce for record in here.records}:
        return False
    return here.newest is None or log.newest.place > here.newest.place


# --- the disks -------------------------------------------------------------------


def run_disk(folder: Path, checkpoint_bytes: int, keep: int, held_bytes: int) -> Check:
    """Whether the disk of the run folder takes what a run keeps.

    Args:
        folder: The run folder.
        checkpoint_bytes: Of one checkpoint.
        keep: Checkpoints that are kept; besides them there are the best model and the one that is being written.
        held_bytes: What the folder holds of it already.
    """
    number = keep + BESIDES
    what = f"{number} checkpoints of {_size(checkpoint_bytes)}"
    hint = "--keep 1, or --output on another disk"
    return _disk("disk of the run", folder, checkpoint_bytes * number - held_bytes, what, hint)


def store_disk(root: Path, folder: Path, checkpoint_bytes: int, keep: int) -> Check:
    """Whether the disk of a store in a folder takes as much, and is another one than that of the run folder."""
    store = FolderStore(root)
    held = store.num_bytes() if root.is_dir() else 0
    what = f"{keep + BESIDES} checkpoints of {_size(checkpoint_bytes)}"
    need = checkpoint_bytes * (keep + BESIDES) - held
    check = _disk("disk of the store", root, need, what, "another disk, or --keep 1")
    if check.verdict == "ok" and host.same_disk(root, folder):
        found = f"{root} is on the disk of the run folder: what takes the one takes the other"
        return Check(check.name, "warning", found, "a store elsewhere: --store hf://USER/REPO", check.facts)
    return check


def cache_disk(cache: Path, weights_bytes: int, beside: tuple[Path, int]) -> Check:
    """Whether the cache of models takes the base model.

    Args:
        cache: Where downloads go.
        weights_bytes: Of the model; 0 when it is there.
        beside: The run folder, and what it needs on its disk.
    """
    folder, also = beside
    if not weights_bytes:
        return Check("disk of the cache", "ok", f"{cache}: nothing has to be downloaded")
    shared = host.same_disk(cache, folder)
    what = f"the model of {_size(weights_bytes)}" + (", and on the same disk the run" if shared else "")
    hint = "HF_HOME on another disk"
    return _disk("disk of the cache", cache, weights_bytes + (max(0, also) if shared else 0), what, hint)


def _disk(name: str, folder: Path, need: int, what: str, hint: str) -> Check:
    free, need = host.free_bytes(folder), max(0, need)
    facts = {"folder": str(folder), "need_bytes": need, "free_bytes": free}
    found = f"{folder}: {_size(need)} more are needed ({what}), {_size(free)} are free"
    return Check(name, "ok", found, facts=facts) if free >= need else Check(name, "problem", found, hint, facts)


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:,.1f} GB" if num_bytes >= 1e8 else f"{num_bytes / 1e6:,.1f} MB"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
