"""What strikes, and what it was seen to do to the recipe before.

Most faults strike as soon as the repository holds one whole save, so that there is
something to fall back to, and something to tear.
"""

import re
from collections.abc import Callable

from bench.faults_play import Outcome, after_first_save
from bench.faults_sides import REPO, TOKEN
from tests.support.hub import Fault, HubStandIn

UPLOADS = ("upload", "part", "xet_xorb", "xet_shard")
"""Requests that carry the bytes of large files, by LFS and by Xet."""
SAVE_BYTES = 11_760_000
"""Weights and optimizer of one save, of either side."""

Strike = Callable[[HubStandIn, str], object]
"""Prepares a fault on a stand-in; told of the side's name."""


# --- what strikes --------------------------------------------------------------------


def nothing(hub: HubStandIn, side: str) -> None:
    """No fault."""


def from_then_on(**fault: object) -> Strike:
    """A fault that begins once the first save is there."""
    return lambda hub, side: after_first_save(hub, lambda: hub.faults.add(Fault(**fault)))  # type: ignore[arg-type]


def one_500(hub: HubStandIn, side: str) -> None:
    """The recipe's second commit of the second save is refused; of dragoman's saves each is one commit."""
    skip = 1 if side == "recipe" else 0
    after_first_save(hub, lambda: hub.faults.add(Fault("commit", status=500, skip=skip)))


def revoke_after_next_commit(hub: HubStandIn, side: str) -> None:
    """The next commit lands; then the token is not valid any more."""
    revoking = Fault("commit", after_effect=True, act=lambda: hub.revoke(TOKEN))
    after_first_save(hub, lambda: hub.faults.add(revoking))


def storage_full(hub: HubStandIn, side: str) -> None:
    """From the first save on not one byte more fits."""

    def strike() -> None:
        hub.private_quota_bytes = hub.held_bytes(REPO)

    after_first_save(hub, strike)


def four_saves_fit(hub: HubStandIn, side: str) -> None:
    """The quota of a person with space for four saves."""
    hub.private_quota_bytes = 4 * SAVE_BYTES + 100_000


def seven_commits_an_hour(hub: HubStandIn, side: str) -> None:
    """More than so many are answered with 429, without Retry-After, as on the Hub."""
    hub.commits_per_hour = 7


def slow_commits(hub: HubStandIn, side: str) -> None:
    """Every commit takes 2.5 s, a save comes every 1.7 s."""
    hub.faults.add(Fault("commit", times=None, delay_seconds=2.5))


def slow_uplink(hub: HubStandIn, side: str) -> None:
    """The upload of a save takes longer than the way to the next one."""
    hub.faults.add(Fault(UPLOADS, times=None, upload_bytes_per_second=3e6))


# --- what was seen before ---------------------------------------------------------------


def num_lost(o: Outcome) -> int:
    """Saves that were never whole in the repository."""
    return len(o.made) - len(o.durable)


def root_ahead(o: Outcome) -> bool:
    """Whether weights of a step came to the root whose checkpoint never came."""
    roots = {step for words in o.torn for step in re.findall(r"root (\d+)", words)}
    return bool(roots - set(o.durable))


def resumed_without_complaint(o: Outcome) -> bool:
    """Whether it went on from the damaged checkpoint and said nothing."""
    return bool(o.resumed and o.resumed.step == o.end_step and o.resumed.exit_code == 0 and not o.said)
