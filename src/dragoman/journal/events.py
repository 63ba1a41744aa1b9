"""What can happen to a run on a machine: facts with units, in the past tense."""

import re
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """A fact with units, in the past tense. The journal adds `kind` and `time`."""

    @classmethod
    def kind(cls) -> str:
        """The event's name in the journal: `StepSkipped` becomes `step_skipped`."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionStarted(Event):
    """A process took the lease and is about to train from `step`."""

    run: str
    """Name of the run, the same in every session."""
    epoch: int
    """How often the run has changed hands: the lease's epoch."""
    owner: str
    """Name of this process in the run's log."""
    step: int
    """Steps done before this session."""
    total_steps: int
    """Steps of the whole run."""
    steps_per_epoch: float
    """Steps of one pass over the data."""
    device: str
    """Where it trains: `cpu` or `cuda:N`."""
    precision: str
    """fp32, bf16 or fp16."""
    threads: int
    """CPU threads of torch."""
    host: str
    """Name of the machine."""
    pid: int
    """Process id."""
    resumed_from: str
    """Folder of the checkpoint that it continues from; empty at a run's start."""
    store: str = ""
    """URL of the durable store; empty when the run folder is all there is."""
    pairs_per_step: int = 0
    """Sentence pairs of each step."""
    microbatch_tokens: int = 0
    """Most source and target tokens that are computed at once."""
    rows: int = 0
    """Rows of the embedding that are trained."""
    ranks: int = 1
    """Processes that share the work, over all machines."""
    parallel: str = ""
    """What each of several holds: ddp (the whole model) or fsdp (a part of every layer)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RanksLost(Event):
    """A rank of the session was lost, so that all of them ended; what is recorded is safe."""

    reason: str
    """What happened to which."""
    restart: int
    """Which start of the ranks comes next, from 1; 0 when there is none."""
    max_restarts: int
    """How many there may be."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TimeLimited(Event):
    """The session must be over at some time; its last checkpoint is saved and uploaded before."""

    until: float
    """When, in seconds since 1970."""
    reason: str
    """What sets the limit: an option, or what is known of the platform."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LanguagesAdded(Event):
    """The base model was given codes and characters of languages that it did not know."""

    languages: dict[str, list[str]]
    """Codes, each with those of the relatives whose rows its own began as."""
    characters: str
    """Characters that it could not write before, the most frequent first."""
    first_row: int
    """Token id of the first that was added; codes come before characters."""
    rows: int
    """Rows of the embedding afterwards."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Preparing(Event):
    """So much of the data was prepared; told every few seconds."""

    stage: str
    """reading (and cleaning), comparing (duplicates and samples), tokenising or writing."""
    rows: int
    """Rows read of all sources, bad ones included."""
    kept: int
    """Pairs of them that are left so far."""
    share: float | None
    """How much of the stage is done, from 0 to 1: of reading the bytes of the files; null where nobody knows."""
    pairs_per_second: float | None
    """Of the stage, by this session; null before it has done any."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared(Event):
    """The corpus is ready; `funnel` says what became of every row read."""

    corpus: str
    """Digest of the corpus."""
    reused: bool
    """Whether it was there already."""
    pairs: dict[str, int]
    """Training pairs of each direction."""
    funnel: dict[str, Any]
    """Per direction: rows read, bad, dropped by reason, kept."""
    unknown_rate: dict[str, float]
    """Share of `<unk>` among the tokens of each language."""
    seconds: float
    """Time it took."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step(Event):
    """Optimizer steps up to `step` are done; figures are over the steps since the last such event."""

    step: int
    """Steps done."""
    loss: float
    """Nats per target token of the global batch, without label smoothing."""
    learning_rate: float
    """Of the last step."""
    gradient_norm: float
    """Mean over the steps, before clipping."""
    target_tokens: int
    """Target tokens of the steps, language codes and `</s>` included."""
    tokens_per_second: float
    """Target tokens per second of training; evaluation and saving are left out."""
    seconds: float
    """Time the steps took, likewise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepSkipped(Event):
    """The loss or gradient of a step was not finite; the weights were left alone."""

    step: int
    """The step, counted from 1."""
    consecutive: int
    """How many in a row were not finite."""
    passed_over: bool = False
    """It was not computed: it was bad before a roll-back."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RolledBack(Event):
    """Training returned to an earlier step and will pass over the recorded bad ones."""

    from_step: int
    """Steps done before."""
    to_step: int
    """Steps done in the checkpoint that training went back to."""
    bad_steps: list[int]
    """Steps that will be passed over, counted from 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OutOfMemory(Event):
    """A microbatch did not fit; the same step was repeated with smaller ones."""

    step: int
    """The step, counted from 1."""
    microbatch_tokens: int
    """Most source and target tokens in one forward pass from now on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluated(Event):
    """The dev sample was scored."""

    step: int
    """Steps done."""
    loss: float
    """Nats per target token of the dev sample, over the whole vocabulary."""
    outside: float = 0.0
    """Share of the probability that goes to rows of the embedding which are not trained."""
    chrf: float
    """Mean chrF++ over the directions."""
    directions: dict[str, dict[str, Any]]
    """Per direction: chrF++, BLEU, their signatures, number of sentences."""
    samples: list[dict[str, str]]
    """Some sources, hypotheses and references."""
    seconds: float
    """Time it took."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Saved(Event):
    """A checkpoint is recorded; losing the process now costs nothing before `step`."""

    step: int
    """Steps done."""
    folder: str
    """The checkpoint's folder."""
    num_bytes: int
    """Size of all its files."""
    seconds: float
    """From the first byte to the last fsync."""
    reason: str
    """Why it was due."""
    waited_seconds: float = 0.0
    """Time training stood still for it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SaveFailed(Event):
    """A checkpoint could not be saved; training goes on and tries again."""

    step: int
    """Steps done."""
    reason: str
    """What went wrong."""
    last_safe_step: int
    """Newest step that is safe."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fetching(Event):
    """A checkpoint is being brought from the durable store."""

    step: int
    """Its step."""
    num_bytes: int
    """Bytes that have arrived."""
    of_bytes: int
    """Bytes of all its files."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplicatorStarted(Event):
    """The process that copies checkpoints to the durable store holds the store's lease."""

    store: str
    """The store's URL."""
    pid: int
    """Process id."""
    owner: str
    """Its name in the store's log."""
    epoch: int
    """The lease's epoch."""
    safe_step: int
    """Newest step that the store holds; -1 when it holds none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UploadStarted(Event):
    """A checkpoint is on its way to the durable store."""

    step: int
    """Its step."""
    num_bytes: int
    """Size of all its files."""
    store: str
    """The store's URL."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UploadSkipped(Event):
    """Checkpoints were not uploaded, because a newer one was there before their turn."""

    steps: list[int]
    """Their steps."""
    newer_step: int
    """The step that is uploaded instead."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Replicated(Event):
    """A checkpoint is in the durable store; losing this machine now costs nothing before `step`."""

    step: int
    """Its step."""
    num_bytes: int
    """Size of all its files."""
    seconds: float
    """Time the upload took."""
    store: str
    """The store's URL."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplicationFailed(Event):
    """The durable store refused, was slow or lost; training goes on, and it is tried again."""

    reason: str
    """What went wrong, and what a person can do."""
    safe_step: int
    """Newest step that the store holds; -1 when it holds none or is not known."""
    attempts: int
    """How often in a row it went wrong."""
    retry_seconds: float
    """When it is tried again."""
    age_seconds: float = 0.0
    """How long ago that newest step was saved; 0 when it is not known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplicationRecovered(Event):
    """The durable store answers again after failures."""

    safe_step: int
    """Newest step that it holds; -1 when it holds none."""
    attempts: int
    """How often in a row it had gone wrong."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TransferHung(Event):
    """A transfer showed no sign of life; its process was killed and a new one continues."""

    seconds: float
    """How long it was silent."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Draining(Event):
    """Training has ended and waits for the last upload."""

    step: int
    """The last step."""
    store: str
    """The store's URL."""
    seconds: float
    """How long it waits at most; the upload goes on by itself afterwards."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplicatorEnded(Event):
    """The process that copies checkpoints ended by itself."""

    outcome: str
    """done: everything is in the store · superseded: another machine has taken over."""
    reason: str
    """What ended it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Warned(Event):
    """Something is not as it should be, and training goes on."""

    message: str
    """What is not as it should be."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionEnded(Event):
    """The process ended by itself, or is about to when the last upload is done; a kill leaves no such event."""

    outcome: str
    """done, stopped or failed."""
    reason: str
    """What ended it."""
    step: int
    """Steps done."""
    safe_step: int
    """Newest step that is safe."""
    is_out_of_time: bool = False
    """Its time limit ended it: another session on this machine would have no time either."""
