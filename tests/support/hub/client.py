"""The real client, made impatient: it retries at once where it would wait for seconds."""

import importlib
import time
from types import SimpleNamespace

import pytest

MODULES = ("huggingface_hub.utils._http", "huggingface_hub.file_download")


def without_waiting(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let `huggingface_hub` not sleep between attempts; the seconds that it would have slept are listed."""
    slept: list[float] = []
    clock = SimpleNamespace(**{name: getattr(time, name) for name in dir(time) if not name.startswith("_")})
    clock.sleep = slept.append
    for name in MODULES:
        monkeypatch.setattr(importlib.import_module(name), "time", clock)
    return slept
