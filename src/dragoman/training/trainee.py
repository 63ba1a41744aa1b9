"""What a session trains: the model as it is held, computed and checked before the first step."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from dragoman import host
from dragoman.checkpoint.run_folder import run_folder
from dragoman.config import ModelConfig, RunConfig
from dragoman.data import normalization
from dragoman.data.batch_plan import BatchPlan
from dragoman.data.loader import Loader
from dragoman.data.normalization import Normalization
from dragoman.errors import InputError
from dragoman.journal import Journal, Warned
from dragoman.model import adapters, nllb
from dragoman.model.active import ActiveVocabulary
from dragoman.model.new_rows import NewRows
from dragoman.model.vocabulary import check_codes
from dragoman.training import about, fitting
from dragoman.training.about import About
from dragoman.training.feed import Feed
from dragoman.training.fitting import Fit
from dragoman.training.forward import Forward
from dragoman.training.graphs import Graphs, cuda_recorder
from dragoman.training.inputs import Inputs
from dragoman.training.optimizer import Arithmetic, choose_arithmetic
from dragoman.training.state import TrainState

if TYPE_CHECKING:
    from transformers import M2M100ForConditionalGeneration


@dataclass(frozen=True)
class Trainee:
    """A model on its device, ready to be trained."""

    forward: Forward
    small_files: dict[str, bytes]
    """Files that stand beside the weights in every checkpoint."""
    about: About
    """What the model tells of itself; one of the small files."""
    fit: Fit
    """How much of it is computed at once, when a run begins."""


def check(config: RunConfig) -> None:
    """Look at options that need one another.

    Raises:
        InputError: One is given without the other.
    """
    training, model = config.training, config.model
    if training.static_shapes and training.forward != "packed":
        raise InputError(f"--static-shapes: --forward {training.forward} pads as transformers does", "--forward packed")
    usual = ModelConfig()
    for name in ("lora_rank", "lora_alpha", "lora_dropout"):
        if model.adapter != "lora" and getattr(model, name) != getattr(usual, name):
            raise InputError(f"--{name.replace('_', '-')}: there are no adapters", "with --adapter lora")


def load(config: RunConfig, arithmetic: Arithmetic, made: Inputs, plan: BatchPlan, journal: Journal) -> Trainee:
    """Load the base model, judge it on the first pairs, and give it the vocabulary and adapters of the options.

    Raises:
        ModelError: It is not usable, or costs more than guessing would.
    """
    free = fitting.free_bytes(arithmetic.device)
    model = nllb.to_device(nllb.load(made.base, config.model.dropout), arithmetic.device)
    form, of_base = Normalization.of(config.data), Normalization.of_folder(made.base)
    if of_base and of_base != form:
        there = f"--normalize {of_base.source} --normalize-target {of_base.target}"
        journal.append(Warned(message=f"the base model was tuned on text written in another way: {there}"))
    told = about.of(config, made.base, made.corpus)
    beside = {normalization.FILE: form.to_json(), about.FILE: told.to_json()}
    small_files = nllb.model_files(model, made.base) | beside
    fit = fitting.fit(config, model, arithmetic, made.corpus, plan.pairs_per_step, free)
    forward = _forward(config, model, arithmetic, Loader(made.corpus, plan), made, journal)
    return Trainee(forward, small_files, told, fit)


def as_stored(forward: Forward, config: RunConfig, state: TrainState) -> Forward:
    """The same, with layers computed twice or kept as the state says, unless the options say otherwise."""
    asked = config.training.gradient_checkpointing
    return fitting.checkpointed(forward, state.checkpointing if asked == "auto" else asked == "on")


def feed_of(forward: Forward, config: RunConfig, loader: Loader) -> Feed:
    """What gives the microbatches; on a GPU those of the next step are made while it computes."""
    training = config.training
    return Feed(
        loader,
        training.seed,
        forward.active,
        padded=not forward.packed,
        static=training.static_shapes,
        ahead=forward.arithmetic.device.type == "cuda",
    )


def graphs_of(forward: Forward, config: RunConfig, warn: Callable[[str], None]) -> Graphs | None:
    """What repeats small microbatches; None without static shapes, or without a GPU to repeat them."""
    if not config.training.static_shapes or forward.arithmetic.device.type != "cuda":
        return None
    if forward.new_rows:  # their gradient is taken out of another one, which a graph would look for at the next step
        return None
    trained = [parameter for parameter in forward.model.parameters() if parameter.requires_grad]
    return Graphs(trained, cuda_recorder(), warn)


def set_up_torch(config: RunConfig) -> Arithmetic:
    """Device, precision, threads and determinism, as configured; the process's own settings."""
    training = config.training
    arithmetic = choose_arithmetic(training.device, training.precision)
    if training.threads:
        torch.set_num_threads(training.threads)
    deterministic = training.deterministic or arithmetic.device.type == "cpu"
    if deterministic:
        host.cublas_workspace()
    torch.use_deterministic_algorithms(deterministic)
    # It would fill every new tensor with NaN, to find reads of unwritten memory; we have none.
    torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore[reportAttributeAccessIssue]
    return arithmetic


def _forward(
    config: RunConfig,
    model: "M2M100ForConditionalGeneration",
    arithmetic: Arithmetic,
    loader: Loader,
    made: Inputs,
    journal: Journal,
) -> Forward:
    """How the model is computed; proved plausible on this data before anything is trained."""
    training = config.training
    forward = Forward(model, arithmetic, training.forward == "packed", training.label_smoothing)
    _check_first_batch(forward, loader, made, journal)
    if config.model.adapter == "lora":
        forward = replace(forward, lora=adapters.Lora(model, config.model, training.seed))
    if training.vocabulary == "active":
        forward = replace(forward, active=ActiveVocabulary(model, made.corpus.rows, run_folder(config)))
    if forward.lora and config.data.new_language:
        forward = replace(forward, new_rows=NewRows(model, _num_new(forward, made)))
    return forward


def _num_new(forward: Forward, made: Inputs) -> int:
    """How many of the rows that the model holds lie behind those of NLLB's own tokens."""
    first = made.vocabulary.first_new
    return int((forward.active.rows_A >= first).sum()) if forward.active else nllb.num_rows(forward.model) - first


def _check_first_batch(forward: Forward, loader: Loader, made: Inputs, journal: Journal) -> None:
    """Prove that the base model is plausible on this data before anything is trained."""
    rows = nllb.num_rows(forward.model)
    check_codes(made.vocabulary, rows)
    few = loader.packed(loader.batch(0)[:4])
    forward.model.eval()
    with torch.inference_mode():
        nats = forward.plain().nats(few)
    forward.model.train()
    if warning := nllb.check_first_loss(float(nats.plain) / few.target_tokens, rows, made.may_guess):
        journal.append(Warned(message=warning))
