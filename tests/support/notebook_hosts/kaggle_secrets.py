"""A stand-in for what Kaggle puts into its notebooks: secrets that are attached, in the same file as Colab's.

Names and messages of the errors are those of Kaggle/docker-python, patches/kaggle_secrets.py.
"""

import json
import os
from pathlib import Path


class BackendError(Exception):
    """The service did not answer with a secret: mostly it is not attached."""


class UserSecretsClient:
    def get_secret(self, label: str) -> str:
        kept = json.loads(Path(os.environ["STAND_IN_SECRETS"]).read_text())
        if label not in kept:
            raise BackendError("Unexpected response from the service. Response: {'errors': ['No user secrets exist']}")
        return kept[label]["payload"]
