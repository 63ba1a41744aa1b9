"""Supervising: which machine a run needs next, and that a run gets to its end through cuts, quotas and refusals."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from dragoman.checkpoint.lease import take_lease
from dragoman.checkpoint.log import RunLog
from dragoman.errors import Superseded
from dragoman.launch.choosing import Done, GiveUp, Policy, Start, Wait, decide
from dragoman.launch.ledger import Claimed, Ended, Ledger, Machine, Started
from dragoman.store.local import FolderStore
from tests.support.rented import HOUR, LEASE_SECONDS, Supervisor, TimedStore, World, place, run_at

COLAB = place("colab")
KAGGLE, RUNPOD = place("kaggle"), place("runpod")
POLICY = Policy(places=[COLAB, KAGGLE, RUNPOD], max_usd=10.0, max_hours=100.0, lease_seconds=LEASE_SECONDS)
NOW = 1.8e9


def machine(name: str, *, ago: float, lasted: float | None = None, step: int = 0, refused: bool = False) -> Machine:
    """A machine that was started some hours ago."""
    offer = place(name).offer
    claim = Claimed(
        seq=1,
        nonce=f"{name}{ago}",
        time=NOW - ago * HOUR,
        platform=name,
        flavor=offer.flavor,
        gpu=offer.gpu,
        usd_per_hour=offer.usd_per_hour or 0,
        max_hours=24,
        epoch=1,
        step=step,
    )
    started = Started(seq=2, nonce="b", time=claim.time, claim=claim.nonce, client=name, id="1", url="")
    if lasted is None:
        return Machine(claim, started)
    time = claim.time + lasted * HOUR
    return Machine(
        claim, started, Ended(seq=3, nonce="c", time=time, claim=claim.nonce, reason="cut", was_refused=refused)
    )


# --- one look --------------------------------------------------------------------------


def test_a_finished_run_needs_nothing() -> None:
    assert decide(run_at(9, outcome="done"), [], POLICY, NOW) == Done()


def test_while_a_machine_is_at_work_or_starting_none_is_started() -> None:
    at_work = decide(run_at(9, idle=100), [], POLICY, NOW)
    assert at_work == Wait("a machine is at work", 2900)
    starting = decide(run_at(9), [machine("kaggle", ago=0.1)], POLICY, NOW)
    assert isinstance(starting, Wait)
    assert starting.why == "a machine of kaggle is starting"
    # Its time is up, and it never took the lease: another one is needed.
    assert isinstance(decide(run_at(9), [machine("kaggle", ago=0.6, step=1)], POLICY, NOW), Start)


def test_a_session_that_stopped_by_itself_is_followed_at_once() -> None:
    decision = decide(run_at(9, idle=5, outcome="stopped"), [], POLICY, NOW)
    assert isinstance(decision, Start)


def test_the_first_place_that_may_and_can_is_taken_within_its_own_limit() -> None:
    assert decide(run_at(9), [], POLICY, NOW) == Start(KAGGLE, 9)


def test_a_week_of_kaggle_is_thirty_hours_and_then_the_next_platform_is_taken() -> None:
    week = [machine("kaggle", ago=20.0 * number, lasted=9, step=number) for number in (4, 3, 2)]
    assert decide(run_at(9), week, POLICY, NOW) == Start(KAGGLE, 3)
    full = [*week, machine("kaggle", ago=20, lasted=3, step=8)]
    decision = decide(run_at(9), full, POLICY, NOW)
    assert isinstance(decision, Start)
    assert decision.place == RUNPOD
    alone = dataclasses.replace(POLICY, places=[KAGGLE])
    assert decide(run_at(9), full, alone, NOW) == Wait("no platform takes a machine now", (168 - 80) * HOUR)


def test_a_machine_is_rented_for_no_longer_than_the_money_lasts() -> None:
    paid = dataclasses.replace(POLICY, places=[RUNPOD])
    decision = decide(run_at(9), [machine("runpod", ago=20, lasted=10)], paid, NOW)
    assert isinstance(decision, Start)
    assert decision.max_hours == pytest.approx((10 - 6.9) / 0.69)
    spent = decide(run_at(9), [machine("runpod", ago=20, lasted=14.2, step=1)], paid, NOW)
    assert spent == GiveUp("of 10 USD 0.20 are left", "a higher --max-usd")


def test_a_machine_that_nobody_released_is_paid_for_until_now() -> None:
    decision = decide(
        run_at(9), [machine("runpod", ago=14.2, step=1)], dataclasses.replace(POLICY, places=[RUNPOD]), NOW
    )
    assert isinstance(decision, GiveUp)


def test_hours_are_a_budget_too() -> None:
    used = [machine("kaggle", ago=90, lasted=9, step=1), machine("kaggle", ago=80, lasted=9, step=2)]
    assert decide(run_at(9), used, dataclasses.replace(POLICY, max_hours=20), NOW) == Start(KAGGLE, 2)
    assert isinstance(decide(run_at(9), used, dataclasses.replace(POLICY, max_hours=18), NOW), GiveUp)


def test_a_platform_that_refused_is_asked_again_after_an_hour() -> None:
    refused = [machine("kaggle", ago=0.5, lasted=0, refused=True)]
    decision = decide(run_at(9), refused, POLICY, NOW)
    assert isinstance(decision, Start)
    assert decision.place == RUNPOD
    assert decide(run_at(9), [machine("kaggle", ago=1.5, lasted=0, refused=True)], POLICY, NOW) == Start(KAGGLE, 9)


def test_what_only_a_person_can_start_is_said() -> None:
    decision = decide(run_at(9), [], dataclasses.replace(POLICY, places=[COLAB]), NOW)
    assert isinstance(decision, Wait)
    assert "Google Colab needs a person, who runs the notebook again" in decision.why


def test_three_machines_without_a_safe_step_are_enough() -> None:
    fruitless = [machine("kaggle", ago=ago, lasted=1, step=9) for ago in (9, 6, 3)]
    assert isinstance(decide(run_at(9), fruitless, POLICY, NOW), GiveUp)
    assert isinstance(decide(run_at(10), fruitless, POLICY, NOW), Start)
    # One that the platform never started says nothing of the run.
    some = [*fruitless[:2], machine("runpod", ago=2, lasted=0, step=9, refused=True)]
    assert isinstance(decide(run_at(9), some, POLICY, NOW), Start)


# --- whole lives -----------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_a_run_hops_from_platform_to_platform_and_finishes_within_its_budget(tmp_path: Path, seed: int) -> None:
    world = World(tmp_path, Random(seed), total_steps=45_000)
    world.rent("colab", 12, 0.0, "by-hand")  # a person began it
    world.pass_time(HOUR)
    policy = dataclasses.replace(POLICY, places=[COLAB, KAGGLE, RUNPOD], max_usd=40, max_hours=200)
    ended = Supervisor(world, policy).until_the_end()
    assert ended == Done()
    log = world.log()
    assert log.newest is not None
    assert log.newest.step == world.total_steps
    assert {one.handle.platform for one in world.rented} == {"colab", "kaggle", "runpod"}
    assert world.usd() <= 40 + 1e-6
    assert world.hours() <= 200 + 1e-6
    assert world.most_at_work == 1
    assert all(one.ended is not None for one in world.rented)
    assert world.published == sorted(world.published), "an older machine published after a newer one"


@pytest.mark.parametrize("seed", range(3))
def test_a_budget_that_is_too_small_is_kept_all_the_same(tmp_path: Path, seed: int) -> None:
    world = World(tmp_path, Random(seed), total_steps=60_000)
    ended = Supervisor(world, dataclasses.replace(POLICY, places=[RUNPOD], max_usd=5)).until_the_end()
    assert isinstance(ended, GiveUp)
    assert world.usd() <= 5 + 1e-6


# --- two supervisors, and one that is lost ----------------------------------------------


class Lost(BaseException):
    """The supervisor's machine is gone."""


class Watched(TimedStore):
    """Calls `before` before the k-th call of the store."""

    def __init__(self, world: World, k: int, before: Callable[[], None]) -> None:
        super().__init__(world.folder / "store", world)
        self.calls, self.k, self.before = 0, k, before

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name not in {"records", "kept", "bring", "claim", "idle_seconds"}:
            return found

        @functools.wraps(found)
        def counted(*words: Any, **named: Any) -> Any:
            self.calls += 1
            if self.calls == self.k:
                self.before()
            return found(*words, **named)

        return counted


def _calls_of_a_look(folder: Path) -> int:
    world = World(folder, Random(1), refuses=0)
    store = Watched(world, 0, lambda: None)
    Supervisor(world, POLICY).look(store)
    return store.calls


def test_of_two_supervisors_that_look_at_once_one_starts_a_machine(tmp_path: Path) -> None:
    num_calls = _calls_of_a_look(tmp_path / "0")
    assert num_calls > 5
    for k in range(1, num_calls + 1):
        world = World(tmp_path / str(k), Random(k), refuses=0)
        other = Supervisor(world, POLICY)
        Supervisor(world, POLICY).look(Watched(world, k, lambda other=other: other.look() and None))
        assert len(world.rented) == 1, f"before call {k}"


def test_a_supervisor_that_is_lost_at_any_point_stops_nothing(tmp_path: Path) -> None:
    for k in range(1, _calls_of_a_look(tmp_path / "0") + 1):
        world = World(tmp_path / str(k), Random(k), total_steps=3000, mean_hours=100, refuses=0)

        def lose() -> None:
            raise Lost

        with pytest.raises(Lost):
            Supervisor(world, POLICY).look(Watched(world, k, lose))
        assert Supervisor(world, POLICY).until_the_end() == Done(), f"lost before call {k}"
        assert len(world.rented) == 1, f"lost before call {k}"


def test_a_supervisor_that_slept_between_claim_and_start_makes_no_second_trainer_that_publishes(tmp_path: Path) -> None:
    world = World(tmp_path, Random(1), total_steps=3000, mean_hours=100, refuses=0)
    supervisor = Supervisor(world, dataclasses.replace(POLICY, places=[RUNPOD]))
    start = world.start

    def slow(*words: Any) -> Any:
        world.start = start  # type: ignore[method-assign]
        world.pass_time(2 * HOUR)
        supervisor.look()
        world.pass_time(0.5 * HOUR)
        return start(*words)

    world.start = slow  # type: ignore[method-assign]
    supervisor.look()
    assert len(world.rented) == 2
    assert supervisor.until_the_end() == Done()
    assert world.published == sorted(world.published)
    assert len({epoch for epoch, _ in world.published}) == 1


def test_entries_of_a_ledger_are_read_as_they_were_written(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.prepare()
    ledger = Ledger(store)
    claim = machine("runpod", ago=1).claim
    assert ledger.claim(claim) is not None
    assert Ledger(store).claim(claim.model_copy(update={"nonce": "other"})) is None
    started = ledger.add(Started, NOW, claim=claim.nonce, client="sky", id="pod", url="https://pod")
    (found,) = Ledger(store).machines
    assert (found.claim, found.started, found.ended) == (claim, started, None)
    assert found.handle is not None
    assert (found.handle.platform, found.handle.id) == ("sky", "pod")


def test_a_trainer_that_was_replaced_publishes_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, Random(1), refuses=0)
    world.rent("colab", 12, 0, "first")
    world.pass_time(HOUR)
    first = world.rented[0]
    world.rented[0].dies_at = world.now + 100 * HOUR
    assert first.log is not None
    take_lease(RunLog(world.store(), now=lambda: world.now), "second")
    with pytest.raises(Superseded):
        first.log.finish("done", "", step=1)
