"""How much of a vocabulary of many languages two of them use: `dragoman export --trim`, measured.

NLLB's own files are not needed: a vocabulary in its layout is learned from the catalogues of
installed packages in all their languages (about a hundred), and a model gets an embedding of
NLLB's shape, 256,206 rows of 1,024 numbers, above one layer on each side.

    python bench/trim.py        about five minutes of one core and 4 GB of memory; writes the report
"""

import contextlib
import datetime
import platform
import resource
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from dragoman.data.filters import clean
from dragoman.data.sources import open_sources
from dragoman.data.sources.gettext import find_package, languages_of, read_catalogue
from dragoman.deploy import export
from dragoman.errors import DataError
from dragoman.languages import parse_pair
from dragoman.model import nllb, scratch, vocabulary

PACKAGES = ("django", "wagtail", "sphinx", "allauth", "rest_framework", "wtforms")
FOLDER = Path("runs/trim")
ROWS, WIDTH = vocabulary.REAL_VOCABULARY, 1024
PIECES = ROWS - 2 - 4 - 203
CASES = (("en-fr",), ("en-de",), ("en-fr", "en-de", "en-es"))
PARAMETERS = 615_000_000
"""Of the 600M model."""


def texts() -> Iterator[str]:
    """Every message and translation of every language."""
    for name in PACKAGES:
        for domain in find_package(name):
            for path in domain.catalogues.values():
                with contextlib.suppress(DataError):
                    for message in read_catalogue(path):
                        yield from (clean(message.english), clean(message.translation))


def build(folder: Path) -> tuple[int, int]:
    """A model of NLLB's embedding; returns how many pieces were learned, and how many languages were read."""
    import torch

    folder.mkdir()
    scratch.ALPHABET = 10_000
    scratch.build_tokenizer(folder, sorted(set(texts())), PIECES)
    learned = len(vocabulary.load(folder)) - 4 - 203
    scratch.build_model(folder, scratch.Preset(WIDTH, layers=1, heads=16, pieces=0), seed=1)
    model = nllb.load(folder)
    with torch.random.fork_rng(devices=[]):
        model.resize_token_embeddings(ROWS, mean_resizing=False)  # rows that no piece was learned for
    model.save_pretrained(folder)
    domains = [domain for name in PACKAGES for domain in find_package(name)]
    return learned, 1 + len(languages_of(domains))


def data(pair: str) -> str:
    """The pairs of a direction as an entry of --data."""
    path = FOLDER / f"{pair}.tsv"
    sources = open_sources(["gettext:" + ",".join(PACKAGES)], parse_pair(pair), on_bad_rows="skip")
    rows = {f"{clean(one.source)}\t{clean(one.target)}\n" for source in sources for one in source.pairs()}
    path.write_text("".join(sorted(row for row in rows if row.count("\t") == 1)), encoding="utf-8")
    return f"{pair}={path}"


def main() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    started = time.monotonic()
    learned, num_languages = build(FOLDER / "whole")
    built = time.monotonic() - started
    layers = PARAMETERS - ROWS * WIDTH
    lines = []
    for pairs in CASES:
        started, output = time.monotonic(), FOLDER / "+".join(pairs)
        entries = [data(pair) for pair in pairs]
        done = export.export(str(FOLDER / "whole"), output, trimmed=True, pair=pairs, data=entries)
        seconds = time.monotonic() - started
        num_texts = sum(2 * len(Path(entry.partition("=")[2]).read_text("utf-8").splitlines()) for entry in entries)
        now, before = ((layers + rows * WIDTH) * 4 / 1e9 for rows in (done.rows, ROWS))
        lines.append(
            f"| {' '.join(pairs)} | {num_texts:,} | {done.rows:,} | {done.rows / ROWS:.1%}"
            f" | {ROWS * WIDTH * 4 / 1e6:,.0f} → {done.rows * WIDTH * 4 / 1e6:,.0f} MB"
            f" | {before:.2f} → {now:.2f} GB ({now / before - 1:+.0%}) | {tokenizer_bytes(output) / 1e6:.1f} MB"
            f" | {seconds:.0f} s |"
        )
        shutil.rmtree(output)
    today = datetime.date.today().isoformat()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    report = f"""# Trimming a vocabulary of many languages, {today}, CPU

`python bench/trim.py`, {platform.machine()}. A vocabulary of {learned:,} pieces, learned in {built:.0f} s from the
catalogues of {len(PACKAGES)} packages in {num_languages} languages, under an embedding of NLLB's shape
({ROWS:,} rows of {WIDTH:,} float32). Each export compared the tokens of up to {export.MAX_CHECKED:,} texts and
the logits of {export.NUM_LOGITS} with the whole model's: the same. Memory at most {peak:.1f} GB.

| for | texts | rows | of all | embedding | 600M model, float32 [calc] | tokenizer.json (was \
{tokenizer_bytes(FOLDER / "whole") / 1e6:.1f} MB) | time |
|---|---|---|---|---|---|---|---|
{chr(10).join(lines)}

The share depends on the vocabulary and on the texts. These pieces were learned from these very catalogues, and a few
thousand sentences use few of them; NLLB's serve two hundred languages, and a larger corpus of two uses more.
"""
    Path(f"bench/trim_cpu_{today}.md").write_text(report, encoding="utf-8")
    print(report)


def tokenizer_bytes(folder: Path) -> int:
    return (folder / "tokenizer.json").stat().st_size


if __name__ == "__main__":
    main()
