"""dragoman, with shorter waits and slower steps: for the bench and the tests of faults alone.

Python imports this by itself in every process whose PYTHONPATH holds this folder, so it
reaches the trainer and the replicator alike. FAULTS_PATCH is a JSON object
{"dragoman.module": {"NAME": value}}: module attributes are replaced; for a class, the
defaults of its fields. `train_step` is followed by a sleep of so many seconds, or, given
{"step": "file"}, waits after so many steps until there is such a file. Nothing else is
changed, and nothing at all without that variable.
"""

import dataclasses
import importlib.abc
import importlib.machinery
import json
import os
import sys
import time
from collections.abc import Sequence
from types import ModuleType
from typing import Any

PATCHES: dict[str, dict[str, Any]] = json.loads(os.environ.get("FAULTS_PATCH", "{}"))


class Patching(importlib.abc.MetaPathFinder):
    """Finds the modules to be patched as everybody does, and patches them once they are loaded."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in PATCHES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return spec
        load = spec.loader.exec_module

        def load_and_patch(module: ModuleType) -> None:
            load(module)
            for what, value in PATCHES[name].items():
                patch(module, what, value)

        spec.loader.exec_module = load_and_patch  # type: ignore[method-assign]
        return spec


def patch(module: ModuleType, name: str, value: Any) -> None:
    """Change one thing in a module that was just loaded; fails when there is no such thing."""
    old = getattr(module, name)
    if name == "train_step":
        setattr(module, name, gated(old, value) if isinstance(value, dict) else paced(old, value))
    elif dataclasses.is_dataclass(old):
        fields = [field.name for field in dataclasses.fields(old)]
        assert value.keys() <= set(fields), f"{module.__name__}.{name} has no {value.keys() - set(fields)}"
        defaults = dict(zip(fields, old.__init__.__defaults__, strict=True))
        old.__init__.__defaults__ = tuple((defaults | value).values())
    else:
        setattr(module, name, value)


def paced(step: Any, seconds: float) -> Any:
    """The same step, followed by a pause."""

    def then_pause(*args: Any, **kwargs: Any) -> Any:
        result = step(*args, **kwargs)
        time.sleep(seconds)
        return result

    return then_pause


def gated(step: Any, files: dict[str, str]) -> Any:
    """The same step, which waits for a file when so many steps are done."""

    def wait_then(*args: Any, **kwargs: Any) -> Any:
        if file := files.get(str(kwargs["step"])):
            while not os.path.exists(file):  # noqa: PTH110  pathlib is not imported before dragoman wants it
                time.sleep(0.02)
        return step(*args, **kwargs)

    return wait_then


if PATCHES:
    sys.meta_path.insert(0, Patching())
