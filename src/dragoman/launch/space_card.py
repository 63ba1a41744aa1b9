"""The front matter of a Space's README: what the Hub builds, where it looks for an answer, and for how long.

The Hub ignores what it does not know, and its client's own check accepts nonsense; a typing
mistake here is a Space that never starts. So it is a model of its own.
"""

from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

Color = Literal["red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"]
_FENCE = "---\n"


class Card(BaseModel):
    """The keys of the front matter that we use.

    Source: https://huggingface.co/docs/hub/spaces-config-reference
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    title: str = Field(min_length=1, max_length=60)
    """Shown above the page."""
    emoji: str = Field(default="🌍", min_length=1, max_length=4)
    """Shown beside the title."""
    colorFrom: Color = "indigo"
    """Where the thumbnail's colours begin."""
    colorTo: Color = "green"
    """Where they end."""
    sdk: Literal["docker"] = "docker"
    """What is built: the Dockerfile beside the README."""
    app_port: Literal[7860] = 7860
    """Where the container must answer."""
    startup_duration_timeout: str = Field(default="1h", pattern=r"^[1-9]\d*[smh]$")
    """Within which time, building included; 30 minutes when nobody says."""
    suggested_hardware: str | None = None
    """The Hub's name of the machine, proposed to who copies the Space."""
    pinned: bool = False
    """Shown first on the owner's page."""


def written(card: Card, text: str) -> str:
    """A README: the front matter, then a text in Markdown."""
    values = card.model_dump(exclude_none=True)
    return f"{_FENCE}{yaml.safe_dump(values, sort_keys=False, allow_unicode=True)}{_FENCE}\n{text}"


def read(readme: str) -> Card:
    """The front matter of a README.

    Raises:
        pydantic.ValidationError: A key or value is none.
        ValueError: There is no front matter.
    """
    start, block, _ = readme.split(_FENCE, 2)
    if start:
        raise ValueError("no front matter")
    return Card.model_validate(yaml.safe_load(block))
