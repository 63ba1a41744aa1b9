"""How long a session may last: what its user said, else what its platform is known to do.

No platform tells a machine when it will be taken away. Whoever starts one says so
(`--deadline`, `DRAGOMAN_DEADLINE`); where nobody did, the limit that the platform is
known for counts from when the machine began.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from dragoman import host, platforms
from dragoman.config import MachineConfig, RunConfig
from dragoman.errors import InputError
from dragoman.platforms import Platform

NO_PLATFORM = "none"
_MARGIN_SECONDS, _MARGIN_SHARE = 60.0, 0.1
"""What is left unused before a machine is taken away, at most, and as a share of the whole time."""


@dataclass(frozen=True)
class TimeLimit:
    """When a session must be over."""

    seconds: float
    """From now on; less than nothing when it has passed."""
    reason: str
    """What sets it, in words that end the sentence "stopped: …"."""
    is_hard: bool = False
    """The machine is gone then, whether or not the last checkpoint is safe."""

    @property
    def margin_seconds(self) -> float:
        """What is left unused of a hard limit, for all that takes longer than it did before."""
        return min(_MARGIN_SECONDS, _MARGIN_SHARE * max(0.0, self.seconds)) if self.is_hard else 0.0


def time_limit(
    config: RunConfig, clock: Callable[[], float] = time.time, started: Callable[[], float] = host.started
) -> TimeLimit | None:
    """The first limit that a session meets; None when there is none.

    Args:
        config: The whole configuration.
        clock: Seconds since 1970.
        started: When this machine began, likewise.

    Raises:
        InputError: `--platform` names none.
    """
    platform = platform_of(config.machine)
    limits: list[TimeLimit] = []
    if hours := config.training.max_hours:
        limits.append(TimeLimit(hours * 3600, f"--max-hours {hours:g}"))
    if (moment := config.machine.deadline_time) is not None:
        limits.append(TimeLimit(moment - clock(), f"--deadline {config.machine.deadline}", is_hard=True))
    if not limits and platform:
        limits += _assumed(platform, clock() - started())
    return min(limits, key=lambda limit: limit.seconds - limit.margin_seconds, default=None)


def platform_of(machine: MachineConfig) -> Platform | None:
    """The platform that this session runs on; None when it is not recognised, or `none` was said.

    Raises:
        InputError: `--platform` names none.
    """
    if machine.platform == NO_PLATFORM:
        return None
    name = machine.platform or host.platform_name()
    try:
        return platforms.find(name) if name else None
    except InputError as error:
        raise InputError(f"--platform: {error.message}", f"{error.hint}, or {NO_PLATFORM}") from None


def clock_time(moment: float) -> str:
    """A time as a person reads it, in UTC."""
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M} UTC"


def _assumed(platform: Platform, age_seconds: float) -> list[TimeLimit]:
    """The limit that a platform is known for; none when this machine is older, which proves another one."""
    hours = platform.session_hours or platform.default_hours
    left = hours * 3600 - age_seconds if hours else 0.0
    if not hours or left <= 0:
        return []
    return [TimeLimit(left, f"{platform.title} ends a session after {hours:g} h", is_hard=True)]
