"""NLLB checkpoints: found, loaded, checked before the first step, saved.

The forward pass is transformers' own. What is checked here are the ways in which an
NLLB model goes wrong without any error: codes that moved, embeddings that came
untied, weights that were never read.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from dragoman.errors import ModelError
from dragoman.model import vocabulary

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import M2M100ForConditionalGeneration

EMBEDDING = "model.shared.weight"
"""Name of the tied embeddings among the weights."""
HUB_SECONDS = 10.0
"""How long the Hub may take to say what a model's repository holds."""


def check_name(name: str) -> Path | None:
    """Whether `name` can be a model; returns its folder, None when it has the form of a Hub id.

    Raises:
        ModelError: It is neither, or the folder holds no NLLB model.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        check_folder(folder)
        return folder
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise ModelError(
            f"--model: there is no folder {name}", "a folder, a Hub id such as USER/MODEL, or scratch:tiny"
        )
    return None


def check_folder(folder: Path) -> None:
    """Look at the files of a model folder, without reading the weights.

    Raises:
        ModelError: No or another `config.json`, or no weights.
    """
    path = folder / "config.json"
    if not path.exists():
        raise ModelError(f"{folder} holds no config.json", "the folder of an NLLB model, or a Hub id")
    try:
        kind = json.loads(path.read_bytes())["model_type"]
    except (ValueError, TypeError, KeyError):
        raise ModelError(f"{path} is not the configuration of a model", "the folder of an NLLB model") from None
    if kind != "m2m_100":
        hint = "a dense NLLB-200 model: facebook/nllb-200-distilled-600M, -1.3B, -3.3B"
        raise ModelError(f"{folder} is a {kind} model; NLLB models are m2m_100", hint)
    if not any(file.suffix in (".safetensors", ".bin") for file in folder.iterdir()):
        raise ModelError(f"{folder} holds no weights (model.safetensors)", "download the model again")


def find(name: str, revision: str | None = None) -> Path:
    """The folder of a model: `name` itself when it is one, else a download from the Hub.

    Raises:
        ModelError: There is no such folder or repository, or it cannot be reached.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    check_name(name)
    try:
        return _from_hub(name, revision)
    except Exception as error:  # huggingface_hub lets the errors of its HTTP library through, whichever that is
        at = f" at revision {revision}" if revision else ""
        reason = str(error).strip().splitlines()[0]
        message = f"--model: there is no folder {name}, and the Hub does not give it{at}: {reason}"
        raise ModelError(message, "check the name, the network and HF_TOKEN") from None


def _from_hub(name: str, revision: str | None) -> Path:
    """Download the model at the root of a repository; without the Hub, what was downloaded before."""
    import huggingface_hub
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    def download(*more: str, cached: bool = False) -> Path:
        # Only what lies at the root: in a run's repository whole checkpoints are in folders below.
        return Path(
            huggingface_hub.snapshot_download(
                name,
                revision=revision,
                allow_patterns=["*.json", "*.safetensors", *more],
                ignore_patterns="*/*",
                local_files_only=cached,
            )
        )

    try:
        # Asked once, with a deadline: the download itself repeats its questions for half a minute.
        found = huggingface_hub.model_info(name, revision=revision, timeout=HUB_SECONDS)
    except (RepositoryNotFoundError, RevisionNotFoundError):
        raise
    except Exception as error:
        try:
            return download(cached=True)
        except Exception:
            raise error from None
    names = [file.rfilename for file in found.siblings or []]
    has_safetensors = any(file.endswith(".safetensors") and "/" not in file for file in names)
    return download() if has_safetensors else download("pytorch_model*.bin")


def be_quiet() -> None:
    """Keep transformers' bars and advice out of our output; what goes wrong is raised anyway."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def load(folder: Path, dropout: float | None = None) -> "M2M100ForConditionalGeneration":
    """The model of a folder in float32, in training mode, checked.

    Args:
        folder: A folder with `config.json` and weights.
        dropout: Replaces every dropout of the configuration.

    Raises:
        ModelError: Not an M2M100 model, no or incomplete weights, embeddings not tied.
    """
    import torch
    from transformers import AutoConfig, M2M100ForConditionalGeneration

    be_quiet()
    check_folder(folder)
    try:
        config = AutoConfig.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder / 'config.json'}: {error}", "the folder of an NLLB model") from None
    config.encoder_layerdrop = config.decoder_layerdrop = 0.0
    if dropout is not None:
        config.dropout = config.attention_dropout = config.activation_dropout = dropout
    try:
        loaded: Any = M2M100ForConditionalGeneration.from_pretrained(
            folder, config=config, dtype=torch.float32, output_loading_info=True, local_files_only=True
        )
        model, info = loaded
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"{folder} holds no weights that can be read: {reason}", "download the model again") from None
    if missing := sorted(info["missing_keys"]):
        raise ModelError(
            f"{folder}: {len(missing)} weights are missing, the first is {missing[0]}", "download it again"
        )
    return check(model, folder)


def blank(config: dict[str, Any]) -> "M2M100ForConditionalGeneration":
    """A model in training mode whose weights are whatever the memory holds: another process gives them.

    Args:
        config: Of a loaded model; dropout and all are taken from it.
    """
    from transformers import M2M100Config, M2M100ForConditionalGeneration
    from transformers.initialization import no_init_weights

    be_quiet()
    with no_init_weights():
        model = M2M100ForConditionalGeneration(M2M100Config(**config))
    model.tie_weights()
    return check(model, Path("the model of the first rank"))


def check(model: "M2M100ForConditionalGeneration", folder: Path) -> "M2M100ForConditionalGeneration":
    """The same model, after its embeddings were proved tied.

    Raises:
        ModelError: One of the three embeddings has weights of its own.
    """
    shared = model.model.shared.weight
    tied = (model.lm_head, model.model.encoder.embed_tokens, model.model.decoder.embed_tokens)
    if any(part.weight is not shared for part in tied):
        raise ModelError(f"{folder}: the embeddings are not tied, as they are in NLLB", "tie_word_embeddings: true")
    return model.train()


def to_device(model: "M2M100ForConditionalGeneration", device: "torch.device") -> "M2M100ForConditionalGeneration":
    """The same model, on the device."""
    import torch

    torch.nn.Module.to(model, device)
    return model


def num_rows(model: "M2M100ForConditionalGeneration") -> int:
    """Rows of the embedding: the model's vocabulary size."""
    return int(model.config.vocab_size)


def check_first_loss(nats_per_token: float, rows: int, from_scratch: bool) -> str:
    """Judge the loss before the first step; returns a warning or an empty string.

    Args:
        nats_per_token: The loss of the first batch without dropout.
        rows: Vocabulary size; guessing costs ln(rows) nats.
        from_scratch: Whether guessing is expected.

    Raises:
        ModelError: The loss is not finite or far worse than guessing.
    """
    guessing = math.log(rows)
    if not math.isfinite(nats_per_token) or nats_per_token > guessing + 4:
        message = f"the first batch costs {nats_per_token:.2f} nats per token, guessing {guessing:.2f}"
        raise ModelError(f"--model: the weights are broken: {message}", "download the model again")
    if nats_per_token > guessing - 1 and not from_scratch:
        return f"the model starts at {nats_per_token:.2f} nats per token, no better than guessing ({guessing:.2f})"
    return ""


def hidden(
    model: "M2M100ForConditionalGeneration", source_BS: "Tensor", source_mask_BS: "Tensor", decoder_BT: "Tensor"
) -> "Tensor":
    """The decoder's last hidden states by transformers' own forward, shape (B, T, D).

    Args:
        model: Dropout follows its training mode.
        source_BS: Source tokens, padded.
        source_mask_BS: True where there is a token.
        decoder_BT: Decoder input, padded behind its tokens.
    """
    output = model.model(
        input_ids=source_BS, attention_mask=source_mask_BS, decoder_input_ids=decoder_BT, use_cache=False
    )
    return output.last_hidden_state


def weights(model: "M2M100ForConditionalGeneration") -> "Iterator[tuple[str, Tensor]]":
    """Every weight once, by the name under which it is saved; the tied embeddings as `model.shared.weight`.

    Adapters are none of them; the matrices that peft has wrapped have their own names.
    """
    for name, parameter in model.named_parameters(remove_duplicate=True):
        if ".lora_" not in name:
            yield saved_name(name), parameter.detach()


def saved_name(name: str) -> str:
    """Under which a parameter is saved: peft puts a matrix that has adapters one module deeper."""
    return name.replace(".base_layer.", ".")


def model_files(
    model: "M2M100ForConditionalGeneration", tokenizer_folder: Path, tokenizer: bytes | None = None
) -> dict[str, bytes]:
    """The small files beside the weights, so that `from_pretrained` works on the folder.

    Args:
        model: Its configuration counts.
        tokenizer_folder: Where its tokenizer is.
        tokenizer: Another `tokenizer.json` instead of the one there.
    """
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        model.config.save_pretrained(scratch)
        generation = model.generation_config
        generation.decoder_start_token_id = vocabulary.EOS
        generation.save_pretrained(scratch)
        written = sorted(path.name for path in Path(scratch).iterdir())
        small = {name: (Path(scratch) / name).read_bytes() for name in written}
    return small | vocabulary.files(tokenizer_folder, tokenizer)
