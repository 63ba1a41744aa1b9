"""Whether a run needs a machine now, and which: a pure function of its log, its ledger and the time.

Nothing is remembered between two looks, so whoever looks decides the same. Safety never
rests on it: of two machines that train one run, the lease lets one publish.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dragoman.launch.ledger import HOUR_SECONDS, Machine, at_work
from dragoman.platforms import Offer, Platform

WEEK_HOURS = 7 * 24.0
LEAST_HOURS = 0.5
"""A machine that could work for less is not worth starting: installing and fetching come first."""


@dataclass(frozen=True)
class Seen:
    """What a store says of its run."""

    step: int
    """The newest step that is safe there."""
    epoch: int
    """Epoch of the lease; 0 when none was ever taken."""
    idle_seconds: float
    """How long ago the last record appeared, by the store's clock; infinite without one."""
    outcome: str
    """How the last session ended: done, stopped or failed; empty when it left no word, or goes on."""


@dataclass(frozen=True)
class Place:
    """Somewhere to start a machine, as the user listed it."""

    platform: Platform
    offer: Offer

    @property
    def session_hours(self) -> float:
        """Longest session there; infinite without a limit."""
        return self.platform.limit_hours(self.offer) or float("inf")


@dataclass(frozen=True)
class Policy:
    """What may be spent, and how long to be patient."""

    places: Sequence[Place]
    """In the order in which they are preferred."""
    max_usd: float
    """For all machines of the run together."""
    max_hours: float
    """Hours of all machines of the run together."""
    lease_seconds: float = 900.0
    """Silence after which the machine at work is taken for dead."""
    startup_seconds: float = 1800.0
    """Time within which a machine that was started takes the lease."""
    most_fruitless: int = 3
    """Machines in a row after which the newest step was the same: more would not help."""


@dataclass(frozen=True)
class Done:
    """The run is finished; nothing is needed any more."""


@dataclass(frozen=True)
class Wait:
    """Nothing is to be done now."""

    why: str
    seconds: float
    """When to look again."""


@dataclass(frozen=True)
class Start:
    """A machine is needed, and this is the one."""

    place: Place
    max_hours: float
    """The limit that is set at the platform."""


@dataclass(frozen=True)
class GiveUp:
    """Another machine would not help, or may not be paid."""

    why: str
    hint: str


Decision = Done | Wait | Start | GiveUp


def decide(seen: Seen, machines: Sequence[Machine], policy: Policy, now: float) -> Decision:
    """What to do about a run.

    Args:
        seen: The run.
        machines: Every machine that was ever started for it.
        policy: What is allowed.
        now: Seconds since 1970 (UTC).
    """
    if seen.outcome == "done":
        return Done()
    if waiting := _someone_works(seen, machines, policy, now):
        return waiting
    if stuck := _is_stuck(seen, machines, policy):
        return stuck
    return _choose(machines, policy, now)


def _someone_works(seen: Seen, machines: Sequence[Machine], policy: Policy, now: float) -> Wait | None:
    if not seen.outcome and seen.idle_seconds < policy.lease_seconds:
        return Wait("a machine is at work", policy.lease_seconds - seen.idle_seconds)
    for machine in at_work(machines):
        left = machine.claim.time + policy.startup_seconds - now
        if seen.epoch <= machine.claim.epoch and left > 0:
            return Wait(f"a machine of {machine.claim.platform} is starting", left)
    return None


def _is_stuck(seen: Seen, machines: Sequence[Machine], policy: Policy) -> GiveUp | None:
    tried = [machine for machine in machines if not (machine.ended and machine.ended.was_refused)]
    last = tried[-policy.most_fruitless :]
    if len(last) == policy.most_fruitless and all(machine.claim.step == seen.step for machine in last):
        return GiveUp(
            f"{len(last)} machines one after the other made no step safe beyond step {seen.step:,}",
            "see why: dragoman status URL, and the log of the last machine",
        )
    return None


def _choose(machines: Sequence[Machine], policy: Policy, now: float) -> Decision:
    usd_left = policy.max_usd - sum(machine.usd(now) for machine in machines)
    hours_left = policy.max_hours - sum(machine.hours(now) for machine in machines)
    if hours_left < LEAST_HOURS:
        return GiveUp(f"of {policy.max_hours:g} hours {max(0.0, hours_left):.1f} are left", "a higher --max-hours")
    too_dear = False
    later: list[float] = []
    for place in policy.places:
        if place.platform.by_hand or _refused_lately(place, machines, now):
            later.append(HOUR_SECONDS)
            continue
        price = place.offer.usd_per_hour or 0.0
        hours = min(hours_left, place.session_hours, usd_left / price if price else float("inf"))
        if hours < LEAST_HOURS:
            too_dear = True
            continue
        quota = _hours_of_week(place, machines, now)
        if quota < LEAST_HOURS:
            later.append(_quota_returns(place, machines, now))
            continue
        return Start(place, min(hours, quota))
    if later:
        by_hand = [place.platform.title for place in policy.places if place.platform.by_hand]
        person = f"; {by_hand[0]} needs a person, who runs the notebook again" if by_hand else ""
        return Wait(f"no platform takes a machine now{person}", min(later))
    assert too_dear
    return GiveUp(f"of {policy.max_usd:g} USD {max(0.0, usd_left):.2f} are left", "a higher --max-usd")


def _refused_lately(place: Place, machines: Iterable[Machine], now: float) -> bool:
    ends = [
        machine.ended
        for machine in machines
        if machine.claim.platform == place.platform.name and machine.claim.flavor == place.offer.flavor
    ]
    return bool(ends) and (end := ends[-1]) is not None and end.was_refused and now - end.time < HOUR_SECONDS


def _hours_of_week(place: Place, machines: Iterable[Machine], now: float) -> float:
    """What is left of a platform's weekly hours; the last seven days count, which is never too little."""
    if place.platform.weekly_hours is None:
        return float("inf")
    # Of the machine, however many GPUs it has.
    return place.platform.weekly_hours - sum(machine.hours(now) for machine in _of_week(place, machines, now))


def _quota_returns(place: Place, machines: Iterable[Machine], now: float) -> float:
    """Seconds until the first machine of the last seven days counts no more."""
    times = [machine.claim.time for machine in _of_week(place, machines, now)]
    return max(60.0, min(times) + WEEK_HOURS * HOUR_SECONDS - now)


def _of_week(place: Place, machines: Iterable[Machine], now: float) -> list[Machine]:
    since = now - WEEK_HOURS * HOUR_SECONDS
    return [one for one in machines if one.claim.platform == place.platform.name and one.claim.time > since]
