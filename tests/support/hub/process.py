"""A stand-in in a process of its own, for tests of processes that are killed.

with hub_process(tmp_path / "hub", "--token", "hf_ada:ada:write", "--repo", "ada/run") as hub:
    hub.url, hub.names("ada/run"), hub.add_fault("commit", hold=True)
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.hub.control import RemoteHub

ROOT = Path(__file__).parents[3]
LONGEST_START_SECONDS = 30.0


@contextmanager
def hub_process(folder: Path, *words: str) -> Iterator[RemoteHub]:
    """Start a stand-in and wait until it answers; kill it in the end. Its folder outlives it."""
    folder.mkdir(parents=True, exist_ok=True)
    port_file = folder / "url"
    port_file.unlink(missing_ok=True)
    command = [sys.executable, "-m", "tests.support.hub", "--folder", str(folder), "--port-file", str(port_file)]
    process = subprocess.Popen([*command, *words], cwd=ROOT)
    try:
        deadline = time.monotonic() + LONGEST_START_SECONDS
        while not port_file.exists():
            assert process.poll() is None, "the stand-in ended"
            assert time.monotonic() < deadline, "the stand-in does not start"
            time.sleep(0.01)
        yield RemoteHub(port_file.read_text())
    finally:
        process.kill()
        process.wait()
