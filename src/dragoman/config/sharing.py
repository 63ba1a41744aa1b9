"""The options that decide which processes share the work: GPUs, machines, and what each of them holds.

None of them touches what is learned, so a run may continue on fewer or more.
"""

from typing import Annotated, Literal

from pydantic import Field

from dragoman.config.fields import OF_SESSION, FrozenModel


class RanksConfig(FrozenModel):
    """Which processes share the work of a session."""

    devices: Annotated[int | None, Field(ge=1), OF_SESSION] = None
    """GPUs of this machine to train on, a process (rank) for each; with --device cpu so many processes. Left out: all
    GPUs that are visible, one process on a CPU."""

    nodes: Annotated[int, Field(ge=1), OF_SESSION] = 1
    """Machines that train together; the same command is started on each, with its own --node-rank."""

    node_rank: Annotated[int | None, Field(ge=0), OF_SESSION] = None
    """Which of them this one is, from 0, which keeps run folder and store; left out: as SkyPilot or SLURM say."""

    main_address: Annotated[str | None, OF_SESSION] = None
    """Address of machine 0 for the others, as HOST or HOST:PORT; left out: as SkyPilot or SLURM say, port 29500."""

    parallel: Annotated[Literal["auto", "ddp", "fsdp"], OF_SESSION] = "auto"
    """What a rank holds: the whole model (ddp), or a part of every layer with its gradients and moments (fsdp, FSDP2);
    auto: the whole where it fits."""

    offload: Annotated[bool, OF_SESSION] = False
    """With fsdp: keep a rank's part of the layers in the memory of its machine and compute the update there."""

    max_restarts: Annotated[int, Field(ge=0), OF_SESSION] = 3
    """How often the ranks are started again, from the newest checkpoint, after one of them was lost; then exit 75."""
