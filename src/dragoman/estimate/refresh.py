"""Newer prices, asked of the platforms themselves where they tell them, and kept in the user's cache.

Only prices of machines that are known are taken over (`platforms/facts.yaml`); limits have no
endpoint. Keys are sent where a platform wants one, and never kept or shown. Each question is
one plain request with a deadline, which the platforms' own clients do not have.
"""

import http.client
import json
import statistics
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dragoman import __version__, host, platforms
from dragoman.platforms import Platform
from dragoman.store.disk import Disk

SECONDS = 15.0
"""How long a platform may take to answer."""
VAST_OFFERS = 10
"""Cheapest offers of a GPU of which the median counts: the very cheapest is gone when it is wanted."""
_PER_HOUR = {"minute": 60.0, "hour": 1.0, "second": 3600.0}


@dataclass(frozen=True)
class Answer:
    """What became of asking one platform."""

    platform: Platform
    usd_per_hour: Mapping[str, float]
    """New prices by flavor."""
    why_not: str = ""
    """Why there are none; empty when it answered."""

    def to_json(self) -> dict[str, Any]:
        """What a program may read."""
        prices = dict(self.usd_per_hour)
        return {"platform": self.platform.name, "usd_per_hour": prices, "why_not": self.why_not or None}


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows nobody: a key is for the place that it was meant for."""

    def redirect_request(self, *args: Any, **named: Any) -> None:
        """Make no request of a redirection."""


_opener = urllib.request.build_opener(_Stay)


class _NoAnswerError(Exception):
    """A platform was not asked, or did not tell; the message says why."""


def refresh(disk: Disk, today: str | None = None) -> Iterator[Answer]:
    """Ask every platform, and keep what it tells.

    Args:
        disk: Writes the user's file of prices.
        today: Goes to the file; the present day when left out.

    Raises:
        OSError: The file cannot be written.
    """
    kept, day = platforms.told_prices(), today or datetime.now(UTC).strftime("%Y-%m-%d")
    for name, platform in platforms.every().items():
        answer = _asked(platform)
        yield answer
        if answer.usd_per_hour:
            before: dict[str, float] = kept.get(name, {}).get("usd_per_hour", {})
            kept[name] = {"as_of": day, "usd_per_hour": before | dict(answer.usd_per_hour)}
    path = platforms.price_file()
    disk.make_folders(path.parent)
    disk.replace(path, json.dumps(kept, indent=1).encode())


def _asked(platform: Platform) -> Answer:
    ask = _ENDPOINTS.get(platform.name)
    if ask is None:
        return Answer(platform, {}, "it has no endpoint for prices")
    try:
        told = ask(platform)
    except _NoAnswerError as error:
        return Answer(platform, {}, str(error))
    except (LookupError, TypeError, ValueError, AttributeError):
        return Answer(platform, {}, "its answer is not of the known form")
    known = {offer.flavor for offer in platform.offers if offer.usd_per_hour}
    prices = {flavor: round(price, 4) for flavor, price in told.items() if flavor in known and price > 0}
    return Answer(platform, prices, "" if prices else "it names none of the machines that are known")


# --- one function per platform: prices by flavor -----------------------------------


def _hub(what: str) -> Callable[[Platform], dict[str, float]]:
    def ask(platform: Platform) -> dict[str, float]:
        base = host.variable("HF_ENDPOINT") or "https://huggingface.co"
        found = _json(f"{base.rstrip('/')}/api/{what}/hardware")
        return {it["name"]: it["unitCostUSD"] * _PER_HOUR[it["unitLabel"]] for it in found}

    return ask


def _runpod(platform: Platform) -> dict[str, float]:
    base = host.variable("RUNPOD_API_BASE_URL") or "https://api.runpod.io"
    query = {"query": "query { gpuTypes { id securePrice communityPrice } }"}
    found = _json(f"{base.rstrip('/')}/graphql", query, key=host.variable("RUNPOD_API_KEY") or "")
    prices = {it["id"]: it["securePrice"] or it["communityPrice"] for it in found["data"]["gpuTypes"]}
    return {flavor: float(price) for flavor, price in prices.items() if price}


def _lambda(platform: Platform) -> dict[str, float]:
    key = host.variable("LAMBDA_API_KEY")
    if not key:
        raise _NoAnswerError("it wants a key: LAMBDA_API_KEY is not set")
    base = host.variable("LAMBDA_API_BASE_URL") or "https://cloud.lambda.ai"
    found = _json(f"{base.rstrip('/')}/api/v1/instance-types", key=key)["data"]
    return {name: it["instance_type"]["price_cents_per_hour"] / 100 for name, it in found.items()}


def _vast(platform: Platform) -> dict[str, float]:
    base = host.variable("VAST_URL") or "https://console.vast.ai"
    found: dict[str, float] = {}
    for flavor in {offer.flavor for offer in platform.offers}:
        wanted: dict[str, Any] = {"gpu_name": {"eq": flavor.replace("_", " ")}, "num_gpus": {"eq": 1}}
        wanted |= {"rentable": {"eq": True}, "verified": {"eq": True}, "type": "on-demand"}
        wanted |= {"order": [["dph_total", "asc"]], "limit": VAST_OFFERS}
        query = urllib.parse.urlencode({"q": json.dumps(wanted)})
        offers = _json(f"{base.rstrip('/')}/api/v0/bundles/?{query}", key=host.variable("VAST_API_KEY") or "")["offers"]
        if offers:
            found[flavor] = statistics.median(sorted(float(it["dph_total"]) for it in offers)[:VAST_OFFERS])
    return found


_ENDPOINTS: Mapping[str, Callable[[Platform], dict[str, float]]] = {
    "space": _hub("spaces"),
    "jobs": _hub("jobs"),
    "runpod": _runpod,
    "lambda": _lambda,
    "vast": _vast,
}


def _json(url: str, body: Any = None, *, key: str = "") -> Any:
    """What a URL answers.

    Raises:
        _NoAnswerError: It refused, did not answer in time, or answered no JSON.
    """
    headers = {"Accept": "application/json", "User-Agent": f"dragoman/{__version__}"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    content = None if body is None else json.dumps(body).encode()
    if content:
        headers["Content-Type"] = "application/json"
    try:
        request = urllib.request.Request(url, content, headers)
        with _opener.open(request, timeout=SECONDS) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        why = "it wants a key, or another one" if error.code in (401, 403) else "it refused"
        raise _NoAnswerError(f"{why} (HTTP {error.code})") from None
    except urllib.error.URLError as error:
        raise _NoAnswerError(f"it did not answer: {error.reason}") from None
    except (OSError, http.client.HTTPException) as error:
        raise _NoAnswerError(f"it did not answer: {error}") from None
    except ValueError:
        raise _NoAnswerError("its answer is not JSON") from None
