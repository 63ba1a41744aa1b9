"""Everything that defines a run: frozen, validated, hashable.

One tree of fields is the only list of options. Flags, YAML keys, `DRAGOMAN_*`
variables and the reference page are derived from it, so they cannot disagree.
Names are flat for the user (`--save-steps`, `save_steps:`, `DRAGOMAN_SAVE_STEPS`)
and grouped for the reader of the code (`config.save.save_steps`).
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from cyclopts import Group, Parameter
from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic.fields import FieldInfo

ENVIRONMENT_PREFIX = "DRAGOMAN_"
DEFAULT_MODEL = "facebook/nllb-200-distilled-600M"


class MayChange:
    """Marks a field that may differ when a run continues: it does not touch what is learned."""


class OfSession(MayChange):
    """Marks a field that belongs to one session and is not stored with the run."""


MAY_CHANGE, OF_SESSION = MayChange(), OfSession()


class FrozenModel(BaseModel):
    """A pydantic model whose values cannot change and whose unknown keys are errors."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True, allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _not_empty(cls, value: Any) -> Any:
        """Refuse an empty text: mostly a shell variable that was not set, and as a path it would mean `.`."""
        if value == "" or value == [""]:
            raise ValueError("not empty")
        return value


class DataConfig(FrozenModel):
    """Which pairs are learned."""

    language_pairs: list[str] = []
    """Directions to learn, as SOURCE-TARGET: `en-fr en-de`, `eng_Latn-fra_Latn`."""

    data: list[str] = []
    """Where the pairs are: TSV or JSONL files, a folder of gettext catalogues, `gettext:PACKAGE,PACKAGE`
    (catalogues of installed Python packages), each for all pairs or as `en-fr=FILE` for one."""

    max_samples: Annotated[int, Field(ge=1)] | None = None
    """Train on at most this many pairs per direction, drawn with the seed from the whole source."""

    dev_percent: Annotated[float, Field(ge=0, le=40)] = 2.0
    """Per cent of the source sentences held out to choose the best checkpoint."""

    test_percent: Annotated[float, Field(ge=0, le=40)] = 2.0
    """Per cent of the source sentences held out for `dragoman evaluate`; never seen in training."""

    min_chars: Annotated[int, Field(ge=1)] = 1
    """Drop pairs with a side shorter than this, in characters."""

    max_chars: Annotated[int, Field(ge=1)] = 1050
    """Drop pairs with a side longer than this, in characters."""

    max_length_ratio: Annotated[float, Field(ge=1)] = 9.0
    """Drop pairs whose longer side has more than this many times the characters of the shorter."""

    max_tokens: Annotated[int, Field(ge=8, le=1024)] = 256
    """Drop pairs with a side of more tokens than this, language code and `</s>` included."""

    on_bad_rows: Literal["fail", "skip"] = "fail"
    """What to do with a row that cannot be read: stop, or skip it and write it to rejected.tsv."""


class ModelConfig(FrozenModel):
    """What is tuned."""

    model: str = DEFAULT_MODEL
    """NLLB checkpoint: a folder, a Hub id, or `scratch:tiny` / `scratch:small` (built from the data)."""

    revision: str | None = None
    """Revision (commit, branch or tag) of the model on the Hub."""

    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Override every dropout of the model's configuration."""


class TrainingConfig(FrozenModel):
    """How it is tuned."""

    epochs: Annotated[float, Field(gt=0)] = 3.0
    """Passes over the training pairs; ignored when --max-steps is given."""

    max_steps: Annotated[int, Field(ge=1)] | None = None
    """Total optimizer steps, instead of --epochs."""

    batch_size: Annotated[int, Field(ge=1)] = 4
    """Pairs per microbatch; times --gradient-accumulation it gives the pairs per step."""

    gradient_accumulation: Annotated[int, Field(ge=1)] = 4
    """Microbatches per step."""

    learning_rate: Annotated[float, Field(gt=0, lt=1)] = 5e-5
    """Peak learning rate of AdamW."""

    schedule: Literal["linear", "cosine", "inverse-sqrt", "constant"] = "linear"
    """Learning rate after the warm-up."""

    warmup_steps: Annotated[int, Field(ge=0)] | None = None
    """Steps of linear warm-up; left out: 6 % of the steps, at most 500."""

    weight_decay: Annotated[float, Field(ge=0, lt=1)] = 0.01
    """Decoupled weight decay, on matrices only."""

    clip_norm: Annotated[float, Field(gt=0)] = 1.0
    """Largest norm of the gradient of a step; longer ones are scaled down to it."""

    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the target probability that is spread over the whole vocabulary."""

    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Arithmetic of the forward pass; auto: bf16 from compute capability 8.0, fp16 from 7.0, else fp32."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; auto takes the GPU when there is one."""

    threads: Annotated[int, Field(ge=1)] | None = None
    """CPU threads; left out: torch's own choice. Bit-identical resume needs the same number."""

    deterministic: bool = False
    """Use only deterministic kernels, so that a resumed GPU run is bit-identical (always on on a CPU)."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 1
    """Seed of sampling, order, dropout and scratch weights."""

    max_bad_steps: Annotated[int, Field(ge=1)] = 5
    """Consecutive non-finite steps that are skipped before the run rolls back to its last checkpoint."""

    max_hours: Annotated[float | None, Field(gt=0), OF_SESSION] = None
    """Stop after this many hours of this session, with a checkpoint saved in time, and exit 75."""


class SaveConfig(FrozenModel):
    """What is kept, where and how often."""

    output: Annotated[Path | None, OF_SESSION] = None
    """The run folder; left out: runs/PAIRS-MODEL."""

    save_steps: Annotated[int, Field(ge=1), MAY_CHANGE] = 500
    """Save at least every this many optimizer steps."""

    save_minutes: Annotated[float, Field(gt=0), MAY_CHANGE] = 10.0
    """Longest stretch of work we accept losing, in minutes."""

    keep: Annotated[int, Field(ge=1), MAY_CHANGE] = 2
    """Checkpoints to keep, besides the model of the best one."""

    resume: Annotated[Literal["auto", "must", "never"], OF_SESSION] = "auto"
    """Continue the run of the run folder or store: when there is one, necessarily, or refuse if there is one."""

    single_writer: Annotated[bool, MAY_CHANGE] = False
    """Your word that no other machine ever writes to the run folder or store; only for those that cannot create a
    name only if it is absent."""


class StoreConfig(FrozenModel):
    """Where the run is safe when this machine is gone."""

    store: Annotated[str | None, MAY_CHANGE] = None
    """Durable store: `hf://USER/REPO`, `s3://BUCKET/PATH`, `gs://…`, `az://…`, `file:///PATH` or a folder on
    another disk."""

    hub_model_id: Annotated[str | None, MAY_CHANGE] = None
    """The same as --store hf://USER/REPO, as USER/REPO."""

    resume_from_checkpoint: Annotated[str | None, OF_SESSION] = None
    """Continue the run in this store: USER/REPO on the Hub, a URL as for --store, or a folder."""

    take_over: Annotated[bool, OF_SESSION] = False
    """Do not wait until the machine that holds the run's lease has been silent for --lease-minutes."""

    lease_minutes: Annotated[float, Field(gt=0), MAY_CHANGE] = 15.0
    """A second machine waits until the store has shown no sign of life of the first for this long, in minutes."""

    drain_minutes: Annotated[float, Field(ge=0), MAY_CHANGE] = 15.0
    """At the end, wait at most this long for the last upload; it goes on by itself afterwards, in minutes."""

    public: Annotated[bool, MAY_CHANGE] = False
    """Make a new Hub repository public; left out: private."""

    store_data: Annotated[Literal["auto", "yes", "no"], MAY_CHANGE] = "auto"
    """Keep the prepared data in the store too, so that its URL alone is enough to continue; auto: unless --public."""

    upload_megabytes: Annotated[float | None, Field(gt=0), MAY_CHANGE] = None
    """Upload at most this many megabytes per second; left out: as fast as it goes."""

    commits_per_hour: Annotated[int, Field(ge=1), MAY_CHANGE] = 30
    """Commits to a Hub repository per hour, the last of a session not counted; the Hub refuses some 128."""

    @property
    def url(self) -> str | None:
        """The durable store as the user named it; None when there is none."""
        if self.hub_model_id and not self.store:
            return f"hf://{self.hub_model_id.removeprefix('hf://')}"
        return self.store

    @property
    def keeps_data(self) -> bool:
        """Whether the prepared data goes to the store."""
        return self.store_data == "yes" or (self.store_data == "auto" and not self.public)


class EvaluationConfig(FrozenModel):
    """How progress is judged."""

    eval_steps: Annotated[int, Field(ge=0)] = 500
    """Score the held-out dev sample every this many steps; 0: never (the newest checkpoint is published)."""

    eval_samples: Annotated[int, Field(ge=1)] = 100
    """Held-out pairs per direction that are decoded at each evaluation."""

    num_beams: Annotated[int, Field(ge=1, le=32)] = 1
    """Beams used when decoding the dev sample."""

    log_steps: Annotated[int, Field(ge=1), MAY_CHANGE] = 100
    """Report loss and speed every this many steps."""


def _section(title: str, order: int) -> Parameter:
    return Parameter(name="*", group=Group(title, sort_key=order))


class RunConfig(FrozenModel):
    """Everything that defines a run."""

    data: Annotated[DataConfig, _section("Data", 1)] = DataConfig()
    model: Annotated[ModelConfig, _section("Model", 2)] = ModelConfig()
    training: Annotated[TrainingConfig, _section("Training", 3)] = TrainingConfig()
    save: Annotated[SaveConfig, _section("Checkpoints", 4)] = SaveConfig()
    store: Annotated[StoreConfig, _section("Durable store", 5)] = StoreConfig()
    evaluation: Annotated[EvaluationConfig, _section("Evaluation and progress", 6)] = EvaluationConfig()

    @property
    def pairs_per_step(self) -> int:
        """Pairs that form one optimizer step, over all microbatches and devices."""
        return self.training.batch_size * self.training.gradient_accumulation

    def flat(self) -> dict[str, Any]:
        """All values under their flat names, as JSON types."""
        tree = self.model_dump(mode="json")
        return {name: tree[section][name] for name, (section, _) in FIELDS.items()}

    def given(self) -> dict[str, Any]:
        """The values that were set explicitly, under their flat names."""
        names = {name for section in SECTIONS for name in getattr(self, section).model_fields_set}
        return {name: value for name, value in self.flat().items() if name in names}

    def to_yaml(self, *, stored: bool = False) -> str:
        """The configuration as a run file; `stored` leaves out what belongs to one session."""
        values = {name: value for name, value in self.flat().items() if not (stored and is_of_session(name))}
        return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)

    def digest(self) -> str:
        """Sha256 over the fields that may not change while the run lives."""
        fixed = {name: value for name, value in self.flat().items() if not may_change(name)}
        return hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()


SECTIONS: dict[str, type[FrozenModel]] = {
    "data": DataConfig,
    "model": ModelConfig,
    "training": TrainingConfig,
    "save": SaveConfig,
    "store": StoreConfig,
    "evaluation": EvaluationConfig,
}

FIELDS: dict[str, tuple[str, FieldInfo]] = {
    name: (section, field) for section, model in SECTIONS.items() for name, field in model.model_fields.items()
}


def may_change(name: str) -> bool:
    """Whether the field `name` may differ when a run continues."""
    return any(isinstance(mark, MayChange) for mark in FIELDS[name][1].metadata)


def is_of_session(name: str) -> bool:
    """Whether the field `name` belongs to one session, so that the run does not store it."""
    return any(isinstance(mark, OfSession) for mark in FIELDS[name][1].metadata)


def tree(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Flat names and values, grouped as `RunConfig` wants them."""
    nested: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for name, value in values.items():
        nested[FIELDS[name][0]][name] = value
    return nested


def from_flat(values: Mapping[str, Any]) -> RunConfig:
    """The configuration with these flat names and values.

    Raises:
        pydantic.ValidationError: A value does not fit its field.
    """
    return RunConfig.model_validate(tree(values))


def differences(old: RunConfig, new: RunConfig) -> list[tuple[str, Any, Any]]:
    """The fields that may not change but do, as (name, old value, new value)."""
    before, after = old.flat(), new.flat()
    return [(n, before[n], after[n]) for n in FIELDS if not may_change(n) and before[n] != after[n]]
