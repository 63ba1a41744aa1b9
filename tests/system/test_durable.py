"""Whole runs with a durable store: they lose their machine, their disk or their network, and nothing else."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dragoman import journal
from dragoman.checkpoint.lease import OwnNames, claim
from dragoman.checkpoint.log import RunLog
from dragoman.checkpoint.run_folder import JOURNAL
from dragoman.config import RunConfig
from dragoman.errors import ConfigMismatch, ExitCode, InputError, StoreUnavailable, Superseded
from dragoman.journal import Event, Journal
from dragoman.store.local import FolderStore
from dragoman.store.record import CheckpointRecord, FinishedRecord
from dragoman.training import loop, session
from tests.support import real
from tests.support.hub import HubStandIn
from tests.support.places import use_hub
from tests.support.runs import train_args
from tests.support.sessions import Lab, final, trained

TOKEN = "hf_secretsecretsecret"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """Runs beside `plain`, which was never disturbed and has no durable store."""
    made = Lab(tmp_path_factory.mktemp("durable"), {"lease_minutes": 0.05, "drain_minutes": 1.0})
    made.train("plain")
    return made


@pytest.fixture
def name(lab: Lab, request: pytest.FixtureRequest) -> str:
    made = request.node.name.replace("/", "-")[:60]
    lab.prepared(made, like="plain")
    return made


def store_of(lab: Lab, name: str) -> Path:
    return lab.folder / f"{name}-store"


def log_of(folder: Path) -> RunLog:
    return RunLog(FolderStore(folder))


# --- a folder on another disk ----------------------------------------------------------


def test_a_run_ends_with_its_model_and_its_state_in_the_store(lab: Lab, name: str) -> None:
    ending = lab.train(name, store=str(store_of(lab, name)))
    assert (ending.exit_code, ending.store_step) == (ExitCode.DONE, 8)
    assert trained(store_of(lab, name)) == trained(lab.folder / "plain")
    assert final(store_of(lab, name)) == final(lab.folder / "plain")
    end = log_of(store_of(lab, name)).finished
    assert isinstance(end, FinishedRecord)
    assert (end.outcome, end.step) == ("done", 8)
    assert [event.kind() for event in lab.events if isinstance(event, journal.Replicated)]


def stopped_after(lab: Lab, name: str, step: int, store: Path) -> None:
    """A session that is told to stop by its own trainer's signal, with that step in the store."""

    def echo(event: Event) -> None:
        if isinstance(event, journal.Step) and event.step == step:
            os.kill(os.getpid(), 15)

    ending = loop.run(lab.config(name, store=str(store)), echo)
    assert (ending.outcome, ending.step, ending.store_step) == ("stopped", step, step)
    assert ending.exit_code is ExitCode.RESUME_ME


def test_a_run_continues_on_an_empty_machine_from_its_store_alone(lab: Lab, name: str) -> None:
    store = store_of(lab, name)
    stopped_after(lab, name, 5, store)
    shutil.rmtree(lab.folder / name)
    gone = (lab.folder / "pairs.tsv").rename(lab.folder / "pairs.gone")
    try:
        ending = lab.train(name, store=str(store))
    finally:
        gone.rename(lab.folder / "pairs.tsv")
    assert ending.exit_code is ExitCode.DONE
    started = next(event for event in lab.events if isinstance(event, journal.SessionStarted))
    assert (started.step, started.epoch) == (5, 2)
    for folder in (lab.folder / name, store):
        assert trained(folder) == trained(lab.folder / "plain")
        assert final(folder) == final(lab.folder / "plain")


def test_a_folder_that_the_store_is_ahead_of_goes_on_from_the_store(lab: Lab, name: str) -> None:
    store, old = store_of(lab, name), lab.folder / f"{name}-old"
    stopped_after(lab, name, 3, store)
    shutil.copytree(lab.folder / name, old)
    stopped_after(lab, name, 6, store)
    ending = lab.train(old.name, store=str(store), take_over=True)
    started = next(event for event in lab.events if isinstance(event, journal.SessionStarted))
    assert started.step == 6
    assert ending.exit_code is ExitCode.DONE
    assert trained(old) == trained(lab.folder / "plain")


def test_damage_in_the_store_falls_back_to_the_one_before_and_still_ends_alike(lab: Lab, name: str) -> None:
    store = store_of(lab, name)
    stopped_after(lab, name, 4, store)
    stopped_after(lab, name, 6, store)
    newest = log_of(store).newest
    assert newest is not None
    weights = store / newest.folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    shutil.rmtree(lab.folder / name)
    lab.train(name, store=str(store))
    started = next(event for event in lab.events if isinstance(event, journal.SessionStarted))
    assert started.step == 4
    assert [event.message for event in lab.events if isinstance(event, journal.Warned) and "not used" in event.message]
    assert trained(store) == trained(lab.folder / "plain")


def test_when_all_is_damaged_here_the_store_helps(lab: Lab, name: str) -> None:
    store = store_of(lab, name)
    stopped_after(lab, name, 4, store)
    for path in (lab.folder / name).glob("checkpoint-*/training/state.json"):
        path.write_bytes(b"rot")
    lab.train(name, store=str(store))
    started = next(event for event in lab.events if isinstance(event, journal.SessionStarted))
    assert started.step == 4
    assert trained(lab.folder / name) == trained(lab.folder / "plain")


def test_the_best_model_comes_along_and_stays_the_published_one(lab: Lab, name: str) -> None:
    store = store_of(lab, name)
    options = {"eval_steps": 2, "keep": 1, "max_steps": 12}
    whole = lab.prepared(f"{name}-whole", like="plain")
    lab.train(whole.name, **options)

    def echo(event: Event) -> None:
        if isinstance(event, journal.Step) and event.step == 9:
            os.kill(os.getpid(), 15)

    loop.run(lab.config(name, store=str(store), **options), echo)
    shutil.rmtree(lab.folder / name)
    lab.train(name, store=str(store), **options)
    assert final(lab.folder / name) == final(whole) == final(store)
    assert len(log_of(store).kept) <= 2


def test_a_machine_that_was_taken_over_stops_keeps_its_work_and_publishes_nothing(lab: Lab, name: str) -> None:
    store = store_of(lab, name)
    others: list[RunLog] = []

    def echo(event: Event) -> None:
        if isinstance(event, journal.Replicated) and not others:
            others.append(log_of(store))
            claim(others[0], OwnNames(lab.folder / f"{name}-other", "there"), "there")

    with pytest.raises(Superseded, match="there"):
        loop.run(lab.config(name, store=str(store), max_steps=3000, eval_steps=0), echo)
    assert log_of(store).records == others[0].records
    newest = log_of(lab.folder / name).newest
    assert newest is not None
    FolderStore(lab.folder / name).verify(newest)


def test_a_store_with_other_settings_or_another_run_is_refused(lab: Lab, name: str) -> None:
    store = store_of(lab, name)
    stopped_after(lab, name, 2, store)
    lab.prepared(f"{name}-2", like="plain")
    with pytest.raises(ConfigMismatch, match=r"--learning-rate: 0\.001 → 0\.002"):
        lab.train(f"{name}-2", store=str(store), learning_rate=0.002)
    lab.prepared(f"{name}-3", like="plain")
    stopped_after(lab, f"{name}-3", 2, store_of(lab, f"{name}-3"))
    before = log_of(store).records
    with pytest.raises(InputError, match="holds another run"):
        lab.train(f"{name}-3", store=str(store))
    assert log_of(store).records == before


def test_resume_must_and_never_look_at_the_store_too(lab: Lab, name: str) -> None:
    store = store_of(lab, name)
    with pytest.raises(InputError, match="--resume must: there is no run"):
        lab.train(name, store=str(store), resume="must")
    stopped_after(lab, name, 2, store)
    shutil.rmtree(lab.folder / name)
    with pytest.raises(InputError, match="--resume never"):
        lab.train(name, store=str(store), resume="never")
    assert lab.train(name, store=str(store), resume="must").outcome == "done"


def test_the_run_folder_is_no_durable_store_of_itself(lab: Lab, name: str) -> None:
    with pytest.raises(InputError, match="the run folder itself"):
        lab.train(name, store=str(lab.folder / name))


def test_a_run_that_is_done_still_uploads_what_is_missing(lab: Lab, name: str) -> None:
    lab.train(name)
    ending = lab.train(name, store=str(store_of(lab, name)))
    assert (ending.reason, ending.exit_code, ending.store_step) == ("was done before", ExitCode.DONE, 8)
    assert final(store_of(lab, name)) == final(lab.folder / "plain")
    other = lab.train(f"{name}-elsewhere", store=str(store_of(lab, name)))
    assert (other.exit_code, other.safe_step, other.store_step) == (ExitCode.DONE, 0, 8)
    assert not (lab.folder / f"{name}-elsewhere").exists()


HOLDER = """
import sys
from pathlib import Path
from dragoman.checkpoint.watchdog import REPLICATOR_LOCK
from dragoman.store import lock

with lock.hold(Path(sys.argv[1]) / REPLICATOR_LOCK):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_session_with_another_store_does_not_leave_the_old_copying_in_its_place(lab: Lab, name: str) -> None:
    run = lab.folder / name
    words = [sys.executable, "-c", HOLDER, str(run)]
    old = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert old.stdout is not None
    assert old.stdout.readline() == b"held\n"
    began = journal.ReplicatorStarted(store="hf://ada/old", pid=old.pid, owner="ab", epoch=1, safe_step=0)
    Journal(run / JOURNAL).append(began)
    ending = lab.train(name, store=str(store_of(lab, name)))
    assert (ending.exit_code, ending.store_step) == (ExitCode.DONE, 8)
    assert old.wait(timeout=30) == -15


# --- the Hub ---------------------------------------------------------------------------


@pytest.fixture
def hub() -> Iterator[HubStandIn]:
    with HubStandIn() as made:
        made.add_token(TOKEN, "ada")
        yield made


def at(hub: HubStandIn, home: Path) -> dict[str, str]:
    return {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HOME": str(home / "hf")}


def holds(hub: HubStandIn, prefix: str) -> bool:
    with contextlib.suppress(LookupError):
        return any(name.startswith(prefix) for name in hub.names("ada/run"))
    return False


def options(**more: Any) -> dict[str, Any]:
    common = {"threads": 1, "dropout": 0.2, "hub_model_id": "ada/run", "lease_minutes": 0.05, "drain_minutes": 1}
    return common | {"eval_steps": 0} | more


@pytest.mark.slow
def test_a_space_that_loses_processes_and_disk_goes_on_from_the_hub_to_the_same_weights(
    tmp_path: Path, hub: HubStandIn
) -> None:
    """Trainer and replicator are killed and the disk wiped, as when a Space restarts; then `resume USER/REPO`."""
    run = tmp_path / "run"
    words = train_args(tmp_path, **options(max_steps=150, save_steps=5))
    process = real.start(words, at(hub, tmp_path), tmp_path / "log")
    try:
        real.until(lambda: holds(hub, "checkpoint-"), "a checkpoint is on the Hub")
    finally:
        process.kill()
        process.wait()
    real.kill_copying(run)
    shutil.rmtree(run)
    (tmp_path / "pairs.tsv").rename(tmp_path / "pairs.gone")
    done = real.run(["resume", "ada/run", "--output", str(tmp_path / "again")], at(hub, tmp_path))
    assert done.returncode == 0, done.stderr
    assert "continues at step" in done.stderr
    assert "the model is in" in done.stderr.splitlines()[-1]
    (tmp_path / "pairs.gone").rename(tmp_path / "pairs.tsv")
    plain = train_args(tmp_path, **options(max_steps=150, save_steps=5, hub_model_id=None), output=tmp_path / "plain")
    assert real.run(plain).returncode == 0
    assert trained(tmp_path / "again") == trained(tmp_path / "plain")
    assert hub.read("ada/run", "model.safetensors") == (tmp_path / "plain/model.safetensors").read_bytes()


def test_no_token_is_written_anywhere(tmp_path: Path, hub: HubStandIn) -> None:
    done = real.run(train_args(tmp_path, **options()), at(hub, tmp_path))
    assert done.returncode == 0, done.stderr
    hub.revoke(TOKEN)
    refused = real.run(train_args(tmp_path, **options(max_steps=5), output=tmp_path / "other"), at(hub, tmp_path))
    assert refused.returncode == ExitCode.RESUME_ME or refused.returncode == ExitCode.BAD_INPUT
    secret = TOKEN.encode()
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or secret not in path.read_bytes(), path
    for commit in hub.commits("ada/run"):
        assert TOKEN not in commit.title
    for name in hub.names("ada/run"):
        assert secret not in hub.read("ada/run", name), name
    for text in (done.stdout, done.stderr, refused.stdout, refused.stderr):
        assert TOKEN not in text


def test_a_store_that_cannot_be_reached_stops_nobody_who_has_the_run_here(
    lab: Lab, name: str, hub: HubStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reach(url: str) -> None:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
        monkeypatch.setenv("HF_ENDPOINT", url)  # for the process that copies

    use_hub(hub, monkeypatch, TOKEN)
    reach("http://127.0.0.1:9")
    with pytest.raises(StoreUnavailable, match="hf://ada/run"):
        lab.train(f"{name}-elsewhere", store="hf://ada/run")
    assert not (lab.folder / f"{name}-elsewhere").exists()

    reach(hub.url)
    assert lab.stopped(name, before=5, store="hf://ada/run").store_step == 6
    reach("http://127.0.0.1:9")
    alone = lab.train(name, store="hf://ada/run", drain_minutes=0.02)
    assert (alone.exit_code, alone.safe_step) == (ExitCode.RESUME_ME, 8)
    assert "replication_failed" in lab.kinds()
    real.kill_copying(lab.folder / name)  # it would try again in a minute
    reach(hub.url)
    assert lab.train(name, store="hf://ada/run").exit_code is ExitCode.DONE
    assert hub.read("ada/run", "model.safetensors") == (lab.folder / "plain/model.safetensors").read_bytes()


@pytest.mark.slow
def test_a_killed_run_whose_store_cannot_be_reached_goes_on_says_so_and_is_copied_later(
    tmp_path: Path, hub: HubStandIn
) -> None:
    nowhere = at(hub, tmp_path) | {"HF_ENDPOINT": "http://127.0.0.1:9"}
    words = train_args(tmp_path, **options(drain_minutes=0.02))
    nothing = real.run(words, nowhere)
    assert nothing.returncode == ExitCode.RESUME_ME, nothing.stderr
    assert "hf://ada/run" in nothing.stderr
    assert not (tmp_path / "run").exists()

    words = train_args(tmp_path, **options(drain_minutes=0.02, max_steps=150, save_steps=5))
    process = real.start(words, at(hub, tmp_path), tmp_path / "log")
    real.until(lambda: holds(hub, "checkpoint-"), "a checkpoint is on the Hub")
    process.kill()
    process.wait()
    real.kill_copying(tmp_path / "run")
    alone = real.run(words, nowhere)
    assert alone.returncode == ExitCode.RESUME_ME, alone.stderr
    assert "training goes on from" in alone.stderr
    assert "DEGRADED: hf://ada/run" in alone.stderr
    assert "step 150 is on this disk" in alone.stderr
    real.kill_copying(tmp_path / "run")
    later = real.run(train_args(tmp_path, **options(max_steps=150, save_steps=5)), at(hub, tmp_path))
    assert later.returncode == ExitCode.DONE, later.stderr
    assert "was done before; the model is in" in later.stderr
    assert hub.read("ada/run", "model.safetensors") == (tmp_path / "run/model.safetensors").read_bytes()


NO_NETWORK = """
import sys
from dragoman import journal
from dragoman.cli import app, output
from dragoman.training import loop, session

calls, between = [], []
def hook(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto", "socket.bind", "http.client.connect"):
        calls.append((event, str(arguments[1:])))
sys.addaudithook(hook)
real = loop.train
def train(run):
    before = len(calls)
    assert before > 0, "the hook sees nothing"
    reason = real(run)
    between.extend(calls[before:])
    return reason
loop.train = train
code = app.run(sys.argv[1:])
print("calls", len(between), between[:3])
sys.exit(code)
"""


def test_between_its_first_and_last_step_the_trainer_makes_no_network_call(tmp_path: Path, hub: HubStandIn) -> None:
    words = train_args(tmp_path, **options(max_steps=60, save_steps=5))
    environment = real.environment(at(hub, tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", NO_NETWORK, *words], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "calls 0" in done.stdout
    assert "safe in hf://ada/run" in done.stderr


def test_a_run_that_another_machine_began_while_we_waited_is_continued_and_not_begun_again(
    lab: Lab, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two machines get the same command at once; the second finds nothing, and then waits for the lease."""
    store, first = store_of(lab, name), lab.prepared(f"{name}-first", like="plain")
    check = session.inputs.check

    def slow(config: RunConfig) -> None:
        check(config)
        monkeypatch.undo()
        stopped_after(lab, first.name, 5, store)

    monkeypatch.setattr(session.inputs, "check", slow)
    ending = lab.train(name, store=str(store))
    started = [event for event in lab.events if isinstance(event, journal.SessionStarted)]
    assert [event.step for event in started] == [5]
    assert ending.exit_code is ExitCode.DONE
    assert trained(store) == trained(lab.folder / "plain")
    steps = [
        record.step for record in log_of(store).records if isinstance(record, CheckpointRecord) and record.is_whole
    ]
    assert steps == sorted(steps)
