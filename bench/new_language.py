"""A language that the model does not know: what its relatives' rows are worth, and what the others lose.

A small model learns English → French and English → German from the catalogues of installed
packages. Then it is taught a language that it has never seen: a cipher of French, some of
whose letters it cannot write. Three runs differ only in what the new rows begin as:

    relatives    as `--new-language qaa_Latn --like fra_Latn` makes them
    <unk>        all of them as the row of `<unk>`
    random       as transformers' own resizing would draw them without a mean

Each sees the old directions beside the new one, so that they are not forgotten. No sentence
of the new language's corpus was seen in French, and none of the test by anybody.

    python bench/new_language.py        about nine minutes of one core; writes the report
"""

import datetime
import json
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from dragoman import journal
from dragoman.data.filters import clean, key, split_of
from dragoman.data.sources import open_sources
from dragoman.languages import parse_pair

NEW = "qaa_Latn"
CIPHER = str.maketrans("dlmvgé", "ḍḷṃṿꙣꙅ")
"""Four letters with a dot below, which are written upon the old ones, and two that are like nothing."""
FIELD = re.compile(r"%\([^)]*\)\w|%\w|\{[^}]*\}|<[^>]*>|(?P<text>[^%{<]+)")
PACKAGES = "gettext:django,wagtail,sphinx,allauth,rest_framework,wtforms"
FOLDER = Path("runs/new-language")
PERCENT = 4.0
STEPS = {"base": 1500, "new": 400}
OLD = ("en-fr", "en-de")
COMMON: dict[str, Any] = {
    "dev_percent": PERCENT,
    "test_percent": PERCENT,
    "max_tokens": 64,
    "dropout": 0.1,
    "device": "cpu",
    "threads": 1,
    "batch_size": 24,
    "gradient_accumulation": 1,
    "warmup_steps": 50,
    "label_smoothing": 0.0,
    "eval_samples": 60,
}


def write_data() -> dict[str, Path]:
    """The pairs of each run and of each test, as TSV files by what they are for."""
    rows: dict[str, list[str]] = {}
    for pair in OLD:
        sources = open_sources([PACKAGES], parse_pair(pair), on_bad_rows="skip")
        pairs = {key(one.source): one for source in sources for one in source.pairs()}
        for number, (_, one) in enumerate(sorted(pairs.items())):
            source, target = clean(one.source), clean(one.target)
            is_test = split_of(source, PERCENT, PERCENT) == "test"
            # English sentences in turn: one for what the model knows, one for what it is taught.
            use = "test" if is_test else "train" if number % 2 else ""
            if use:
                rows.setdefault(f"{use} {pair}", []).append(f"{source}\t{target}\n")
            if pair == "en-fr" and use != "train":
                rows.setdefault(f"{use or 'train'} en-{NEW}", []).append(f"{source}\t{ciphered(target)}\n")
    files: dict[str, Path] = {}
    for name, lines in rows.items():
        files[name] = FOLDER / f"{name.replace(' ', '-')}.tsv"
        files[name].write_text("".join(lines), encoding="utf-8")
    return files


def ciphered(text: str) -> str:
    """The text in other letters; fields such as %s and {name} stay."""
    return FIELD.sub(lambda found: found["text"].translate(CIPHER) if found["text"] else found[0], text)


def dragoman(*words: object) -> str:
    """Run a command; what it prints on stdout."""
    command = [sys.executable, "-m", "dragoman", *map(str, words)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def train(name: str, model: Path | str, files: dict[str, Path], **options: Any) -> Path:
    """Train a run to its end; returns its folder."""
    pairs = [pair for pair in (*OLD, f"en-{NEW}") if f"train {pair}" in files]
    data = [f"{pair}={files[f'train {pair}']}" for pair in pairs]
    words: list[object] = ["train", "--model", model, "--output", FOLDER / name]
    words += ["--language-pairs", *pairs, "--data", *data]
    for flag, value in (COMMON | options).items():
        words += ["--" + flag.replace("_", "-"), value]
    dragoman(*words)
    return FOLDER / name


def with_other_rows(name: str, like: Path) -> Path:
    """The base of the run `like` with other first rows of the new tokens."""
    import torch
    from safetensors.torch import load_file, save_file

    from dragoman.model import nllb, vocabulary

    folder = FOLDER / f"base-{name}"
    shutil.copytree(like / "dragoman/base", folder)
    weights, words = load_file(folder / "model.safetensors"), vocabulary.load(folder)
    rows = weights[nllb.EMBEDDING]
    torch.manual_seed(1)
    new = slice(words.first_new, len(words))
    rows[new] = rows[words.unk] if name == "unk" else torch.randn_like(rows[new]) * rows[: words.first_new].std()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def scores(run: Path, pairs: list[str], files: dict[str, Path]) -> dict[str, float]:
    """chrF++ on the test of each direction, beam 4."""
    found: dict[str, float] = {}
    for pair in pairs:
        told = json.loads(dragoman("evaluate", run, "--pair", pair, "--data", files[f"test {pair}"], "--json"))
        found[pair] = told["systems"][-1]["chrf"]
    return found


def curve(run: Path) -> dict[int, float]:
    """chrF++ of the new direction on the dev sample, by step."""
    told = [event for event in journal.read(run / journal_of(run)) if event["kind"] == "evaluated"]
    return {event["step"]: event["directions"][f"eng_Latn-{NEW}"]["chrf"] for event in told}


def journal_of(run: Path) -> Path:
    return (run / "dragoman/journal.jsonl").relative_to(run)


def main() -> None:
    started = time.monotonic()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    files = write_data()
    old_files = {name: path for name, path in files.items() if NEW not in name}
    base = train(
        "base", "scratch:tiny", old_files, max_steps=STEPS["base"], learning_rate=2e-3, eval_steps=500, save_steps=500
    )
    before = scores(base, list(OLD), files)
    options = {"max_steps": STEPS["new"], "learning_rate": 5e-4, "eval_steps": 50, "save_steps": 200}
    runs = {"relatives": train("relatives", base, files, new_language=NEW, like="fra_Latn", **options)}
    for name in ("unk", "random"):
        runs[name] = train(name, with_other_rows(name, runs["relatives"]), files, new_language=NEW, **options)
    after = {name: scores(run, [f"en-{NEW}", *OLD], files) for name, run in runs.items()}
    report(files, before, after, {name: curve(run) for name, run in runs.items()}, time.monotonic() - started)


def report(
    files: dict[str, Path],
    before: dict[str, float],
    after: dict[str, dict[str, float]],
    curves: dict[str, dict[int, float]],
    seconds: float,
) -> None:
    today = datetime.date.today().isoformat()
    event = next(e for e in journal.read(FOLDER / "relatives/dragoman/journal.jsonl") if e["kind"] == "languages_added")
    counts = {name: len(path.read_text("utf-8").splitlines()) for name, path in files.items()}
    steps = sorted(curves["relatives"])
    lines = [f"# A new language, {today}, CPU", ""]
    lines += [f"`python bench/new_language.py`, {platform.machine()}, one thread, {seconds / 60:.1f} minutes.", ""]
    lines += [
        f"The model (`scratch:tiny`, {STEPS['base']:,} steps) knows {' and '.join(OLD)}. It is taught a cipher of"
        f" French, {len(event['characters'])} of whose letters it cannot write ({' '.join(event['characters'])}), for"
        f" {STEPS['new']:,} steps, the old directions beside it.",
        "",
    ]
    lines += ["| pairs | " + " | ".join(counts) + " |", "|---|" + "---|" * len(counts)]
    lines += ["| lines | " + " | ".join(f"{count:,}" for count in counts.values()) + " |", ""]
    lines += ["## The new direction: chrF++ on the dev sample, by step", ""]
    lines += [
        "| first rows | " + " | ".join(map(str, steps)) + " | test, beam 4 |",
        "|---|" + "---|" * (len(steps) + 1),
    ]
    for name, values in curves.items():
        told = " | ".join(f"{values[step]:.1f}" for step in steps)
        lines.append(f"| {name} | {told} | **{after[name][f'en-{NEW}']:.1f}** |")
    lines += ["", "## The old directions: chrF++ on the test, beam 4", ""]
    lines += ["| | " + " | ".join(OLD) + " |", "|---|" + "---|" * len(OLD)]
    lines.append("| before | " + " | ".join(f"{before[pair]:.1f}" for pair in OLD) + " |")
    for name, found in after.items():
        told = " | ".join(f"{found[pair]:.1f} ({found[pair] - before[pair]:+.1f})" for pair in OLD)
        lines.append(f"| after, {name} | {told} |")
    text = "\n".join(lines) + "\n"
    Path(f"bench/new_language_cpu_{today}.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
