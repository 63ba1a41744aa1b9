"""All checks of a run to come: those of its store, and those that need to know model and GPU."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from dragoman import host
from dragoman.checkpoint import doctor
from dragoman.checkpoint.doctor import Check
from dragoman.checkpoint.place import open_run, run_folder_at
from dragoman.checkpoint.replicate import url_of
from dragoman.checkpoint.run_folder import CONFIG, run_folder, stored_config
from dragoman.checkpoint.stored import stored_settings
from dragoman.config import RunConfig
from dragoman.errors import Damaged, InputError, StoreUnavailable
from dragoman.model import memory, scratch
from dragoman.model.regime import Regime, regime_of
from dragoman.model.sizes import KNOWN, Sizes, of_file
from dragoman.store.address import FILE, HUB, named
from dragoman.store.local import FolderStore

RUNS = Path("runs")
"""Where a run that has no name yet would be."""
SHORT_PAIR = 128
"""Tokens of a pair that any run has to compute; longer ones may not be there."""
SLOW_ON_CPU_PARAMETERS = 100e6
"""From this size on, training without a GPU takes days."""
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class Patient:
    """What is examined."""

    stored: RunConfig | None
    """The settings that the run was started with; None for one that begins."""
    folder: Path | None
    """Its folder, if it has one here."""
    url: str | None
    """Its store, if that was named instead."""


def find(place: str | None) -> Patient:
    """The run that is to be examined.

    Args:
        place: Its folder, the URL of its store, or USER/REPO; None for a run that begins.

    Raises:
        InputError: There is no run.
    """
    if place is None:
        return Patient(None, None, None)
    if folder := run_folder_at(place):
        return Patient(stored_config(folder), folder, None)
    stored = None
    with contextlib.suppress(StoreUnavailable, Damaged):  # the checks will say why
        log = open_run(place)
        stored = stored_settings(log) if log.newest else None
    return Patient(stored, None, named(place))


def examine(patient: Patient, config: RunConfig) -> Iterator[Check]:
    """All checks, each as it is made.

    Args:
        patient: What is examined.
        config: Its settings: stored ones, and the words of this command.

    Raises:
        InputError: The store or the model has no possible name.
    """
    is_named = config.save.output or config.data.language_pairs
    folder = patient.folder or (run_folder(config) if is_named else RUNS)
    url = patient.url or url_of(config, folder)
    yield doctor.versions()
    if url is None or url.startswith(HUB):
        yield doctor.token(url)
    if url:
        tried = list(doctor.store(url, single_writer=config.save.single_writer))
        yield from tried
        if not any(check.name == "store" and check.verdict == "problem" for check in tried):
            yield doctor.run(url, folder, time.time())
    else:
        yield Check("store", "warning", "there is none: what this disk loses is lost", "--store hf://USER/REPO")
    sizes = sizes_of(config.model.model, folder)
    yield from gpu(config, sizes)
    if sizes:
        yield from disks(config, sizes, folder, url)
    else:
        found = f"{config.model.model} is of unknown size until it is here: neither memory nor disk was judged"
        yield Check("model", "warning", found, "dragoman doctor again when training has begun")


def disks(config: RunConfig, sizes: Sizes, folder: Path, url: str | None) -> Iterator[Check]:
    """The disks of this machine against what the model needs."""
    keep = config.save.keep
    held = FolderStore(folder).num_bytes() if (folder / CONFIG).exists() else 0
    need = sizes.checkpoint_bytes * (keep + doctor.BESIDES) - held
    yield doctor.run_disk(folder, sizes.checkpoint_bytes, keep, held)
    yield doctor.cache_disk(cache(), 0 if _is_here(config.model.model) else sizes.weights_bytes, (folder, need))
    if url and url.startswith(FILE):
        yield doctor.store_disk(Path(url.removeprefix(FILE)), folder, sizes.checkpoint_bytes, keep)


def sizes_of(model: str, folder: Path) -> Sizes | None:
    """How large a model is; None when nothing on this machine tells.

    Args:
        model: `--model`.
        folder: The run folder; once training has begun, it tells best.

    Raises:
        InputError: There is no such `scratch:` model.
    """
    places = [folder, folder / "dragoman/base", Path(model).expanduser()]
    configs = [place / "config.json" for place in places]
    if cached := _cached(model, "config.json"):
        configs.append(cached)
    for path in configs:
        if sizes := of_file(path):
            return sizes
    if preset := scratch.preset(model):
        return preset.sizes
    return KNOWN.get(model)


def cache() -> Path:
    """Where the Hub's client keeps what it downloads."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _cached(model: str, name: str) -> Path | None:
    """A file of a model on the Hub that was downloaded before."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(model, name)
    except HFValidationError:  # a folder, or `scratch:tiny`
        return None
    return Path(found) if isinstance(found, str) else None


def _is_here(model: str) -> bool:
    """Whether nothing has to be downloaded."""
    is_name = "/" in model and not Path(model).expanduser().is_dir() and ":" not in model
    return not is_name or any(_cached(model, name) for name in _WEIGHTS)


# --- memory and GPU --------------------------------------------------------------


def gpu(config: RunConfig, sizes: Sizes | None) -> Iterator[Check]:
    """Device and precision, then the memory of the machine and of the GPU."""
    import torch

    from dragoman.training.optimizer import choose_arithmetic

    try:
        arithmetic = choose_arithmetic(config.training.device, config.training.precision)
    except InputError as error:
        yield Check("device", "problem", error.message, error.hint)
        return
    if arithmetic.device.type == "cpu":
        yield _cpu(config, arithmetic.precision, sizes)
        if sizes:
            regime = memory.with_checkpointing(
                sizes, regime_of(config, "cpu", arithmetic.precision), host.free_memory_bytes()
            )
            need = memory.peak_bytes(sizes, regime, SHORT_PAIR) + memory.PROCESS_BYTES
            yield host_memory(need, "to train on the CPU")
        return
    name, capability = torch.cuda.get_device_name(), torch.cuda.get_device_capability()
    facts = {"name": name, "capability": list(capability), "precision": arithmetic.precision}
    found = f"{name}, compute capability {capability[0]}.{capability[1]}: {arithmetic.precision}"
    if error := _cannot_compute():
        yield Check(
            "device", "problem", f"{found}; torch cannot use it: {error}", "another GPU, or another torch", facts
        )
    elif arithmetic.precision == "fp32" and config.training.precision == "auto":
        yield Check("device", "warning", f"{found} is slow; bf16 needs 8.0, fp16 7.0", "a newer GPU", facts)
    else:
        yield Check("device", "ok", found, facts=facts)
    if sizes:
        yield host_memory(sizes.weights_bytes + memory.PROCESS_BYTES, "to load the model")
        free, total = torch.cuda.mem_get_info()
        yield gpu_memory(config, sizes, regime_of(config, "cuda", arithmetic.precision), total, free)


def _cannot_compute() -> str:
    """Why torch cannot compute on the GPU, found out by doing it; empty when it can."""
    import torch

    try:
        torch.ones(2, device="cuda").sum().item()
    except RuntimeError as error:
        return str(error).strip().splitlines()[0]
    return ""


def _cpu(config: RunConfig, precision: str, sizes: Sizes | None) -> Check:
    asked = " (--device cpu)" if config.training.device == "cpu" else ", torch sees no GPU"
    is_large = sizes is None or sizes.num_parameters > SLOW_ON_CPU_PARAMETERS
    facts = {"name": "cpu", "precision": precision}
    if is_large and config.training.device != "cpu":
        return Check("device", "warning", f"CPU, {precision}{asked}: this model would train for days", "a GPU", facts)
    return Check("device", "ok", f"CPU, {precision}{asked}", facts=facts)


def host_memory(need: int, why: str) -> Check:
    """Whether the machine has so much memory."""
    total, free = host.memory_bytes()
    facts = {"need_bytes": need, "total_bytes": total, "free_bytes": free}
    found = f"about {_gib(need)} needed {why}; {_gib(total)} there, {_gib(free)} free"
    if total < need:
        return Check("memory", "problem", found, "a machine with more memory, or a smaller --model", facts)
    if free < need:
        return Check("memory", "warning", found, "end what else runs there", facts)
    return Check("memory", "ok", found, facts=facts)


def gpu_memory(config: RunConfig, sizes: Sizes, regime: Regime, total: int, free: int) -> Check:
    """Whether the GPU has enough memory for the weights and what belongs to them, and for a microbatch."""
    room, longest = total - memory.CONTEXT_BYTES, 2 * config.data.max_tokens
    if _may_checkpoint(config):
        regime = memory.with_checkpointing(sizes, regime, room)
    alone = replace(regime, accumulates=False)
    tokens, at_once = (memory.microbatch_tokens(sizes, way, room) for way in (regime, alone))
    fewest = min(longest, SHORT_PAIR)
    least = memory.peak_bytes(sizes, alone, fewest) + memory.CONTEXT_BYTES
    need = memory.peak_bytes(sizes, regime if tokens >= fewest else alone, fewest) + memory.CONTEXT_BYTES
    facts = {"need_bytes": need, "total_bytes": total, "free_bytes": free, "microbatch_tokens": tokens}
    found = f"about {_gib(need)} needed to train; {_gib(total)} there, {_gib(free)} free"
    hint = "dragoman estimate --memory shows what fits: --vocabulary active, --adapter lora, or a smaller --model"
    if total < least:
        return Check("GPU memory", "problem", found, hint, facts)
    if tokens < longest:
        limit = f"a step in one microbatch of at most {at_once:,} tokens" if at_once >= longest else "short pairs only"
        return Check("GPU memory", "warning", f"{found}: {limit}", hint, facts)
    found += f": microbatches of at most {tokens:,} tokens"
    if free < need:
        return Check("GPU memory", "warning", found, "end what else runs on it: nvidia-smi", facts)
    return Check("GPU memory", "ok", found, facts=facts)


def _may_checkpoint(config: RunConfig) -> bool:
    return config.training.gradient_checkpointing == "auto"


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:,.1f} GiB"
