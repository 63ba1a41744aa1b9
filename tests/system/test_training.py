"""Sessions that are disturbed end as if they had not been, and say what happened."""

import errno
import itertools
import json
import math
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dragoman.checkpoint.log import RunLog
from dragoman.checkpoint.status import status
from dragoman.errors import ConfigMismatch, Damaged, Diverged, InputError
from dragoman.journal import (
    Evaluated,
    OutOfMemory,
    RolledBack,
    Saved,
    SaveFailed,
    SessionEnded,
    SessionStarted,
    Step,
    StepSkipped,
    TimeLimited,
)
from dragoman.store.disk import Disk
from dragoman.store.local import FolderStore
from dragoman.store.record import FinishedRecord
from dragoman.training import loop, saving
from dragoman.training.step import StepResult
from dragoman.training.stop import Stop
from tests.support.sessions import Lab, final, trained

Step_ = Callable[..., StepResult]
Around = Callable[[Step_, dict[str, Any]], StepResult]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A lab in which the run `plain` was never disturbed."""
    made = Lab(tmp_path_factory.mktemp("lab"))
    assert made.train("plain").outcome == "done"
    return made


@pytest.fixture
def run(lab: Lab, request: pytest.FixtureRequest) -> str:
    """The name of a new run with the corpus and base model of `plain`."""
    lab.prepared(request.node.name, like="plain")
    return request.node.name


@pytest.fixture
def disturb(monkeypatch: pytest.MonkeyPatch) -> Callable[[Around], None]:
    """Put a function around every training step."""
    real = loop.train_step

    def install(around: Around) -> None:
        monkeypatch.setattr(loop, "train_step", lambda *a, **k: around(lambda **o: real(*a, **{**k, **o}), k))

    return install


def bad(result: StepResult) -> StepResult:
    return result._replace(nats=math.nan, gradient_norm=math.nan, updated=False)


def without_update(step: Step_) -> StepResult:
    return bad(StepResult(0.0, 1, 0.0, False))


# --- stopping and resuming -------------------------------------------------------


def test_a_stopped_session_saves_and_its_successor_ends_with_the_same_weights(lab: Lab, run: str, disturb: Any) -> None:
    def around(step: Step_, options: dict[str, Any]) -> StepResult:
        if options["step"] == 4:
            signal.raise_signal(signal.SIGTERM)
        return step()

    disturb(around)
    ending = lab.train(run)
    assert (ending.outcome, ending.reason, ending.step, ending.safe_step, ending.exit_code) == (
        "stopped", "SIGTERM", 5, 5, 75,
    )  # fmt: skip
    assert lab.train(run).exit_code == 0
    assert trained(lab.folder / run) == trained(lab.folder / "plain")
    assert final(lab.folder / run) == final(lab.folder / "plain")


def test_the_deadline_ends_a_session_with_a_save(lab: Lab, run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = itertools.count(step=1000)  # each look at the clock costs 1,000 of the 3,600 seconds
    monkeypatch.setattr(loop, "Stop", lambda limit: Stop(limit, clock=lambda: next(seconds)))
    ending = lab.train(run, max_hours=1)
    assert (ending.outcome, ending.reason, ending.step, ending.safe_step) == ("stopped", "--max-hours 1", 3, 3)
    ended = next(event for event in lab.events if isinstance(event, SessionEnded))
    assert ended.is_out_of_time
    assert [event.reason for event in lab.events if isinstance(event, TimeLimited)] == ["--max-hours 1"]
    monkeypatch.undo()
    assert lab.train(run).exit_code == 0
    assert final(lab.folder / run) == final(lab.folder / "plain")


def test_a_finished_run_is_not_trained_again(lab: Lab) -> None:
    before = final(lab.folder / "plain")
    records = len(RunLog(FolderStore(lab.folder / "plain")).records)
    ending = lab.train("plain")
    assert (ending.outcome, ending.reason) == ("done", "was done before")
    assert (final(lab.folder / "plain"), len(RunLog(FolderStore(lab.folder / "plain")).records)) == (before, records)


def test_what_does_not_touch_learning_may_change_between_sessions(lab: Lab, run: str, disturb: Any) -> None:
    disturb(lambda step, o: (signal.raise_signal(signal.SIGINT) if o["step"] == 3 else None, step())[1])
    lab.train(run)
    assert lab.train(run, save_steps=3, keep=1, log_steps=2, save_minutes=5).outcome == "done"
    assert final(lab.folder / run) == final(lab.folder / "plain")


def test_what_is_learned_may_not_change_and_the_difference_is_shown(lab: Lab) -> None:
    with pytest.raises(ConfigMismatch, match=r"--learning-rate: 0\.001 → 0\.002") as caught:
        lab.train("plain", learning_rate=0.002, seed=7)
    assert "--seed: 1 → 7" in caught.value.message


def test_minutes_alone_make_a_save_due(lab: Lab, run: str) -> None:
    lab.train(run, save_steps=1000, save_minutes=1e-9)
    assert [e.step for e in lab.events if e.kind() == "saved"] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert final(lab.folder / run) == final(lab.folder / "plain")


def test_at_most_keep_checkpoints_and_the_best_stay(lab: Lab, run: str) -> None:
    lab.train(run, keep=1, save_steps=1)
    folders = {path.name for path in (lab.folder / run).glob("checkpoint-*")}
    log = RunLog(FolderStore(lab.folder / run))
    assert folders == {checkpoint.folder for checkpoint in log.kept}
    assert len(folders) <= 2
    assert "checkpoint-8" in folders


@pytest.fixture
def judged(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[int, float]], None]:
    """Let the dev sample score what a test wants, by step."""
    from dragoman.evaluation import report
    from dragoman.training import dev

    def install(scores: dict[int, float]) -> None:
        def judge(name: str, model: Any, vocabulary: Any, pairs: Any, beams: int) -> Any:
            step = next(e.step for e in reversed(lab.events) if isinstance(e, Step))
            monkeypatch.setattr(report.Judged, "mean_chrf", scores[step])
            return report.judge(name, [pair.source for pair in pairs], pairs)

        monkeypatch.setattr(dev, "judge_model", judge)

    return install


def best_of(run: Path) -> tuple[int, str]:
    best = RunLog(FolderStore(run)).best
    assert best is not None
    assert final(run) == best.files["model.safetensors"].sha256
    return best.step, best.folder


def test_the_published_model_is_the_best_by_chrf(lab: Lab, run: str, judged: Any) -> None:
    judged({4: 30.0, 8: 20.0})
    lab.train(run)
    assert best_of(lab.folder / run) == (4, "checkpoint-4")


def test_a_best_model_that_could_not_be_saved_does_not_hide_the_next_best(lab: Lab, run: str, judged: Any) -> None:
    judged({2: 10.0, 4: 30.0, 6: 20.0, 8: 15.0})
    lab.train(run, eval_steps=2, disk=FullDuring({2}))
    assert best_of(lab.folder / run) == (6, "checkpoint-6")


def test_a_damaged_best_model_gives_way_to_the_newest(lab: Lab, run: str, judged: Any, disturb: Any) -> None:
    judged({4: 30.0, 8: 20.0})
    disturb(lambda step, o: (signal.raise_signal(signal.SIGTERM) if o["step"] == 6 else None, step())[1])
    lab.train(run)
    folder = lab.folder / run
    weights = folder / "checkpoint-4/model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    disturb(lambda step, o: step())
    lab.train(run)
    assert any("checkpoint-4 is not used: damaged" in getattr(e, "message", "") for e in lab.events)
    assert best_of(folder)[0] == 8


# --- faults that training survives -----------------------------------------------


def test_memory_running_out_halves_the_microbatch_and_repeats_the_same_step(lab: Lab, run: str, disturb: Any) -> None:
    seen: list[tuple[int, int]] = []

    def around(step: Step_, options: dict[str, Any]) -> StepResult:
        seen.append((options["step"], options["limit"]))
        if options["limit"] > 60 and options["step"] == 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return step()

    disturb(around)
    assert lab.train(run, microbatch_tokens=10_000).outcome == "done"
    limits = [e.microbatch_tokens for e in lab.events if isinstance(e, OutOfMemory)]
    assert [e.step for e in lab.events if isinstance(e, OutOfMemory)] == [4] * len(limits)
    tried = [(3, limit) for limit in (10_000, *limits)]
    assert seen == [(0, 10_000), (1, 10_000), (2, 10_000), *tried, *((step, limits[-1]) for step in (4, 5, 6, 7))]
    assert 60 < 2 * limits[-1] < 122, "each limit is half of the largest microbatch"
    newest = RunLog(FolderStore(lab.folder / run)).newest
    assert newest is not None
    state = json.loads((lab.folder / run / newest.folder / "training/state.json").read_text())
    assert (state["microbatch_tokens"], state["out_of_memory"]) == (limits[-1], [[4, limit] for limit in limits])


def test_one_pair_that_does_not_fit_ends_the_run_with_a_way_out(lab: Lab, run: str, disturb: Any) -> None:
    def around(step: Step_, options: dict[str, Any]) -> StepResult:
        raise torch.OutOfMemoryError("CUDA out of memory")

    disturb(around)
    with pytest.raises(InputError, match="out of memory at step 1 with one pair at a time"):
        lab.train(run)
    last = RunLog(FolderStore(lab.folder / run)).records[-1]
    assert isinstance(last, FinishedRecord)
    assert last.outcome == "failed"


def test_the_cpu_failing_to_allocate_counts_as_memory_running_out() -> None:
    from dragoman.training.step import _cpu_memory_errors

    with pytest.raises(torch.OutOfMemoryError), _cpu_memory_errors():
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory")
    with pytest.raises(RuntimeError, match="shapes"), _cpu_memory_errors():
        raise RuntimeError("shapes do not match")


def test_a_step_that_is_not_finite_is_skipped_and_counted(lab: Lab, run: str, disturb: Any) -> None:
    disturb(lambda step, o: without_update(step) if o["step"] == 2 else step())
    assert lab.train(run).outcome == "done"
    assert [(e.step, e.consecutive) for e in lab.events if isinstance(e, StepSkipped)] == [(3, 1)]
    newest = RunLog(FolderStore(lab.folder / run)).newest
    assert newest is not None
    state = json.loads((lab.folder / run / newest.folder / "training/state.json").read_text())
    assert (state["step"], state["updates"], state["bad_steps"]) == (8, 7, [2])
    assert [step for step, _ in newest.losses] == [1, 2, 4, 5, 6, 7, 8]


def test_weights_stay_when_the_gradient_is_not_finite(tmp_path: Path) -> None:
    from tests.support import tiny

    made = tiny.make(tmp_path, dropout=0.0)
    model = made.model()
    model.model.encoder.layer_norm.weight.data[0] = math.inf
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    result = made.train(model, 1)[0]
    assert not result.updated
    for name, weight in model.named_parameters():
        assert torch.equal(weight, before[name]), name


def test_steps_whose_figures_wait_count_when_the_last_ones_are_passed_over(
    lab: Lab, run: str, disturb: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, where nobody looks at every step: here at every fourth."""
    monkeypatch.setattr(loop, "_wants_figures", lambda run, metrics: run.state.step % 4 == 0)
    disturb(lambda step, o: without_update(step) if o["step"] in (5, 6, 7) else step())
    assert lab.train(run, max_bad_steps=3).outcome == "done"
    assert [e.to_step for e in lab.events if isinstance(e, RolledBack)] == [4]
    newest = RunLog(FolderStore(lab.folder / run)).newest
    assert newest is not None
    state = json.loads((lab.folder / run / newest.folder / "training/state.json").read_text())
    assert (state["step"], state["updates"]) == (8, 5)
    assert [step for step, _ in newest.losses] == [1, 2, 3, 4, 5]


def test_after_too_many_bad_steps_the_run_rolls_back_and_passes_over_them(lab: Lab, run: str, disturb: Any) -> None:
    tried: list[int] = []

    def around(step: Step_, options: dict[str, Any]) -> StepResult:
        tried.append(options["step"])
        return without_update(step) if options["step"] in (4, 5, 6) else step()

    disturb(around)
    assert lab.train(run, max_bad_steps=3).outcome == "done"
    rolled = [e for e in lab.events if isinstance(e, RolledBack)]
    assert [(e.from_step, e.to_step, e.bad_steps) for e in rolled] == [(7, 4, [5, 6, 7])]
    assert tried == [0, 1, 2, 3, 4, 5, 6, 7], "a bad step was computed again"
    assert [e.step for e in lab.events if isinstance(e, StepSkipped) and e.passed_over] == [5, 6, 7]


def test_a_save_that_fell_on_a_bad_step_is_made_at_the_next_good_one(lab: Lab, run: str, disturb: Any) -> None:
    disturb(lambda step, o: without_update(step) if o["step"] == 3 else step())
    lab.train(run, save_steps=4, eval_steps=0)
    assert [(e.step, e.reason) for e in lab.events if isinstance(e, Saved)] == [(5, "overdue"), (8, "every 4 steps")]


def test_bad_steps_again_after_a_roll_back_end_the_run(lab: Lab, run: str, disturb: Any) -> None:
    disturb(lambda step, o: without_update(step) if o["step"] >= 2 else step())
    with pytest.raises(Diverged, match="2 steps in a row, again after a roll-back"):
        lab.train(run, max_bad_steps=2)
    assert status(lab.folder / run)["state"] == "failed"


def test_a_roll_back_before_the_first_checkpoint_starts_from_the_base(lab: Lab, run: str, disturb: Any) -> None:
    disturb(lambda step, o: without_update(step) if o["step"] in (1, 2) else step())
    assert lab.train(run, max_bad_steps=2, save_steps=100).outcome == "done"
    assert [(e.from_step, e.to_step) for e in lab.events if isinstance(e, RolledBack)] == [(3, 0)]


class FullDuring(Disk):
    """A disk that is full while the weights of some saves are written."""

    def __init__(self, saves: set[int]) -> None:
        self.saves, self.count = saves, 0

    def write(self, path: Path, chunks: Any) -> Any:
        if path.name == "model.safetensors" and "staging" in path.parts:
            self.count += 1
            if self.count in self.saves:
                raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return super().write(path, chunks)


def test_a_full_disk_is_loud_and_training_goes_on(lab: Lab, run: str) -> None:
    ending = lab.train(run, disk=FullDuring({2, 3}))
    assert (ending.outcome, ending.safe_step) == ("done", 8)
    failed = [(e.step, e.reason, e.last_safe_step) for e in lab.events if isinstance(e, SaveFailed)]
    assert failed == [(4, "No space left on device", 2), (6, "No space left on device", 2)]
    assert trained(lab.folder / run) == trained(lab.folder / "plain")
    assert not list((lab.folder / run / "dragoman/staging").iterdir())


def test_a_failed_save_is_tried_again_after_a_minute(lab: Lab, run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saving, "RETRY_SECONDS", 0.0)
    lab.train(run, disk=FullDuring({1}), snapshot="stream")
    assert [e.step for e in lab.events if e.kind() == "saved"][:2] == [3, 4]


def test_when_the_last_save_fails_the_exit_code_says_resume_me(lab: Lab, run: str) -> None:
    ending = lab.train(run, disk=FullDuring({4, 5}))
    assert (ending.outcome, ending.exit_code, ending.step, ending.safe_step) == ("stopped", 75, 8, 6)
    assert status(lab.folder / run)["degraded"]["reason"] == "No space left on device"
    assert lab.train(run).exit_code == 0
    assert final(lab.folder / run) == final(lab.folder / "plain")


def test_a_damaged_newest_checkpoint_is_reported_and_the_one_before_continues(lab: Lab, run: str, disturb: Any) -> None:
    disturb(lambda step, o: (signal.raise_signal(signal.SIGTERM) if o["step"] == 5 else None, step())[1])
    lab.train(run)
    folder = lab.folder / run
    newest = RunLog(FolderStore(folder)).newest
    assert newest is not None
    assert newest.step == 6
    weights = folder / newest.folder / "training/optimizer.safetensors"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    disturb(lambda step, o: step())
    assert lab.train(run).outcome == "done"
    assert any("checkpoint-6 is not used: damaged" in getattr(e, "message", "") for e in lab.events)
    assert next(e.step for e in lab.events if isinstance(e, SessionStarted)) == 4
    assert final(folder) == final(lab.folder / "plain")


def test_another_number_of_threads_is_said_to_end_exactness(
    lab: Lab, run: str, disturb: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    disturb(lambda step, o: (signal.raise_signal(signal.SIGTERM) if o["step"] == 2 else None, step())[1])
    lab.train(run)
    assert lab.kinds().count("warned") == 0
    disturb(lambda step, o: step())
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    lab.train(run)
    warned = [e.message for e in lab.events if e.kind() == "warned"]  # type: ignore[attr-defined]
    assert warned == ["the resume is not bit-identical, the machine differs: threads 1 → 7"]


def test_a_damaged_corpus_is_refused_before_training(lab: Lab, run: str) -> None:
    corpus = next((lab.folder / run / "dragoman/corpus").iterdir())
    ids = bytearray((corpus / "train.ids").read_bytes())
    ids[7] ^= 1
    (corpus / "train.ids").write_bytes(ids)
    with pytest.raises(Damaged, match=r"train\.ids is damaged\n  try: delete .* it is rebuilt from --data"):
        lab.train(run)


def test_an_exception_of_ours_is_recorded_with_where_the_session_began(lab: Lab, run: str, disturb: Any) -> None:
    def around(step: Step_, options: dict[str, Any]) -> StepResult:
        if options["step"] == 3:
            raise ValueError("a bug of ours")
        return step()

    disturb(around)
    for _ in range(2):
        with pytest.raises(ValueError, match="a bug"):
            lab.train(run)
    records = RunLog(FolderStore(lab.folder / run)).records
    failed = [record for record in records if isinstance(record, FinishedRecord)]
    first = RunLog(FolderStore(lab.folder / run)).checkpoints[-1]
    assert [(record.outcome, record.step, record.resumed_from) for record in failed] == [
        ("failed", 3, ""),
        ("failed", 3, first.nonce),
    ]


# --- what the journal says -------------------------------------------------------


def test_every_step_is_in_the_journal_when_log_steps_is_one(lab: Lab) -> None:
    lines = (lab.folder / "plain/dragoman/journal.jsonl").read_text().splitlines()
    steps = [event for event in map(json.loads, lines) if event["kind"] == "step"]
    assert [event["step"] for event in steps] == list(range(1, 9))
    newest = RunLog(FolderStore(lab.folder / "plain")).newest
    assert newest is not None
    assert [event["loss"] for event in steps] == [loss for _, loss in newest.losses]


def test_an_evaluation_holds_scores_signatures_and_samples(lab: Lab, run: str) -> None:
    lab.train(run)
    evaluated = [e for e in lab.events if isinstance(e, Evaluated)]
    assert [e.step for e in evaluated] == [4, 8]
    scores = evaluated[0].directions["eng_Latn-fra_Latn"]
    assert scores["sentences"] == 2
    assert "nw:2" in scores["chrf_signature"]
    assert {sample["direction"] for sample in evaluated[0].samples} == {"eng_Latn-fra_Latn", "fra_Latn-eng_Latn"}
    assert evaluated[0].loss > 0
