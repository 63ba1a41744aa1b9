"""How a session ends: what it says, and how long it waits for the last upload."""

from dataclasses import dataclass, replace
from pathlib import Path

from dragoman.config import RunConfig
from dragoman.errors import ExitCode
from dragoman.store.disk import Disk
from dragoman.training.replication import Replication
from dragoman.training.session import Finished, write_config
from dragoman.training.stop import Stop


@dataclass(frozen=True)
class Ending:
    """How a session ended."""

    folder: Path
    outcome: str
    """done · stopped"""
    reason: str
    step: int
    total_steps: int
    safe_step: int
    """The newest step that is durable in the folder."""
    store: str = ""
    """URL of the durable store; empty when the run has none."""
    store_step: int = -1
    """The newest step that the durable store holds; -1 for none."""

    @property
    def exit_code(self) -> ExitCode:
        """0 when all is done and durable, else 75: resume me."""
        is_safe = not self.store or self.store_step >= self.step
        return ExitCode.DONE if self.outcome == "done" and is_safe else ExitCode.RESUME_ME


def drained(config: RunConfig, ending: Ending, copying: Replication | None, stop: Stop) -> Ending:
    """Wait for the last upload, and say what the durable store holds.

    Raises:
        Superseded: Another machine has taken over this run.
    """
    if copying is None:
        return ending
    copying.drain(ending.step, patience(config, stop))
    return replace(ending, store=copying.url, store_step=copying.safe_step)


def patience(config: RunConfig, stop: Stop) -> float:
    """Seconds to wait for the last upload."""
    return min(config.store.drain_minutes * 60, stop.seconds_left)


def was_done(config: RunConfig, done: Finished, folder: Path, stop: Stop) -> Ending:
    """Nothing is left to train; perhaps to upload."""
    copying, step = done.replication, done.step
    ending = Ending(folder, "done", "was done before", step, step, step if done.is_here else 0)
    if copying and not done.is_here:
        return replace(ending, store=copying.url, store_step=copying.safe_step)
    if copying:
        write_config(folder, config, Disk())
        copying.start()
    return drained(config, ending, copying, stop)
