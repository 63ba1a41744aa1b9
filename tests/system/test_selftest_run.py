"""`dragoman selftest`: real processes are killed, here and on a machine that a thread plays, and the run goes on."""

import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dragoman.checkpoint.log import RunLog
from dragoman.cli.app import run
from dragoman.errors import ExitCode
from dragoman.launch import selftest
from dragoman.store.local import FolderStore
from tests.support.hub import HubStandIn
from tests.support.launching import TOKEN, Container, signed_in

NAMES = ["safe before the cut", "went on from what was safe", "all steps", "every byte", "translates"]


def tried(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any], str]:
    capsys.readouterr()
    code = run(["selftest", *words, "--json"])
    said = capsys.readouterr()
    assert TOKEN not in said.out + said.err
    return code, json.loads(said.out) if said.out else {}, said.err


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_processes_of_this_machine_are_killed_and_nothing_is_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, told, err = tried(capsys, "--steps", "120", "--store", str(tmp_path / "stores"))
    assert code == ExitCode.DONE, (told, err)
    assert [check["name"] for check in told["checks"]] == [NAMES[0], "steps lost", *NAMES[1:]]
    assert {check["verdict"] for check in told["checks"]} == {"ok"}
    [store] = (tmp_path / "stores").iterdir()
    log = RunLog(FolderStore(store))
    assert log.epoch >= 2
    facts = {check["name"]: check["facts"] for check in told["checks"]}
    assert 0 < facts["went on from what was safe"]["resumed_step"] < 120
    assert facts["steps lost"]["lost"] < facts["steps lost"]["done"]


class Platform(threading.Thread):
    """Runs every job that is asked for, until it ends or is cancelled."""

    def __init__(self, hub: HubStandIn, folder: Path) -> None:
        super().__init__()
        self._hub, self._folder = hub, folder
        self._over = threading.Event()
        self._machines: dict[str, tuple[Container, subprocess.Popen[bytes]]] = {}
        self.cut: list[str] = []
        """Jobs whose machine was running when it was taken away."""

    def run(self) -> None:
        while not self._over.wait(0.1):
            for job in list(self._hub.jobs.values()):
                self._tend(job)
        for container, process in self._machines.values():
            container.cut(process)

    def end(self) -> None:
        self._over.set()
        self.join()

    def log(self) -> str:
        return "\n".join(path.read_text("utf-8", "replace")[-3000:] for path in sorted(self._folder.glob("*.txt")))

    def _tend(self, job: Any) -> None:
        if job.stage == "SCHEDULING":
            container = Container(self._folder / job.id, self._hub)
            variables = job.asked["environment"] | job.asked["secrets"]
            log = self._folder / f"{job.id}.txt"
            self._machines[job.id] = container, container.start(job.asked["command"], variables, log)
            job.stage = "RUNNING"
            return
        container, process = self._machines[job.id]
        if process.poll() is not None:
            job.stage = "COMPLETED" if job.stage == "RUNNING" else job.stage
        elif job.stage == "CANCELED":
            container.cut(process)
            self.cut.append(job.id)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
    with HubStandIn() as made:
        made.add_token(TOKEN, "ada")
        signed_in(monkeypatch, made)
        monkeypatch.setenv("HF_ENDPOINT", made.url)  # the commands that download and translate
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        yield made


@pytest.fixture
def platform(hub: HubStandIn, tmp_path: Path) -> Iterator[Platform]:
    (tmp_path / "machines").mkdir()
    playing = Platform(hub, tmp_path / "machines")
    playing.start()
    yield playing
    playing.end()


@pytest.mark.slow
def test_a_machine_of_a_platform_is_cut_and_the_next_one_finishes_its_run(
    hub: HubStandIn, platform: Platform, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("dragoman.cli.selftest_verb.THERE_LOOK_SECONDS", 0.2)
    code, told, err = tried(capsys, "jobs", "--gpu", "l4", "--steps", "240", "--yes")
    assert code == ExitCode.DONE, (told, err, platform.log())
    assert [check["name"] for check in told["checks"]] == NAMES
    first, second = hub.jobs.values()
    assert platform.cut[:1] == [first.id]
    assert first.stage == "CANCELED"
    assert second.stage in ("CANCELED", "COMPLETED")
    [store] = [name for name in hub.repositories if "dragoman-selftest-jobs-" in str(name)]
    assert hub.repository(store).private


def test_when_nothing_becomes_safe_the_machine_is_released_and_that_is_said(
    hub: HubStandIn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("dragoman.cli.selftest_verb.THERE_LOOK_SECONDS", 0.01)
    monkeypatch.setattr("dragoman.cli.selftest_verb.QUEUE_SECONDS", -1799.9)  # a platform that never starts it
    code, told, _ = tried(capsys, "jobs", "--gpu", "l4", "--yes")
    assert code == ExitCode.CHECK_SAID_NO
    [check] = told["checks"]
    assert check["verdict"] == "problem"
    assert "the first checkpoint in the store: not within 0 min; nothing is safe yet" in check["finding"]
    assert [job.stage for job in hub.jobs.values()] == ["CANCELED"]


def test_whoever_interrupts_it_pays_for_no_machine(
    hub: HubStandIn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(selftest, "wait_for", interrupted)
    code, told, _ = tried(capsys, "jobs", "--gpu", "l4", "--yes")
    assert (code, told) == (130, {})
    assert [job.stage for job in hub.jobs.values()] == ["CANCELED"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["jobbs", "--yes"], "jobbs is no platform"),
        (["colab"], "no program can end a session from elsewhere"),
        (["jobs", "--gpu", "h200", "--yes"], "2 machines of 0.5 h may cost"),
        (["jobs", "--gpu", "l4"], "this may cost up to $0.80, and nobody can be asked"),
        (["--gpu", "l4"], "--gpu l4: on which platform?"),
        (["--steps", "5"], "over before it could be cut"),
    ],
)
def test_a_wrong_word_starts_nothing(
    hub: HubStandIn, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    code, told, err = tried(capsys, *words)
    assert (code, told) == (ExitCode.BAD_INPUT, {})
    assert said in err
    assert hub.jobs == {}
