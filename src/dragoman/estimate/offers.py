"""What a platform makes of a run: sessions, calendar days, price, and what can go wrong.

A session gives less than its limit: the machine is set up first, and the last save must be
in the store before it ends. Prices are those of `dragoman.platforms`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dragoman import platforms
from dragoman.config import RunConfig
from dragoman.estimate.hours import Hours, gain_of_ranks, hours_of
from dragoman.estimate.measure import Measured
from dragoman.estimate.memory import Way
from dragoman.estimate.span import Span
from dragoman.estimate.work import Work
from dragoman.platforms import Offer, Platform

START_HOURS = Span(0.05, 0.2)
"""To set up a machine: install, fetch the model or the checkpoint, prepare the data. Assumed."""
SHARE_OF_LIMIT = 0.95
"""Of a session's limit that is planned with: platforms end early, and no two clocks agree."""
WORTH_IT = 1.2
"""Below this gain several GPUs are not worth what they cost, and it is said."""
COPY_BYTES = 12e9
"""Memory of the host besides the copy that a save is written from, before saves have to stream."""


@dataclass(frozen=True)
class Option:
    """One machine of one platform, for a whole run."""

    platform: Platform
    offer: Offer
    way: Way
    """How the run is trained on it; whether it fits."""
    hours: Hours
    """What it takes there, once everything is set up."""
    session_hours: float | None
    """That a session gives to the run; None when nothing ends it, below 0 when it ends before it begins."""
    num_nodes: int = 1
    """Such machines, which train together."""
    gain: float | None = None
    """How many times as fast its GPUs do a step as one of them would; None where it has one, or one could not."""

    @property
    def has_ranks(self) -> bool:
        """Whether there are such machines with so many GPUs, and as many of them as the options want together."""
        wanted = self.way.team.ranks // self.num_nodes
        return wanted <= self.offer.num_gpus and (self.num_nodes == 1 or self.platform.network is not None)

    @property
    def is_possible(self) -> bool:
        """Whether the run fits, and comes forward in a session."""
        return self.has_ranks and self.way.fits and (self.session_hours is None or self.session_hours > 0)

    @property
    def sessions(self) -> Span:
        """How many the run needs, if none is cut before its limit."""
        limit = self.session_hours
        needed = self.hours.total * (1 / 3600)
        return needed.each(lambda hours: max(1, math.ceil(hours / limit)) if limit and limit > 0 else 1)

    @property
    def machine_hours(self) -> Span:
        """Hours that a machine is held, set-up included."""
        sessions = self.sessions
        low = self.hours.total.low / 3600 + sessions.low * START_HOURS.low
        return Span(low, self.hours.total.high / 3600 + sessions.high * START_HOURS.high)

    @property
    def days(self) -> Span:
        """Calendar days, if each session is started as soon as it may be."""
        return self.machine_hours.each(self._days)

    def _days(self, hours: float) -> float:
        weekly = self.platform.weekly_hours
        if weekly is None:
            return hours / 24
        weeks = math.ceil(hours / weekly) - 1
        return 7 * weeks + (hours - weeks * weekly) / 24

    @property
    def usd(self) -> Span:
        """What it costs: by the hour, or whole months of a subscription."""
        if (monthly := self.offer.usd_per_month) is not None:
            return self.days.each(lambda days: monthly * max(1, math.ceil(days / 30)))
        return self.machine_hours * ((self.offer.usd_per_hour or 0.0) * self.num_nodes)

    @property
    def needs_nobody(self) -> bool:
        """Whether it may run to its end without a person: one session, and no page that must stay open."""
        idle = self.platform.idle_minutes
        return self.sessions.high <= 1 and (idle is None or self.machine_hours.high * 60 <= idle)

    @property
    def risks(self) -> list[str]:
        """What can go wrong, in words."""
        return list(self._risks())

    def _risks(self) -> Iterator[str]:
        platform = self.platform
        if platform.needs:
            yield f"needs {platform.needs}"
        if platform.idle_minutes and not self.needs_nobody:
            yield f"may end after {platform.idle_minutes:.0f} min without a person"
        if self.sessions.high > 1:
            yield f"goes on {platform.restarts}"
        if self.days.high > 7 and platform.weekly_hours:
            yield f"{platform.weekly_hours:.0f} hours a week"
        if platform.grace_seconds == 0:
            yield "no warning before the end"
        ram = self.offer.ram_gb
        if ram is not None and ram * 1e9 < self.hours.storage.checkpoint_bytes + COPY_BYTES:
            yield f"{ram:g} GB of RAM: training may wait while it saves"

    @property
    def gpus(self) -> str:
        """The GPUs that train, over all machines, such as `t4` or `2×t4`."""
        ranks = self.way.team.ranks
        return self.offer.gpu if ranks == 1 else f"{ranks}×{self.offer.gpu}"

    @property
    def hint(self) -> str:
        """What several GPUs bring, in words, where that is little; else empty."""
        if self.gain is None or self.gain >= WORTH_IT:
            return ""
        brings = "no gain" if self.gain < 1 else "little"
        takes = f"a step takes {1 / self.gain:.1f} times as long as with one"
        return f"{self.gpus} bring {brings} ({takes}): larger steps (--batch-size) or --devices 1"

    def to_json(self) -> dict[str, Any]:
        """What a program may read."""
        spans = {name: getattr(self, name) for name in ("sessions", "machine_hours", "days", "usd")}
        return {
            "platform": self.platform.name,
            "flavor": self.offer.flavor,
            "gpu": self.offer.gpu,
            "ranks": self.way.team.ranks,
            "parallel": self.way.parallel or None,
            "gain_of_ranks": None if self.gain is None else round(self.gain, 2),
            "possible": self.is_possible,
            "fits": self.way.fits,
            "memory_bytes": self.way.need_bytes,
            **self.hours.to_json(),
            **{name: [round(span.low, 3), round(span.high, 3)] for name, span in spans.items()},
            "needs_nobody": self.needs_nobody,
            "risks": self.risks,
            "hint": self.hint or None,
            "prices_as_of": self.platform.as_of,
            "storage": self.hours.storage.to_json(),
        }


def option_of(
    config: RunConfig, work: Work, platform: Platform, offer: Offer, way: Way, measured: Measured | None = None
) -> Option:
    """What a run becomes on a machine.

    Args:
        config: The run; its `--max-hours` ends sessions too.
        work: What it has to do.
        platform: Whose machine it is.
        offer: The machine.
        way: How it is trained with its GPUs.
        measured: What was measured with such GPUs.
    """
    hours = hours_of(config, work, way, measured)
    session_hours, gain = _session_hours(config, platform, offer, hours), gain_of_ranks(config, work, way)
    return Option(platform, offer, way, hours, session_hours, config.ranks.nodes, gain)


def _session_hours(config: RunConfig, platform: Platform, offer: Offer, hours: Hours) -> float | None:
    limits = [limit * SHARE_OF_LIMIT for limit in (platform.limit_hours(offer),) if limit is not None]
    limits += [config.training.max_hours] if config.training.max_hours else []
    if not limits:
        return None
    return min(limits) - START_HOURS.high - hours.storage.upload_seconds / 3600


def offered(names: tuple[str, ...], gpus: tuple[str, ...], devices: int | None = None) -> list[tuple[Platform, Offer]]:
    """All machines of these platforms with these GPUs; all where none is named.

    Args:
        names: Of the platforms.
        gpus: The GPUs.
        devices: How many GPUs they are to have, where a platform lets them one by one.

    Raises:
        InputError: A platform is not known.
    """
    places = [platforms.find(name) for name in names] if names else list(platforms.every().values())
    found = [(place, offer) for place in places for offer in place.offers if not gpus or offer.gpu in gpus]
    return [(place, place.with_gpus(offer, devices or offer.num_gpus) or offer) for place, offer in found]
