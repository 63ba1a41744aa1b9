"""`python -m tests.support.full_disk_rank WORDS`: the first rank of `dragoman train WORDS`, whose disk is full once.

The first save fails in its middle: the model is written, the moments are begun.
"""

import errno
import sys
from typing import Any

from dragoman.config import RunConfig, from_flat
from dragoman.store.disk import Disk
from dragoman.training import loop


class FullOnce(Disk):
    """A disk that refuses what is written first into a file of moments."""

    def __init__(self) -> None:
        self.is_full = True

    def append(self, file: Any, chunk: memoryview) -> None:
        if self.is_full and "optimizer.safetensors" in str(file.name):
            self.is_full = False
            raise OSError(errno.ENOSPC, "No space left on device")
        super().append(file, chunk)


if __name__ == "__main__":
    import yaml

    config: RunConfig = from_flat(yaml.safe_load(sys.argv[1]))
    sys.exit(loop.run(config, disk=FullOnce()).exit_code)
