"""Retention: the bound holds whatever was saved, and the newest and the best always stay."""

from hypothesis import given
from hypothesis import strategies as st

from dragoman.checkpoint.retention import surplus
from dragoman.store.record import CheckpointRecord


def checkpoint(number: int) -> CheckpointRecord:
    return CheckpointRecord(
        seq=number + 1,
        epoch=1,
        owner="a",
        run="b",
        nonce=f"{number:06x}",
        time=0.0,
        parent="",
        step=number,
        pairs_seen=number,
        folder=f"checkpoint-{number}",
        files={},
        config="",
        corpus="",
    )


@given(st.integers(0, 12), st.integers(-1, 6), st.data())
def test_the_newest_and_the_best_stay_and_no_more_than_keep_plus_one(num: int, keep: int, data: st.DataObject) -> None:
    live = [checkpoint(number) for number in reversed(range(num))]
    best = data.draw(st.none() | st.sampled_from(live)) if live else None
    dropped = surplus(live, keep, best)
    stay = [each for each in live if each not in dropped]
    assert len(stay) <= max(keep, 1) + 1
    assert stay[: max(keep, 1)] == live[: max(keep, 1)]
    assert best is None or best in stay
    assert len(stay) == min(num, max(keep, 1)) + (best in live[max(keep, 1) :])


@given(st.lists(st.booleans(), max_size=30), st.integers(1, 4))
def test_saving_and_dropping_in_turn_never_exceeds_the_bound(improved: list[bool], keep: int) -> None:
    live: list[CheckpointRecord] = []
    best: CheckpointRecord | None = None
    for number, better in enumerate(improved):
        live.insert(0, checkpoint(number))
        best = live[0] if better or best is None else best
        gone = surplus(live, keep, best)
        live = [each for each in live if each not in gone]
        assert len(live) <= keep + 1
        assert best in live
