"""How much is computed at once: chosen from memory at a run's first start, kept, and corrected when memory runs out."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dragoman import host
from dragoman.checkpoint.log import RunLog
from dragoman.errors import InputError
from dragoman.journal import OutOfMemory, SessionStarted, Warned
from dragoman.store.local import FolderStore
from dragoman.training import fitting, loop
from dragoman.training.feed import Feed, Share
from dragoman.training.short_memory import smaller
from tests.support.sessions import Lab, final, trained
from tests.support.tiny import CPU, Tiny, make

GIB = 1 << 30


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return make(tmp_path_factory.mktemp("fit"))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    made = Lab(tmp_path_factory.mktemp("lab"))
    made.train("plain")
    return made


def fit(run: Tiny, free: int, **options: Any) -> fitting.Fit:
    config = run.config.model_copy(update={"training": run.config.training.model_copy(update=options)})
    return fitting.fit(config, run.model(), CPU, run.made.corpus, run.plan.pairs_per_step, free)


def test_with_memory_to_spare_a_step_is_computed_at_once(run: Tiny) -> None:
    roomy = fit(run, 64 * GIB)
    assert roomy == fitting.Fit(16 * 2 * run.config.data.max_tokens, checkpointing=False)
    assert fit(run, 640 * GIB) == roomy, "more than a step can have is not asked for: it would differ between machines"


def test_less_memory_means_smaller_microbatches_then_checkpointing_then_a_warning(run: Tiny) -> None:
    less, little, none = (fit(run, free) for free in (GIB // 10, GIB // 25, GIB // 100))
    assert fit(run, GIB).microbatch_tokens >= less.microbatch_tokens > little.microbatch_tokens > none.microbatch_tokens
    assert not fit(run, GIB).checkpointing
    assert little.checkpointing
    assert not fit(run, GIB // 25, gradient_checkpointing="off").checkpointing
    assert fit(run, GIB, gradient_checkpointing="on").checkpointing
    assert "memory may run out: about 0.0 GiB are needed, 0.0 GiB are free" in none.warning
    assert none.microbatch_tokens == 1
    assert fit(run, GIB // 100, microbatch_tokens=77).microbatch_tokens == 77


def test_the_choice_is_kept_when_a_run_continues_on_another_machine(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.prepared("moved", like="plain")
    assert lab.stopped("moved", before=4, microbatch_tokens=150).exit_code == 75
    monkeypatch.setattr(fitting, "free_bytes", lambda device: 1)
    assert lab.train("moved", microbatch_tokens=150).outcome == "done"
    started = [event for event in lab.events if isinstance(event, SessionStarted)]
    assert started[-1].microbatch_tokens == 150
    assert not [event for event in lab.events if isinstance(event, Warned)]


def test_a_machine_with_too_little_memory_says_so_and_tries(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.prepared("small", like="plain")
    monkeypatch.setattr(fitting, "free_bytes", lambda device: 1)
    assert lab.train("small").outcome == "done"
    assert [event.message for event in lab.events if isinstance(event, Warned) and "dragoman estimate" in event.message]


def test_layers_computed_twice_give_the_same_bits(lab: Lab) -> None:
    """Also with dropout, whose random numbers are drawn again."""
    lab.prepared("twice", like="plain")
    lab.train("twice", gradient_checkpointing="on")
    assert trained(lab.folder / "twice") == trained(lab.folder / "plain")
    assert final(lab.folder / "twice") == final(lab.folder / "plain")


@pytest.mark.parametrize("forward", ["packed", "reference"])
def test_when_one_pair_does_not_fit_its_layers_are_computed_twice(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, forward: str
) -> None:
    """And it stays so when the run continues."""
    name = f"one-{forward}"
    lab.prepared(name, like="plain")
    real = loop.train_step

    def short(forward: Any, *values: Any, **options: Any) -> Any:
        if options["step"] == 2 and not forward.checkpointing:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(forward, *values, **options)

    monkeypatch.setattr(loop, "train_step", short)
    assert lab.train(name, microbatch_tokens=1, forward=forward).outcome == "done"
    assert [event.step for event in lab.events if isinstance(event, OutOfMemory)] == [3]
    newest = RunLog(FolderStore(lab.folder / name)).newest
    assert newest is not None
    state = json.loads((lab.folder / name / newest.folder / "training/state.json").read_text())
    assert (state["checkpointing"], state["out_of_memory"]) == (True, [[3, 1]])


def test_it_is_not_done_against_the_options(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.prepared("against", like="plain")

    def never(*values: Any, **options: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(loop, "train_step", never)
    with pytest.raises(InputError, match="one pair at a time"):
        lab.train("against", gradient_checkpointing="off")


@pytest.mark.parametrize(
    "options",
    [
        {"forward": "reference"},
        {"vocabulary": "full"},
        {"precision": "bf16"},
        {"batch_tokens": 120},
        {"microbatch_tokens": 60, "gradient_checkpointing": "on"},
        {"forward": "reference", "gradient_checkpointing": "on", "snapshot": "stream"},
    ],
    ids=lambda options: " ".join(options),
)
def test_a_resume_is_exact_with_each_way_to_compute(
    lab: Lab, request: pytest.FixtureRequest, options: dict[str, Any]
) -> None:
    whole, stopped = f"{request.node.name}-whole", f"{request.node.name}-stopped"
    for name in (whole, stopped):
        lab.prepared(name, like="plain")
    lab.train(whole, **options)
    assert lab.stopped(stopped, before=3, **options).exit_code == 75
    assert lab.train(stopped, **options).outcome == "done"
    assert trained(lab.folder / stopped) == trained(lab.folder / whole)
    assert final(lab.folder / stopped) == final(lab.folder / whole)


def test_what_did_not_fit_is_halved_from_what_a_rank_computed_not_from_the_whole_step(run: Tiny) -> None:
    def most(feed: Feed, limit: int) -> int:
        return max(int(run.loader.lengths(pairs).sum()) for pairs in feed.cut(0, limit))

    costs: Any = SimpleNamespace(source=1, target=1, source_source=0, target_target=0, target_source=0)
    shared = Share(1, 4, costs, in_step=False)
    alone, one_of_four = Feed(run.loader, seed=1), Feed(run.loader, seed=1, share=shared)
    assert most(one_of_four, 10**6) < most(alone, 10**6) / 2
    for feed in (alone, one_of_four):
        assert smaller(feed, 0, 10**6) == most(feed, 10**6) // 2
    assert smaller(one_of_four, 0, 1) == 0, "one pair at a time already"


def test_batch_tokens_means_so_many_target_tokens_on_average(tmp_path: Path) -> None:
    run = make(tmp_path, batch_tokens=200, max_steps=None, epochs=1)
    steps = [run.loader.target_tokens(run.loader.batch(step)) for step in range(run.plan.total_steps)]
    assert sum(steps) == run.made.corpus.manifest["splits"]["train"]["target_tokens"], "every pair once"
    assert sum(steps[:-1]) / len(steps[:-1]) == pytest.approx(200, rel=0.05)


def test_free_memory_is_that_of_the_machine(tmp_path: Path) -> None:
    assert 0 < fitting.free_bytes(torch.device("cpu")) < 1 << 50


def test_memory_that_was_given_back_is_the_peak_less_what_is_held(tmp_path: Path) -> None:
    assert host.given_back_bytes(tmp_path) == 0
    (tmp_path / "proc/self").mkdir(parents=True)
    status = "Name:\tpython\nVmHWM:\t    3000 kB\nVmRSS:\t    1000 kB\nThreads:\t4\n"
    (tmp_path / "proc/self/status").write_text(status)
    assert host.given_back_bytes(tmp_path) == 2000 * 1024


def test_several_ranks_need_less_of_each_and_say_how_they_hold_the_model(run: Tiny) -> None:
    def shared(free: int, ranks: int, **options: Any) -> fitting.Fit:
        arithmetic = replace(CPU, ranks=ranks)
        config = run.config.model_copy(update={"ranks": run.config.ranks.model_copy(update=options)})
        return fitting.fit(config, run.model(), arithmetic, run.made.corpus, run.plan.pairs_per_step, free)

    longest = 2 * run.config.data.max_tokens
    assert shared(64 * GIB, 4) == fitting.Fit(16 * longest, checkpointing=False, parallel="ddp")
    assert shared(64 * GIB, 4, parallel="fsdp").parallel == "fsdp"
    assert shared(GIB // 100, 4).parallel == "fsdp"
    assert shared(GIB // 100, 1).parallel == "ddp", "one rank has nobody to share with"
    little = GIB // 15
    assert shared(little, 8, parallel="fsdp").microbatch_tokens > shared(little, 8, parallel="ddp").microbatch_tokens
