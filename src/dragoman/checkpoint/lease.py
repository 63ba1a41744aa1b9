"""The lease: who may append to the run's log.

Taking it raises the run's epoch by one record, and no clock decides anything. A machine
that was paused while another took the lease finds its next number taken, reads on, and
stops. Waiting for another machine to fall silent is a courtesy: safety never rests on it.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dragoman.checkpoint.log import RunLog
from dragoman.errors import InputError, Superseded
from dragoman.store.disk import Disk
from dragoman.store.record import LeaseRecord

NAMES = "dragoman/replica.json"
_KNOWN_OWNERS = 50


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


@dataclass(frozen=True)
class Patience:
    """How long a machine waits for another one's silence, and what it does meanwhile."""

    lease_seconds: float
    """Silence after which the other one is taken for dead."""
    wait: Callable[[LeaseRecord, float], None]
    """Told of the lease and the seconds that are left; returns after some of them."""


class OwnNames:
    """The names under which this folder, on this machine, ever took the lease of its durable store.

    A lease under one of them is our own earlier life: nobody has to wait for it. They are
    written down before they are used. A folder that was copied to another machine does
    not take them along, for the machine's name stands beside them.
    """

    def __init__(self, folder: Path, host: str, disk: Disk | None = None) -> None:
        self._path = folder / NAMES
        self._host = host
        self._disk = disk or Disk()

    def known(self) -> list[str]:
        """All of them, the last one used last."""
        try:
            content = json.loads(self._path.read_text("utf-8"))
            return list(content["owners"]) if content["host"] == self._host else []
        except (OSError, ValueError, LookupError, TypeError):
            return []

    def add(self, owner: str) -> None:
        """Write one down, durably."""
        owners = [name for name in self.known() if name != owner]
        content = {"host": self._host, "owners": [*owners[-_KNOWN_OWNERS:], owner]}
        self._disk.make_folders(self._path.parent)
        self._disk.replace(self._path, json.dumps(content).encode())


def claim(
    log: RunLog, names: OwnNames, host: str, *, run: str = "", epoch: int = 0, patience: Patience | None = None
) -> LeaseRecord:
    """Take the lease of a durable store for a run folder on this machine.

    Args:
        log: The store's log.
        names: Under which this folder took it before.
        host: This machine, as people know it.
        run: Name of the run in the folder; empty when it holds none.
        epoch: Epoch of the folder's own log; the new one is higher.
        patience: Waits until whoever holds it is silent; None takes it at once.

    Raises:
        InputError: The store holds another run than the folder.
        Superseded: Another machine took it in the same moment.
        StoreUnavailable: The store failed.
    """
    log.refresh()
    check_same_run(log, run)
    await_silence(log, names, patience)
    names.add(log.owner)
    try:
        return take_lease(log, host, run=run, epoch=max(log.epoch, epoch) + 1)
    except Superseded:
        if patience is None or log.holds_lease:
            raise
        return claim(log, names, host, run=run, epoch=epoch, patience=patience)


def await_silence(log: RunLog, names: OwnNames, patience: Patience | None) -> None:
    """Wait as long as another machine shows that it works on the run; not at all without patience.

    Raises:
        StoreUnavailable: The store failed.
    """
    while patience and log.lease and not log.finished and log.lease.owner not in names.known():
        left = patience.lease_seconds - log.store.idle_seconds()
        if left <= 0:
            break
        patience.wait(log.lease, left)
        log.refresh()


def check_same_run(log: RunLog, run: str) -> None:
    """Refuse a store that holds another run than the folder.

    Raises:
        InputError: It does.
    """
    if run and log.run and run != log.run:
        raise InputError(
            f"{log.store}: holds another run ({log.run}) than this folder ({run})",
            "another --store for this folder, or another --output to continue the run in the store",
        )
