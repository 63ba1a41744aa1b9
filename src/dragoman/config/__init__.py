"""Everything that defines a run: frozen, validated, hashable.

One tree of fields is the only list of options. Flags, YAML keys, `DRAGOMAN_*`
variables and the reference page are derived from it, so they cannot disagree.
Names are flat for the user (`--save-steps`, `save_steps:`, `DRAGOMAN_SAVE_STEPS`)
and grouped for the reader of the code (`config.save.save_steps`).
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any

import yaml
from cyclopts import Group, Parameter
from pydantic.fields import FieldInfo

from dragoman.config.fields import FrozenModel, MayChange, OfSession
from dragoman.config.keeping import EvaluationConfig, MachineConfig, SaveConfig, StoreConfig
from dragoman.config.learning import DEFAULT_MODEL, DataConfig, Form, ModelConfig, TrainingConfig
from dragoman.config.sharing import RanksConfig

__all__ = [
    "DEFAULT_MODEL",
    "ENVIRONMENT_PREFIX",
    "FIELDS",
    "SECTIONS",
    "DataConfig",
    "EvaluationConfig",
    "Form",
    "MachineConfig",
    "ModelConfig",
    "RanksConfig",
    "RunConfig",
    "SaveConfig",
    "StoreConfig",
    "TrainingConfig",
    "differences",
    "from_flat",
    "is_of_session",
    "may_change",
    "tree",
]

ENVIRONMENT_PREFIX = "DRAGOMAN_"


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
    machine: Annotated[MachineConfig, _section("Machine", 7)] = MachineConfig()
    ranks: Annotated[RanksConfig, _section("Several GPUs and machines", 8)] = RanksConfig()

    @property
    def pairs_per_step(self) -> int:
        """Pairs that form one optimizer step without --batch-tokens, over all microbatches and devices."""
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
    "machine": MachineConfig,
    "ranks": RanksConfig,
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
