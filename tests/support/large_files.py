"""Files of any size in every format that is read, and what reading one takes."""

import gzip
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import count, takewhile
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
from pyarrow import ipc, parquet

ROWS_PER_BATCH = 1000


def texts(number: int) -> tuple[str, str]:
    """A pair of sentences of some hundred characters; no two are alike."""
    filler = f"{number * 7919 % 1_000_003} " * 12
    return f"The {number}th line & {filler}", f"La {number}e ligne & {filler}"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;")


LINES: dict[str, tuple[str, Callable[[str, str], str], str]] = {
    ".tsv": ("", lambda source, target: f"{source}\t{target}\n", ""),
    ".csv": ("source,target\n", lambda source, target: f'"{source}","{target}"\n', ""),
    ".jsonl": ("", lambda source, target: json.dumps({"en": source, "fr": target}) + "\n", ""),
    ".tmx": (
        '<tmx version="1.4"><header/><body>\n',
        lambda source, target: (
            f'<tu><prop type="x">no</prop><tuv xml:lang="en"><seg>{_escaped(source)}<ph/></seg></tuv>'
            f'<tuv xml:lang="fr"><seg>{_escaped(target)}</seg></tuv></tu>\n'
        ),
        "</body></tmx>",
    ),
    ".xlf": (
        '<xliff version="1.2"><file source-language="en" target-language="fr"><body>\n',
        lambda source, target: (
            f"<trans-unit><source>{_escaped(source)}</source><target>{_escaped(target)}</target></trans-unit>\n"
        ),
        "</body></file></xliff>",
    ),
    ".po": ("", lambda source, target: f'msgid "{source}"\nmsgstr "{target}"\n\n', ""),
}
"""By ending: what comes first, what each pair is, and what comes last."""

FORMATS = (*LINES, ".moses", ".parquet", ".arrow")


def make(folder: Path, ending: str, num_bytes: int) -> list[Path]:
    """Write a file, or two in Moses format, of about so many bytes; the entry of `--data` for it."""
    if ending == ".moses":
        return _moses(folder, num_bytes)
    path = folder / f"large{ending}"
    if ending in LINES:
        first, line, last = LINES[ending]
        with path.open("w", encoding="utf-8") as file:
            file.write(first)
            for number in takewhile(lambda _: file.tell() < num_bytes, count()):
                file.write("".join(line(*texts(number * 100 + more)) for more in range(100)))
            file.write(last)
        return [path]
    with _writer(path) as writer:
        for batch in takewhile(lambda _: path.stat().st_size < num_bytes, _batches()):
            writer.write_batch(batch)
    return [path]


def _batches() -> Iterator[pa.RecordBatch]:
    for first in count(0, ROWS_PER_BATCH):
        rows = [texts(number) for number in range(first, first + ROWS_PER_BATCH)]
        yield pa.RecordBatch.from_pylist([{"translation": {"en": source, "fr": target}} for source, target in rows])


def _writer(path: Path) -> parquet.ParquetWriter | ipc.RecordBatchStreamWriter:
    schema = next(_batches()).schema
    if path.suffix == ".parquet":
        return parquet.ParquetWriter(path, schema, compression="none", use_dictionary=False)
    return ipc.new_stream(str(path), schema)


def _moses(folder: Path, num_bytes: int) -> list[Path]:
    paths = [folder / "large.en.gz", folder / "large.fr.gz"]
    with gzip.open(paths[0], "wt", 1) as english, gzip.open(paths[1], "wt", 1) as french:
        written, number = 0, 0
        while written < num_bytes:
            source, target = texts(number)
            written, number = written + english.write(source + "\n") + french.write(target + "\n"), number + 1
    return paths


class Reading(NamedTuple):
    """What it took to read a file in a process of its own."""

    pairs: int
    cpu_seconds: float
    grown_bytes: int
    """Resident memory at its highest, less what a small file of the same format took before."""


# Not ru_maxrss: a child inherits that of the process that it was forked from.
READER = """
import json, re, sys, time
from dragoman.data.sources import open_sources
from dragoman.languages import Direction
def peak(): return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
def read(entries):
    (source,) = open_sources(entries, Direction("eng_Latn", "fra_Latn"), on_bad_rows="fail")
    return sum(1 for _ in source.pairs())
small, large = json.loads(sys.argv[1])
read(small)
before, began = peak(), time.process_time()
print(json.dumps([read(large), time.process_time() - began, peak() - before]))
"""


def read(small: list[Path], large: list[Path]) -> Reading:
    """Read a small file, then a large one, and tell by how much memory has grown."""
    words = json.dumps([[str(path) for path in paths] for paths in (small, large)])
    done = subprocess.run([sys.executable, "-c", READER, words], check=True, capture_output=True, text=True)
    return Reading(*json.loads(done.stdout))
