"""Where people train: what each platform does to a run, and what it costs.

One dated file, `facts.yaml`, holds what vendors say; nothing here asks a network, and
nothing else in the code knows a price. Prices that `dragoman estimate --refresh` was told
lie in a file of the user's cache, and outdo those of the package.
"""

import difflib
import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

from dragoman import host
from dragoman.errors import InputError

NETWORK = "network"
"""The link between machines of which nothing better is known."""


class _Fact(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Link(_Fact):
    """What GPUs of one machine, or machines, exchange tensors through."""

    title: str
    gb_per_second: float
    """In one direction, as its makers give it."""
    gpus: tuple[str, ...] = ()
    """Whose usual link it is inside of a machine."""
    sources: tuple[str, ...]
    """Pages in which this was read."""


class Offer(_Fact):
    """One machine that a platform gives or lets."""

    flavor: str
    """The platform's own name of it."""
    gpu: str
    """Its GPU, as `dragoman.gpus` names it."""
    num_gpus: int = 1
    usd_per_hour: float | None = None
    """Price of the whole machine; None when it comes with a subscription."""
    usd_per_month: float | None = None
    """Price of the subscription that it comes with."""
    session_hours: float | None = None
    """Longest session, where it differs from the platform's."""
    cores: int | None = None
    ram_gb: float | None = None
    """Memory of the host, in gigabytes."""
    link: str | None = None
    """Between its GPUs, where it is another than their usual one."""

    def times(self, count: int) -> "Offer":
        """The same with so many of its GPUs, each at the same price."""
        factor = count / self.num_gpus
        usd = self.usd_per_hour and self.usd_per_hour * factor
        more = {"cores": self.cores and int(self.cores * factor), "ram_gb": self.ram_gb and self.ram_gb * factor}
        return self.model_copy(update={"num_gpus": count, "usd_per_hour": usd, **more})


class Platform(_Fact):
    """What one platform does to a run."""

    name: str
    """As `dragoman launch` takes it."""
    title: str
    session_hours: float | None
    """Hours after which it ends a session; None: never."""
    default_hours: float | None = None
    """Hours after which it ends a session that did not ask for another limit."""
    weekly_hours: float | None = None
    """Hours of GPU that it gives in a week."""
    idle_minutes: float | None = None
    """Minutes without a person after which it may end a session."""
    startup_minutes: float | None = None
    """Minutes within which the container must answer."""
    grace_seconds: float | None
    """Seconds between its warning and the end; 0: there is no warning; None: nobody says."""
    disk: str
    """What becomes of the disk."""
    restarts: str
    """How a session that was cut goes on."""
    secret: str
    """Where a token belongs."""
    ends_by: str
    """What stops the cost."""
    by_hand: bool = False
    """Whether only a person can start a session."""
    has_limit: bool = True
    """Whether the platform ends a machine at a time that is set at its creation; else the machine must end itself."""
    has_spot: bool = True
    """Whether cheaper machines that may be taken away exist, where machines are let."""
    by_the_gpu: bool = False
    """Whether its machines have as many of their GPUs as are asked for, each at the same price."""
    network: str | None = None
    """Link between its machines; None: they are not connected."""
    needs: str = ""
    """What an account must have before it gets a machine, besides a way to pay."""
    as_of: str
    """When its prices were read: a month, or the day on which it answered itself."""
    sources: tuple[str, ...]
    """Pages in which this was read."""
    offers: tuple[Offer, ...]

    def offer(self, gpu: str | None = None) -> Offer:
        """The machine with this GPU; without one the first, which is the cheapest.

        Raises:
            InputError: The platform has no such machine.
        """
        for offer in self.offers:
            if gpu in (None, offer.gpu, offer.flavor):
                return offer
        names = [offer.gpu for offer in self.offers]
        near = difflib.get_close_matches(str(gpu), names, n=1)
        known = ", ".join(dict.fromkeys(names))
        raise InputError(f"--gpu: {self.title} has no {gpu}", f"did you mean {near[0]}? ({known})" if near else known)

    def with_gpus(self, offer: Offer, count: int) -> Offer | None:
        """A machine like this one that has so many GPUs; None when there is none."""
        alike = [it for it in self.offers if it.gpu == offer.gpu and it.num_gpus == count]
        if offer.num_gpus == count or alike:
            return offer if offer.num_gpus == count else alike[0]
        return offer.times(count) if self.by_the_gpu else None

    def limit_hours(self, offer: Offer) -> float | None:
        """Longest session on this machine, in hours; None when there is no limit."""
        return offer.session_hours or self.session_hours


class Hub(_Fact):
    """What the Hub does to a store."""

    private_gb: float
    """Gigabytes of private repositories that a free account may hold."""
    sources: tuple[str, ...]
    """Pages in which this was read."""


@cache
def _facts() -> dict[str, Any]:
    return yaml.safe_load(resources.files("dragoman.platforms").joinpath("facts.yaml").read_text("utf-8"))


def as_of() -> str:
    """The month in which prices and limits were read, as YYYY-MM."""
    return str(_facts()["as_of"])


def hub() -> Hub:
    """What the Hub does to a store."""
    return Hub(**_facts()["hub"])


@cache
def links() -> dict[str, Link]:
    """What tensors are exchanged through, by name."""
    return {name: Link(**facts) for name, facts in _facts()["links"].items()}


def link_of(offer: Offer) -> Link:
    """What the GPUs of a machine exchange tensors through."""
    return links()[offer.link] if offer.link else next(it for it in links().values() if offer.gpu in it.gpus)


def every() -> dict[str, Platform]:
    """All platforms by name, in the order in which they are shown, with the newest prices that are known here."""
    told = told_prices()
    return {name: _platform(name, facts, told.get(name, {})) for name, facts in _facts()["platforms"].items()}


def _platform(name: str, facts: Mapping[str, Any], told: Mapping[str, Any]) -> Platform:
    """A platform, with what it was asked last; what that names and the package does not is left out."""
    prices: Mapping[str, float] = told.get("usd_per_hour", {})
    newer = [
        offer | {"usd_per_hour": prices[offer["flavor"]]} if offer["flavor"] in prices else offer
        for offer in facts["offers"]
    ]
    # The first one stays the cheapest, which is what a person gets who names no GPU.
    newer.sort(key=lambda offer: offer.get("usd_per_hour", float("inf")))
    return Platform.model_validate({**facts, "name": name, "as_of": told.get("as_of", as_of()), "offers": newer})


def price_file() -> Path:
    """Where this user's newer prices lie."""
    return host.cache_folder() / "prices.json"


def told_prices() -> dict[str, Any]:
    """Per platform the day on which it answered (`as_of`), and `usd_per_hour` by flavor; nothing without that file."""
    try:
        found = json.loads(price_file().read_text("utf-8"))
        return {name: _checked(told) for name, told in found.items() if name in _facts()["platforms"]}
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        return {}


def _checked(told: Mapping[str, Any]) -> dict[str, Any]:
    prices = {str(flavor): float(price) for flavor, price in told["usd_per_hour"].items()}
    return {"as_of": str(told["as_of"]), "usd_per_hour": prices}


def find(name: str) -> Platform:
    """The platform of this name.

    Raises:
        InputError: It is not known.
    """
    known = every()
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, list(known), n=1)
    words = ", ".join(known)
    raise InputError(f"{name} is no platform", f"did you mean {near[0]}? ({words})" if near else words)
