"""Models: what is refused, what is loaded as what, and where the Hub is asked."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from dragoman.errors import ModelError
from dragoman.model import nllb
from tests.support.shared import prepared

EMBEDDING = "model.shared.weight"
"""The one name under which the three tied embeddings are stored."""

NAME = "model.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of an untrained tiny model."""
    return shutil.copytree(prepared().made.base, tmp_path / "model")


def configured(folder: Path, **changes: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


def tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Path:
    """The folder, after its weights were changed."""
    save_file(change(load_file(folder / NAME)), folder / NAME, {"format": "pt"})
    return folder


# --- folders -------------------------------------------------------------------------


def test_a_saved_model_is_loaded_in_training_mode_with_all_its_weights(folder: Path) -> None:
    model = nllb.load(folder)
    assert model.training
    stored = load_file(folder / NAME)
    assert {name: weight.tolist() for name, weight in nllb.weights(model)} == {k: v.tolist() for k, v in stored.items()}
    assert EMBEDDING in stored
    assert nllb.num_rows(model) == len(prepared().made.vocabulary) + 2


def test_a_folder_without_config_is_refused(folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"holds no config\.json"):
        nllb.load(folder)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"model_type": '])
def test_a_config_that_is_none_is_refused(folder: Path, content: str) -> None:
    (folder / "config.json").write_text(content)
    with pytest.raises(ModelError, match="is not the configuration of a model"):
        nllb.load(folder)


def test_another_architecture_is_refused_by_name(folder: Path) -> None:
    with pytest.raises(ModelError, match="is a marian model"):
        nllb.load(configured(folder, model_type="marian"))


def test_missing_weights_are_refused(folder: Path) -> None:
    (folder / NAME).unlink()
    with pytest.raises(ModelError, match="holds no weights"):
        nllb.load(folder)


@pytest.mark.parametrize("content", [b"", b"junk" * 100])
def test_weights_that_cannot_be_read_are_refused(folder: Path, content: bytes) -> None:
    (folder / NAME).write_bytes(content)
    with pytest.raises(ModelError, match="holds no weights that can be read"):
        nllb.load(folder)


def test_cut_weights_are_refused(folder: Path) -> None:
    (folder / NAME).write_bytes((folder / NAME).read_bytes()[:-1000])
    with pytest.raises(ModelError, match="holds no weights that can be read"):
        nllb.load(folder)


@pytest.mark.parametrize("missing", [EMBEDDING, "model.decoder.layers.1.fc2.bias"])
def test_one_missing_tensor_is_named(folder: Path, missing: str) -> None:
    tensors(folder, lambda found: {name: value for name, value in found.items() if name != missing})
    with pytest.raises(ModelError, match=r"weights are missing, the first is "):
        nllb.load(folder)


def test_a_tensor_of_another_shape_is_refused(folder: Path) -> None:
    tensors(folder, lambda found: found | {EMBEDDING: found[EMBEDDING][:-1].clone()})
    with pytest.raises(ModelError):
        nllb.load(folder)


def test_embeddings_of_their_own_are_refused(folder: Path) -> None:
    configured(folder, tie_word_embeddings=False)

    def untied(found: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        names = ("model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight")
        return found | {name: found[EMBEDDING].clone() for name in names}

    with pytest.raises(ModelError, match="embeddings are not tied"):
        nllb.load(tensors(folder, untied))


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_any_width_are_loaded_as_float32(folder: Path, stored: torch.dtype) -> None:
    configured(folder, dtype=str(stored).removeprefix("torch."))
    tensors(folder, lambda found: {name: value.to(stored) for name, value in found.items()})
    model = nllb.load(folder)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    weight = load_file(folder / NAME)["model.encoder.layers.0.fc1.weight"]
    assert torch.equal(model.model.encoder.layers[0].fc1.weight, weight.float())


def test_no_layer_is_ever_dropped(folder: Path) -> None:
    configured(folder, encoder_layerdrop=0.9, decoder_layerdrop=0.9)
    model = nllb.load(folder)
    assert model.config.encoder_layerdrop == model.config.decoder_layerdrop == 0
    assert model.model.encoder.layerdrop == model.model.decoder.layerdrop == 0


def test_a_first_loss_far_worse_than_guessing_is_refused_and_guessing_is_told() -> None:
    assert nllb.check_first_loss(3.0, 1000, from_scratch=False) == ""
    assert "no better than guessing" in nllb.check_first_loss(6.8, 1000, from_scratch=False)
    assert nllb.check_first_loss(6.8, 1000, from_scratch=True) == ""
    for broken in (11.0, float("nan"), float("inf")):
        with pytest.raises(ModelError, match="the weights are broken"):
            nllb.check_first_loss(broken, 1000, from_scratch=False)


@pytest.mark.parametrize("name", ["/no/such/folder", "./model", "~/nothing", "justaname", "a/b/c"])
def test_a_name_that_can_be_neither_folder_nor_hub_id_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match="there is no folder"):
        nllb.find(name)


def test_what_is_saved_beside_the_weights_can_be_opened_again(folder: Path, tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    saved.mkdir()
    for name, content in nllb.model_files(nllb.load(folder), folder).items():
        (saved / name).write_bytes(content)
    shutil.copy(folder / NAME, saved / NAME)
    assert json.loads((saved / "generation_config.json").read_text())["decoder_start_token_id"] == 2
    again = nllb.load(saved)
    assert all(
        torch.equal(a, b) for (_, a), (_, b) in zip(nllb.weights(nllb.load(folder)), nllb.weights(again), strict=True)
    )


# --- the Hub -------------------------------------------------------------------------

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """As much of the Hub as a download of `USER/tiny` needs, and no more."""

    def __init__(self, root: Path, asked: list[str], *args: Any) -> None:
        self.root, self.asked = root, asked
        super().__init__(*args)

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, body: bool) -> None:
        path, _, _ = self.path.partition("?")
        self.asked.append(path)
        names = sorted(file.relative_to(self.root).as_posix() for file in self.root.rglob("*") if file.is_file())
        if path.startswith("/api/models/USER/broken"):
            self._send(500, b"{}", {}, body)
        elif path in ("/api/models/USER/tiny", "/api/models/USER/tiny/revision/main"):
            siblings = [{"rfilename": name} for name in names]
            content = {"id": "USER/tiny", "sha": COMMIT, "siblings": siblings, "private": False, "tags": []}
            self._send(200, json.dumps(content).encode(), {}, body)
        elif path.startswith(("/api/models/USER/tiny/tree/", f"/api/models/USER/tiny/tree/{COMMIT}")):
            entries = [{"type": "file", "path": n, "size": (self.root / n).stat().st_size, "oid": n} for n in names]
            self._send(200, json.dumps(entries).encode(), {}, body)
        elif path.startswith("/USER/tiny/resolve/") and (name := path.split("/", 5)[5]) in names:
            content = (self.root / name).read_bytes()
            self._send(200, content, {"ETag": f'"{name}"', "X-Repo-Commit": COMMIT}, body)
        else:
            # Over plain http the client asks for this header before it believes a 404.
            self._send(404, b'{"error": "Repository not found"}', {"X-Error-Code": "RepoNotFound"}, body)

    def _send(self, status: int, content: bytes, headers: dict[str, str], body: bool) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def hub(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Address of a Hub that has the tiny model, as a run's repository holds it, and what it was asked."""
    (folder / "checkpoint-500/training").mkdir(parents=True)
    for name in ("checkpoint-500/model.safetensors", "checkpoint-500/training/optimizer.safetensors", "photo.png"):
        (folder / name).write_bytes(b"much to download for nothing")
    asked: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Hub, folder, asked))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()


CHILD = """
import sys, time
from dragoman.model import nllb
from dragoman.errors import ModelError
for word in sys.argv[1:]:
    name, _, revision = word.partition("@")
    started = time.monotonic()
    try:
        folder = nllb.find(name, revision or None)
        print(folder, *sorted(p.name for p in folder.iterdir()), sep="|")
    except ModelError as error:
        print("refused", f"{time.monotonic() - started:.1f}", error.message, sep="|")
"""


def find(tmp_path: Path, address: str, *names: str) -> list[list[str]]:
    """What `nllb.find` says of each name, in a process of its own, as huggingface_hub reads its settings once."""
    settings = {"HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": address, "HF_HUB_DISABLE_XET": "1"}
    settings |= {"HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1"}
    clean_environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *names],
        env=clean_environment | settings,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return [line.split("|") for line in done.stdout.splitlines()]


def test_a_model_comes_from_the_hub_once_and_then_from_the_cache(
    tmp_path: Path, folder: Path, hub: tuple[str, list[str]]
) -> None:
    address, asked = hub
    words = ("USER/tiny", "USER/nothing", "USER/broken", "USER/tiny@v9")
    [[where, *names], missing, broken, unknown] = find(tmp_path, address, *words)
    files = {path.name for path in folder.iterdir() if path.suffix in (".json", ".safetensors")}
    assert set(names) == files, "the model at the root, and nothing of the checkpoints"
    assert not [path for path in asked if "checkpoint-500" in path or "photo" in path]
    assert nllb.num_rows(nllb.load(Path(where))) == nllb.num_rows(nllb.load(folder))

    assert missing[0] == "refused"
    assert "there is no folder USER/nothing, and the Hub does not give it" in missing[2]
    assert "404" in missing[2]
    assert broken[0] == "refused"
    assert "500" in broken[2]
    assert unknown[0] == "refused"
    assert "the Hub does not give it at revision v9" in unknown[2]

    asked.clear()
    [cached, never_seen] = find(tmp_path, "http://127.0.0.1:9", "USER/tiny", "USER/other")
    assert cached[0] == where
    assert not asked
    assert never_seen[0] == "refused"
    assert "Connection refused" in never_seen[2]
    assert float(never_seen[1]) < 5, "an unreachable Hub must be told soon"
