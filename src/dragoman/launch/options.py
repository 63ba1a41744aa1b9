"""What is said about the machine and not about the run: the key `launch:` of a run file, and flags of `launch`."""

from typing import Annotated

from pydantic import Field

from dragoman.config.fields import FrozenModel

KEY = "launch"
"""The one key of a run file that is not an option of the run."""


class LaunchOptions(FrozenModel):
    """Which machine a run is started on, for how long and for how much."""

    name: str | None = None
    """What the machine is called on the platform: lower-case letters, digits and dashes; left out: like the store."""

    gpu: str | None = None
    """GPU, such as `l4`, or the platform's own name of the machine; left out: the cheapest that the platform has."""

    num_gpus: Annotated[int, Field(ge=1)] | None = None
    """GPUs of the machine; left out: as many as the cheapest has."""

    nodes: Annotated[int, Field(ge=1)] = 1
    """Machines that train together."""

    spot: bool = False
    """Take a cheaper machine that may be taken away at any time."""

    max_hours: Annotated[float, Field(gt=0)] | None = None
    """Hours after which the platform itself ends the machine; the run saves and stops some minutes before. Left out:
    24, or as long as the platform or --max-usd allow."""

    attempts: Annotated[int, Field(ge=1, le=20)] = 1
    """How often the platform may start the machine when it fails or its time is up, where it counts (Hugging Face
    Jobs); each may cost as much as the first."""

    max_usd: Annotated[float, Field(gt=0)] | None = None
    """Most to spend, in USD: where --max-hours is left out, the machine is ended when that is used up."""

    bundle: str | None = None
    """Private data set on the Hub through which package, run file and data reach the machine, as USER/NAME; left out:
    `dragoman-launch` of the owner of an `hf://` store."""


FIELDS = LaunchOptions.model_fields
"""Its options by name."""
