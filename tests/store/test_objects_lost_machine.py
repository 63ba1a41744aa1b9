"""The machine is lost before every request of two sessions; the next machine finds everything and tidies up.

What a lost machine leaves is what is stored at that moment, unfinished uploads included. So
the sessions run once, and before each request that changes something, all that is stored
is copied to a place of its own; there the next machine begins.
"""

import itertools
import random
from dataclasses import dataclass
from pathlib import Path

import pytest

from dragoman.errors import DragomanError
from tests.store.objects_session import (
    check_promised,
    check_tidy,
    duplicate,
    open_store,
    save,
    start,
    two_sessions,
)
from tests.store.session import Ledger, survivor
from tests.support.s3 import server
from tests.support.s3_proxy import Fault, Proxy

PARTS = 2
"""The requests are dealt to this many tests, which may run side by side."""


@dataclass
class Left:
    """What a lost machine left."""

    folder: str
    """Where it is stored."""
    ledger: Ledger
    """What was written and promised until then."""
    before: str
    """The request that did not get through."""


def lose_before_every_request(tmp_path: Path, part: int) -> tuple[list[Left], int]:
    """What is left by machines lost before the requests of this part, and the number of requests of all parts."""
    left: list[Left] = []
    numbers = itertools.count()
    ledger = Ledger()

    def look() -> None:
        if proxy.requests[-1].startswith(("GET", "HEAD")):
            return  # the same as before the next one
        number = next(numbers)
        if number % PARTS == part:
            folder = f"{tmp_path}/{number}"
            duplicate(f"{tmp_path}/all", folder)
            left.append(Left(folder, survivor(ledger), proxy.requests[-1]))

    with Proxy(server().port) as proxy:
        proxy.add(Fault(act=look, times=None))
        two_sessions(open_store(f"{tmp_path}/all", proxy.port), tmp_path, ledger)
    check_tidy(f"{tmp_path}/all", check_promised(f"{tmp_path}/all", ledger), ledger)
    return left, next(numbers)


@pytest.mark.parametrize("part", range(PARTS))
def test_a_machine_lost_before_any_request_loses_no_recorded_checkpoint(tmp_path: Path, part: int) -> None:
    lost, num_requests = lose_before_every_request(tmp_path, part)
    assert num_requests > 30
    assert len(lost) >= num_requests // PARTS
    for one in lost:
        try:
            live_on(one, tmp_path)
        except Exception as error:
            raise AssertionError(f"before {one.before}") from error


def live_on(left: Left, tmp_path: Path) -> None:
    """Another machine restores the newest checkpoint, saves, and tidies up."""
    newest = check_promised(left.folder, left.ledger).newest
    log, restored = start(open_store(left.folder), left.ledger)
    assert restored == newest
    save(log, tmp_path, left.ledger, 3000)
    check_tidy(left.folder, log, left.ledger)


def test_a_second_loss_during_recovery_loses_nothing_either(tmp_path: Path) -> None:
    chance = random.Random(0)
    lost, _ = lose_before_every_request(tmp_path, part=0)
    with Proxy(server().port) as proxy:
        for one in chance.sample(lost, 4):
            proxy.restore()
            proxy.lose_machine(before=chance.randint(1, 30))
            with pytest.raises(DragomanError):
                save(start(open_store(one.folder, proxy.port), one.ledger)[0], tmp_path, one.ledger, 2500)
            assert proxy.lost
            live_on(one, tmp_path)
