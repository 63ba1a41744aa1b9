"""This machine: its name, its environment and its settings. Nothing else asks the system."""

import os
import platform
import socket
from collections.abc import Mapping


def name() -> str:
    """The machine's host name."""
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


def be_gentle() -> None:
    """Let idle OpenMP threads sleep: on shared CPUs spinning ones cut speed several times.

    Works only before torch is imported; a value that the user set is kept.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")


def cublas_workspace() -> None:
    """Fix cuBLAS's workspace, which deterministic CUDA kernels require; before CUDA starts."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
