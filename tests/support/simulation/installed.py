"""Puts the simulation in the place of the clock, the network and the processes of the product."""

import contextlib
import itertools
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any, cast
from unittest import mock

from dragoman import host
from dragoman.checkpoint import log, replicate, replicator, watchdog
from dragoman.store import folder_log, record
from dragoman.training import durable, replication
from tests.support.simulation.baton import Baton

if TYPE_CHECKING:
    from tests.support.simulation.machine import Machine

DRAIN_LOOK_SECONDS = 5.0
POLL_SECONDS = 5.0
NO_PROCESS = 2**30
"""A process id that no process has."""


class _Time:
    """The module `time`."""

    def __init__(self, baton: Baton) -> None:
        self.sleep = baton.sleep
        self.time = self.monotonic = lambda: baton.now


class _Processes:
    """The module `subprocess`: the only process that a trainer starts is the one that copies."""

    DEVNULL = None

    def __init__(self, machine: "Callable[[], Machine]") -> None:
        self._machine = machine

    def Popen(self, words: Sequence[str], **_: Any) -> "_Processes":  # noqa: N802  its name there
        owner = words[words.index("--owner") + 1] if "--owner" in words else ""
        self._machine().copy(owner, follows="--beside-trainer" in words)
        return self

    def poll(self) -> None:
        return None


class _Names:
    """The module `secrets`: the same names at every repetition."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def token_hex(self, num_bytes: int) -> str:
        # Spread like random ones: the first six digits are what folder names show.
        return f"{next(self._numbers) * 2654435761 % 2**32:08x}{'0' * (2 * num_bytes - 8)}"


@contextlib.contextmanager
def installed(machine: "Callable[[], Machine]", baton: Baton) -> Generator[None]:
    """For a `with` block: `machine` tells whose process asks, and `baton` has the clock."""
    time, body, parse = _Time(baton), record.CheckpointRecord._body, folder_log.parse
    bodies: dict[int, tuple[Any, bytes]] = {}
    parsed: dict[bytes, record.Record] = {}

    # Records never change: each is written as JSON once, and read once. That is half of the time.
    def remembered_body(self: Any) -> bytes:
        if id(self) not in bodies:
            bodies[id(self)] = (self, body(self))
        return bodies[id(self)][1]

    def remembered_parse(data: bytes, name: str) -> record.Record:
        if data not in parsed:
            parsed[data] = parse(data, name)
        return parsed[data]

    with contextlib.ExitStack() as stack:
        for place, name, new in (
            (host, "name", lambda: machine().name),
            (durable, "open_store", lambda url, access: machine().store()),
            (replicate, "time", time),
            (replicator, "time", time),
            (replication, "time", time),
            (replication, "subprocess", _Processes(machine)),
            (replication, "DRAIN_LOOK_SECONDS", DRAIN_LOOK_SECONDS),
            (watchdog, "holder", lambda folder: NO_PROCESS if machine().copier else None),
            (log, "secrets", _Names()),
            (replicator, "POLL_SECONDS", POLL_SECONDS),
            (folder_log, "parse", remembered_parse),
            (cast("Any", record)._Line, "_body", remembered_body),
        ):
            stack.enter_context(mock.patch.object(place, name, new))
        stack.enter_context(mock.patch.dict(log.RunLog.__init__.__kwdefaults__, now=time.time))
        yield
