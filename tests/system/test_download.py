"""`download`: a whole model under its name or none, from every kind of store, whatever happens on the way."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dragoman.checkpoint import download as downloading
from dragoman.checkpoint.download import TELL_SECONDS, Progress
from dragoman.checkpoint.log import RunLog
from dragoman.cli.app import run
from dragoman.errors import ExitCode, StoreUnavailable
from dragoman.journal import Fetching
from dragoman.store.base import MODEL_FILE
from dragoman.store.disk import part
from dragoman.store.local import FolderStore
from dragoman.store.record import CheckpointRecord
from tests.support import shared
from tests.support.hub import Fault
from tests.support.places import KINDS, SECRET_KEY, STATE, TOKEN, Place, begin, place, save
from tests.support.runs import contents


@pytest.fixture(params=KINDS)
def where(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    with place(request.param, tmp_path, monkeypatch) as found:
        yield found


@pytest.fixture
def folder_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """Where it does not matter which kind of store it is."""
    with place("file", tmp_path, monkeypatch) as found:
        yield found


def three(where: Place, tmp_path: Path) -> RunLog:
    """A run of steps 10, 20 and 30, of which 20 is the best and of 10 nothing is left."""
    log = begin(where.store)
    save(log, tmp_path, 10)
    best = save(log, tmp_path, 20, metrics={"chrf": 31.5}, keep=2)
    save(log, tmp_path, 30, best=best.nonce, keep=2, metrics={"chrf": 31.5})
    return log


def files_of(step: int, *, whole: bool = False) -> dict[str, bytes]:
    names = (MODEL_FILE, STATE) if whole else (MODEL_FILE,)
    return {"config.json": b'{"model_type": "m2m_100"}'} | {
        name: f"{name} of step {step} ".encode() * 50 for name in names
    }


def asked(words: list[object], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The answer of a download that works."""
    capsys.readouterr()
    assert run(["download", *map(str, words), "--json"]) == ExitCode.DONE, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def refused(words: list[object], capsys: pytest.CaptureFixture[str], code: int = ExitCode.BAD_INPUT) -> str:
    capsys.readouterr()
    assert run(["download", *map(str, words)]) == code
    said = capsys.readouterr()
    assert said.out == ""
    return said.err


# --- what comes --------------------------------------------------------------------


def test_the_published_model_comes_whole_and_alone(
    where: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    three(where, tmp_path)
    found = asked([where.url, "--output", tmp_path / "new/model"], capsys)
    assert contents(tmp_path / "new/model") == files_of(20)
    assert found == {
        "schema": 1,
        "url": where.url,
        "output": str(tmp_path / "new/model"),
        "step": 20,
        "checkpoint": "checkpoint-20",
        "whole": False,
        "chrf": 31.5,
        "num_files": 2,
        "num_bytes": sum(map(len, files_of(20).values())),
        "was_there": False,
        "passed_over": [],
    }
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["model"]


def test_a_whole_checkpoint_comes_by_folder_by_step_or_as_the_newest(
    where: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    three(where, tmp_path)
    for number, (words, step) in enumerate([([], 30), (["20"], 20), (["checkpoint-30"], 30)]):
        output = tmp_path / f"got-{number}"
        found = asked([where.url, "--output", output, "--checkpoint", *words], capsys)
        assert (found["step"], found["whole"], found["chrf"]) == (step, True, 31.5 if step == 20 else None)
        assert contents(output) == files_of(step, whole=True)


def test_it_says_where_the_model_is_and_how_to_use_it(
    where: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    three(where, tmp_path)
    output = tmp_path / "my model"
    assert run(["download", where.url, "--output", str(output)]) == ExitCode.DONE
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        f"the model of step 20 (chrF++ 31.5) is in {output} (2 files, 0.0 MB, every byte as recorded)",
        f"translate with: dragoman translate --model '{output}' -p SOURCE-TARGET \"TEXT\"",
    ]
    for secret in (TOKEN, SECRET_KEY):
        assert secret not in said.out + said.err


def test_a_downloaded_model_translates(tmp_path: Path, folder_store: Place, capsys: pytest.CaptureFixture[str]) -> None:
    done = shared.finished_run()
    output = tmp_path / "model"
    found = asked([done, "--output", output], capsys)
    assert found["step"] == 4
    assert contents(output)[MODEL_FILE] == (done / MODEL_FILE).read_bytes()
    words = ["translate", "-p", "en-fr", "--num-beams", "1", "--device", "cpu", "the red cat", "--model"]
    assert run([*words, str(done)]) == run([*words, str(output)]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == second


def test_of_a_checkpoint_that_was_trimmed_the_model_comes(
    folder_store: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = begin(folder_store.store)
    best = save(log, tmp_path, 10)
    for step in (20, 30):
        save(log, tmp_path, step, best=best.nonce, keep=1)
    found = asked([folder_store.url, "--output", tmp_path / "got", "--checkpoint", "10"], capsys)
    assert found["whole"] is False
    assert contents(tmp_path / "got") == files_of(10)


# --- what is there already ----------------------------------------------------------


def test_the_same_download_again_does_nothing(where: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    three(where, tmp_path)
    words: list[object] = [where.url, "--output", tmp_path / "model"]
    asked(words, capsys)
    (tmp_path / "model/notes.txt").write_text("mine")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "model").iterdir()}
    assert asked(words, capsys)["was_there"] is True
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "model").iterdir()} == before


@pytest.mark.parametrize("name", ["notes.txt", MODEL_FILE])
def test_a_folder_that_holds_something_else_is_refused(
    name: str, folder_store: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    three(folder_store, tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / name).write_text("mine")
    said = refused([folder_store.url, "--output", tmp_path / "model"], capsys)
    assert f"error: {tmp_path}/model: holds something else\n  try: another --output" in said
    assert contents(tmp_path / "model") == {name: b"mine"}
    assert not part(tmp_path / "model").exists()


def test_a_folder_that_holds_an_older_model_of_the_run_is_refused(
    where: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = three(where, tmp_path)
    words: list[object] = [where.url, "--output", tmp_path / "model"]
    asked(words, capsys)
    save(log, tmp_path, 40)
    said = refused(words, capsys)
    assert "holds step 20 of this run, and the one to download is 40" in said
    assert contents(tmp_path / "model") == files_of(20)


def test_an_empty_folder_is_as_good_as_none(
    folder_store: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    three(folder_store, tmp_path)
    (tmp_path / "model").mkdir()
    asked([folder_store.url, "--output", tmp_path / "model"], capsys)
    assert contents(tmp_path / "model") == files_of(20)


@pytest.mark.parametrize("output", ["file", "file/below", "."])
def test_an_output_that_cannot_be_a_new_folder_is_refused(
    output: str,
    folder_store: Place,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    three(folder_store, tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    said = refused([folder_store.url, "--output", output], capsys)
    assert "--output" in said
    assert (tmp_path / "file").read_text() == "mine"


# --- what goes wrong ----------------------------------------------------------------


def test_a_damaged_best_gives_way_to_the_newest_loudly_and_stays_a_no_op_afterwards(
    where: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    three(where, tmp_path)
    data = bytearray(files_of(20)[MODEL_FILE])
    data[-1] ^= 1
    where.overwrite(f"checkpoint-20/{MODEL_FILE}", bytes(data))
    words: list[object] = [where.url, "--output", tmp_path / "model"]
    assert run(["download", *map(str, words)]) == ExitCode.DONE
    said = capsys.readouterr()
    assert f"warning: checkpoint-20 is not used: {folder_of(where)}/checkpoint-20/{MODEL_FILE}: " in said.err
    assert said.out.startswith("the model of step 30")
    assert contents(tmp_path / "model") == files_of(30)
    found = asked(words, capsys)
    assert (found["step"], found["was_there"]) == (30, True)
    assert [each["checkpoint"] for each in found["passed_over"]] == ["checkpoint-20"]


def folder_of(where: Place) -> str:
    """How a store names itself in a message."""
    return where.url.removeprefix("file://")


def test_a_newest_checkpoint_with_a_missing_file_gives_way_to_the_one_before(
    where: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    three(where, tmp_path)
    where.overwrite(f"checkpoint-30/{STATE}", None)
    found = asked([where.url, "--output", tmp_path / "got", "--checkpoint"], capsys)
    assert found["step"] == 20
    assert contents(tmp_path / "got") == files_of(20, whole=True)


def test_when_a_named_checkpoint_is_damaged_nothing_comes(
    where: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    three(where, tmp_path)
    where.overwrite(f"checkpoint-30/{STATE}", None)
    said = refused([where.url, "--output", tmp_path / "got", "--checkpoint", "30"], capsys)
    assert "what was asked for is damaged" in said
    assert "checkpoint-20" in said, "another choice"
    assert not (tmp_path / "got").exists()


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        (["--checkpoint", "77"], "--checkpoint 77: "),
        (["--checkpoint", "10"], "one of checkpoint-30 checkpoint-20"),
        (["--checkpoint", "10", "20"], "one at a time"),
    ],
)
def test_a_checkpoint_that_is_not_there_is_refused(
    words: list[object], fragment: str, folder_store: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    three(folder_store, tmp_path)
    assert fragment in refused([folder_store.url, "--output", tmp_path / "got", *words], capsys)
    assert not (tmp_path / "got").exists()


def test_a_run_without_a_checkpoint_and_a_store_without_a_run_are_refused(
    where: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words: list[object] = [where.url, "--output", tmp_path / "got"]
    assert "there is no run here" in refused(words, capsys)
    begin(where.store)
    assert "has no checkpoint yet" in refused(words, capsys)
    assert not (tmp_path / "got").exists()


def test_a_disk_that_is_too_small_is_found_out_before_anything_comes(
    folder_store: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    three(folder_store, tmp_path)
    monkeypatch.setattr("dragoman.host.free_bytes", lambda path: 100)
    assert "MB are free" in refused([folder_store.url, "--output", tmp_path / "got"], capsys)
    assert not (tmp_path / "got").exists()


def test_a_download_that_was_cut_leaves_no_model_and_goes_on_where_it_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with place("hub", tmp_path, monkeypatch) as where:
        assert where.hub is not None
        three(where, tmp_path)
        output = tmp_path / "model"
        where.hub.faults.add(Fault("download", cut_download_at=400))
        where.hub.faults.add(Fault("download", skip=1, status=403, times=None))
        said = refused([where.url, "--output", output], capsys, ExitCode.RESUME_ME)
        assert "the same command again goes on where it stopped" in said
        assert not output.exists()
        assert part(output).is_dir()
        where.hub.faults.clear()
        where.hub.requests.clear()
        assert asked([where.url, "--output", output], capsys)["was_there"] is False
        assert contents(output) == files_of(20)
        assert not part(output).exists()
        assert [seen.range for seen in where.hub.requests if seen.route == "download"] == ["bytes=400-"]


def test_what_is_left_of_another_download_does_not_get_into_this_one(
    folder_store: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    three(folder_store, tmp_path)
    growing = part(tmp_path / "model")
    (growing / "training").mkdir(parents=True)
    for name in (MODEL_FILE, STATE, "old.json"):
        (growing / name).write_text("of another one")
    asked([folder_store.url, "--output", tmp_path / "model"], capsys)
    assert contents(tmp_path / "model") == files_of(20)
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["config.json", MODEL_FILE]


class Retiring(FolderStore):
    """A store in which the newest checkpoint is retired while it is being fetched."""

    def __init__(self, root: Path, tmp_path: Path, times: int) -> None:
        super().__init__(root)
        self.tmp_path, self.times, self.step = tmp_path, times, 100

    def fetch(self, checkpoint: CheckpointRecord, names: Any, into: Path) -> None:
        if self.times:
            self.times, self.step = self.times - 1, self.step + 1
            other = RunLog(FolderStore(self.root))
            assert other.lease is not None
            other.owner = other.lease.owner
            save(other, self.tmp_path, self.step)
            other.retire(1)
        super().fetch(checkpoint, names, into)


def silent(*_: object) -> None:
    raise AssertionError("it is not damaged")


def test_a_checkpoint_that_is_retired_meanwhile_gives_way_to_the_newer_one(folder_store: Place, tmp_path: Path) -> None:
    three(folder_store, tmp_path)
    log = RunLog(Retiring(tmp_path / "store", tmp_path, times=1))
    found = downloading.download(log, tmp_path / "got", "", report=silent, progress=Progress(lambda event: None))
    assert found.checkpoint.step == 101
    assert contents(tmp_path / "got") == files_of(101, whole=True)


def test_a_run_that_saves_faster_than_we_download_is_given_up(folder_store: Place, tmp_path: Path) -> None:
    three(folder_store, tmp_path)
    log = RunLog(Retiring(tmp_path / "store", tmp_path, times=100))
    with pytest.raises(StoreUnavailable, match="retired there faster"):
        downloading.download(log, tmp_path / "got", "", report=silent, progress=Progress(lambda event: None))
    assert not (tmp_path / "got").exists()


def test_a_long_download_tells_how_far_it_is() -> None:
    now, told = [0.0], list[Any]()
    progress = Progress(told.append, clock=lambda: now[0])
    progress.begin(20, 100, 1000)
    progress.arrived(200)
    assert told == []
    now[0] = TELL_SECONDS
    progress.arrived(300)
    assert told == [Fetching(step=20, num_bytes=600, of_bytes=1000)]
    progress.arrived(300)
    assert len(told) == 1


def test_what_was_cut_after_it_was_whole_is_no_hindrance(
    folder_store: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    three(folder_store, tmp_path)
    words: list[object] = [folder_store.url, "--output", tmp_path / "model"]
    asked(words, capsys)
    shutil.copytree(tmp_path / "model", part(tmp_path / "model"))
    assert asked(words, capsys)["was_there"] is True
    assert not part(tmp_path / "model").exists()
