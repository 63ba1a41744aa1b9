"""How options are written down: frozen fields, each with what it means and in which unit.

A field that is marked `MAY_CHANGE` does not touch what is learned, so it may differ when a
run continues; one marked `OF_SESSION` is not even stored with the run.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator


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
