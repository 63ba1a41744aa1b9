"""The options that decide what is kept, where, how progress is judged, and what is known of this machine."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from dragoman.config.fields import MAY_CHANGE, OF_SESSION, FrozenModel


class SaveConfig(FrozenModel):
    """What is kept, where and how often."""

    output: Annotated[Path | None, OF_SESSION] = None
    """The run folder; left out: runs/PAIRS-MODEL."""

    save_steps: Annotated[int, Field(ge=1), MAY_CHANGE] = 500
    """Save at least every this many optimizer steps."""

    save_minutes: Annotated[float, Field(gt=0), MAY_CHANGE] = 10.0
    """Longest stretch of work we accept losing, in minutes."""

    snapshot: Annotated[Literal["auto", "copy", "stream"], MAY_CHANGE] = "auto"
    """How to save: copy the tensors to memory and write them while training goes on, or stream them to the disk while
    training waits, which needs no memory; auto: copy when there is room."""

    keep: Annotated[int, Field(ge=1), MAY_CHANGE] = 2
    """Checkpoints to keep, besides the model of the best one."""

    resume: Annotated[Literal["auto", "must", "never"], OF_SESSION] = "auto"
    """Continue the run of the run folder or store: when there is one, necessarily, or refuse if there is one."""

    single_writer: Annotated[bool, MAY_CHANGE] = False
    """Your word that no other machine ever writes to the run folder or store; only for those that cannot create a
    name only if it is absent."""


class StoreConfig(FrozenModel):
    """Where the run is safe when this machine is gone."""

    store: Annotated[str | None, MAY_CHANGE] = None
    """Durable store: `hf://USER/REPO`, `s3://BUCKET/PATH`, `gs://…`, `az://…`, `file:///PATH` or a folder on
    another disk."""

    hub_model_id: Annotated[str | None, MAY_CHANGE] = None
    """The same as --store hf://USER/REPO, as USER/REPO."""

    resume_from_checkpoint: Annotated[str | None, OF_SESSION] = None
    """Continue the run in this store: USER/REPO on the Hub, a URL as for --store, or a folder."""

    take_over: Annotated[bool, OF_SESSION] = False
    """Do not wait until the machine that holds the run's lease has been silent for --lease-minutes."""

    lease_minutes: Annotated[float, Field(gt=0), MAY_CHANGE] = 15.0
    """A second machine waits until the store has shown no sign of life of the first for this long, in minutes."""

    drain_minutes: Annotated[float, Field(ge=0), MAY_CHANGE] = 15.0
    """At the end, wait at most this long for the last upload; it goes on by itself afterwards, in minutes."""

    public: Annotated[bool, MAY_CHANGE] = False
    """Make a new Hub repository public; left out: private."""

    store_data: Annotated[Literal["auto", "yes", "no"], MAY_CHANGE] = "auto"
    """Keep the prepared data in the store too, so that its URL alone is enough to continue; auto: unless --public."""

    upload_megabytes: Annotated[float | None, Field(gt=0), MAY_CHANGE] = None
    """Upload at most this many megabytes per second; left out: as fast as it goes."""

    commits_per_hour: Annotated[int, Field(ge=1), MAY_CHANGE] = 30
    """Commits to a Hub repository per hour, the last of a session not counted; the Hub refuses some 128."""

    @property
    def url(self) -> str | None:
        """The durable store as the user named it; None when there is none."""
        if self.hub_model_id and not self.store:
            return f"hf://{self.hub_model_id.removeprefix('hf://')}"
        return self.store

    @property
    def keeps_data(self) -> bool:
        """Whether the prepared data goes to the store."""
        return self.store_data == "yes" or (self.store_data == "auto" and not self.public)


class EvaluationConfig(FrozenModel):
    """How progress is judged."""

    eval_steps: Annotated[int, Field(ge=0)] = 500
    """Score the held-out dev sample every this many steps; 0: never (the newest checkpoint is published)."""

    eval_samples: Annotated[int, Field(ge=1)] = 100
    """Held-out pairs per direction that are decoded at each evaluation."""

    num_beams: Annotated[int, Field(ge=1, le=32)] = 1
    """Beams used when decoding the dev sample."""

    log_steps: Annotated[int, Field(ge=1), MAY_CHANGE] = 100
    """Report loss and speed every this many steps."""


class MachineConfig(FrozenModel):
    """Where this session runs, and until when."""

    platform: Annotated[str | None, OF_SESSION] = None
    """Where this session runs, as `dragoman launch` names it, or `none`; left out: recognised. A limit that is known of
    a platform is kept when neither --deadline nor --max-hours is given."""

    deadline: Annotated[str | None, OF_SESSION] = None
    """When this machine is taken away, such as `2026-11-30T08:00:00Z`: the last checkpoint is saved and uploaded
    before, and the session exits 75."""

    @field_validator("deadline")
    @classmethod
    def _absolute(cls, value: str | None) -> str | None:
        """A time in UTC, in one way of writing it: one without its zone would mean another one on another machine."""
        if value is None:
            return None
        wanted = "a time with its zone, such as 2026-11-30T08:00:00Z"
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError(wanted) from None
        if moment.tzinfo is None:
            raise ValueError(wanted)
        return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")

    @property
    def deadline_time(self) -> float | None:
        """The deadline in seconds since 1970; None when there is none."""
        return None if self.deadline is None else datetime.fromisoformat(self.deadline).timestamp()
