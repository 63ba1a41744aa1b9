"""Notices within a bounded time that a rank is gone, whatever the main thread waits for.

Every rank writes a number into a small server of the first one, every other second, in a
thread. The first rank looks at all numbers, the others at its own. A rank that is silent
for too long is gone: killed, stopped, or cut off by the network, which no connection may
ever tell. Then the process leaves. What is recorded is safe; the rest was one interval.
"""

import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from dragoman import host
from dragoman.errors import InputError
from dragoman.host import cluster
from dragoman.host.cluster import Rank

BEAT_SECONDS = 2.0
SILENT_SECONDS = 30.0
"""A rank that shows no sign of life for this long is gone."""
TOLD_SECONDS = 10.0
"""How long a rank that cannot go on waits for the first one to hear of it, and to leave."""
MAY_TAKE = timedelta(seconds=SILENT_SECONDS)
TROUBLE, DISMISSED = "trouble", "dismissed with "


@dataclass
class Watch:
    """The signs of life of a session's ranks."""

    place: Rank
    leave: Callable[[str], None]
    """Called with what happened, from a thread; does not return."""
    clock: Callable[[], float] = time.monotonic
    trouble: str = ""
    """Why this rank cannot go on; told to the first one."""
    dismissal: str = ""
    """The exit code with which the first rank lets the others go, whatever they do."""
    _heard: float = field(init=False)
    _done: threading.Event = field(default_factory=threading.Event)
    _over: threading.Event = field(default_factory=threading.Event)
    """The server is gone, or nobody needs it any more."""
    _silent: str = ""
    _server: Any = None
    """The first rank's; another rank may still be on its way to it when this one has no more to say."""
    _starter: int = field(default_factory=cluster.starter_id)

    @staticmethod
    def begun(place: Rank, meeting: Any, leave: Callable[[str], None]) -> "Watch":
        """Start to write and to look.

        Args:
            place: Which rank this is.
            meeting: The store in which the ranks have met.
            leave: Called when one is gone.
        """
        watch = Watch(place, leave)
        watch._heard = watch.clock()
        store: Any = None
        if place.number == 0:
            # A server of its own: a thread that waits in one of torch's stores locks out all others.
            store = watch._server = server(0, MAY_TAKE)
            meeting.set("watch", str(store.port))
        store = store or client(int(meeting.get("watch")), MAY_TAKE)
        for target in (watch._beat, watch._judge):
            threading.Thread(target=target, args=(store,), name="watch", daemon=True).start()
        return watch

    def tell(self, trouble: str) -> None:
        """Let the first rank know why this one leaves; waits until it has left for that.

        Were this one to leave sooner, the first would see no more than a broken connection.
        """
        self.trouble = trouble
        self._over.wait(TOLD_SECONDS)

    def dismiss(self, code: int) -> None:
        """Let all other ranks leave with this exit code, whatever they wait for; returns when they can know."""
        self.dismissal = str(code)
        self._over.wait(2 * BEAT_SECONDS)

    def end(self) -> None:
        """All went well: nobody is missed from now on."""
        self._done.set()

    def _beat(self, store: Any) -> None:
        """Write this rank's number, read those of others; the only thread that talks to the server."""
        seen: dict[int, tuple[str, float]] = {}
        number = 0
        with suppress(RuntimeError):  # the server is gone: the judge notices the silence
            while not self._done.wait(BEAT_SECONDS if number else 0):
                number += 1
                store.set(f"alive/{self.place.number}", str(number))
                if self.trouble:
                    store.set(TROUBLE, self.trouble)
                if self.dismissal:
                    store.set(DISMISSED, self.dismissal)
                self._silent = self._read(store, seen)
                self._heard = self.clock()
        self._over.set()

    def _read(self, store: Any, seen: dict[int, tuple[str, float]]) -> str:
        """What the server tells that ends this session; empty when all is well."""
        others = range(1, self.place.count) if self.place.number == 0 else (0,)
        for rank in others:
            key, now = f"alive/{rank}", self.clock()
            value = store.get(key).decode() if store.check([key]) else ""
            if value != seen.get(rank, (None, 0.0))[0]:
                seen[rank] = (value, now)
            elif now - seen[rank][1] > SILENT_SECONDS:
                return f"rank {rank} has shown no sign of life for {SILENT_SECONDS:.0f} s"
        if self.place.number == 0 and store.check([TROUBLE]):
            return store.get(TROUBLE).decode()
        if self.place.number and store.check([DISMISSED]):
            return DISMISSED + store.get(DISMISSED).decode()
        return ""

    def _judge(self, store: Any) -> None:
        """Leave when a rank is silent, when nothing is heard at all, or when whoever started this process is gone."""
        while not self._done.wait(BEAT_SECONDS / 2):
            if self._silent:
                self.leave(self._silent)
            if self.clock() - self._heard > SILENT_SECONDS:
                self.leave("the first rank cannot be reached")
            if host.parent_id() != self._starter:
                self.leave("the process that started this rank is gone")


def server(port: int, timeout: timedelta) -> Any:
    """A store of this process for all ranks, which listens on the address that they know and on no other.

    Args:
        port: 0 for any that is free.
        timeout: Of every question.

    Raises:
        InputError: This machine does not have that address, or the port is taken.
    """
    address = _address()
    try:
        with socket.create_server((address, port), backlog=2048) as listening:
            port = listening.getsockname()[1]
            file = os.dup(listening.fileno())
    except OSError as error:
        message = f"--main-address {address}:{port}: this machine cannot listen there ({os.strerror(error.errno or 0)})"
        raise InputError(message, "an address of machine 0 itself, and a port that is free") from None
    return dist.TCPStore(address, port, is_master=True, timeout=timeout, wait_for_workers=False, master_listen_fd=file)


def client(port: int, timeout: timedelta) -> Any:
    """The same, for the other ranks."""
    return dist.TCPStore(_address(), port, timeout=timeout, wait_for_workers=False)


def _address() -> str:
    return host.variable("MASTER_ADDR") or "127.0.0.1"
