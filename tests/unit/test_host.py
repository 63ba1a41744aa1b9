"""What this process asks of the system."""

import subprocess
import sys

import pytest

PEAK = """
import os, sys
from dragoman import host
if sys.argv[1] == "apart":
    assert host.large_blocks_apart()
raised = bytearray(31 << 20)
del raised  # from here on glibc keeps blocks of this size
blocks = [bytearray(16 << 20) for _ in range(20)]
del blocks[:-1]
print(int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's setting, measured by /proc")
def test_large_blocks_go_back_to_the_system_at_once() -> None:
    def held(how: str) -> int:
        words = [sys.executable, "-c", PEAK, how]
        return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout)

    assert held("apart") < 100
    assert held("kept") > 300, "else the C library does so by itself, and nobody needs to ask for it"
