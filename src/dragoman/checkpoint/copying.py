"""What the journal of a run folder knows of the copying to its durable store; asks no network."""

import math
from dataclasses import dataclass, field
from typing import Any

from dragoman.checkpoint.replicator import NOTHING_SAFE
from dragoman.checkpoint.status_shape import Degraded
from dragoman.store.address import normal

START_SECONDS = 10.0
"""A session has so long to start the process that copies."""


@dataclass
class Copying:
    """The copying, as the events that were absorbed tell it."""

    store: str = ""
    """URL of the durable store; empty when the run has none."""
    safe_step: int = NOTHING_SAFE
    """Newest step that the store is known to hold; -1 for none."""
    safe_time: float = 0.0
    """When it was saved, or else when that became known, in seconds since 1970."""
    is_proved: bool = False
    """Whether the copying saw that the store holds what was sent."""
    _failure: str = field(init=False, default="")
    _failing_since: float = field(init=False, default=math.inf)
    _ended: str = field(init=False, default="")
    _last_sign: float = field(init=False, default=0.0)
    _saved_step: int = field(init=False, default=NOTHING_SAFE)

    def absorb(self, event: dict[str, Any]) -> None:
        """Take note of one event of the journal; they come in order."""
        time = event["time"]
        match event.get("kind"):
            case "session_started":
                self._at(event.get("store", ""))
                self._last_sign = time
            case "saved":
                self._saved_step = event["step"]
            case "replicator_started":
                self._started(event)
            case "upload_started":
                self._at(event["store"])
                self._last_sign = time
            case "replicated":
                self._replicated(event)
            case "replication_failed":
                if event["safe_step"] >= 0:
                    self._holds(event["safe_step"], time - event.get("age_seconds", 0.0))
                self._failed(event["reason"], time)
            case "replication_recovered":
                self._recovered()
                self._last_sign = time
            case "transfer_hung":
                self._failed(f"a transfer was silent for {event['seconds']:,.0f} s and was started anew", time)
            case "replicator_ended":
                self._recovered()
                self._ended = "" if event["outcome"] == "done" else event["reason"]
                self._last_sign = time
            case _:
                pass

    def degraded(self, now: float, *, is_missed: bool, way_out: str = "") -> Degraded | None:
        """What goes wrong with the copying; None when nothing does.

        Args:
            now: In seconds since 1970.
            is_missed: There is something to copy, or will be, and no process that copies.
            way_out: What a person can do about that.
        """
        since = max(0.0, now - self._last_sign)
        if not self.store:
            return None
        if self._ended:
            return Degraded(reason=self._ended, since_seconds=since)
        if is_missed and since > START_SECONDS:
            last = f" (at last: {self._failure})" if self._failure else ""
            reason = f"nothing is copied to {self.store}, the process that copies is gone{last}{way_out}"
            return Degraded(reason=reason, since_seconds=since)
        if self._failure:
            return Degraded(reason=self._failure, since_seconds=max(0.0, now - self._failing_since))
        return None

    def _at(self, store: str) -> None:
        """What is told from now on is told of this store; a folder is named by its path or its URL."""
        store = normal(store) if store else ""
        if store != self.store:
            self.store, self.safe_step, self.is_proved = store, NOTHING_SAFE, False
            self._recovered()

    def _started(self, event: dict[str, Any]) -> None:
        self._at(event["store"])
        step, before = event["safe_step"], self.safe_step
        self._holds(step, event["time"])
        if step > before or step >= self._saved_step:
            self._recovered()
        self._ended, self._last_sign = "", event["time"]

    def _replicated(self, event: dict[str, Any]) -> None:
        self._at(event["store"])
        if event["step"] >= self.safe_step:  # else it is an older one, whose model is the best
            self._holds(event["step"], event["time"])
            self.is_proved = True
        self._recovered()
        self._last_sign = event["time"]

    def _holds(self, step: int, time: float) -> None:
        if step != self.safe_step:
            self.safe_step, self.safe_time, self.is_proved = step, time, False

    def _failed(self, reason: str, time: float) -> None:
        self._failure, self._failing_since = reason, min(time, self._failing_since)
        self._last_sign = time

    def _recovered(self) -> None:
        self._failure, self._failing_since = "", math.inf
