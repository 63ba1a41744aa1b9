"""What a session trains: the model as it is held, computed and checked before the first step."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from dragoman import host
from dragoman.checkpoint.run_folder import run_folder
from dragoman.config import ModelConfig, RunConfig
from dragoman.data import normalization
from dragoman.data.batch_plan import BatchPlan
from dragoman.data.corpus import Corpus, open_corpus
from dragoman.data.loader import Loader
from dragoman.data.normalization import Normalization
from dragoman.errors import InputError
from dragoman.journal import Journal, Warned
from dragoman.model import adapters, nllb
from dragoman.model.active import ActiveVocabulary
from dragoman.model.costs import token_costs
from dragoman.model.ddp import Whole
from dragoman.model.fsdp import Parts
from dragoman.model.new_rows import NewRows
from dragoman.model.regime import regime_of
from dragoman.model.sizes import of_config
from dragoman.model.vocabulary import check_codes
from dragoman.training import about, fitting
from dragoman.training.about import About
from dragoman.training.feed import Feed, Share, ready
from dragoman.training.fitting import Fit
from dragoman.training.forward import Forward
from dragoman.training.graphs import Graphs, cuda_recorder
from dragoman.training.inputs import Inputs
from dragoman.training.optimizer import Arithmetic, choose_arithmetic
from dragoman.training.ranks import Order, Ranks
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


def load(
    config: RunConfig, arithmetic: Arithmetic, made: Inputs, plan: BatchPlan, journal: Journal, ranks: Ranks | None
) -> Trainee:
    """Load the base model, judge it on the first pairs, and give it the vocabulary and adapters of the options.

    Raises:
        ModelError: It is not usable, or costs more than guessing would.
    """
    free = fitting.free_bytes(arithmetic.device)
    if ranks and arithmetic.device.type == "cpu":
        free //= ranks.place.local_count
    model = nllb.load(made.base, config.model.dropout)
    form, of_base = Normalization.of(config.data), Normalization.of_folder(made.base)
    if of_base and of_base != form:
        there = f"--normalize {of_base.source} --normalize-target {of_base.target}"
        journal.append(Warned(message=f"the base model was tuned on text written in another way: {there}"))
    told = about.of(config, made.base, made.corpus)
    beside = {normalization.FILE: form.to_json(), about.FILE: told.to_json()}
    small_files = nllb.model_files(model, made.base) | beside
    fit = fitting.fit(config, model, arithmetic, made.corpus, plan.pairs_per_step, free)
    check_codes(made.vocabulary, nllb.num_rows(model))

    def judge(nats_per_token: float) -> None:
        if warning := nllb.check_first_loss(nats_per_token, nllb.num_rows(model), made.may_guess):
            journal.append(Warned(message=warning))

    parallel = "" if ranks is None else fit.parallel
    build = Build(parallel, made.vocabulary.first_new if config.data.new_language else None)
    if ranks:
        hand_out(ranks, config, model, made.corpus, build)
    forward = assemble(config, model, arithmetic, Loader(made.corpus, plan), build, ranks, judge)
    return Trainee(forward, small_files, told, fit)


def as_stored(forward: Forward, config: RunConfig, state: TrainState) -> Forward:
    """The same, with layers computed twice or kept as the state says, unless the options say otherwise."""
    asked = config.training.gradient_checkpointing
    return fitting.checkpointed(forward, state.checkpointing if asked == "auto" else asked == "on")


def feed_of(forward: Forward, config: RunConfig, loader: Loader) -> Feed:
    """What gives the microbatches; on a GPU those of the next step are made while it computes."""
    training, share = config.training, None
    if parallel := forward.parallel:
        sizes = of_config(forward.model.config.to_dict())
        assert sizes is not None, "the model was judged by them before"
        regime = regime_of(config, "cpu", forward.arithmetic.precision)
        costs = token_costs(sizes, replace(regime, active_rows=forward.rows))
        share = Share(parallel.peers.number, parallel.peers.count, costs, parallel.is_divided)
    return Feed(
        loader,
        training.seed,
        forward.active,
        padded=not forward.packed,
        static=training.static_shapes,
        share=share,
        ahead=forward.arithmetic.device.type == "cuda",
    )


def graphs_of(forward: Forward, config: RunConfig, warn: Callable[[str], None]) -> Graphs | None:
    """What repeats small microbatches; None without static shapes, or without a GPU to repeat them."""
    if not config.training.static_shapes or forward.arithmetic.device.type != "cuda":
        return None
    if forward.parallel:
        warn("--static-shapes: with several ranks small microbatches are padded, and no CUDA graphs are recorded")
        return None
    if forward.new_rows:  # their gradient is taken out of another one, which a graph would look for at the next step
        return None
    trained = [parameter for parameter in forward.model.parameters() if parameter.requires_grad]
    return Graphs(trained, cuda_recorder(), warn)


def set_up_torch(config: RunConfig, ranks: int = 1) -> Arithmetic:
    """Device, precision, threads and determinism, as configured; the process's own settings."""
    training = config.training
    arithmetic = replace(choose_arithmetic(training.device, training.precision), ranks=ranks)
    if training.threads:
        torch.set_num_threads(training.threads)
    deterministic = training.deterministic or arithmetic.device.type == "cpu"
    if deterministic:
        host.cublas_workspace()
    torch.use_deterministic_algorithms(deterministic)
    # It would fill every new tensor with NaN, to find reads of unwritten memory; we have none.
    torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore[reportAttributeAccessIssue]
    return arithmetic


@dataclass(frozen=True)
class Build:
    """What is decided by one process about how all of them hold the model."""

    parallel: str
    """ddp or fsdp; empty when there is one."""
    first_new: int | None
    """First token of a new language; None when there is none."""


def assemble(
    config: RunConfig,
    model: "M2M100ForConditionalGeneration",
    arithmetic: Arithmetic,
    loader: Loader,
    build: Build,
    ranks: Ranks | None,
    judge: Callable[[float], None] = lambda nats_per_token: None,
) -> Forward:
    """How the model is computed; proved plausible on this data before anything is trained.

    Args:
        config: The whole configuration.
        model: In the host's memory; of several ranks the first one's weights count.
        arithmetic: Device and precision.
        loader: Of the run's pairs, which it gives as token ids.
        build: The same on all ranks.
        ranks: The other ones; None when there are none.
        judge: Given what the first pairs cost, in nats per target token.
    """
    training = config.training
    torch.nn.Module.to(model, arithmetic.weights)
    lora = adapters.Lora(model, config.model, training.seed) if config.model.adapter == "lora" else None
    parts = None
    if build.parallel == "fsdp" and ranks:
        parts = Parts(model, ranks.peers, arithmetic.half, offload=config.ranks.offload)
    else:
        nllb.to_device(model, arithmetic.device)
        if ranks:
            ranks.peers.make_equal(model)
    forward = Forward(
        model, arithmetic, training.forward == "packed", training.label_smoothing, lora=lora, parallel=parts
    )
    judge(_first_loss(forward, loader))
    if training.vocabulary == "active":
        forward = replace(forward, active=ActiveVocabulary(model, loader.corpus.rows, _scratch(config)))
    if lora and build.first_new is not None:
        forward = replace(forward, new_rows=NewRows(model, _num_new(forward, build.first_new)))
    if build.parallel == "ddp" and ranks:
        embedding: Any = model.model.shared
        forward = replace(forward, parallel=Whole(model, ranks.peers, list(embedding.parameters())))
        _settle_buckets(forward, Loader(loader.corpus, loader.plan, active=forward.active is not None))
    return forward


def _settle_buckets(forward: Forward, loader: Loader) -> None:
    """Have DDP see one backward pass: it then puts gradients together in another way, which must not be in a step.

    Sums over three ranks and more depend on that way in their last bits, and a session that resumes has to sum as
    one that goes on.
    """
    forward.backward(ready(loader.packed(loader.batch(0)[-1:])), None, lambda objective: objective * 0)
    assert forward.parallel is not None
    forward.parallel.forget_gradients()


def _scratch(config: RunConfig) -> Path:
    """Where the rows lie that are not trained; on another machine than the first rank's the folder is new."""
    folder = run_folder(config)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _num_new(forward: Forward, first_new: int) -> int:
    """How many of the rows that the model holds lie behind those of NLLB's own tokens."""
    if forward.active:
        return int((forward.active.rows_A >= first_new).sum())
    return nllb.num_rows(forward.model) - first_new


def _first_loss(forward: Forward, loader: Loader) -> float:
    """Nats per target token of the base model for the first pairs, without dropout."""
    few = loader.packed(loader.batch(0)[:4])
    forward.model.eval()
    with torch.no_grad():  # not inference mode: what FSDP2 brings here it uses again in training
        nats = forward.plain().nats(few)
    forward.model.train()
    return float(nats.plain) / few.target_tokens


def hand_out(
    ranks: Ranks, config: RunConfig, model: "M2M100ForConditionalGeneration", corpus: Corpus, build: Build
) -> None:
    """Tell the other ranks what they need to assemble the same model over the same data."""
    ranks.order("assemble", corpus=str(corpus.folder.relative_to(run_folder(config))), **asdict(build))
    ranks.tell(model.config.to_json_string(use_diff=False))
    sent = [(path.name, path.stat().st_size) for path in sorted(corpus.folder.iterdir()) if path.is_file()]
    ranks.tell(json.dumps(sent))
    if any(ranks.ask(False)):
        for name, size in sent:
            ranks.spread_file(corpus.folder / name, size, receives=False)
    ranks.ask(True)  # all have it


def receive(ranks: Ranks, config: RunConfig, order: Order) -> tuple["M2M100ForConditionalGeneration", Corpus, Build]:
    """What `hand_out` gives: a model without weights, the corpus, how to assemble them.

    Raises:
        Damaged: The corpus did not arrive as it was sent.
    """
    model = nllb.blank(json.loads(ranks.tell()))
    folder = run_folder(config) / order["corpus"]
    sent: list[tuple[str, int]] = json.loads(ranks.tell())
    wants = not folder.exists() and ranks.place.local_number == 0
    if any(ranks.ask(wants)):
        part = folder.with_suffix(".part")
        if wants:
            part.mkdir(parents=True, exist_ok=True)
        for name, size in sent:
            ranks.spread_file(part / name, size, receives=wants)
        if wants:
            part.rename(folder)
    ranks.ask(True)
    corpus = open_corpus(folder)
    assert corpus is not None, "it was sent, or lies where the first rank has made it"
    if wants:
        corpus.verify()
    return model, corpus, Build(order["parallel"], order["first_new"])
