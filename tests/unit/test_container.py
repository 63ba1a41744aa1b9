"""The parts of `dragoman space`: what an end means, how often to try, how to leave, what the page shows."""

import json
import signal
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.checkpoint.status_shape import Session
from dragoman.config import RunConfig, from_flat
from dragoman.errors import ExitCode, InputError, StoreUnavailable
from dragoman.launch.container import home, leaving, training
from dragoman.launch.container.attempts import MOST, Attempts, fruitless_before
from dragoman.launch.container.child import Child, verdict, words
from dragoman.launch.container.leaving import leave
from dragoman.launch.container.page import Board, Page, Situation
from dragoman.launch.container.training import End, train
from dragoman.launch.container.voice import Voice

HOUR = 3600.0


# --- how often to try ------------------------------------------------------------


def test_pauses_grow_until_a_step_becomes_safe_and_five_ends_are_enough() -> None:
    attempts, pauses = Attempts(), []
    for safe_step in (-1, -1, 5, 5, 5, 5, 5):
        attempts.ended(safe_step)
        pauses.append(attempts.pause_seconds)
    assert pauses == [1, 2, 0, 1, 2, 4, 8]
    assert not attempts.are_enough
    attempts.ended(5)
    assert attempts.are_enough


@given(st.lists(st.integers(-1, 9)))
def test_no_pause_is_longer_than_ten_minutes_and_only_progress_forgets(steps: list[int]) -> None:
    attempts = Attempts()
    for step in steps:
        best = attempts.safe_step
        attempts.ended(step)
        assert 0 <= attempts.pause_seconds <= 600
        assert (attempts.fruitless == 0) == (step > best)


def session(host: str, first: float, last: float, step: int | None = None) -> Session:
    return Session(epoch=1, host=host, first_time=first, last_time=last, outcome="interrupted", step=step)


def test_what_an_empty_disk_forgot_the_store_remembers() -> None:
    ours = [session("ada/nllb", at, at + 60) for at in (900.0, 600.0, 300.0)]
    assert fruitless_before(ours, "ada/nllb", 1000.0) == 3
    assert fruitless_before([session("ada/nllb", 950, 960, step=5), *ours], "ada/nllb", 1000.0) == 0
    assert fruitless_before([ours[0], session("vm", 600, 660), ours[2]], "ada/nllb", 1000.0) == 1
    assert fruitless_before(ours, "ada/nllb", 960 + HOUR) == 0  # somebody has looked meanwhile


# --- what training is told, and what its end means -------------------------------


def test_a_child_gets_exactly_the_given_options() -> None:
    config = from_flat({"language_pairs": ["en-fr", "en-de"], "epochs": 2, "public": True, "langid": False, "data": []})
    assert words(config) == [
        "train", "--language-pairs", "en-fr", "en-de", "--langid=false", "--epochs=2.0", "--public",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("code", "out_of_time", "means"),
    [
        (0, False, "finished"), (75, True, "out of time"), (75, False, "again"), (3, False, "superseded"),
        (2, False, "refused"), (4, False, "refused"), (1, False, "again"), (-9, False, "again"), (137, True, "again"),
    ],
)  # fmt: skip
def test_every_end_of_training_means_one_thing(code: int, out_of_time: bool, means: str) -> None:
    assert verdict(code, out_of_time=out_of_time) == means


def test_a_real_child_tells_every_line_and_how_it_was_ended() -> None:
    told: list[str] = []
    child = Child(["languages", "portu"], told.append)
    while (code := child.poll()) is None:
        pass
    assert code == 0
    assert any("por_Latn" in line for line in told)


# --- the story, without processes ------------------------------------------------


class FakeSignals:
    """Signals that come when a test says so; waiting makes time pass."""

    def __init__(self) -> None:
        self.now, self.received = 1_000_000.0, list[signal.Signals]()
        self.at: dict[float, signal.Signals] = {}

    def wait(self, seconds: float) -> None:
        self.now += seconds
        for time in [time for time in self.at if time <= self.now]:
            self.received.append(self.at.pop(time))


class FakeProcess:
    """Ends with a code after some seconds, or when it is told to."""

    def __init__(self, signals: FakeSignals, code: int, seconds: float) -> None:
        self.signals, self.code, self.until = signals, code, signals.now + seconds
        self.sent: list[signal.Signals] = []

    def poll(self) -> int | None:
        return self.code if self.signals.now >= self.until else None

    def send(self, number: signal.Signals) -> None:
        self.sent.append(number)
        self.code, self.until = 75, self.signals.now + 3


class Stage:
    """One container, with training that ends as a test says: pairs of exit code and safe step."""

    def __init__(self, tmp: Path, ends: Sequence[tuple[int, int]] = (), seconds: float = 60.0) -> None:
        self.signals, self.ends, self.seconds = FakeSignals(), list(ends), seconds
        self.board = Board(lambda: self.signals.now)
        self.voice = Voice(self.signals, self.board, lambda: self.signals.now)  # pyright: ignore[reportArgumentType]
        self.config = home.at_home(from_flat({"store": str(tmp / "store"), "output": str(tmp / "run")}), None, 0.0)
        self.started: list[list[str]] = []
        self.processes: list[FakeProcess] = []
        self.safe = -1

    def start(self, arguments: list[str], tell: Callable[[str], None]) -> FakeProcess:
        code, self.safe = self.ends.pop(0)
        self.started.append(arguments)
        if code:
            tell(f"error: code {code}")
            tell("  try: something else")
        self.processes.append(FakeProcess(self.signals, code, self.seconds))
        return self.processes[-1]

    def train(self, monkeypatch: pytest.MonkeyPatch) -> End:
        monkeypatch.setattr(training, "_safe_step", lambda voice: self.safe)
        return train(self.config, self.voice, self.start)


def test_a_crash_is_followed_by_another_try_until_all_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(tmp_path, [(1, -1), (-9, 5), (75, 9), (0, 10)])
    end = stage.train(monkeypatch)
    assert (end.code, end.release, len(stage.started)) == (0, "now", 4)
    assert stage.board.situation.attempts == 4


def test_what_a_person_must_change_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    end = Stage(tmp_path, [(2, -1)]).train(monkeypatch)
    assert (end.code, end.release, end.words) == (2, "later", "error: code 2 try: something else")


def test_training_that_gets_no_further_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(tmp_path, [(1, 5)] * (MOST + 1))
    end = stage.train(monkeypatch)
    assert (end.code, end.release) == (ExitCode.BUG, "later")
    assert "5 times in a row with no more than step 5 safe" in end.words
    assert "error: code 1" in end.words
    assert stage.ends == []  # the first one had made step 5 safe


def test_a_signal_is_passed_on_and_nothing_is_released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(tmp_path, [(0, 5)])
    stage.signals.at = {stage.signals.now + 10: signal.SIGTERM}
    end = stage.train(monkeypatch)
    assert (end.code, end.release, stage.processes[0].sent) == (75, "no", [signal.SIGTERM])


def test_a_signal_in_a_pause_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(tmp_path, [(1, -1), (1, -1), (1, -1), (0, 9)], seconds=1)
    stage.signals.at = {stage.signals.now + 5: signal.SIGTERM}
    assert stage.train(monkeypatch).code == 75
    assert len(stage.started) < 4


def lease_of(host: str) -> Any:
    return {"lease": {"host": host}, "history": [], "safe": None}


def test_a_newer_container_of_this_space_is_not_paused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACE_ID", "ada/nllb")
    for host, release in (("ada/nllb", "no"), ("laptop", "later")):
        monkeypatch.setattr(training, "look", lambda config, now, host=host: lease_of(host))
        assert Stage(tmp_path, [(3, 5)]).train(monkeypatch).release == release


def test_only_an_earlier_container_of_this_space_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPACE_ID", "ada/nllb")
    for host, taken in (("ada/nllb", [True, False]), ("laptop", [False, False])):
        monkeypatch.setattr(training, "look", lambda config, now, host=host: lease_of(host))
        stage = Stage(tmp_path, [(1, 5), (0, 9)])
        stage.train(monkeypatch)
        assert ["--take-over" in arguments for arguments in stage.started] == taken


# --- at home ---------------------------------------------------------------------


def test_without_a_store_a_space_has_the_guides_and_elsewhere_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACE_ID", "ada/nllb")
    config = home.at_home(RunConfig(), "space", 0.0)
    assert config.store.url == "hf://ada/fine-tuned-nllb-600M"
    assert config.save.output == home.FOLDER
    with pytest.raises(InputError, match="no --store"):
        home.at_home(RunConfig(), "runpod", 0.0)


def test_hours_count_from_the_first_start_and_not_from_each(monkeypatch: pytest.MonkeyPatch) -> None:
    config = home.at_home(from_flat({"store": "s3://b/run", "max_hours": 2}), None, 1_796_025_600.0)
    assert (config.training.max_hours, config.machine.deadline) == (None, "2026-11-30T10:00:00Z")
    first = from_flat({"store": "s3://b/run", "max_hours": 2, "deadline": "2026-11-30T09:00:00Z"})
    assert home.at_home(first, None, 1_796_025_600.0).machine.deadline == "2026-11-30T09:00:00Z"


# --- leaving ---------------------------------------------------------------------


class Releases:
    """Answers to the wish to be released, one after the other."""

    def __init__(self, *answers: Exception | str) -> None:
        self.answers, self.asked = list(answers), 0

    def __call__(self, platform: str | None) -> str:
        self.asked += 1
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.mark.parametrize(("platform", "asked"), [("space", 1), ("runpod", 1), ("jobs", 0), (None, 0)])
def test_what_costs_until_it_is_released_is_released_once(tmp_path: Path, platform: str | None, asked: int) -> None:
    stage, release = Stage(tmp_path), Releases("paused")
    assert leave(End(0, "done", "now"), stage.voice, platform, 10.0, release) == 0
    assert (release.asked, stage.board.situation.phase) == (asked, "released" if asked else "stopped")


def test_a_platform_that_does_not_answer_is_asked_again(tmp_path: Path) -> None:
    stage, release = Stage(tmp_path), Releases(StoreUnavailable("no"), StoreUnavailable("no"), "paused")
    leave(End(0, "done", "now"), stage.voice, "space", 10.0, release)
    assert release.asked == 3


def test_a_machine_that_cannot_be_released_says_so_and_ends(tmp_path: Path) -> None:
    stage, release = Stage(tmp_path), Releases(InputError("no right", "by hand"))
    assert leave(End(0, "done", "now"), stage.voice, "space", 10.0, release) == 0
    assert "THIS MACHINE MAY STILL COST MONEY" in stage.board.situation.words
    assert stage.board.situation.is_bad


def test_the_page_stays_for_a_person_and_then_the_machine_goes(tmp_path: Path) -> None:
    stage, release = Stage(tmp_path), Releases("paused")
    began = stage.signals.now
    leave(End(2, "wrong", "later"), stage.voice, "space", 10.0, release)
    assert stage.signals.now - began >= 600
    assert release.asked == 1


def test_somebody_who_ends_the_container_is_not_answered_with_a_pause(tmp_path: Path) -> None:
    stage, release = Stage(tmp_path), Releases("paused")
    stage.signals.at = {stage.signals.now + 30: signal.SIGTERM}
    assert leave(End(2, "wrong", "later"), stage.voice, "space", 10.0, release) == 2
    assert release.asked == 0


def test_a_signal_that_comes_before_the_answer_is_not_slept_through(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    began = stage.signals.now

    def release(platform: str | None) -> str:
        stage.signals.received.append(signal.SIGTERM)
        return "paused"

    assert leave(End(0, "done", "now"), stage.voice, "space", 10.0, release) == 0
    assert stage.signals.now == began


def test_an_upload_under_way_is_given_its_time_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage, release = Stage(tmp_path), Releases("paused", "paused")
    stage.board.folder, began = tmp_path, stage.signals.now
    ends_at = began + 100
    monkeypatch.setattr(leaving.watchdog, "holder", lambda folder: 7 if stage.signals.now < ends_at else None)
    leave(End(75, "no time", "now", copying_seconds=900), stage.voice, "space", 10.0, release)
    assert stage.signals.now == pytest.approx(ends_at + 600, abs=2)  # then it waits to be ended
    ends_at = began + 1e9
    before = stage.signals.now
    leave(End(75, "no time", "now", copying_seconds=900), stage.voice, "space", 10.0, release)
    assert stage.signals.now == pytest.approx(before + 900 + 600, abs=2)
    assert release.asked == 2


# --- the page --------------------------------------------------------------------


def fetch(page: Page, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{page.port}/{path}", timeout=30) as answer:
        return answer.read().decode()


def test_the_page_shows_what_was_said_and_when_and_no_token() -> None:
    board = Board(lambda: 1_796_025_600.0)
    board.situation = Situation("stopped", "<b>why</b>", True, 3)
    board.say("uploads with hf_abcdefghijkl")
    with Page(board, "127.0.0.1", 0) as page:
        text = fetch(page, "")
        assert "&lt;b&gt;why&lt;/b&gt;" in text
        assert "2026-11-30 08:00:00 UTC" in text
        assert "hf_abc" not in text
        assert "script" not in text
        assert json.loads(fetch(page, "entry.json"))["phase"] == "stopped"
        assert fetch(page, "status.json") == "null"
        with pytest.raises(urllib.error.HTTPError, match="404"):
            fetch(page, "../etc/passwd")


def test_an_entry_that_gives_no_sign_of_life_is_not_healthy() -> None:
    now = [0.0]
    board = Board(lambda: now[0])
    with Page(board, "127.0.0.1", 0) as page:
        assert fetch(page, "healthz") == "ok"
        now[0] = 61.0
        with pytest.raises(urllib.error.HTTPError, match="503"):
            fetch(page, "healthz")
        board.beat()
        assert fetch(page, "healthz") == "ok"


def test_a_port_that_is_taken_is_named() -> None:
    with Page(Board(), "127.0.0.1", 0) as page, pytest.raises(InputError, match=f"--port {page.port}"):
        Page(Board(), "127.0.0.1", page.port)
