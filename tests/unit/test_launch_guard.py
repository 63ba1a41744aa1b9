"""A rented container: it gives itself back, however its work ends and even if nothing of ours could be installed."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from dragoman.launch.guard import RUNPOD, VAST, Release, guarded
from tests.support.recorder import Recorder, Status


@pytest.fixture
def vendor() -> Iterator[Recorder]:
    with Recorder() as made:
        yield made


class Container:
    """A shell with Python, coreutils and what a vendor puts into the environment."""

    def __init__(self, folder: Path, vendor: Recorder) -> None:
        self.home, self._bin, self._vendor = folder / "home", folder / "bin", vendor
        self.home.mkdir()
        self._bin.mkdir()
        (self._bin / "python").symlink_to(sys.executable)
        for name in ("bash", "cat", "date", "timeout"):
            found = shutil.which(name)
            assert found
            (self._bin / name).symlink_to(found)
        (self._bin / "sleep").write_text("#!/bin/bash\n")  # nothing is waited for
        (self._bin / "sleep").chmod(0o755)

    def set_clock(self, seconds: int) -> None:
        """Let the clock stand still at a time since 1970."""
        (self._bin / "date").unlink()
        (self._bin / "date").write_text(f"#!/bin/bash\necho {seconds}\n")
        (self._bin / "date").chmod(0o755)

    def run(self, script: str, variables: Mapping[str, str]) -> str:
        """Run a script to the end of the container; returns what it said."""
        own = {"PATH": str(self._bin), "HOME": str(self.home)}
        words = [str(self._bin / "bash"), "-c", script]
        done = subprocess.run(words, env=own | dict(variables), capture_output=True, text=True, timeout=60, check=False)
        return done.stdout + done.stderr


CASES = [
    (
        RUNPOD,
        {"RUNPOD_POD_ID": "abc123", "RUNPOD_API_KEY": "rpa_pod"},
        "RUNPOD_API_BASE_URL",
        "/v2/pods/abc123",
        "rpa_pod",
    ),
    (VAST, {"CONTAINER_ID": "42", "CONTAINER_API_KEY": "vk"}, "VAST_URL", "/api/v0/instances/42/", "vk"),
]


@pytest.mark.parametrize(("release", "variables", "base", "path", "key"), CASES, ids=["runpod", "vast"])
@pytest.mark.parametrize(
    ("work", "code"), [("true", 0), ("exit 75", 75), ("no-such-command", 127), ("set -eu; false", 1)]
)
def test_a_container_gives_itself_back_however_its_work_ends(
    vendor: Recorder,
    tmp_path: Path,
    release: Release,
    variables: dict[str, str],
    base: str,
    path: str,
    key: str,
    work: str,
    code: int,
) -> None:
    vendor.answer("DELETE", path, Status(204))
    said = Container(tmp_path, vendor).run(guarded(work, 24, release), {**variables, base: vendor.url})
    [asked] = vendor.requests
    assert (asked.method, asked.path, asked.headers["authorization"]) == ("DELETE", path, f"Bearer {key}")
    assert f"the work ended with {code}" in said


def test_what_is_gone_already_is_given_back_and_a_refusal_is_tried_again(vendor: Recorder, tmp_path: Path) -> None:
    release, variables, base, path, _ = CASES[0]
    vendor.answer("DELETE", path, Status(500), Status(403), Status(404))
    said = Container(tmp_path, vendor).run(guarded("true", 24, release), {**variables, base: vendor.url})
    assert len(vendor.requests) == 3
    assert said.count("still costs money") == 2


def test_a_machine_whose_hours_are_over_does_no_work_and_is_given_back(vendor: Recorder, tmp_path: Path) -> None:
    release, variables, base, path, _ = CASES[1]
    vendor.answer("DELETE", path, {"success": True})
    container = Container(tmp_path, vendor)
    container.set_clock(1_000_000)
    for left in (301, 300, 299, -5):  # `timeout 0` would be for ever
        (container.home / ".dragoman-ends").write_text(f"{1_000_000 + left}\n")
        container.run(guarded('echo >> "$HOME/worked"', 24, release), {**variables, base: vendor.url})
    assert len(vendor.requests) == 4
    assert (container.home / "worked").read_text() == "\n"


def test_a_paused_machine_does_not_begin_its_hours_anew(vendor: Recorder, tmp_path: Path) -> None:
    release, variables, base, path, _ = CASES[1]
    vendor.answer("DELETE", path, {"success": True})
    container = Container(tmp_path, vendor)
    ends = container.home / ".dragoman-ends"
    before = int(time.time())
    container.run(guarded("true", 2.5, release), {**variables, base: vendor.url})
    first = int(ends.read_text())
    assert before + 9000 <= first <= time.time() + 9000
    os.utime(ends, (0, 0))
    container.run(guarded("true", 2.5, release), {**variables, base: vendor.url})
    assert int(ends.read_text()) == first


def test_work_that_does_not_end_is_asked_to_stop_and_then_ended(vendor: Recorder, tmp_path: Path) -> None:
    release, variables, base, path, _ = CASES[0]
    vendor.answer("DELETE", path, Status(204))
    container = Container(tmp_path, vendor)
    # `timeout` itself, with the seconds that the script gives it divided by a thousand.
    real = (container._bin / "timeout").resolve()
    (container._bin / "timeout").unlink()
    (container._bin / "timeout").write_text(
        f'#!/bin/bash\n[[ "$1 $2" == "--signal=TERM --kill-after=300" ]] && echo "after $3"\n'
        f'exec {real} "$1" --kill-after=5 0.2 "${{@:4}}"\n'
    )
    (container._bin / "timeout").chmod(0o755)
    said = container.run(
        guarded("trap 'echo saved; exit 75' TERM; while :; do :; done", 1, release), {**variables, base: vendor.url}
    )
    assert "after 3300" in said or "after 3299" in said
    assert "saved" in said
    assert len(vendor.requests) == 1
