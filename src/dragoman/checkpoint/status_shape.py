"""What `status` says of a run: one JSON object of the same shape for a run folder and for a store.

What is not known is null. Ages are in seconds, `loss` in nats per target token, sizes in bytes.
"""

from typing import TypedDict

SCHEMA = 1


class Safe(TypedDict):
    """The newest step that outlives this machine, or its disk where the run has no durable store."""

    step: int
    """Optimizer updates done."""
    store: str
    """Where it is."""
    age_seconds: float
    """Since it was saved: what losing this machine now would cost."""
    verified: bool
    """The store was seen to hold what was sent; a run folder's files were written and not read back."""


class Degraded(TypedDict):
    """What should be safe and is not."""

    reason: str
    """What goes wrong."""
    since_seconds: float
    """For how long."""


class Lease(TypedDict):
    """Who may append to the run's log."""

    owner: str
    """One life of one process."""
    host: str
    """Its machine."""
    epoch: int
    """How often the run has changed hands."""
    age_seconds: float
    """Since it last appended a record."""


class Local(TypedDict):
    """The newest step on this machine's disk."""

    step: int
    """Optimizer updates done."""
    folder: str
    """Where it is."""
    age_seconds: float
    """Since it was saved."""


class Held(TypedDict):
    """A checkpoint that a store holds."""

    step: int
    """Optimizer updates done."""
    folder: str
    """Where it is in the store."""
    num_bytes: int
    """Size of all its files."""
    age_seconds: float
    """Since it was recorded."""
    best: bool
    """Its model is the published one."""
    whole: bool
    """Training can continue from it; of some only the model is kept."""


class StoreHeld(TypedDict):
    """What the durable store holds."""

    url: str
    """Where it is."""
    num_bytes: int | None
    """All bytes, as the store itself counts them; null when nobody asked it, or it does not say."""
    checkpoints: list[Held] | None
    """The newest first; null when nobody asked."""


class Preparing(TypedDict):
    """How far the data of a run is that is being prepared."""

    stage: str
    """reading, comparing, tokenising or writing."""
    rows: int
    """Rows read of all sources, bad ones included."""
    kept: int
    """Pairs of them that are left so far."""
    share: float | None
    """How much of the stage is done, from 0 to 1."""
    pairs_per_second: float | None
    """Of the stage, by this session."""
    age_seconds: float
    """Since that was so."""


class Session(TypedDict):
    """One process life that trained this run, or copied it."""

    epoch: int
    """The epoch that it raised the run to."""
    host: str
    """Its machine."""
    first_time: float
    """When it took the lease by its own clock, in seconds since 1970."""
    last_time: float
    """When it last appended a record."""
    outcome: str
    """done, stopped or failed; running or preparing; interrupted when it left no word."""
    step: int | None
    """The newest step that it recorded; null when it recorded none."""


class Status(TypedDict):
    """The whole object."""

    schema: int
    """Which fields there are."""
    run: str | None
    """Name of the run."""
    state: str
    """preparing, prepared, running, done, stopped, failed, or interrupted: killed, or its machine is gone."""
    step: int
    """Optimizer updates done."""
    preparing: Preparing | None
    """How far its data is, as soon as that takes long; null in every other state."""
    total_steps: int | None
    """Of the whole run."""
    epoch: float | None
    """Passes over the data."""
    loss: float | None
    """Of the last steps."""
    chrf: float | None
    """chrF++ on the held-out sample: the last, or for a URL the best."""
    tokens_per_second: float | None
    """Target tokens."""
    eta_seconds: float | None
    """Until the last step."""
    safe: Safe | None
    """What losing this machine cannot take."""
    degraded: Degraded | None
    """What goes wrong."""
    lease: Lease | None
    """Who trains it, or did last."""
    local: Local | None
    """What is safe on this machine's disk; null for a URL."""
    store: StoreHeld | None
    """The durable store; null when the run has none."""
    history: list[Session]
    """All sessions, the newest first."""
