"""What is to run where, and the two halves of starting it: a plan that is pure, and a client that hands it over.

A renderer makes a `Plan` of a `Job`: all files, commands and manual steps, without a
network, so that they can be looked at and compared with golden files. A client talks
to one platform; it decides nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from dragoman.config import RunConfig
from dragoman.platforms import Offer, Platform

State = Literal["waiting", "running", "ended", "unknown"]
"""What a platform says of a machine: not up yet, up, gone or stopped, or no answer."""


@dataclass(frozen=True)
class Job:
    """One run, to be trained on one platform. Its configuration names a durable store."""

    name: str
    """Lower-case letters, digits and dashes; what the machine is called on the platform."""
    config: RunConfig
    platform: Platform
    offer: Offer
    num_nodes: int = 1
    spot: bool = False
    """Take a cheaper machine that may be taken away."""
    max_hours: float = 24.0
    """Hours after which the platform itself must end the machine, whatever the run does."""
    attempts: int = 1
    """How often the platform may start it, where it counts; each may last as long as `max_hours`."""
    carries: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    """What travels with the run file, by its path on the machine: this package as a wheel, and data files of this
    machine below `files/`, where the run's working folder is."""
    requires: tuple[str, ...] = ("dragoman",)
    """What `pip install` is given on the machine, as one word each; the package itself is the first, by the path of its
    wheel where it is carried, with the extras that the run needs."""
    max_usd: float | None = None
    """Most that the user will pay, where that was said."""
    bundle: str | None = None
    """Private data set on the Hub through which machines without an upload of their own get what they need, as
    USER/NAME; None: one of the owner of the store."""

    @property
    def store(self) -> str:
        """URL of the durable store."""
        assert self.config.store.url is not None
        return self.config.store.url

    @property
    def most_usd(self) -> float:
        """Cost if every node runs to its limit in every attempt; 0 where it is free or comes with a subscription."""
        return (self.offer.usd_per_hour or 0.0) * self.num_nodes * self.max_hours * self.attempts


@dataclass(frozen=True)
class Plan:
    """All that will be handed to a platform; nothing in it is secret."""

    files: Mapping[str, bytes]
    """What is uploaded, or what a person uploads, by path."""
    command: tuple[str, ...] = ()
    """What runs on the machine, where no file says it."""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    """Plain variables of the machine."""
    secrets: tuple[str, ...] = ("HF_TOKEN",)
    """Names of the variables that the platform keeps secret and gives to the machine."""
    steps: tuple[str, ...] = ()
    """What a person does by hand, in order, one sentence each."""


@dataclass(frozen=True)
class Handle:
    """One machine that was started, as it can be found again from anywhere."""

    platform: str
    id: str
    """The platform's own name of it."""
    url: str = ""
    """A page where a person can watch it."""


class Client(Protocol):
    """Talks to one platform in the name of one account."""

    def check(self, job: Job, plan: Plan) -> None:
        """Look whether the job can start, before anything is made or spent.

        Raises:
            InputError: No token, too few rights, a taken name, or a machine that is not there.
            StoreUnavailable: The platform does not answer.
        """
        ...

    def submit(self, job: Job, plan: Plan) -> Handle:
        """Start the machine, with the limit that ends it set at its creation.

        Raises:
            InputError: The platform refused it; nothing is left running.
            StoreUnavailable: The platform does not answer; the message says whether something may be running.
        """
        ...

    def state(self, handle: Handle) -> State:
        """What the platform says of the machine."""
        ...

    def release(self, handle: Handle) -> None:
        """Stop paying: end, pause, delete or unassign it. Doing so twice does no harm."""
        ...
