"""Repositories of the Hub as a whole: what one is called, whose token this is, and one under another name."""

import itertools
import re
from collections.abc import Mapping
from typing import Any

from dragoman.store.deadline import Patience
from dragoman.store.hub_access import Tokens
from dragoman.store.hub_api import HubApi

_SIZE = re.compile(r"\d+(?:\.\d+)?[MB]\b")
_LONGEST_NAME = 90


def usual_name(model: str) -> str:
    """What the guide calls the repository of a run, by the size of its model: `fine-tuned-nllb-600M`.

    Args:
        model: As `--model` takes it.
    """
    name = model.rstrip("/").rpartition("/")[2]
    size = _SIZE.search(name)
    return f"fine-tuned-nllb-{size[0] if size else plain(name)}"


def plain(text: str) -> str:
    """What of a text may stand in the name of a repository."""
    return re.sub(r"[^\w.]+", "-", text)[:_LONGEST_NAME].strip("-.")


def owner() -> Mapping[str, Any]:
    """What the Hub knows of the owner of the token, and what the token may do.

    Raises:
        HubFailure: The Hub refused the token or did not answer.
    """
    return _api("your account").whoami()


def move_aside(repo_id: str, name: str) -> str:
    """Give a repository another name of the same owner, so that its own is free; returns the new one.

    Nothing in it changes. The Hub leads from the old name to the new one until somebody uses the old one again.

    Args:
        repo_id: USER/REPO.
        name: What to call it; a number follows where that is taken.

    Raises:
        HubFailure: The Hub refused, or did not answer.
    """
    user = repo_id.partition("/")[0]
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    free = next(each for each in names if _api(f"{user}/{each}").head() is None)
    _api(repo_id).move(f"{user}/{free}")
    return f"{user}/{free}"


def _api(repo_id: str) -> HubApi:
    return HubApi(repo_id, None, Tokens(), Patience(), beat=lambda: None)
