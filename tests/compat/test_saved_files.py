"""What a run leaves in its folder opens with transformers and safetensors as they are.

The same with other versions, in environments of their own, is `make compat` (`bench/compat.py`).
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from dragoman.deploy import translate
from dragoman.languages import CODES
from dragoman.model import nllb, vocabulary
from dragoman.training import tensor_file
from tests.compat import open_saved
from tests.support.shared import finished_run


@pytest.fixture(scope="module")
def seen() -> dict[str, Any]:
    return open_saved.look(finished_run())


def test_the_published_folder_opens_with_equal_ids_and_tied_weights(seen: dict[str, Any]) -> None:
    ours = vocabulary.load(finished_run())
    assert seen["classes"] == "M2M100ForConditionalGeneration and NllbTokenizer"
    assert seen["codes"] == [ours.code_id(code) for code in CODES]
    assert seen["vocabulary"] == [len(ours), len(ours) + 2]
    assert seen["tied"] == [True, True, True]
    assert [ids[1:-1] for ids in seen["ids"][: len(open_saved.TEXTS)]] == ours.encode(open_saved.TEXTS)
    assert [ids[0] for ids in seen["ids"]] == [ours.code_id(CODES[n % 202]) for n in range(len(seen["ids"]))]
    assert [ids[0] for ids in seen["labels"]] == [ours.code_id(CODES[-1 - n % 202]) for n in range(len(seen["labels"]))]


def test_generate_with_a_forced_code_gives_what_we_decode(seen: dict[str, Any]) -> None:
    loaded = translate.load(str(finished_run()))
    from dragoman.evaluation.decode import Request, decode
    from dragoman.languages import parse_pair

    requests = [Request(text, parse_pair("en-fr")) for text in open_saved.TEXTS[:3]]
    ours = decode(loaded.model, loaded.vocabulary, requests, 1, max_new_tokens=11)
    assert [loaded.vocabulary.decode(row) for row in seen["generated"]] == ours
    code = loaded.vocabulary.code_id("fra_Latn")
    assert [row[:2] for row in seen["generated"]] == [[vocabulary.EOS, code]] * 3


def test_every_folder_with_a_model_opens(seen: dict[str, Any]) -> None:
    folders = [path.parent for path in finished_run().rglob("model.safetensors")]
    assert len(folders) >= 3, "root, base and a checkpoint"
    for folder in folders:
        found = open_saved.look(folder)
        assert (found["ids"], found["tied"]) == (seen["ids"], seen["tied"])


def test_our_safetensors_are_read_by_safetensors_itself(tmp_path: Path) -> None:
    tensors = {
        "a matrix": torch.randn(3, 5),
        "half": torch.randn(7).half(),
        "brain": torch.randn(2, 2).bfloat16(),
        "double": torch.randn(4, 1, 2, dtype=torch.float64),
        "one": torch.tensor([1.5]),
        "a slice": torch.randn(6, 4)[:, 1:3],
        "turned": torch.randn(2, 3).T,
        "empty": torch.zeros(0, 4),
        "ü": torch.randn(2),
    }
    path = tmp_path / "ours.safetensors"
    path.write_bytes(b"".join(bytes(chunk) for chunk in tensor_file.chunks(tensors, {"format": "pt"})))
    with safe_open(path, "pt") as opened:
        assert opened.metadata() == {"format": "pt"}
        assert set(opened.keys()) == set(tensors)
        for name, tensor in tensors.items():
            found = opened.get_tensor(name)
            assert found.dtype == tensor.dtype
            assert torch.equal(found, tensor)


def test_a_checkpoint_holds_what_transformers_saves_of_the_same_model(tmp_path: Path) -> None:
    model = nllb.load(finished_run())
    model.save_pretrained(tmp_path)
    theirs, ours = load_file(tmp_path / "model.safetensors"), load_file(finished_run() / "model.safetensors")
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[name], ours[name]) for name in ours)
    config, saved = (json.loads((folder / "config.json").read_text()) for folder in (tmp_path, finished_run()))
    assert config == saved
    moments = next(finished_run().glob("checkpoint-*/training/optimizer.safetensors"))
    with safe_open(moments, "pt") as opened:
        shapes = {name: list(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    expected = {name: list(tensor.shape) for name, tensor in ours.items()}
    expected[nllb.EMBEDDING][0] -= 2  # the two spare rows have no token, so they are not trained
    assert sorted(map(str, shapes.values())) == sorted(str(shape) for shape in expected.values() for _ in range(2))
    save_file(load_file(moments), tmp_path / "again.safetensors")
