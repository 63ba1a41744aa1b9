"""A notebook as its page runs it: fields filled in, a fresh kernel, all cells, and perhaps the loss of the machine."""

import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

HOSTS = Path(__file__).parent / "notebook_hosts"
SECONDS = 240.0


def filled(content: bytes, **values: Any) -> Any:
    """The notebook with other values in its form, as a person types them; the cells stay what they are."""
    notebook = nbformat.reads(content.decode(), as_version=4)
    nbformat.validate(notebook)
    cell = next(cell for cell in notebook.cells if cell.id == "settings")
    for name, value in values.items():
        pattern = rf"^{name} = .*?(?=  # @param)"
        cell.source, found = re.subn(pattern, lambda _, n=name, v=value: f"{n} = {v!r}", cell.source, flags=re.M)
        assert found == 1, name
    return notebook


class Page:
    """A notebook, opened on a machine with an empty folder of its own.

    Args:
        notebook: As `filled` gives it.
        machine: The folder.
        variables: The machine's environment, besides ours.
        secrets: What the platform keeps, by name.
        python: Of the kernel; this one when it is left out.
    """

    def __init__(
        self,
        notebook: Any,
        machine: Path,
        variables: Mapping[str, str],
        secrets: Mapping[str, Any],
        python: Path = Path(sys.executable),
    ) -> None:
        machine.mkdir(parents=True, exist_ok=True)
        self.machine = machine
        self.kept = machine.parent / f"{machine.name}-platform"
        self.kept.mkdir(exist_ok=True)
        (self.kept / "secrets.json").write_text(json.dumps(dict(secrets)))
        paths = os.pathsep.join([str(HOSTS), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        self.environment = {**variables, "PYTHONPATH": paths, "STAND_IN_SECRETS": str(self.kept / "secrets.json")}
        self.notebook = notebook
        where = {"metadata": {"path": str(machine)}}
        self.client = NotebookClient(notebook, timeout=SECONDS, resources=where, km=_kernel_of(python, self.kept))

    def run_all(self) -> str:
        """Run all cells in a fresh kernel; returns how it ended: "" or the message of the cell that stopped it."""
        try:
            self.client.execute(env=self.environment)
        except CellExecutionError:
            outputs = [output for cell in self.notebook.cells for output in cell.get("outputs", [])]
            return "\n".join(next(output["traceback"] for output in outputs if output["output_type"] == "error"))
        return ""

    def run_until_lost(self) -> None:
        """Run all cells until the kernel is killed."""
        with contextlib.suppress(DeadKernelError, RuntimeError):
            self.client.execute(env=self.environment)

    @property
    def was_given_back(self) -> bool:
        return (self.kept / "unassigned").exists()

    def shown(self, cell_id: str) -> str:
        """What a cell printed."""
        cell = next(cell for cell in self.notebook.cells if cell.id == cell_id)
        return "".join(output["text"] for output in cell.outputs if output["output_type"] == "stream")

    def lose_machine(self) -> None:
        """Kill the kernel and all that it started, at once."""
        kernel = self.client.km.provisioner.process.pid
        for pid in [kernel, *_descendants(kernel)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _kernel_of(python: Path, folder: Path) -> AsyncKernelManager:
    """A kernel with that Python; what else is registered on this machine does not count."""
    spec = folder / "kernels/ours"
    spec.mkdir(parents=True)
    words = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (spec / "kernel.json").write_text(json.dumps({"argv": words, "display_name": "ours", "language": "python"}))
    specs = KernelSpecManager(kernel_dirs=[str(folder / "kernels")], ensure_native_kernel=False)
    return AsyncKernelManager(kernel_name="ours", kernel_spec_manager=specs)


def _descendants(pid: int) -> list[int]:
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            parents[int(path.parent.name)] = int(fields[1])
    found, level = list[int](), {pid}
    while level:
        level = {child for child, parent in parents.items() if parent in level}
        found += level
    return found
