"""Signs of life between ranks: over real sockets of loopback, in this process."""

import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace

import pytest
import torch.distributed as dist

from dragoman.errors import RankLost
from dragoman.host import cluster
from dragoman.host.cluster import Rank
from dragoman.training import ranks, watch
from dragoman.training.watch import Watch

FIRST = Rank(0, 2, 0, 2)
SECOND = Rank(1, 2, 1, 2)


def begun(place: Rank, meeting: object, leave: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> Watch:
    monkeypatch.setattr(watch, "BEAT_SECONDS", 0.02)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    return Watch.begun(place, meeting, leave)


def test_a_rank_that_comes_late_still_finds_a_first_one_that_has_no_more_to_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    meeting = dist.HashStore()
    first = begun(FIRST, meeting, lambda why: None, monkeypatch)
    first.end()
    for thread in threading.enumerate():
        if thread.name == "watch":
            thread.join()
    port = int(meeting.get("watch"))
    late = dist.TCPStore("127.0.0.1", port, timeout=timedelta(seconds=5), wait_for_workers=False)
    assert late.get("alive/0")


def test_a_rank_leaves_when_whoever_started_it_was_gone_before_it_could_look(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    monkeypatch.setenv("RANK_STARTER", str(gone.pid))
    left, why = threading.Event(), list[str]()

    def leave(reason: str) -> None:
        why.append(reason)
        left.set()

    alone = begun(FIRST, dist.HashStore(), leave, monkeypatch)
    assert left.wait(10)
    alone.end()
    assert why[0] == "the process that started this rank is gone"


def test_a_rank_that_cannot_go_on_stays_until_the_first_one_has_left_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    meeting, events = dist.HashStore(), list[str]()

    def leave(reason: str) -> None:
        events.append(f"the first one leaves: {reason}")
        first.end()
        first._server = None  # as it goes when the process ends

    first = begun(FIRST, meeting, leave, monkeypatch)
    second = begun(SECOND, meeting, lambda why: None, monkeypatch)
    second.tell("no memory")
    events.append("the second one leaves")
    second.end()
    assert events == ["the first one leaves: no memory", "the second one leaves"]


def test_signs_of_life_begin_before_the_ranks_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    happened = list[str]()

    def began(*_: object) -> SimpleNamespace:
        happened.append("signs")
        return SimpleNamespace(end=lambda: happened.append("no more signs"))

    def connect(*_: object, **__: object) -> None:
        happened.append("connecting")
        raise RuntimeError("gloo: connection refused")

    monkeypatch.setattr(ranks.Watch, "begun", began)
    monkeypatch.setattr(ranks.dist, "init_process_group", connect)
    for name, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(cluster.free_port())}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RankLost), ranks.joined(Rank(0, 1, 0, 1), "device: cpu", lambda why: None):
        pass
    assert happened == ["signs", "connecting", "no more signs"]


def test_the_others_are_dismissed_with_the_code_of_the_first_whatever_they_wait_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    meeting, left, why = dist.HashStore(), threading.Event(), list[str]()

    def leave(reason: str) -> None:
        why.append(reason)
        left.set()

    first = begun(FIRST, meeting, lambda why: None, monkeypatch)
    second = begun(SECOND, meeting, leave, monkeypatch)
    first.dismiss(2)
    assert left.wait(10)
    second.end()
    first.end()
    assert why[0] == f"{watch.DISMISSED}2"
