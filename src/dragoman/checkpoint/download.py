"""A model out of a store: whole, as it was recorded, or not there at all.

The files grow in a folder beside the one that was asked for, each compared with its
record. That folder gets its name when all are there. So a folder of that name always holds
a whole model, and a download that was cut goes on where it stopped.
"""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from dragoman import host
from dragoman.checkpoint.log import RunLog
from dragoman.checkpoint.remote_status import url_of
from dragoman.checkpoint.restore import Report
from dragoman.errors import Damaged, InputError, StoreUnavailable
from dragoman.journal import Event, Fetching
from dragoman.store import probe
from dragoman.store.disk import Disk, digest, part
from dragoman.store.record import CheckpointRecord, FileEntry

NEWEST = ""
"""Instead of the name of a checkpoint: the newest whole one."""
TELL_SECONDS = 5.0
"""How often a download tells how far it is."""
MODELS = Path("models")
"""Where downloaded models are when `--output` is left out."""
_ROUNDS = 3
_GO_ON = "the same command again goes on where it stopped"


@dataclass(frozen=True)
class Wanted:
    """What to download, the first choice first."""

    checkpoints: Sequence[CheckpointRecord]
    """Where it may come from."""
    is_model: bool
    """Only the files that make a model; else all of them."""

    def files(self, checkpoint: CheckpointRecord) -> dict[str, FileEntry]:
        """The files of one of them that are wanted, by name."""
        names = checkpoint.model_files if self.is_model else list(checkpoint.files)
        return {name: checkpoint.files[name] for name in names}


@dataclass(frozen=True)
class Downloaded:
    """What came of it."""

    url: str
    """The store."""
    folder: Path
    """Where the files are now."""
    checkpoint: CheckpointRecord
    """Whose files they are."""
    files: dict[str, FileEntry]
    """What they are."""
    was_there: bool
    """Nothing had to be done."""
    passed_over: tuple[tuple[CheckpointRecord, str], ...]
    """Better choices that are damaged, and how."""

    @property
    def chrf(self) -> float | None:
        """chrF++ of this model on the held-out sample; None when it is not known."""
        # A checkpoint records that of the best model so far.
        is_best = self.checkpoint.best == self.checkpoint.nonce
        return self.checkpoint.metrics.get("chrf") if is_best else None

    def to_json(self) -> dict[str, Any]:
        """The answer for programs."""
        return {
            "schema": 1,
            "url": self.url,
            "output": str(self.folder),
            "step": self.checkpoint.step,
            "checkpoint": self.checkpoint.folder,
            "whole": self.files.keys() == self.checkpoint.files.keys() and self.checkpoint.is_whole,
            "chrf": self.chrf,
            "num_files": len(self.files),
            "num_bytes": sum(entry.size for entry in self.files.values()),
            "was_there": self.was_there,
            "passed_over": [{"checkpoint": each.folder, "reason": why} for each, why in self.passed_over],
        }


class Progress:
    """Tells now and then how many bytes of a download have arrived."""

    def __init__(self, echo: Callable[[Event], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._echo, self._clock = echo, clock
        self._step, self._of, self._done, self._told = 0, 0, 0, clock()

    def begin(self, step: int, num_bytes: int, of_bytes: int) -> None:
        """So many bytes of a step are wanted, and so many of them are here."""
        self._step, self._done, self._of, self._told = step, num_bytes, of_bytes, self._clock()

    def arrived(self, num_bytes: int) -> None:
        """Some more are here."""
        self._done += num_bytes
        if self._clock() - self._told >= TELL_SECONDS:
            self._told = self._clock()
            self._echo(Fetching(step=self._step, num_bytes=min(self._done, self._of), of_bytes=self._of))


def one_name(words: Sequence[str] | None) -> str | None:
    """The name of a checkpoint, as `wanted` takes it, from the words behind `--checkpoint`.

    Raises:
        InputError: There are several.
    """
    if words is None:
        return None
    if len(words) > 1:
        raise InputError(f"--checkpoint {' '.join(words)}: one at a time", "one folder or step, or none for the newest")
    return words[0].rstrip("/") if words else NEWEST


def usual_folder(place: str) -> Path:
    """Where a model goes when nothing else is said: below `models/`, by the last part of its place."""
    return MODELS / (Path(place).name or "model")


def wanted(log: RunLog, name: str | None) -> Wanted:
    """What is downloaded when this is asked for.

    Args:
        log: Of the store.
        name: None for the published model; `NEWEST`, or folder or step of a checkpoint.

    Raises:
        InputError: There is no such checkpoint, or none at all.
    """
    if not log.kept:
        raise InputError(f"{log.store}: the run there has no checkpoint yet", "dragoman status shows when it has")
    if name is None:
        best = [log.best] if log.best else []
        return Wanted([*best, *(each for each in log.kept if each not in best)], is_model=True)
    if name == NEWEST:
        if not log.checkpoints:
            raise InputError(f"{log.store}: no whole checkpoint is left", "without --checkpoint, the model alone")
        return Wanted(log.checkpoints, is_model=False)
    found = [each for each in log.kept if name in (each.folder, str(each.step))]
    if not found:
        there = " ".join(each.folder for each in log.kept)
        raise InputError(f"--checkpoint {name}: {log.store} holds no such checkpoint", f"one of {there}")
    return Wanted(found[:1], is_model=False)


def download(
    log: RunLog,
    output: Path,
    name: str | None,
    *,
    report: Report,
    progress: Progress,
    disk: Disk | None = None,
) -> Downloaded:
    """Bring a model or a checkpoint into a folder of its own.

    Args:
        log: Of the store, read before.
        output: The folder; it is not there, or empty, or holds exactly what is asked for.
        name: As for `wanted`.
        report: Told of every choice that is damaged, and how.
        progress: Told when bytes begin to arrive; whoever opened the store tells it of them.
        disk: Takes every change.

    Raises:
        InputError: There is no such checkpoint, or the folder holds something else.
        Damaged: All that may be downloaded is damaged.
        StoreUnavailable: The store failed; the same call goes on where this one stopped.
    """
    output = output.expanduser().absolute()
    if output.is_mount() or output == Path.cwd():
        raise InputError(f"{output}: cannot be made anew", f"a folder below it: --output {output / 'model'}")
    for _ in range(_ROUNDS):
        try:
            return _Download(log, output, wanted(log, name), report, progress, disk or Disk()).run()
        except _Retired:
            log.refresh()
        except StoreUnavailable as error:
            hint = f"{error.hint}; then {_GO_ON}" if error.hint else _GO_ON
            raise StoreUnavailable(error.message, hint, error.retry_after) from error
    raise StoreUnavailable(
        f"{log.store}: checkpoints are retired there faster than they come here",
        "download when the run has ended, or without --checkpoint, which is less",
    )


class _Retired(Exception):
    """What was being downloaded is not kept any more: there is a newer one."""


@dataclass
class _Download:
    log: RunLog
    output: Path
    wanted: Wanted
    report: Report
    progress: Progress
    disk: Disk
    passed_over: list[tuple[CheckpointRecord, str]] = field(default_factory=list[tuple[CheckpointRecord, str]])

    def run(self) -> Downloaded:
        here = self._what_is_here()
        for checkpoint in self.wanted.checkpoints:
            if checkpoint == here:
                return self._done(checkpoint, was_there=True)
            try:
                if here:
                    self.log.store.verify(checkpoint, list(self.wanted.files(checkpoint)))
                    raise self._other(f"step {here.step:,} of this run, and the one to download is {checkpoint.step:,}")
                self._fetch(checkpoint)
            except Damaged as error:
                self._pass_over(checkpoint, error.message)
            else:
                return self._done(checkpoint, was_there=False)
        others = [each.folder for each in self.log.kept if each not in self.wanted.checkpoints]
        hint = f"--checkpoint with one of {' '.join(others)}" if others else "another copy of this run"
        raise Damaged(f"{self.log.store}: what was asked for is damaged ({self.passed_over[0][1]})", hint)

    def _what_is_here(self) -> CheckpointRecord | None:
        """Which of the choices the folder holds already; None when it holds nothing."""
        if not self.output.is_dir():
            if self.output.exists():
                raise InputError(f"{self.output}: is a file", "give another --output")
            return None
        if not any(self.output.iterdir()):
            return None
        for checkpoint in self.wanted.checkpoints:
            files = self.wanted.files(checkpoint)
            if files.keys() <= self._digests.keys() and all(self._digests[name] == files[name] for name in files):
                return checkpoint
        raise self._other("something else")

    @cached_property
    def _digests(self) -> dict[str, FileEntry]:
        """What the files in the folder are, as far as any choice names them."""
        names = {name for checkpoint in self.wanted.checkpoints for name in self.wanted.files(checkpoint)}
        return {name: digest(self.output / name) for name in names if (self.output / name).is_file()}

    def _fetch(self, checkpoint: CheckpointRecord) -> None:
        growing, files = part(self.output), self.wanted.files(checkpoint)
        num_bytes = sum(entry.size for entry in files.values())
        with probe.refusing(self.output):
            self.disk.make_folders(growing)
        there = sum(path.stat().st_size for path in growing.rglob("*") if path.is_file())
        if (free := host.free_bytes(growing)) < num_bytes - there:
            raise InputError(
                f"{self.output}: {num_bytes / 1e6:,.1f} MB are needed there and {free / 1e6:,.1f} MB are free",
                "another --output, or more space",
            )
        self.progress.begin(checkpoint.step, there, num_bytes)
        self.log.store.fetch(checkpoint, list(files), growing)
        self._clear(growing, set(files))
        self.disk.rename(growing, self.output)
        self.disk.sync_folder(self.output.parent)

    def _clear(self, growing: Path, names: set[str]) -> None:
        """Remove what is left of an earlier download of another checkpoint."""
        for path in sorted(growing.rglob("*"), reverse=True):
            if path.is_file() and path.relative_to(growing).as_posix() not in names:
                self.disk.unlink(path)
            elif path.is_dir() and not any(path.iterdir()):
                self.disk.remove_folder(path)

    def _pass_over(self, checkpoint: CheckpointRecord, why: str) -> None:
        """Say that a choice is damaged, unless it was retired meanwhile."""
        self.log.refresh()
        if checkpoint.nonce not in {kept.nonce for kept in self.log.kept}:
            raise _Retired
        self.passed_over.append((checkpoint, why))
        self.report(checkpoint, why)

    def _other(self, what: str) -> InputError:
        return InputError(f"{self.output}: holds {what}", "another --output, or remove that folder")

    def _done(self, checkpoint: CheckpointRecord, *, was_there: bool) -> Downloaded:
        if was_there and part(self.output).is_dir():
            shutil.rmtree(part(self.output))
        return Downloaded(
            url_of(self.log),
            self.output,
            checkpoint,
            self.wanted.files(checkpoint),
            was_there,
            tuple(self.passed_over),
        )
