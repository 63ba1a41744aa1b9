"""LoRA: what is trained, what is saved, and that the published model is the one in memory."""

import json
import math
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load_file

from dragoman.checkpoint.log import RunLog
from dragoman.config import ModelConfig
from dragoman.data.batch_plan import BatchPlan
from dragoman.data.corpus import open_corpus
from dragoman.data.loader import Loader
from dragoman.errors import Damaged, InputError
from dragoman.journal import Evaluated, RolledBack, Warned
from dragoman.model import derived, nllb
from dragoman.model.active import ActiveVocabulary
from dragoman.model.adapters import Lora
from dragoman.model.derived import Merged
from dragoman.model.loss import head_nats
from dragoman.store.local import FolderStore
from dragoman.training import fitting, loop, state
from dragoman.training.optimizer import build
from tests.support.sessions import Lab, trained
from tests.support.tiny import Tiny, make

OPTIONS: dict[str, Any] = {"adapter": "lora", "lora_rank": 4, "lora_dropout": 0.1}
STILL = ModelConfig(adapter="lora", lora_rank=4)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return make(tmp_path_factory.mktemp("lora"), dropout=0.0, label_smoothing=0.1)


def adapted(run: Tiny, dtype: torch.dtype = torch.float32, seed: int = 1) -> tuple[Any, Lora]:
    """A model whose adapters do something."""
    model = run.model(dtype)
    lora = Lora(model, STILL, seed)
    with torch.no_grad():
        for name, tensor in lora.tensors().items():
            if "lora_B" in name:
                tensor.copy_(torch.randn(tensor.shape, generator=torch.Generator().manual_seed(len(name))) / 20)
    return model, lora


def plain(model: Any) -> dict[str, torch.Tensor]:
    return dict(nllb.weights(model))


def gradients(model: Any) -> dict[str, torch.Tensor]:
    return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


def test_only_adapters_get_gradients_and_moments(run: Tiny) -> None:
    model, lora = adapted(run)
    run.forward(model).backward(run.loader.packed(run.loader.batch(0)), None)
    found = gradients(model)
    assert len(found) == len(lora.tensors()) == 2 * len(lora.frozen(plain(model)))
    assert all(".lora_" in name for name in found)
    groups = build(model.named_parameters(), run.config.training).param_groups
    held = {id(parameter) for group in groups for parameter in group["params"]}
    assert held == {id(weight) for name, weight in model.named_parameters() if ".lora_" in name}


def test_the_matrices_of_every_layer_have_adapters(run: Tiny) -> None:
    model, lora = adapted(run)
    layers = model.config.encoder_layers, model.config.decoder_layers
    assert len(lora.frozen(plain(model))) == layers[0] * 6 + layers[1] * 10
    before = dict(nllb.weights(run.model()))
    assert lora.frozen(plain(model)).keys() < before.keys()
    assert {name: weight.tolist() for name, weight in nllb.weights(model)} == {k: v.tolist() for k, v in before.items()}


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_packed_forward_is_that_of_transformers_with_adapters_too(run: Tiny, checkpointing: bool) -> None:
    batch = run.loader.packed(run.loader.batch(0))
    losses, found = [], []
    for packed in (True, False):
        model, _ = adapted(run, torch.float64)
        forward = fitting.checkpointed(run.forward(model, packed=packed), checkpointing)
        nats = forward.backward(batch, None)
        losses.append(float(nats.plain))
        found.append(gradients(model))
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name], rtol=1e-7, atol=1e-10, msg=name)


def test_a_frozen_embedding_costs_the_loss_head_no_gradient(run: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """In chunks, where that gradient would be a second matrix as large as the embedding."""
    model, _ = adapted(run)
    made: list[Any] = []
    real = torch.zeros_like
    monkeypatch.setattr(torch, "zeros_like", lambda *a, **o: made.append(a[0].shape) or real(*a, **o))
    hidden = torch.randn(50, 128, requires_grad=True)
    head_nats(hidden, model.lm_head.weight, torch.arange(50), 0.1, chunk_bytes=4096).objective.backward()
    assert hidden.grad is not None
    assert model.lm_head.weight.shape not in made


def test_rows_in_use_stay_frozen_when_only_they_are_held(run: Tiny) -> None:
    model = run.model()
    Lora(model, STILL, 1)
    ActiveVocabulary(model, run.made.corpus.rows)
    assert not model.model.shared.weight.requires_grad
    assert not model.lm_head.weight.requires_grad


def test_the_first_weights_depend_on_the_seed_alone_and_change_nothing(run: Tiny) -> None:
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    models = [run.model() for _ in range(3)]
    one, again, other = (Lora(model, STILL, seed).tensors() for model, seed in zip(models, (7, 7, 8), strict=True))
    assert torch.rand(3).equal(expected), "the generator that dropout draws from was used"
    assert all(tensor.equal(again[name]) for name, tensor in one.items())
    downs = [name for name in one if "lora_A" in name]
    assert not any(one[name].equal(other[name]) for name in downs)
    assert not any(one[name].any() for name in one if "lora_B" in name)
    assert max(float(one[name].abs().max()) * math.sqrt(one[name].shape[1]) for name in downs) <= 1
    batch = run.loader.packed(run.loader.batch(0))
    with torch.no_grad():
        assert float(run.forward(models[0]).nats(batch).plain) == float(run.forward(run.model()).nats(batch).plain)


def test_alpha_is_twice_the_rank_when_left_out(run: Tiny) -> None:
    for alpha, scale in ((None, 2.0), (4.0, 1.0)):
        model = run.model()
        lora = Lora(model, STILL.model_copy(update={"lora_alpha": alpha}), 1)
        assert {merged.scale for merged in lora.merged(plain(model)).values()} == {scale}


def test_the_merged_model_gives_the_loss_of_the_adapted_one_and_leaves_it_alone(run: Tiny) -> None:
    model, lora = adapted(run, torch.float64)
    forward = replace(run.forward(model.eval()), lora=lora)
    merged, batch = run.model(torch.float64).eval(), run.loader.packed(run.loader.batch(0))
    with torch.no_grad():
        expected = float(forward.nats(batch).plain)
        weights = {name: torch.cat([*derived.parts(weight)]) for name, weight in state.weights(forward).items()}
        state.load_weights(run.forward(merged), weights)
        assert float(run.forward(merged).nats(batch).plain) == pytest.approx(expected, rel=1e-12)
        assert float(run.forward(run.model(torch.float64).eval()).nats(batch).plain) != pytest.approx(
            expected, rel=1e-4
        )
        assert float(forward.nats(batch).plain) == expected


def test_adapters_of_another_model_are_refused(run: Tiny) -> None:
    _, lora = adapted(run)
    stored = {name: tensor for name, tensor in lora.tensors().items() if "layers.0.fc1" not in name}
    with pytest.raises(Damaged, match="of another model"):
        lora.take(stored)


# --- whole sessions ----------------------------------------------------------------------


@pytest.fixture(scope="module", params=["full", "active"])
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    made = Lab(tmp_path_factory.mktemp("lab"), OPTIONS | {"vocabulary": request.param, "learning_rate": 1e-2})
    assert made.train("plain").outcome == "done"
    assert not [event for event in made.events if isinstance(event, Warned) and "merged" in event.message]
    return made


def newest(folder: Path) -> Path:
    found = RunLog(FolderStore(folder)).newest
    assert found is not None
    return folder / found.folder


def everything(folder: Path) -> Any:
    """What `trained` has, and the files of the adapters."""
    found = RunLog(FolderStore(folder)).newest
    assert found is not None
    return trained(folder), *(found.files[name] for name in (state.ADAPTER, state.ADAPTER_SETTINGS, state.FROZEN))


def base_of(lab: Lab) -> Path:
    return lab.folder / "plain/dragoman/base"


def test_a_resume_is_exact(lab: Lab) -> None:
    """On an empty machine: only the durable store is left of the first session."""
    store = str(lab.folder / "durable")
    assert lab.stopped("stopped", before=4, store=store).exit_code == 75
    shutil.rmtree(lab.folder / "stopped")
    assert lab.train("stopped", store=store).outcome == "done"
    assert everything(lab.folder / "stopped") == everything(lab.folder / "plain")


def test_streamed_and_copied_saves_are_the_same(lab: Lab) -> None:
    lab.train("streamed", snapshot="stream")
    assert everything(lab.folder / "streamed") == everything(lab.folder / "plain")


def test_the_frozen_matrices_are_kept_bit_for_bit_and_all_else_is_as_it_was(lab: Lab) -> None:
    before, after = (load_file(folder / "model.safetensors") for folder in (base_of(lab), newest(lab.folder / "plain")))
    frozen = load_file(newest(lab.folder / "plain") / state.FROZEN)
    assert before.keys() == after.keys()
    for name, weight in before.items():
        assert frozen[name].equal(weight) if name in frozen else after[name].equal(weight), name
        assert (name in frozen) != after[name].equal(weight), name


def test_the_dev_loss_is_that_of_the_saved_model(lab: Lab) -> None:
    """The last figure of the journal, computed again from the merged file by transformers' own forward and loss."""
    lab.train("judged", eval_samples=100)
    told = [event for event in lab.events if isinstance(event, Evaluated)][-1]
    model: Any = nllb.load(newest(lab.folder / "judged")).eval()
    nats, tokens = 0.0, 0
    corpus = open_corpus(next((lab.folder / "judged/dragoman/corpus").iterdir()))
    assert corpus is not None
    loader = Loader(corpus, BatchPlan(1, 1, 1), "dev")
    for row in range(sum(corpus.counts("dev").values())):
        rows = loader.packed(np.array([row])).padded()
        inputs = {"input_ids": rows.source_BS, "decoder_input_ids": rows.decoder_BT, "labels": rows.labels_BT}
        with torch.no_grad():
            mean = model(**{name: torch.from_numpy(array) for name, array in inputs.items()}).loss
        nats += float(mean) * rows.labels_BT.size
        tokens += rows.labels_BT.size
    assert told.loss == pytest.approx(nats / tokens, rel=1e-5)


def test_peft_itself_loads_the_adapter_and_gives_the_outputs_of_the_merged_model(lab: Lab) -> None:
    checkpoint = newest(lab.folder / "plain")
    base: Any = nllb.load(base_of(lab))
    merged: Any = nllb.load(checkpoint).eval()
    loaded = peft.PeftModel.from_pretrained(base, checkpoint / "training/adapter").eval()
    tokens = torch.arange(4, 40).view(2, 18)
    inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "decoder_input_ids": tokens.flip(1)}
    with torch.no_grad():
        found, expected = loaded(**inputs).logits, merged(**inputs).logits
        untrained = nllb.load(base_of(lab)).eval()(**inputs).logits
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert float((untrained - expected).abs().max()) > 1e-2
    settings = json.loads((checkpoint / state.ADAPTER_SETTINGS).read_bytes())
    assert (settings["r"], settings["lora_alpha"], settings["base_model_name_or_path"]) == (4, 8, "scratch:tiny")


def test_a_merged_model_that_is_not_the_trained_one_is_told(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(self: Merged) -> Any:
        yield self.base_OI + 0.9 * self.scale * self.up_OR @ self.down_RI

    monkeypatch.setattr(Merged, "parts", wrong)
    assert lab.train("wrong").outcome == "done"
    told = [event.message for event in lab.events if isinstance(event, Warned)]
    assert "the merged model is not the trained one" in told[-1]


def test_a_roll_back_to_the_beginning_begins_again(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any checkpoint: the run ends as one that passes over the bad steps from the start."""
    real, bad = loop.train_step, loop.StepResult(float("nan"), 1, float("nan"), False)

    def once(*values: Any, **options: Any) -> Any:
        is_bad = options["step"] in (1, 2) and not rolled_back()
        return bad if is_bad else real(*values, **options)

    def rolled_back() -> bool:
        return any(isinstance(event, RolledBack) for event in lab.events)

    monkeypatch.setattr(loop, "train_step", once)
    options: dict[str, Any] = {"max_bad_steps": 2, "save_steps": 100, "eval_steps": 0, "max_steps": 4}
    lab.train("rolled", **options)
    assert rolled_back()
    monkeypatch.setattr(loop, "train_step", lambda *a, **o: bad if o["step"] in (1, 2) else real(*a, **o))
    lab.train("passed", **(options | {"max_bad_steps": 3}))
    files = [load_file(newest(lab.folder / name) / state.ADAPTER) for name in ("rolled", "passed")]
    assert all(tensor.equal(files[1][name]) for name, tensor in files[0].items())


def test_without_peft_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(InputError, match="--adapter lora needs peft") as caught:
        Lab(tmp_path, OPTIONS).train("run")
    assert caught.value.hint == "pip install 'dragoman[lora]'"
    assert not (tmp_path / "run").exists()
