"""Out of memory with several ranks: what is too much, how the next start learns it, and when it is the end."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dragoman.errors import InputError
from dragoman.journal import Event, Journal
from dragoman.training import short_memory, trainee
from dragoman.training.feed import Feed
from dragoman.training.forward import Forward
from dragoman.training.state import TrainState
from tests.support import tiny
from tests.support.tiny import Tiny


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return tiny.make(tmp_path_factory.mktemp("run"), rows=60)


@pytest.fixture(scope="module")
def forward(run: Tiny) -> Forward:
    return run.forward(run.model())


@pytest.fixture
def feed(run: Tiny, forward: Forward) -> Feed:
    return trainee.feed_of(forward, run.config, run.loader)


def session(folder: Path, run: Tiny, forward: Forward, **options: Any) -> Any:
    """What `take_note` sees of a session that has just begun."""
    (folder / "dragoman").mkdir(exist_ok=True)
    training = run.config.training.model_copy(update=options)
    events: list[Event] = []
    return SimpleNamespace(
        ranks="several",
        folder=folder,
        state=TrainState(microbatch_tokens=500),
        forward=forward,
        config=run.config.model_copy(update={"training": training}),
        journal=Journal(folder / "dragoman/journal.jsonl", events.append),
        events=events,
    )


def test_each_halving_cuts_the_largest_pass_until_every_pair_is_alone(run: Tiny, feed: Feed) -> None:
    pairs = run.loader.batch(3)
    limit, passes = 10**6, [1]
    while smaller := short_memory.smaller(feed, 3, limit):
        assert smaller < limit
        limit = smaller
        passes.append(len(list(run.loader.microbatches(pairs, limit))))
    assert passes == sorted(set(passes)), "every halving makes more passes"
    assert passes[-1] == len(pairs) == 16


def test_a_pass_of_one_pair_does_not_count_beside_one_of_several(run: Tiny, feed: Feed) -> None:
    """The longest pair alone may be larger than all the others together: to halve that would change nothing."""
    pairs = run.loader.batch(0)
    lengths = run.loader.lengths(pairs).sum(axis=1)
    limit = int(lengths[-2:].sum())  # the two shortest fit together, the longest is alone
    parts = list(run.loader.microbatches(pairs, limit))
    several = max(int(lengths[part].sum()) for part in parts if part.stop - part.start > 1)
    assert int(lengths[0]) > several // 2
    assert short_memory.smaller(feed, 0, limit) == several // 2


def test_the_next_start_computes_less_at_once_and_says_so(tmp_path: Path, run: Tiny, forward: Forward) -> None:
    begun = session(tmp_path, run, forward)
    short_memory.note(tmp_path, 7, 120)
    short_memory.take_note(begun)
    assert begun.state.microbatch_tokens == 120
    assert begun.state.out_of_memory == [(7, 120)]
    assert [(event.kind(), event.step, event.microbatch_tokens) for event in begun.events] == [
        ("out_of_memory", 7, 120)
    ]
    again = session(tmp_path, run, forward)
    short_memory.take_note(again)
    assert again.state.microbatch_tokens == 500, "what is told once the state keeps; the next GPUs may be larger"


def test_what_the_checkpoint_knows_already_is_not_noted_twice(tmp_path: Path, run: Tiny, forward: Forward) -> None:
    begun = session(tmp_path, run, forward)
    for limit in (500, 700):
        short_memory.note(tmp_path, 7, limit)
        short_memory.take_note(begun)
    assert begun.state == TrainState(microbatch_tokens=500)
    assert not begun.events


def test_when_one_pair_is_too_much_its_layers_are_computed_twice(tmp_path: Path, run: Tiny, forward: Forward) -> None:
    begun = session(tmp_path, run, forward)
    short_memory.note(tmp_path, 7, 0)
    short_memory.take_note(begun)
    assert begun.forward.checkpointing
    assert begun.state.checkpointing
    assert begun.state.microbatch_tokens == 500


@pytest.mark.parametrize("asked", ["auto", "on", "off"])
def test_when_nothing_is_left_to_do_it_is_the_end_once(tmp_path: Path, run: Tiny, forward: Forward, asked: str) -> None:
    """Whoever starts it again, with other options, is not refused for what was."""
    begun = session(tmp_path, run, replace(forward, checkpointing=asked != "off"), gradient_checkpointing=asked)
    short_memory.note(tmp_path, 7, 0)
    with pytest.raises(InputError, match="out of memory at step 7 with one pair at a time") as told:
        short_memory.take_note(begun)
    assert "--parallel fsdp" in told.value.hint
    short_memory.take_note(begun)


def test_a_process_alone_and_a_run_without_a_note_go_on_as_they_were(
    tmp_path: Path, run: Tiny, forward: Forward
) -> None:
    begun = session(tmp_path, run, forward)
    short_memory.take_note(begun)
    short_memory.note(tmp_path, 7, 120)
    begun.ranks = None
    short_memory.take_note(begun)
    assert begun.state == TrainState(microbatch_tokens=500)
    assert json.loads((tmp_path / short_memory.FILE).read_text()) == {"step": 7, "microbatch_tokens": 120}
