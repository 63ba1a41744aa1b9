"""This process among others, as whoever started it says in the environment: torchrun, SLURM or SkyPilot.

Nobody is asked over a network. A variable that makes no sense is an error: with a wrong
number two processes would take themselves for the same one.
"""

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile

from dragoman import host
from dragoman.errors import InputError

PORT = 29500
"""Of machine 0, where ranks meet, when nobody names another one."""


@dataclass(frozen=True)
class Rank:
    """Which of the processes of a session this is."""

    number: int
    """Counted over all machines; 0 tells the others what to do."""
    count: int
    local_number: int
    """Counted on this machine: the GPU that it takes."""
    local_count: int


def rank(environ: Mapping[str, str] | None = None) -> Rank | None:
    """What torchrun, `dragoman` itself or `srun` with a task for each GPU tell a process; None when it is alone.

    Raises:
        InputError: A variable is not a number, or the numbers do not fit one another.
    """
    variables = os.environ if environ is None else environ
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    if "RANK" not in variables:
        # A task for each machine is no rank: it starts those of its machine. A batch script has no step at all.
        if _number(variables, "SLURM_STEP_NUM_TASKS", 1) <= _number(variables, "SLURM_STEP_NUM_NODES", 1):
            return None
        names = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_NTASKS_PER_NODE")
    found = Rank(*(_number(variables, name, usual) for name, usual in zip(names, (0, 1, 0, 1), strict=True)))
    if found.number >= found.count:
        said = f"{names[0]}={found.number} and {names[1]}={found.count}"
        raise InputError(f"{said}: ranks are counted from 0 to {found.count - 1}", "torchrun, which sets both")
    return found


def node_rank(environ: Mapping[str, str] | None = None) -> int | None:
    """The number of this machine among those of a cluster, as SkyPilot or SLURM tell it; None when nobody does.

    Raises:
        InputError: It is not a number.
    """
    variables = os.environ if environ is None else environ
    told = next((name for name in ("SKYPILOT_NODE_RANK", "SLURM_NODEID") if variables.get(name)), None)
    return None if told is None else _number(variables, told, 0)


def main_host(environ: Mapping[str, str] | None = None) -> str | None:
    """The address of machine 0 of a cluster, as SkyPilot or SLURM tell it; None when nobody does."""
    variables = os.environ if environ is None else environ
    if addresses := variables.get("SKYPILOT_NODE_IPS", "").split():
        return addresses[0]
    if listed := variables.get("SLURM_STEP_NODELIST") or variables.get("SLURM_JOB_NODELIST"):
        # `rack[1-2]n[003-010,12],other`: the first one is rack1n003.
        first = re.split(r",(?![^\[]*\])", listed)[0]
        return re.sub(r"\[(\w+)[^\]]*\]", r"\1", first)
    return None


def num_gpus(environ: Mapping[str, str] | None = None) -> int:
    """GPUs that a process here would see."""
    variables = os.environ if environ is None else environ
    chosen = variables.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return len(host.gpu_names())
    # As CUDA does: those behind one that makes no sense do not count. SLURM writes NoDevFiles where there are none.
    named = (re.fullmatch(r"\d+|(GPU|MIG)-.+", part.strip()) for part in chosen.split(","))
    return sum(1 for _ in takewhile(bool, named))


def free_port() -> int:
    """A port of loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def interface_towards(address: str) -> str | None:
    """Name of the network interface by which this machine reaches another, or has that address; None when unknown."""
    import fcntl
    import struct

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, 9))  # sends nothing
        except OSError:
            return None
        own = socket.inet_aton(probe.getsockname()[0])
        towards = socket.inet_aton(socket.gethostbyname(address))
        found: str | None = None
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(probe, 0x8915, struct.pack("256s", name.encode()[:15]))  # SIOCGIFADDR
            except OSError:
                continue
            if answer[20:24] == towards:
                return name
            if answer[20:24] == own:
                found = name
        return found


STARTER = "RANK_STARTER"
"""Names the process that started a rank: when that one dies early, the rank has another parent before it can look."""


def environment_of_rank(rank: Rank, address: str, port: int, interface: str | None) -> dict[str, str]:
    """The environment of a rank that this process starts, as torchrun would set it."""
    ours = {
        "RANK": str(rank.number),
        "WORLD_SIZE": str(rank.count),
        "LOCAL_RANK": str(rank.local_number),
        "LOCAL_WORLD_SIZE": str(rank.local_count),
        "MASTER_ADDR": address,
        "MASTER_PORT": str(port),
        STARTER: str(os.getpid()),
    }
    usual = {
        "OMP_NUM_THREADS": str(max(1, host.num_cores() // rank.local_count)),
        # Of a lost connection torch warns with pages of its stack; what it means is said in words.
        "TORCH_CPP_LOG_LEVEL": "ERROR",
    }
    if interface:
        usual["GLOO_SOCKET_IFNAME"] = interface
    return usual | dict(os.environ) | ours


def starter_id(environ: Mapping[str, str] | None = None) -> int:
    """Id of the process that started this rank, which may be gone already."""
    variables = os.environ if environ is None else environ
    return int(variables.get(STARTER) or os.getppid())


def know_meeting_place(environ: Mapping[str, str] | None = None) -> None:
    """Name the place where ranks meet, if nobody has: srun says which machine is the first, but sets no address."""
    os.environ.setdefault("MASTER_ADDR", main_host(environ) or "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", str(PORT))


def _number(variables: Mapping[str, str], name: str, usual: int) -> int:
    """A count or place in the environment.

    Raises:
        InputError: It is none.
    """
    told = variables.get(name, "").strip()
    if not told:
        return usual
    if not re.fullmatch(r"[0-9]{1,9}", told):
        raise InputError(f"{name}={told}: this environment variable has to be a number", f"unset {name}, if it is old")
    return int(told)
