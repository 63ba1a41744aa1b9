"""The machines that were started for a run: small files in its store, each made once and never changed.

Whoever starts machines keeps nothing of their own, so any supervisor, on any machine, can
go on where another stopped. To start a machine, its number is claimed first; only one
can claim it, so of two supervisors that look at the same run one starts a machine.
"""

import json
import secrets
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from dragoman.errors import Damaged
from dragoman.launch.job import Handle
from dragoman.store.base import Store

LAUNCHES = "dragoman/launches"
"""Where the entries are, relative to the store."""
HOUR_SECONDS = 3600.0


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    seq: int = Field(ge=1)
    """Place in the ledger; the first is 1 and no number is left out."""
    nonce: str
    """This entry alone."""
    time: float
    """When it was written, in seconds since 1970 (UTC), by the clock of whoever wrote it."""


class Claimed(_Line):
    """Whoever wrote this will start a machine now, and nobody else may."""

    kind: Literal["claimed"] = "claimed"
    platform: str
    flavor: str
    """The platform's own name of the machine."""
    gpu: str
    usd_per_hour: float
    """Price of all its nodes; 0 where it is free or comes with a subscription."""
    max_hours: float
    """After so many hours the platform ends it, whatever the run does."""
    epoch: int
    """Epoch of the run's lease at that time; the machine is at work when it is higher."""
    step: int
    """The newest step in the store at that time."""


class Started(_Line):
    """The platform has the machine."""

    kind: Literal["started"] = "started"
    claim: str
    """Nonce of the claim."""
    client: str
    """Whose client finds it: the platform's own, or `sky`."""
    id: str
    """That client's name of it."""
    url: str
    """A page where a person can watch it."""


class Ended(_Line):
    """The machine costs nothing any more: it was released, or never started."""

    kind: Literal["ended"] = "ended"
    claim: str
    """Nonce of the claim."""
    reason: str
    """Why."""
    was_refused: bool = False
    """Whether the platform did not take it."""


Entry = Claimed | Started | Ended
E = TypeVar("E", Claimed, Started, Ended)

_ENTRY: TypeAdapter[Entry] = TypeAdapter(Annotated[Entry, Field(discriminator="kind")])


@dataclass(frozen=True)
class Machine:
    """One machine, as the ledger tells of it."""

    claim: Claimed
    started: Started | None = None
    ended: Ended | None = None

    @property
    def handle(self) -> Handle | None:
        """To find it on its platform; None when nobody wrote down that it was started."""
        return Handle(self.started.client, self.started.id, self.started.url) if self.started else None

    def hours(self, now: float) -> float:
        """Hours that it was paid for, at most: until it was released, else until now or its limit."""
        if self.ended and self.ended.was_refused:
            return 0.0
        until = self.ended.time if self.ended else now
        return min(max(0.0, until - self.claim.time) / HOUR_SECONDS, self.claim.max_hours)

    def usd(self, now: float) -> float:
        """What it has cost, at most."""
        return self.hours(now) * self.claim.usd_per_hour


class Ledger:
    """The ledger in a store; reads it when it is made.

    Args:
        store: Of the run.

    Raises:
        Damaged: An entry cannot be read; names it.
        StoreUnavailable: The store failed.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.entries: list[Entry] = []
        self.refresh()

    @property
    def machines(self) -> list[Machine]:
        """All machines, in the order in which they were claimed."""
        started = {entry.claim: entry for entry in self.entries if isinstance(entry, Started)}
        ended = {entry.claim: entry for entry in self.entries if isinstance(entry, Ended)}
        claims = [entry for entry in self.entries if isinstance(entry, Claimed)]
        return [Machine(claim, started.get(claim.nonce), ended.get(claim.nonce)) for claim in claims]

    def refresh(self) -> None:
        """Read what others wrote since."""
        names = sorted(self._store.kept(LAUNCHES))[len(self.entries) :]
        if not names:
            return
        with tempfile.TemporaryDirectory() as temporary:
            self._store.bring(names, Path(temporary))
            self.entries += [parse((Path(temporary) / name).read_bytes(), name) for name in names]

    def claim(self, entry: Claimed) -> Machine | None:
        """Claim the next machine; None when somebody else wrote to the ledger since it was read.

        Args:
            entry: Its `seq` is the next number of this ledger (`next_seq`).
        """
        return Machine(entry) if self._write(entry) else None

    def add(self, kind: type[E], time: float, **fields: object) -> E:
        """Append what became of a machine, behind whatever others wrote."""
        while True:
            entry = kind.model_validate({"seq": self.next_seq, "nonce": new_nonce(), "time": time, **fields})
            if self._write(entry):
                return entry

    @property
    def next_seq(self) -> int:
        """The number that is free, as far as is known here."""
        return len(self.entries) + 1

    def _write(self, entry: Entry) -> bool:
        data = _bytes(entry)
        is_ours = self._store.claim(_name(entry.seq), data) == data
        self.refresh()
        return is_ours


def parse(data: bytes, name: str) -> Entry:
    """The entry in a file of the ledger.

    Raises:
        Damaged: There is none.
    """
    try:
        return _ENTRY.validate_python(json.loads(data))
    except (ValueError, ValidationError) as error:
        raise Damaged(f"{name}: not an entry of a ledger of machines", "remove the file by hand") from error


def new_nonce() -> str:
    """Sixteen hexadecimal digits that nobody else has."""
    return secrets.token_hex(8)


def at_work(machines: Sequence[Machine]) -> list[Machine]:
    """Those that may cost something now."""
    return [machine for machine in machines if not machine.ended]


def _name(seq: int) -> str:
    return f"{LAUNCHES}/{seq:06d}.json"


def _bytes(entry: Entry) -> bytes:
    return json.dumps(entry.model_dump(), sort_keys=True).encode() + b"\n"
