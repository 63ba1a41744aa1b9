"""This machine: its name, its environment and its settings. Nothing else asks the system."""

import os
import platform
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


def name(environ: Mapping[str, str] | None = None) -> str:
    """How people know this machine: a Space or job by its name, which outlives its containers, else the host name."""
    variables = os.environ if environ is None else environ
    match platform_name(variables):
        case "space":
            return variables["SPACE_ID"]
        case "jobs":
            return variables["JOB_ID"]
        case _:
            return socket.gethostname()


def process_id() -> int:
    """This process's id."""
    return os.getpid()


def system() -> str:
    """Operating system and Python, as one short string."""
    return f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"


def options(prefix: str, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment variables that start with `prefix`."""
    return {k: v for k, v in (os.environ if environ is None else environ).items() if k.startswith(prefix)}


def variable(name: str) -> str | None:
    """An environment variable; None when it is not set or empty."""
    return os.environ.get(name) or None


def environment_without(prefix: str) -> dict[str, str]:
    """The environment for a child process, without the variables that start with `prefix`."""
    return {name: value for name, value in os.environ.items() if not name.startswith(prefix)}


def cache_folder() -> Path:
    """Where this user keeps what can be had again; it need not exist."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dragoman"


def gpu_names() -> list[str]:
    """The names of this machine's NVIDIA GPUs as their driver has them; none when it does not answer."""
    try:
        command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


_SIGNS = {
    "SPACE_ID": "space",
    "COLAB_RELEASE_TAG": "colab",
    "KAGGLE_KERNEL_RUN_TYPE": "kaggle",
    "RUNPOD_POD_ID": "runpod",
    "VAST_CONTAINERLABEL": "vast",
}
"""Variables that a platform sets in its machines, and its name."""


def platform_name(environ: Mapping[str, str] | None = None) -> str | None:
    """The platform on which this machine is, as `platforms/facts.yaml` names it; None when it is not recognised.

    Lambda leaves no sign: whoever starts a machine there says so by `DRAGOMAN_PLATFORM`.
    """
    variables = os.environ if environ is None else environ
    # A job sets SPACE_ID too. Batch systems and CI number their jobs under the same name.
    if (job := variables.get("JOB_ID", "")) and not job.isdigit():
        return "jobs"
    return next((platform for sign, platform in _SIGNS.items() if variables.get(sign)), None)


def started(root: Path = Path("/")) -> float:
    """When this machine, or its container, began, in seconds since 1970; now, where the system does not tell.

    Args:
        root: Where `/proc` is.
    """
    try:
        ticks = int((root / "proc/1/stat").read_text().rpartition(")")[2].split()[19])
        booted = next(line for line in (root / "proc/stat").read_text().splitlines() if line.startswith("btime "))
        return int(booted.split()[1]) + ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, LookupError, StopIteration):
        return time.time()


def be_gentle() -> None:
    """Let idle OpenMP threads sleep: on shared CPUs spinning ones cut speed several times.

    Works only before torch is imported; a value that the user set is kept.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")


def compute_alone() -> None:
    """Let the tokenizer start no threads: this process is one of several that share the cores."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cublas_workspace() -> None:
    """Fix cuBLAS's workspace, which deterministic CUDA kernels require; before CUDA starts."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def prefer_lfs() -> bool:
    """Have the Hub's client upload by LFS and not by Xet, which neither paces nor stops an upload when told.

    Works only before `huggingface_hub` is imported; a value that the user set is kept.

    Returns:
        Whether uploads go by LFS; False when the user wants Xet.
    """
    return os.environ.setdefault("HF_HUB_DISABLE_XET", "1").upper() in {"1", "ON", "YES", "TRUE"}


def free_bytes(path: Path) -> int:
    """What this user may still write to the disk that `path` is on, or will be on when it is made."""
    return shutil.disk_usage(_existing(path)).free


def same_disk(one: Path, other: Path) -> bool:
    """Whether two paths are on one disk, or will be when they are made."""
    return _existing(one).stat().st_dev == _existing(other).stat().st_dev


def memory_bytes(root: Path = Path("/")) -> tuple[int, int]:
    """The machine's memory as (all, free), in bytes; what a container may not use does not count.

    A container's use includes the files that the system has cached for it; those that
    were not read again lately are free at once, and count as free.

    Args:
        root: Where `/proc` and `/sys` are.
    """
    total, free = _all_memory(root)
    for folder, limit_file, used_file, cached in _CGROUPS:
        limit, used = _number(root / folder / limit_file), _number(root / folder / used_file)
        if limit is not None and limit < total:
            total, free = limit, min(free, limit - (used or 0) + _statistic(root / folder / "memory.stat", cached))
    return total, max(0, free)


def given_back_bytes(root: Path = Path("/")) -> int:
    """Memory that this process held at its peak and does not hold now; it will want it again.

    Args:
        root: Where `/proc` is.
    """
    try:
        lines = dict(line.split(":", 1) for line in (root / "proc/self/status").read_text().splitlines())
        return 1024 * max(0, int(lines["VmHWM"].split()[0]) - int(lines["VmRSS"].split()[0]))
    except (OSError, ValueError, LookupError):
        return 0


def free_memory_bytes() -> int:
    """What this machine, or its container, still has for one more process."""
    return memory_bytes()[1]


_CGROUPS = (
    ("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""Limit and use of a container, and what it names its cache of files: version 2 and 1."""


def _all_memory(root: Path) -> tuple[int, int]:
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
        kilobytes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
        return kilobytes["MemTotal"] * 1024, kilobytes["MemAvailable"] * 1024
    except (OSError, ValueError, LookupError):  # not Linux
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return total, total


def _number(path: Path) -> int | None:
    """The number in a file; None when there is none."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _statistic(path: Path, name: str) -> int:
    """One number of a file of names and numbers; 0 when it is not there."""
    try:
        return int(dict(line.split() for line in path.read_text().splitlines())[name])
    except (OSError, ValueError, LookupError):
        return 0


def _existing(path: Path) -> Path:
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


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
        ValueError: A variable is not a number.
    """
    variables = os.environ if environ is None else environ
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    if "RANK" not in variables and int(variables.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        names = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_NTASKS_PER_NODE")
    if names[0] not in variables:
        return None
    number, count = int(variables[names[0]]), int(variables.get(names[1], 1))
    return Rank(number, count, int(variables.get(names[2], 0)), int(variables.get(names[3], 1)))


def node_rank(environ: Mapping[str, str] | None = None) -> int | None:
    """The number of this machine among those of a cluster, as SkyPilot or SLURM tell it; None when nobody does."""
    variables = os.environ if environ is None else environ
    told = variables.get("SKYPILOT_NODE_RANK") or variables.get("SLURM_NODEID")
    return int(told) if told else None


def main_host(environ: Mapping[str, str] | None = None) -> str | None:
    """The address of machine 0 of a cluster, as SkyPilot or SLURM tell it; None when nobody does."""
    variables = os.environ if environ is None else environ
    if addresses := variables.get("SKYPILOT_NODE_IPS", "").split():
        return addresses[0]
    if listed := variables.get("SLURM_STEP_NODELIST") or variables.get("SLURM_JOB_NODELIST"):
        # `node[003-010,12],other`: the first one.
        return re.sub(r"\[(\w+)[^\]]*\].*", r"\1", listed).split(",")[0]
    return None


def num_gpus(environ: Mapping[str, str] | None = None) -> int:
    """GPUs that a process here would see."""
    variables = os.environ if environ is None else environ
    chosen = variables.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return len(gpu_names())
    return len([part for part in chosen.split(",") if part.strip() not in ("", "-1")])


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
    usual = {"OMP_NUM_THREADS": str(max(1, num_cores() // rank.local_count))}
    if interface:
        usual["GLOO_SOCKET_IFNAME"] = interface
    return usual | dict(os.environ) | ours


def starter_id(environ: Mapping[str, str] | None = None) -> int:
    """Id of the process that started this rank, which may be gone already."""
    variables = os.environ if environ is None else environ
    return int(variables.get(STARTER) or os.getppid())


def parent_id() -> int:
    """Id of the process that started this one; of another one when that is gone."""
    return os.getppid()
