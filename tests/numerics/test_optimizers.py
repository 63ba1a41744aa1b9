"""Optimizers that remember less than AdamW: what they keep, that they learn, and that a resume does not notice."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from dragoman.checkpoint.log import RunLog
from dragoman.config import TrainingConfig
from dragoman.errors import InputError
from dragoman.journal import Warned
from dragoman.store.local import FolderStore
from dragoman.training import state
from dragoman.training.optimizer import build, moments, restore_moments
from tests.support.sessions import Lab, trained
from tests.support.tiny import Tiny, make

OPTIMIZERS: dict[str, dict[str, Any]] = {
    "adamw": {},
    "adamw8bit": {},
    "adafactor": {},
    "adafactor, lora": {"adapter": "lora", "lora_rank": 4},
    "adamw8bit, lora of active rows": {"adapter": "lora", "lora_rank": 64, "vocabulary": "active"},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return make(tmp_path_factory.mktemp("optimizers"), dropout=0.0)


@pytest.fixture(scope="module", params=OPTIMIZERS)
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    options = OPTIMIZERS[request.param] | {"optimizer": request.param.split(",")[0], "weight_decay": 0.5}
    made = Lab(tmp_path_factory.mktemp("lab"), options)
    assert made.train("plain").outcome == "done"
    return made


def stored(folder: Path) -> dict[str, torch.Tensor]:
    newest = RunLog(FolderStore(folder)).newest
    assert newest is not None
    return load_file(folder / newest.folder / state.MOMENTS)


def test_a_resume_is_exact(lab: Lab) -> None:
    assert lab.stopped("stopped", before=4).exit_code == 75
    assert lab.train("stopped").outcome == "done"
    assert trained(lab.folder / "stopped") == trained(lab.folder / "plain")


def test_what_is_kept_of_a_matrix(lab: Lab) -> None:
    kept = stored(lab.folder / "plain")
    name = next(full.partition(".")[2] for full in kept if "layers.0.fc1" in full and full.endswith("weight"))
    matrix = {full.partition(".")[0]: tensor for full, tensor in kept.items() if full.partition(".")[2] == name}
    match lab.options["optimizer"]:
        case "adamw":
            assert {key: tensor.dtype for key, tensor in matrix.items()} == dict.fromkeys(
                ("exp_avg", "exp_avg_sq"), torch.float32
            )
        case "adamw8bit":
            assert matrix["state1"].dtype == matrix["state2"].dtype == torch.uint8
            assert matrix["state1"].any(), "nothing was remembered"
            assert len(matrix["absmax1"]) == -(-matrix["state1"].numel() // 256)
        case "adafactor":
            rows, columns = matrix["row_var"], matrix["col_var"]
            assert (rows.shape[1], columns.shape[0]) == (1, 1)
            assert matrix.keys() == {"row_var", "col_var"}


@pytest.mark.parametrize(("name", "rate"), [("adamw", 2e-3), ("adamw8bit", 2e-3), ("adafactor", 2e-2)])
def test_it_learns(run: Tiny, name: Any, rate: float) -> None:
    """Some passes over two hundred pairs."""
    model = run.model()
    run = Tiny(run.config.model_copy(update={"training": _training(name, rate)}), run.made, run.plan, run.loader)
    results = run.train(model, 48)
    first, last = (results[step].nats / results[step].target_tokens for step in (0, -1))
    assert last < first - 1.5


def _training(name: Any, rate: float) -> TrainingConfig:
    return TrainingConfig(optimizer=name, learning_rate=rate, schedule="constant", batch_size=16, max_steps=50)


@pytest.mark.parametrize("name", ["adamw", "adamw8bit", "adafactor"])
def test_only_matrices_decay(name: Any) -> None:
    matrix, vector = torch.nn.Parameter(torch.ones(64, 64)), torch.nn.Parameter(torch.ones(64))
    training = TrainingConfig(optimizer=name, learning_rate=0.1, weight_decay=0.5)
    optimizer = build([("matrix", matrix), ("vector", vector)], training)
    matrix.grad, vector.grad = torch.zeros(64, 64), torch.zeros(64)
    optimizer.step()
    assert float(matrix.detach()[0, 0]) == pytest.approx(0.95)
    assert vector.equal(torch.ones(64))


@pytest.mark.parametrize("name", ["adamw", "adamw8bit", "adafactor"])
def test_restored_moments_are_a_copy(name: Any) -> None:
    """So that the next step does not change what was read, and nothing is left of another state."""
    matrix = torch.nn.Parameter(torch.ones(64, 64))
    optimizer = build([("matrix", matrix)], TrainingConfig(optimizer=name))
    matrix.grad = torch.full((64, 64), 2.0)
    optimizer.step()
    kept = {key: tensor.clone() for key, tensor in moments(optimizer, [("matrix", matrix)])}
    before = {key: tensor.clone() for key, tensor in kept.items()}
    optimizer.state[matrix]["odd"] = torch.ones(1)
    restore_moments(optimizer, [("matrix", matrix)], kept, 1)
    assert "odd" not in optimizer.state[matrix]
    optimizer.step()
    assert float(optimizer.state[matrix]["step"]) == 2
    assert all(tensor.equal(before[key]) for key, tensor in kept.items())
    restore_moments(optimizer, [("matrix", matrix)], {}, 0)
    assert not optimizer.state


def test_adafactor_with_the_learning_rate_of_adamw_is_told(tmp_path: Path) -> None:
    lab = Lab(tmp_path, {"optimizer": "adafactor", "max_steps": 1, "eval_steps": 0})
    told: list[list[str]] = []
    for name, rate in (("small", 5e-5), ("usual", 1e-3)):
        lab.train(name, learning_rate=rate)
        told.append([event.message for event in lab.events if isinstance(event, Warned)])
    assert any("--learning-rate 5e-05: Adafactor" in message for message in told[0])
    assert not any("Adafactor" in message for message in told[1])


def test_without_bitsandbytes_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(InputError, match="--optimizer adamw8bit needs bitsandbytes") as caught:
        Lab(tmp_path, {"optimizer": "adamw8bit"}).train("run")
    assert caught.value.hint == "pip install 'dragoman[8bit]'"
    assert not (tmp_path / "run").exists()
