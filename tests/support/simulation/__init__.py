"""Two and three machines on one run, with a virtual clock: the real protocol under everything that can befall it.

    run(seed, an_empty_folder, counts)      # raises Violation when a promise is broken

Everything follows from the seed. See `schedule.py` for what a schedule is, `events.py` and `faults.py` for what
befalls the machines, `referee.py` for the promises.
"""

from collections import Counter
from pathlib import Path

from tests.support.simulation.referee import Violation
from tests.support.simulation.schedule import Schedule

__all__ = ["Schedule", "Violation", "run"]


def run(seed: int, folder: Path, counts: Counter[str]) -> None:
    """Play one schedule: even seeds over a store like the Hub, odd ones over one like S3.

    Raises:
        Violation: A promise was broken.
    """
    Schedule(seed, folder, counts, atomic=seed % 2 == 0).run()
