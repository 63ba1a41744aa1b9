"""`status` of a store: by its own clock, from any machine, without torch."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dragoman.checkpoint.log import RunLog
from dragoman.checkpoint.remote_status import LEASE_SECONDS, remote_status
from dragoman.checkpoint.status import status
from dragoman.cli.app import run
from dragoman.errors import ExitCode, InputError, StoreUnavailable
from dragoman.store.local import FolderStore
from tests.support.hub import Fault, HubStandIn
from tests.support.places import KINDS, TOKEN, Place, begin, place, save, use_hub
from tests.unit.test_status import KEYS, Clock

FAR = 1e9
"""This machine's clock: far from that of the machine that trains."""


class Timed(FolderStore):
    """A store whose clock is moved by hand."""

    idle = 3.0

    def idle_seconds(self) -> float:
        return self.idle


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path) -> Timed:
    store = Timed(tmp_path / "store")
    store.prepare()
    return store


@pytest.fixture
def log(store: Timed, clock: Clock) -> RunLog:
    return begin(store, now=clock)


def look(log: RunLog) -> dict[str, Any]:
    found: Any = remote_status(log, now=FAR)
    assert set(found) == KEYS
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    return found


def test_a_store_tells_what_is_safe_and_how_old_it_is_by_its_own_clock(
    log: RunLog, store: Timed, clock: Clock, tmp_path: Path
) -> None:
    first = save(log, tmp_path, 10)
    clock.now += 60
    save(log, tmp_path, 20, best=first.nonce, metrics={"chrf": 31.5}, losses=[(19, 2.0), (20, 1.5)])
    clock.now += 5
    log.append(type(log.records[0]), host="kaggle")
    found = look(log)
    url = f"file://{store.root}"
    assert (found["state"], found["step"], found["loss"], found["chrf"]) == ("running", 20, 1.5, 31.5)
    assert found["safe"] == {"step": 20, "store": url, "age_seconds": 8.0, "verified": True}
    assert found["lease"] == {"owner": log.owner, "host": "kaggle", "epoch": 1, "age_seconds": 3.0}
    kept = [(each["folder"], each["step"], each["age_seconds"], each["best"]) for each in found["store"]["checkpoints"]]
    assert kept == [("checkpoint-20", 20, 8.0, False), ("checkpoint-10", 10, 68.0, True)]
    assert found["store"]["url"] == url
    assert found["store"]["num_bytes"] == store.num_bytes() > first.num_bytes
    assert (found["local"], found["degraded"]) == (None, None)


def test_a_checkpoint_of_which_only_the_model_is_left_is_not_whole(log: RunLog, tmp_path: Path) -> None:
    best = save(log, tmp_path, 10)
    for step in (20, 30):
        save(log, tmp_path, step, best=best.nonce, keep=1)
    kept = look(log)["store"]["checkpoints"]
    assert [(each["step"], each["whole"], each["best"]) for each in kept] == [(30, True, False), (10, False, True)]


@pytest.mark.parametrize("outcome", ["done", "stopped", "failed"])
def test_a_run_that_ended_by_itself_says_how(log: RunLog, outcome: Any) -> None:
    log.finish(outcome, "why", step=40)
    found = look(log)
    assert (found["state"], found["step"], found["safe"]) == (outcome, 40, None)
    assert found["history"][0]["outcome"] == outcome


def test_a_holder_that_is_silent_for_longer_than_the_lease_is_interrupted(log: RunLog, store: Timed) -> None:
    store.idle = LEASE_SECONDS - 1
    assert look(log)["state"] == "running"
    store.idle = LEASE_SECONDS
    assert look(log)["state"] == "interrupted"


def test_the_sessions_are_told_the_newest_first_and_a_repeated_lease_is_none(
    log: RunLog, store: Timed, clock: Clock, tmp_path: Path
) -> None:
    save(log, tmp_path, 10)
    clock.now += 5
    log.append(type(log.records[0]), host="kaggle")
    clock.now += 100
    second = begin(Timed(store.root), "colab", now=clock)
    clock.now += 10
    save(second, tmp_path, 20)
    second.finish("stopped", "deadline", step=25)
    clock.now += 100
    third = begin(Timed(store.root), "space", now=clock)
    history = look(third)["history"]
    assert [(each["epoch"], each["host"], each["outcome"], each["step"]) for each in history] == [
        (3, "space", "running", None),
        (2, "colab", "stopped", 25),
        (1, "kaggle", "interrupted", 10),
    ]
    assert [(each["first_time"], each["last_time"]) for each in history] == [
        (1215.0, 1215.0),
        (1105.0, 1115.0),
        (1000.0, 1005.0),
    ]


def test_a_store_that_tells_its_time_and_size_only_to_writers_can_still_be_read(
    log: RunLog, store: Timed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refused(*_: object) -> float:
        raise StoreUnavailable("403")

    save(log, tmp_path, 10)
    monkeypatch.setattr(store, "idle_seconds", refused)
    monkeypatch.setattr(store, "num_bytes", refused)
    found = look(log)
    assert (found["safe"]["age_seconds"], found["store"]["num_bytes"]) == (FAR - 1000.0, None)


def test_a_loss_that_is_no_number_is_not_known(log: RunLog, tmp_path: Path) -> None:
    save(log, tmp_path, 10, losses=[(10, float("nan"))])
    assert look(log)["loss"] is None


# --- the command -------------------------------------------------------------------


@pytest.fixture(params=KINDS)
def where(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    with place(request.param, tmp_path, monkeypatch) as found:
        yield found


def test_the_command_reads_every_kind_of_store(
    where: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = begin(where.store)
    save(log, tmp_path, 10)
    save(log, tmp_path, 20, keep=1)
    assert run(["status", where.url, "--json"]) == ExitCode.DONE
    found = json.loads(capsys.readouterr().out)
    assert set(found) == KEYS
    assert (found["state"], found["step"], found["safe"]["step"], found["safe"]["store"]) == (
        "running",
        20,
        20,
        where.url,
    )
    assert 0 <= found["safe"]["age_seconds"] < 60
    assert [each["folder"] for each in found["store"]["checkpoints"]] == ["checkpoint-20"]
    assert found["store"]["num_bytes"] > 0
    log.finish("stopped", "deadline", step=20)
    assert run(["status", where.url]) == ExitCode.DONE
    said = capsys.readouterr()
    assert TOKEN not in said.out + said.err
    lines = said.out.splitlines()
    assert lines[0] == "stopped: step 20"
    assert lines[1].startswith("safe: step 20, saved ")
    assert lines[1].endswith(f" ago in {where.url}")
    assert lines[2].startswith("lease: kaggle held it last (epoch 1), last seen ")
    assert any("checkpoint-20" in line and "best" in line for line in lines)
    assert any(line.startswith(f"{where.url} holds ") for line in lines)
    assert any("1 on kaggle" in line and "stopped" in line for line in lines)
    assert lines[-1] == f"continue with: dragoman resume {where.url}"


def test_a_store_without_a_run_is_refused(where: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status", where.url]) == ExitCode.BAD_INPUT
    said = capsys.readouterr()
    assert said.out == ""
    assert f"error: {where.url}: there is no run here\n  try: " in said.err


def test_a_repository_by_its_name_alone_is_looked_for_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with place("hub", tmp_path, monkeypatch) as where:
        save(begin(where.store), tmp_path, 10)
        assert run(["status", "ada/run"]) == ExitCode.DONE
        assert "safe: step 10" in capsys.readouterr().out
        assert run(["status", "ada/typo"]) == ExitCode.BAD_INPUT
    said = capsys.readouterr().err
    assert "ada/typo: there is no folder of that name, and no run in hf://ada/typo" in said


def test_a_hub_that_does_not_answer_is_worth_another_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with HubStandIn() as hub:
        use_hub(hub, monkeypatch)
        hub.create("ada/run")
        hub.faults.add(Fault(status=500, times=None, error_message=f"failed for {TOKEN}"))
        assert run(["status", "hf://ada/run"]) == ExitCode.RESUME_ME
        said = capsys.readouterr().err
        assert "error: hf://ada/run: " in said
        assert "500" in said
        monkeypatch.chdir(tmp_path)
        assert run(["status", "ada/run"]) == ExitCode.RESUME_ME
        said += capsys.readouterr().err
        assert "ada/run is no folder here, so it was looked for on the Hub: hf://ada/run: " in said
        assert TOKEN not in said


def test_a_wrong_url_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status", "hff://ada/run"]) == ExitCode.BAD_INPUT
    assert "unknown kind of store hff://" in capsys.readouterr().err


def test_a_damaged_log_is_named(where: Place, capsys: pytest.CaptureFixture[str]) -> None:
    begin(where.store)
    where.overwrite("dragoman/log/000001.json", b"{}")
    assert run(["status", where.url]) == ExitCode.BAD_INPUT
    assert "dragoman/log/000001.json" in capsys.readouterr().err


def test_a_run_folder_is_read_as_one_whether_by_its_path_or_its_url(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "run")
    store.prepare()
    begin(store)
    assert status(f"file://{tmp_path}/run")["local"] is None
    (tmp_path / "run/dragoman/journal.jsonl").touch()
    for name in (tmp_path / "run", str(tmp_path / "run"), f"file://{tmp_path}/run"):
        assert status(name)["store"] is None
    with pytest.raises(InputError, match="there is no run here"):
        status(tmp_path / "nowhere")


def test_status_of_a_store_imports_no_torch(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "run")
    store.prepare()
    begin(store)
    program = (
        "import sys; from dragoman.cli.app import run\n"
        f"assert run(['status', 'file://{tmp_path}/run']) == 0\n"
        "sys.exit(' '.join({'torch', 'transformers'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
