"""Reading data of a gigabyte: pairs per CPU-second, and by how much memory grows.

    python bench/sources.py [--megabytes 1024] [ENDING ...]

Each file is read in a process of its own, after a small one of the same format; memory is
that of the whole process at its highest, beyond what the small file took.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

from tests.support import large_files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("endings", nargs="*", default=list(large_files.FORMATS))
    parser.add_argument("--megabytes", type=int, default=1024)
    options = parser.parse_args()
    print("| format | file, MB | pairs | CPU-seconds | pairs per CPU-second | memory grows by, MB |")
    print("| --- | --- | --- | --- | --- | --- |")
    for ending in options.endings:
        folder = Path(tempfile.mkdtemp())
        try:
            (folder / "small").mkdir()
            small = large_files.make(folder / "small", ending, 1 << 20)
            large = large_files.make(folder, ending, options.megabytes << 20)
            it = large_files.read(small, large)
            size = sum(path.stat().st_size for path in large) / 2**20
            speed = f"{it.pairs / it.cpu_seconds:,.0f}"
            grown = f"{it.grown_bytes / 2**20:.1f}"
            print(f"| `{ending}` | {size:,.0f} | {it.pairs:,} | {it.cpu_seconds:.1f} | {speed} | {grown} |", flush=True)
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
