"""Every source streams: a large file takes no more memory than a small one."""

from pathlib import Path

import pytest

from tests.support import large_files

SMALL_BYTES, LARGE_BYTES = 1 << 20, 24 << 20


@pytest.mark.parametrize("ending", large_files.FORMATS)
def test_a_large_file_takes_hardly_more_memory_than_a_small_one(tmp_path: Path, ending: str):
    for name in ("small", "large"):
        (tmp_path / name).mkdir()
    small = large_files.make(tmp_path / "small", ending, SMALL_BYTES)
    large = large_files.make(tmp_path / "large", ending, LARGE_BYTES)

    reading = large_files.read(small, large)

    assert reading.pairs > LARGE_BYTES / 600
    # Held whole, the pairs alone would take 23 MB (TMX) to 56 MB (Parquet).
    assert reading.grown_bytes < 16 << 20
