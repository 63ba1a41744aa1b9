"""Two and three machines on one run, with a virtual clock: the real protocol under all that can befall it.

    play(seed, an_empty_folder, counts)

Everything follows from the seed. `schedule.py` says what a schedule is, `events.py` and `faults.py` what befalls the
machines, `referee.py` and `hope.py` which promises are checked. Real are `checkpoint/`, `store/local.py`, and of
`training/` what has no torch (`durable.py`, `replication.py`). Simulated are the durable store (`repository.py` is
like the Hub, `bucket.py` like S3), the clock and the processes (`baton.py`), and training itself (`training.py`).
"""

from collections import Counter
from pathlib import Path

from tests.support.simulation.schedule import Schedule


def play(seed: int, folder: Path, counts: Counter[str], story: list[str] | None = None) -> None:
    """Play one schedule: even seeds over a store like the Hub, odd ones over one like S3.

    Args:
        seed: Draws everything.
        folder: Where the machines' disks are; in memory, if that is to be fast.
        counts: Counts what happened.
        story: Gets a line for everything that happens.

    Raises:
        AssertionError: A promise was broken, or something fell over.
    """
    schedule = Schedule(seed, folder, counts, atomic=seed % 2 == 0)
    schedule.baton.story = story
    try:
        schedule.run()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # those of the simulation are no Exceptions, so that the product cannot catch them
        raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
