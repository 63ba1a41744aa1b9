"""A rank that is gone is noticed in bounded time, by a clock that the test moves."""

import threading
from dataclasses import dataclass, field
from typing import Any

import pytest

from dragoman import host
from dragoman.host.cluster import Rank
from dragoman.training import watch
from dragoman.training.watch import SILENT_SECONDS, TROUBLE, Watch


class Left(Exception):
    """In place of the end of a process."""


@dataclass
class Ship:
    """The memory of a server, a clock, and what ranks said when they left."""

    held: dict[str, bytes] = field(default_factory=dict)
    now: float = 1000.0
    said: list[str] = field(default_factory=list)
    is_gone: bool = False

    def set(self, key: str, value: str) -> None:
        self._answer()
        self.held[key] = value.encode()

    def get(self, key: str) -> bytes:
        self._answer()
        return self.held[key]

    def check(self, keys: list[str]) -> bool:
        self._answer()
        return all(key in self.held for key in keys)

    def _answer(self) -> None:
        if self.is_gone:
            raise RuntimeError("Connection reset by peer")

    def leave(self, why: str) -> None:
        self.said.append(why)
        raise Left

    def watch(self, number: int, count: int = 3) -> Watch:
        made = Watch(Rank(number, count, number, count), self.leave, lambda: self.now)
        made._heard = self.now
        return made

    def judged(self, made: Watch) -> None:
        """Let its judge look until it leaves."""
        with pytest.raises(Left):
            made._judge(self)


@pytest.fixture
def ship(monkeypatch: pytest.MonkeyPatch) -> Ship:
    monkeypatch.setattr(watch, "BEAT_SECONDS", 0.002)
    return Ship()


def test_a_rank_that_beats_is_not_missed_however_long_the_run(ship: Ship) -> None:
    first, seen = ship.watch(0), dict[int, tuple[str, float]]()
    for number in range(100):
        ship.set("alive/1", str(number))
        ship.set("alive/2", str(number))
        assert first._read(ship, seen) == ""
        ship.now += SILENT_SECONDS - 1


def test_the_first_rank_misses_the_one_that_is_silent(ship: Ship) -> None:
    first, seen = ship.watch(0), dict[int, tuple[str, float]]()
    for number in range(4):
        ship.set("alive/1", str(number))
        ship.set("alive/2", str(min(number, 1)))
        assert first._read(ship, seen) == ""
        ship.now += SILENT_SECONDS / 2
    ship.set("alive/1", "4")
    assert first._read(ship, seen) == "rank 2 has shown no sign of life for 30 s"


def test_a_rank_that_never_came_is_missed_too(ship: Ship) -> None:
    first, seen = ship.watch(0, count=2), dict[int, tuple[str, float]]()
    assert first._read(ship, seen) == ""
    ship.now += SILENT_SECONDS + 1
    assert first._read(ship, seen).startswith("rank 1 ")


def test_the_others_look_at_the_first_one_alone(ship: Ship) -> None:
    second, seen = ship.watch(1), dict[int, tuple[str, float]]()
    ship.set("alive/2", "0")
    for number in range(3):
        ship.set("alive/0", str(number))
        assert second._read(ship, seen) == ""
        ship.now += SILENT_SECONDS / 2
    ship.now += SILENT_SECONDS
    assert second._read(ship, seen) == "rank 0 has shown no sign of life for 30 s"


def test_trouble_of_a_rank_is_heard_by_the_first_one_alone(ship: Ship) -> None:
    ship.set("alive/0", "1")
    ship.set(TROUBLE, "no memory")
    assert ship.watch(0)._read(ship, {}) == "no memory"
    assert ship.watch(1)._read(ship, {}) == ""


def test_the_judge_leaves_for_a_silent_rank(ship: Ship) -> None:
    made = ship.watch(0)
    made._silent = "rank 2 is silent"
    ship.judged(made)
    assert ship.said == ["rank 2 is silent"]


def test_the_judge_leaves_when_the_server_does_not_answer(ship: Ship) -> None:
    """Whether it refuses, so that the thread that beats ends, or lets that thread wait for ever."""
    made = ship.watch(1)
    ship.is_gone = True
    made._beat(ship)
    ship.now += SILENT_SECONDS + 1
    ship.judged(made)
    assert ship.said == ["the first rank cannot be reached"]


def test_the_judge_leaves_when_whoever_started_it_is_gone(ship: Ship, monkeypatch: pytest.MonkeyPatch) -> None:
    made = ship.watch(1)
    monkeypatch.setattr(host, "parent_id", lambda: 1)
    ship.judged(made)
    assert ship.said == ["the process that started this rank is gone"]


def test_nobody_is_missed_after_the_end(ship: Ship) -> None:
    made = ship.watch(0)
    made._silent = "rank 1 is silent"
    made.end()
    made._beat(ship)
    made._judge(ship)
    assert not ship.said


def test_a_beat_writes_a_number_that_changes_and_notes_that_the_server_answered(ship: Ship) -> None:
    made, written = ship.watch(1), list[bytes]()
    real = ship._answer

    def answered() -> None:
        real()
        if "alive/1" in ship.held and ship.held["alive/1"] not in written:
            written.append(ship.held["alive/1"])
            ship.now += 1
        if len(written) == 3:
            made.end()

    ship._answer = answered
    made._beat(ship)
    assert written == [b"1", b"2", b"3"]
    assert made._heard > 1000


def test_trouble_reaches_the_first_rank_before_the_other_may_leave(ship: Ship, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through a real server, two ranks in one process."""
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    left, heard = threading.Event(), list[str]()

    def leave(why: str) -> None:
        heard.append(why)
        left.set()
        first.end()

    first = Watch.begun(Rank(0, 2, 0, 2), ship, leave)
    second = Watch.begun(Rank(1, 2, 1, 2), ship, leave)
    try:
        second.tell('{"memory": 100}')
        assert second._told.wait(30)
        assert left.wait(30)
    finally:
        first.end()
        second.end()
    assert heard[0] == '{"memory": 100}'


def test_the_address_of_the_meeting_is_where_the_server_is(ship: Ship, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    made: Any = Watch.begun(Rank(0, 1, 0, 1), ship, ship.leave)
    made.end()
    assert int(ship.held["watch"]) > 0
