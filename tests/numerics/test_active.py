"""Training only the rows that the corpus uses: what is trained, what stays, and that nobody else can tell."""

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from dragoman.checkpoint.log import RunLog
from dragoman.data.batch_plan import BatchPlan
from dragoman.data.corpus import open_corpus
from dragoman.data.loader import Loader
from dragoman.errors import InputError
from dragoman.journal import Evaluated, Warned
from dragoman.model import active as active_vocabulary
from dragoman.model import derived, nllb
from dragoman.model.active import ActiveVocabulary, outside_mass
from dragoman.model.derived import RowFile
from dragoman.store.local import FolderStore
from dragoman.training.forward import Forward
from dragoman.training.snapshot import HostBuffers, num_bytes
from tests.support.sessions import Lab, final, trained
from tests.support.tiny import CPU, Tiny, make

SPARE = 3000
"""Rows that no token of the corpus has: more than are sampled at once."""


def widened(base: Path, folder: Path) -> Path:
    """A copy of a base model whose embedding has many more rows, as NLLB's has for two languages of 200."""
    model: Any = nllb.load(base)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model.resize_token_embeddings(model.config.vocab_size + SPARE, mean_resizing=False)
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((base / name).read_bytes())
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """A run on a model with rows to spare, without dropout."""
    folder = tmp_path_factory.mktemp("active")
    base = widened(make(folder / "narrow").made.base, folder / "wide")
    return make(folder / "run", model=str(base), dropout=0.0, label_smoothing=0.1)


def shrunk(run: Tiny, dtype: torch.dtype = torch.float32) -> tuple[Any, ActiveVocabulary]:
    model = run.model(dtype)
    return model, ActiveVocabulary(model, run.made.corpus.rows)


def test_only_the_rows_of_the_corpus_are_held_and_trained(run: Tiny) -> None:
    model, active = shrunk(run)
    rows = run.made.corpus.rows
    assert len(active.others) >= SPARE
    assert model.model.shared.weight.shape == (len(rows), 128)
    nllb.check(model, Path())  # all embeddings are tied still
    assert sorted([*rows, *active.others]) == list(range(len(active.memory)))


def test_with_every_other_row_as_a_negative_the_loss_is_the_whole_one(
    run: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(active_vocabulary, "NUM_NEGATIVES", 10**6)
    whole, batch = run.model(torch.float64), run.loader.packed(run.loader.batch(0))
    expected = run.forward(whole).backward(batch, None)
    model, active = shrunk(run, torch.float64)
    places = run.active_loader.packed(run.active_loader.batch(0))
    found = run.forward(model).backward(places, active.negatives(1))
    assert float(found.objective.detach()) == pytest.approx(float(expected.objective.detach()), rel=1e-12)
    assert float(found.plain) == pytest.approx(float(expected.plain), rel=1e-12)
    gradient = whole.model.shared.weight.grad[active.rows_A]
    torch.testing.assert_close(model.model.shared.weight.grad, gradient, rtol=1e-9, atol=1e-12)
    for (name, one), (_, other) in zip(
        list(model.named_parameters())[1:], list(whole.named_parameters())[1:], strict=True
    ):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-8, atol=1e-11, msg=name)


def test_a_sample_estimates_the_whole_loss_without_bias_in_the_sum(run: Tiny) -> None:
    model, active = shrunk(run, torch.float64)
    batch = run.active_loader.packed(run.active_loader.batch(0))
    forward = run.forward(model.eval())
    with torch.no_grad():
        sampled = [float(forward.nats(batch, active.negatives(seed)).plain) for seed in range(20)]
        none = float(forward.nats(batch).plain)
        with active.whole(model):
            whole = float(forward.nats(run.loader.packed(run.loader.batch(0))).plain)
    assert len(set(sampled)) == 20
    assert np.mean(sampled) == pytest.approx(whole, rel=2e-3)
    assert none < 0.95 * whole, "without negatives the other rows cost nothing"


def test_negatives_are_a_function_of_the_seed_and_never_trained_rows(run: Tiny) -> None:
    _, active = shrunk(run)
    one, again, other = (active.negatives(seed) for seed in (7, 7, 8))
    assert one is not None
    assert again is not None
    assert other is not None
    assert one.rows_KD.equal(again.rows_KD)
    assert not one.rows_KD.equal(other.rows_KD)
    assert not one.rows_KD.requires_grad
    assert one.offset == pytest.approx(math.log(len(active.others) / len(one.rows_KD)))
    assert one.share * len(one.rows_KD) == pytest.approx(len(active.others) / len(active.memory))
    known = {row.numpy().tobytes() for row in active.memory.rows(torch.from_numpy(active.others))}
    assert {row.numpy().tobytes() for row in one.rows_KD} <= known


def test_within_whole_the_model_is_the_whole_one_and_afterwards_it_is_not(run: Tiny) -> None:
    model, active = shrunk(run)
    model.model.shared.weight.data += 1
    held = model.model.shared.weight
    expected = run.model().model.shared.weight.detach().clone()
    expected[active.rows_A] += 1
    with active.whole(model):
        assert model.lm_head.weight.equal(expected)
        nllb.check(model, Path())
    assert model.model.shared.weight is held
    nllb.check(model, Path())


def test_what_is_written_is_the_whole_embedding_as_it_was_when_it_was_copied(
    run: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(derived, "PART_ROWS", 100)
    model, active = shrunk(run)
    trained = model.model.shared.weight
    expected = run.model().model.shared.weight.detach().clone()
    expected[active.rows_A] += 1
    trained.data += 1
    live = {"file": {"embedding": active.spread(trained)}}
    copies, wait = HostBuffers().copy(live)
    trained.data += 1
    wait()
    assert torch.cat([*derived.parts(copies["file"]["embedding"])]).equal(expected)
    expected[active.rows_A] += 1
    assert torch.cat([*derived.parts(live["file"]["embedding"])]).equal(expected)
    assert num_bytes(live) == trained.nbytes < expected.nbytes, "only what is trained is copied"


def test_the_other_rows_are_in_no_memory_and_leave_no_file(run: Tiny, tmp_path: Path) -> None:
    whole = torch.randn(40_000, 1024)
    held = RowFile(whole, tmp_path)
    del whole
    assert not list(tmp_path.iterdir())
    before = resident_bytes()
    for seed in range(20):
        held.rows(torch.randint(len(held), (2048,), generator=torch.Generator().manual_seed(seed)))
    assert resident_bytes() - before < 40e6, "all rows are 164 MB, and every one was read"


def test_without_room_for_the_other_rows_nothing_begins(run: Tiny, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no room for the rows that are not trained, 0\.0 GB"):
        ActiveVocabulary(run.model(), run.made.corpus.rows, tmp_path / "missing")


def resident_bytes() -> int:
    """Of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_the_mass_outside_is_that_of_the_softmax() -> None:
    torch.manual_seed(1)
    hidden, weight, rows = torch.randn(600, 8), torch.randn(50, 8), torch.arange(0, 50, 3)
    outside = torch.ones(50, dtype=torch.bool)
    outside[rows] = False
    expected = (hidden @ weight.T).softmax(-1)[:, outside].sum()
    assert float(outside_mass(hidden, weight, rows)) == pytest.approx(float(expected), rel=1e-5)


# --- whole sessions ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    folder = tmp_path_factory.mktemp("lab")
    base = widened(make(folder / "narrow").made.base, folder / "wide")
    made = Lab(folder, {"model": str(base), "vocabulary": "active", "weight_decay": 0.5})
    assert made.train("plain").outcome == "done"
    return made


def rows_of(lab: Lab, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The embedding before and after."""
    before = load_file(lab.folder / "wide/model.safetensors")[nllb.EMBEDDING]
    return before, load_file(lab.folder / name / "model.safetensors")[nllb.EMBEDDING]


def test_rows_that_are_not_active_come_back_bit_for_bit(lab: Lab) -> None:
    before, after = rows_of(lab, "plain")
    corpus = next((lab.folder / "plain/dragoman/corpus").iterdir())
    active = np.fromfile(corpus / "rows.ids", dtype=np.uint32).astype(np.int64)
    others = np.setdiff1d(np.arange(len(before)), active)
    assert len(others) >= SPARE
    assert before[others].equal(after[others])
    changed = (before[active] != after[active]).any(dim=1)
    # The gradient of the padding row is zero but for the softmax's; all others move, decay alone would move them.
    assert int(changed.sum()) >= len(active) - 1


def test_moments_are_kept_of_active_rows_only(lab: Lab) -> None:
    moments = load_file(next((lab.folder / "plain").glob("checkpoint-*")) / "training/optimizer.safetensors")
    before, _ = rows_of(lab, "plain")
    assert len(moments[f"exp_avg.{nllb.EMBEDDING}"]) <= len(before) - SPARE


def test_a_resume_is_exact(lab: Lab) -> None:
    assert lab.stopped("stopped", before=4).exit_code == 75
    assert lab.train("stopped").outcome == "done"
    assert trained(lab.folder / "stopped") == trained(lab.folder / "plain")
    assert final(lab.folder / "stopped") == final(lab.folder / "plain")


def test_the_dev_loss_is_that_of_the_saved_model_over_all_rows(lab: Lab) -> None:
    """The last figure of the journal, computed again from the saved files by transformers' forward."""
    lab.train("judged", eval_samples=100)
    told = [event for event in lab.events if isinstance(event, Evaluated)][-1]
    newest = RunLog(FolderStore(lab.folder / "judged")).newest
    assert newest is not None
    assert newest.step == told.step == 8
    model: Any = nllb.load(lab.folder / "judged" / newest.folder).eval()
    corpus = open_corpus(next((lab.folder / "judged/dragoman/corpus").iterdir()))
    assert corpus is not None
    loader = Loader(corpus, BatchPlan(1, 1, 1), "dev")
    pairs = loader.sorted(np.arange(sum(corpus.counts("dev").values())))
    with torch.no_grad():
        summed = Forward(model, CPU, packed=False).nats(loader.packed(pairs))
    assert told.loss == pytest.approx(float(summed.plain) / loader.target_tokens(pairs), rel=1e-5)
    assert 0 < told.outside < 1


def test_probability_outside_the_trained_rows_is_told(lab: Lab, tmp_path: Path) -> None:
    """A base whose spare rows are near everything gives them much; that is said at the first evaluation."""
    weights = load_file(lab.folder / "wide/model.safetensors")
    weights[nllb.EMBEDDING][-SPARE:] = 3 * weights[nllb.EMBEDDING].mean(0)
    wild = tmp_path / "wild"
    wild.mkdir()
    for file in (lab.folder / "wide").iterdir():
        (wild / file.name).write_bytes(file.read_bytes())
    save_file(weights, wild / "model.safetensors", metadata={"format": "pt"})
    lab.train("wild", model=str(wild), learning_rate=1e-6)
    told = [event for event in lab.events if isinstance(event, Evaluated)]
    warned = [event.message for event in lab.events if isinstance(event, Warned) and "not trained" in event.message]
    assert told[-1].outside > 0.01
    assert f"--vocabulary active: {told[-1].outside:.1%} of the probability" in warned[-1]


def test_the_whole_vocabulary_has_nothing_outside(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.train("full", vocabulary="full")
    assert [event.outside for event in lab.events if isinstance(event, Evaluated)] == [0.0, 0.0]
