"""What goes wrong: a list of faults, each for some requests of some routes.

    hub.faults.add(Fault("commit", status=500))                           the next commit is refused
    hub.faults.add(Fault("commit", status=500, after_effect=True))        it lands, the answer says it did not
    hub.faults.add(Fault("commit", drop=True, after_effect=True))         it lands, the answer is lost
    hub.faults.add(Fault("upload", skip=2, times=None, status=503))       from the third upload on
    hub.faults.add(Fault("upload", cut_upload_at=1000))                   the server hangs up after 1000 bytes
    hub.faults.add(Fault("download", flip_byte=-1))                       a wrong last byte is served
    hold = hub.faults.add(Fault("commit", hold=True))                     stops before the commit lands
    hold.held.wait(10); ...; hold.release()  or  hold.drop_held()

Every fault that matches a request acts on it, in the order in which they were added.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.hub.messages import Answer, Refused, Request
from tests.support.hub.routes import ROUTES, WRITES

GROUPS = {"any": ROUTES, "write": WRITES}


class ConnectionCut(Exception):
    """Close the connection without an answer."""


@dataclass(kw_only=True)
class Fault:
    """One fault. Which requests it meets, then what happens to them; by default nothing does."""

    route: str | tuple[str, ...] = field(default="any", kw_only=False)
    """Name of a route (see `routes.py`), several of them, or `any` or `write`."""
    method: str = ""
    """Only requests with this method, such as `HEAD`."""
    path: str = ""
    """Only requests whose path contains this."""
    skip: int = 0
    """So many matching requests pass first."""
    times: int | None = 1
    """So many are met then; None for all until the fault is cleared."""

    status: int | None = None
    """Answer with this status."""
    headers: dict[str, str] = field(default_factory=dict)
    """Headers of that answer."""
    error_code: str = ""
    """`X-Error-Code` of that answer."""
    error_message: str = "Injected by a test"
    """`X-Error-Message` and body of that answer."""
    drop: bool = False
    """Close the connection instead of answering."""
    hold: bool = False
    """Stop here until `release` or `drop_held`."""
    held_file: str = ""
    """A file that is made when a request is held, for other processes to see."""
    act: Callable[[], object] | None = None
    """Do this first, such as an edit by somebody else at just this moment."""
    delay_seconds: float = 0.0
    """Wait so long."""
    after_effect: bool = False
    """`status`, `drop`, `hold`, `act` and `delay_seconds` come when the work is done, not before it."""

    cut_upload_at: int | None = None
    """Read so many bytes of the body, then hang up."""
    upload_bytes_per_second: float | None = None
    """Read the body no faster than this."""
    cut_download_at: int | None = None
    """Send so many bytes of the body, then hang up."""
    flip_byte: int | None = None
    """Serve a body in which this byte (counted from the end when negative) has a wrong bit."""
    truncate_to: int | None = None
    """Serve only so many bytes of the body, as if that were all."""
    stale_commits: int = 0
    """Show every branch as it was so many commits ago."""
    lose_machine: bool = False
    """This request and every later one from anybody gets no answer and has no effect, until `restore`."""

    held: threading.Event = field(default_factory=threading.Event)
    """Set while or after a request is stopped here."""
    num_matched: int = 0
    """Matching requests seen, those that were let pass included."""
    number: int = 0
    """Names the fault for the control endpoint."""

    def __post_init__(self) -> None:
        names = (self.route,) if isinstance(self.route, str) else self.route
        unknown = set(names) - ROUTES - GROUPS.keys()
        if unknown:
            raise ValueError(f"no such route: {sorted(unknown)}; there are {sorted(ROUTES)}, any, write")
        self._routes = frozenset().union(*(GROUPS.get(name, {name}) for name in names))
        self._decided = threading.Event()
        self._goes_on = True

    def release(self) -> None:
        """Let what is held go on, and hold nothing more."""
        self._decided.set()

    def drop_held(self) -> None:
        """Close what is held without an answer; what was stopped before its effect has none."""
        self._goes_on = False
        self._decided.set()

    def meets(self, request: Request) -> bool:
        """Whether this fault acts on a request; counts it."""
        if request.route not in self._routes or self.path not in request.path:
            return False
        if self.method and self.method != request.method:
            return False
        self.num_matched += 1
        met = self.num_matched - self.skip
        return met > 0 and (self.times is None or met <= self.times)

    def strike(self) -> Answer | None:
        """Do to a request what is to be done at this point; an answer if it gets none other.

        Raises:
            ConnectionCut: The connection is to be closed.
        """
        if self.act:
            self.act()
        if self.delay_seconds:
            time.sleep(self.delay_seconds)
        if self.hold:
            self._stop()
        if self.drop:
            raise ConnectionCut
        if self.status is None:
            return None
        return Answer.refusal(Refused(self.status, self.error_message, self.error_code, self.headers))

    def _stop(self) -> None:
        self.held.set()
        if self.held_file:
            Path(self.held_file).touch()
        self._decided.wait()
        if not self._goes_on:
            raise ConnectionCut

    def spoil(self, answer: Answer) -> None:
        """Change the body that is served."""
        if self.flip_byte is not None and answer.body:
            body = bytearray(answer.body)
            body[self.flip_byte % len(body)] ^= 1
            answer.body = bytes(body)
        if self.truncate_to is not None:
            answer.body = answer.body[: self.truncate_to]


class Faults:
    """The faults of one server."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._num_added = 0
        self.machine_lost = False
        """No client gets through."""

    def add(self, fault: Fault) -> Fault:
        """Add a fault; it meets requests from now on."""
        with self._lock:
            self._num_added += 1
            fault.number = self._num_added
            self._faults.append(fault)
        return fault

    def find(self, number: int) -> Fault:
        """The fault of that number."""
        return next(fault for fault in self._faults if fault.number == number)

    def clear(self) -> None:
        """Remove all faults; what they hold goes on."""
        with self._lock:
            faults, self._faults = self._faults, []
        for fault in faults:
            fault.release()

    def drop_all_held(self) -> None:
        """Close every request that is held."""
        for fault in self._faults:
            fault.drop_held()

    def lose_machine(self, before: int, route: str | tuple[str, ...] = "any") -> Fault:
        """Let no client through from the `before`-th (1 is the next) of such requests on, until `restore`."""
        return self.add(Fault(route, skip=before - 1, lose_machine=True))

    def restore(self) -> None:
        """Let clients through again."""
        with self._lock:
            self._faults = [fault for fault in self._faults if not fault.lose_machine]
            self.machine_lost = False

    def arrive(self, request: Request) -> list[Fault]:
        """The faults that meet a request.

        Raises:
            ConnectionCut: The machine of the client is lost.
        """
        with self._lock:
            if self.machine_lost:
                raise ConnectionCut
            met = [fault for fault in self._faults if fault.meets(request)]
            self.machine_lost = any(fault.lose_machine for fault in met)
            if self.machine_lost:
                raise ConnectionCut
        return met
