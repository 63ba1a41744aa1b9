"""When a session stops before its last step."""

import signal

import pytest

from dragoman.training.stop import Stop
from dragoman.training.time_limit import TimeLimit


def test_before_the_first_step_a_signal_ends_the_process_with_75() -> None:
    with Stop(None), pytest.raises(SystemExit) as caught:
        signal.raise_signal(signal.SIGTERM)
    assert caught.value.code == 75


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_becomes_a_reason_and_old_handlers_come_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with Stop(None) as stop:
        stop.has_work = True
        assert stop.reason() == ""
        signal.raise_signal(number)
        assert stop.reason() == number.name
    assert signal.getsignal(number) == before


def test_the_deadline_leaves_room_for_a_step_and_two_saves() -> None:
    now = [0.0]
    stop = Stop(TimeLimit(3600, "--max-hours 1"), clock=lambda: now[0])
    stop.save_seconds = 100.0
    now[0] = 3600 - 200 - 30.5
    assert stop.reason(step_seconds=30.0) == ""
    stop.is_saving = True
    assert stop.reason(step_seconds=30.0) == "--max-hours 1"
    stop.is_saving = False
    now[0] = 3600 - 200 - 30.0
    assert stop.reason(step_seconds=30.0) == "--max-hours 1"


@pytest.mark.parametrize(("seconds", "margin"), [(7200, 60), (20, 2)])
def test_before_the_machine_is_taken_away_some_time_stays_unused(seconds: float, margin: float) -> None:
    now = [0.0]
    stop = Stop(TimeLimit(seconds, "the end", is_hard=True), clock=lambda: now[0])
    now[0] = seconds - margin - 0.1
    assert stop.reason() == ""
    now[0] = seconds - margin
    assert stop.reason() == "the end"
