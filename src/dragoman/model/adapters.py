"""LoRA: two thin matrices beside each frozen one, through peft's own layers (Hu et al. 2022, "LoRA", section 4).

peft's layers take the place of transformers' linear ones, so every forward pass works as it
is. Anyone can load what is published: there the product of the thin matrices is added to
the frozen one, a matrix at a time, and the model in training stays as it was.

Shape letters: O outputs of a linear layer, I inputs, R rank.
"""

import json
import logging
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dragoman.config import ModelConfig
from dragoman.errors import Damaged, InputError
from dragoman.model.derived import Frozen, Merged
from dragoman.model.pieces import Pieces

if TYPE_CHECKING:
    from transformers import M2M100ForConditionalGeneration

ADAPTED = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
"""Linear layers of every encoder and decoder layer; the embedding is left alone."""
NAME = "default"
"""What peft calls the only adapter of a model."""
_PREFIX = "base_model.model."
"""Before the names in peft's files."""


def check(options: ModelConfig) -> None:
    """Look whether what the options ask for is installed.

    Raises:
        InputError: It is not.
    """
    if options.adapter == "lora":
        _peft()


def _peft() -> Any:
    # peft imports bitsandbytes where it is installed, and that one reports a missing package nobody asked for.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    try:
        import peft
    except ImportError as error:
        raise InputError(f"--adapter lora needs peft ({error})", "pip install 'dragoman[lora]'") from None
    return peft


class Lora:
    """The adapters of a model: the only weights of it that are trained."""

    def __init__(self, model: "M2M100ForConditionalGeneration", options: ModelConfig, seed: int) -> None:
        """Freeze the model and put adapters beside its matrices.

        Args:
            model: On its device; the names of its modules stay.
            options: Rank, alpha and dropout.
            seed: Of the adapters' first weights.

        Raises:
            InputError: peft is not installed.
        """
        peft = _peft()
        alpha = options.lora_alpha if options.lora_alpha is not None else 2.0 * options.lora_rank
        self.settings = peft.LoraConfig(
            r=options.lora_rank,
            lora_alpha=alpha,
            lora_dropout=options.lora_dropout,
            target_modules=list(ADAPTED),
            bias="none",
            task_type="SEQ_2_SEQ_LM",
            base_model_name_or_path=options.model,
            revision=options.revision,
        )
        devices = [model.device] if model.device.type == "cuda" else []
        with torch.random.fork_rng(devices):  # peft draws first weights too, which ours replace
            peft.inject_adapter_in_model(self.settings, model, adapter_name=NAME)
        self._seed = seed
        self._layers: dict[str, Any] = {
            path: part for path, part in model.named_modules() if isinstance(part, peft.tuners.lora.Linear)
        }
        trained = {id(matrix) for layer in self._layers.values() for matrix in _pair(layer)}
        for parameter in model.parameters():
            parameter.requires_grad_(id(parameter) in trained)
        self.restart()

    def restart(self) -> None:
        """The adapters as they were at first: they change nothing until they are trained."""
        generator = torch.Generator().manual_seed(self._seed)
        with torch.no_grad():
            for layer in self._layers.values():
                down_RI, up_OR = _pair(layer)
                bound = 1 / math.sqrt(down_RI.shape[1])  # as torch's linear layers begin, and peft's
                down_RI.copy_(torch.empty(down_RI.shape).uniform_(-bound, bound, generator=generator))
                up_OR.zero_()

    def tensors(self) -> dict[str, Tensor]:
        """The adapters' weights, by the names in peft's files."""
        return {
            f"{_PREFIX}{path}.lora_{letter}.weight": matrix.detach()
            for path, layer in self._layers.items()
            for letter, matrix in zip("AB", _pair(layer), strict=True)
        }

    def take(self, stored: Mapping[str, Tensor]) -> None:
        """Put stored weights of `tensors` back.

        Raises:
            Damaged: They belong to other adapters.
        """
        ours = self.tensors()
        if odd := sorted(ours.keys() ^ stored.keys()):
            raise Damaged(f"the adapters are those of another model ({odd[0]})", "--model as in the run's config.yaml")
        for name, tensor in ours.items():
            tensor.copy_(stored[name])

    def frozen(self, held: Mapping[str, Tensor | Pieces]) -> dict[str, Frozen]:
        """The matrices that have adapters, without them, by the names in the model; `held` are all of its weights."""
        return {f"{path}.weight": Frozen(held[f"{path}.weight"]) for path in self._layers}

    def merged(self, held: Mapping[str, Tensor | Pieces]) -> dict[str, Merged]:
        """The same matrices with their adapters added, computed when they are written."""
        return {
            f"{path}.weight": Merged(held[f"{path}.weight"], down_RI.detach(), up_OR.detach(), layer.scaling[NAME])
            for path, layer in self._layers.items()
            for down_RI, up_OR in (_pair(layer),)
        }

    def settings_file(self) -> bytes:
        """peft's `adapter_config.json`."""
        # Sets have another order in every process, and the bytes must not.
        return json.dumps(self.settings.to_dict(), indent=2, sort_keys=True, default=sorted).encode()


def _pair(layer: Any) -> tuple[Any, Any]:
    """The thin matrices of a layer, shapes (R, I) and (O, R)."""
    return layer.lora_A[NAME].weight, layer.lora_B[NAME].weight
