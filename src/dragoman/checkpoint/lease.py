"""The lease: who may append to the run's log.

Taking it raises the run's epoch by one record, and no clock decides anything. A machine
that was paused while another took the lease finds its next number taken, reads on, and
stops.
"""

from dragoman.checkpoint.log import RunLog
from dragoman.store.record import LeaseRecord


def take_lease(log: RunLog, host: str, *, run: str = "", epoch: int = 0) -> LeaseRecord:
    """Make this process the only one that may append to `log`.

    Args:
        log: The run's log, read before.
        host: This machine, as people know it.
        run: Name of the run for an empty log; a new one when not given.
        epoch: The epoch that another store, which gives out this run's epochs, has given;
            the next one of this log when not given.

    Raises:
        Superseded: Another machine took the lease in the same moment. Take it again only
            if that one is meant to lose it.
        StoreUnavailable: The store failed; the lease may be ours, and taking it again is safe.
    """
    known = log.lease
    log.refresh()
    if log.lease is not None and log.holds_lease:
        return log.lease  # an earlier attempt, whose answer was lost
    if log.lease != known:
        raise log.superseded()
    return log.append(LeaseRecord, epoch=epoch or log.epoch + 1, run=log.run or run or log.new_nonce(), host=host)
