"""The Hub's client reads its environment when it is imported: this comes first."""

import atexit
import os
import shutil
import tempfile

from hypothesis import settings

os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="hf-home-")
atexit.register(shutil.rmtree, os.environ["HF_HOME"], ignore_errors=True)
# Prices that a developer has asked for are not those of the package.
os.environ["XDG_CACHE_HOME"] = os.environ["HF_HOME"]
os.environ["HF_HUB_DISABLE_XET"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
for name in ("HF_TOKEN", "HF_ENDPOINT", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE"):
    os.environ.pop(name, None)

# How long an example takes says more of the machine than of the code.
settings.register_profile("dragoman", deadline=None)
settings.load_profile("dragoman")
