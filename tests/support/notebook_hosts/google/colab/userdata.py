"""Secrets as Colab's page keeps them: here in a file of JSON, `{"HF_TOKEN": {"access": true, "payload": "hf_…"}}`.

The names of the errors, what they derive from and when they come are those of
googlecolab/colabtools, google/colab/userdata.py.
"""

import json
import os
from pathlib import Path

from google.colab import errors


class NotebookAccessError(Exception):
    """The secret is there, and its switch is off."""


class SecretNotFoundError(errors.Error):
    """There is no such secret."""


def get(key: str) -> str:
    kept = json.loads(Path(os.environ["STAND_IN_SECRETS"]).read_text())
    if key not in kept:
        raise SecretNotFoundError(f"Secret {key} does not exist.")
    if not kept[key].get("access", True):
        raise NotebookAccessError(f"Notebook does not have access to secret {key}")
    return kept[key]["payload"]
