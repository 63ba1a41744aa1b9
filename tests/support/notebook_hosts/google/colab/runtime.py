"""Giving the machine back; here it is written down and not done, so that a test can read the notebook's end."""

import os
from pathlib import Path


def unassign() -> None:
    Path(os.environ["STAND_IN_SECRETS"]).with_name("unassigned").touch()
