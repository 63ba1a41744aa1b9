"""Keep a run going on machines that vanish: look at its store, and start the next machine when none works.

One look does one thing and remembers nothing: what was started stands in the ledger in
the run's own store. So it may run from cron, in CI or on a free machine, twice at once,
and may itself vanish at any point.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from dragoman.checkpoint.log import RunLog
from dragoman.errors import InputError
from dragoman.launch.choosing import Decision, Place, Policy, Seen, Start, Wait, decide
from dragoman.launch.clients import Connect
from dragoman.launch.hiring import Terms, hire, release
from dragoman.launch.job import Handle
from dragoman.launch.ledger import Ledger, Machine, at_work

SOON_SECONDS = 60.0
"""When to look again where something has just changed."""


@dataclass(frozen=True)
class Begin:
    """How a machine is started and found again."""

    start: Callable[[Place, float], Handle]
    """Starts a machine in a place, with a limit in hours; as `Client.submit`."""
    client: Connect


@dataclass(frozen=True)
class Look:
    """What one look found and did."""

    decision: Decision
    machines: list[Machine]
    """Every machine of the run, the newest last."""
    did: tuple[str, ...] = ()
    """What was done, one sentence each."""

    @property
    def seconds(self) -> float:
        """When to look again."""
        return self.decision.seconds if isinstance(self.decision, Wait) else SOON_SECONDS


def seen(log: RunLog) -> Seen:
    """What a store says of its run.

    Raises:
        StoreUnavailable: It does not answer.
    """
    log.refresh()
    finished, newest = log.finished, log.newest
    return Seen(
        step=newest.step if newest else 0,
        epoch=log.epoch,
        idle_seconds=log.store.idle_seconds() if log.records else math.inf,
        outcome=finished.outcome if finished else "",
    )


def look(log: RunLog, ledger: Ledger, policy: Policy, begin: Begin, clock: Callable[[], float]) -> Look:
    """Look once, release what is not needed any more, and start a machine if one is needed.

    Raises:
        StoreUnavailable: The store does not answer; nothing was started that is not written down there.
    """
    run = seen(log)
    ledger.refresh()
    did: list[str] = []
    decision = decide(run, ledger.machines, policy, clock())
    if not isinstance(decision, Wait):
        for machine in at_work(ledger.machines):
            release(machine, ledger, clock, begin.client)
            did.append(f"released the machine at {machine.claim.platform}")
        decision = decide(run, ledger.machines, policy, clock())
    if isinstance(decision, Start):
        did.append(_start(decision, run, ledger, begin, clock))
    return Look(decision, ledger.machines, tuple(did))


def _start(decision: Start, run: Seen, ledger: Ledger, begin: Begin, clock: Callable[[], float]) -> str:
    platform, offer = decision.place.platform, decision.place.offer
    terms = Terms(platform, offer, offer.usd_per_hour or 0.0, decision.max_hours, run.epoch, run.step)
    try:
        handle = hire(ledger, terms, lambda: begin.start(decision.place, decision.max_hours), clock)
    except InputError as error:
        return f"{platform.title} refused: {error.message}"
    if handle is None:
        return "another supervisor was faster"
    return f"started {offer.flavor} at {platform.title}" + (f": {handle.url}" if handle.url else "")
