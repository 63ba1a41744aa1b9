"""A language that the model does not know: what its relatives' rows are worth, and what rehearsing keeps of the others.

A small model learns English → French and English → German from the catalogues of installed
packages until its dev curve is flat. Then it is taught a language that it has never seen: a
cipher of French, some of whose letters it cannot write. Each way is run with several seeds:

    like          rows begin as `--new-language qaa_Latn --like fra_Latn` makes them; old directions rehearsed
    unk           all new rows as the row of `<unk>`; rehearsed
    random        as transformers' own resizing would draw them without a mean; rehearsed
    alone         as `like`, and nothing rehearsed
    none          the old directions alone go on for as many steps, with nothing new: what is left to learn of them
    like SHARE    other shares to rehearse, one seed

No sentence of the new language's corpus was seen in French, and none of the test by anybody.
Runs go in pieces of a few minutes that continue each other, and whatever was done before is
found again. So the bench may be killed, or told to end early with exit code 75:

    python bench/new_language.py [MINUTES]        some forty minutes of one core in all
"""

import datetime
import json
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

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
BASE_STEPS, NEW_STEPS, LONGER_STEPS = 4000, 1000, 2000
PIECE_HOURS = 0.04
STARTED = time.monotonic()
OLD = ("en-fr", "en-de")
PAIRS = (f"en-{NEW}", *OLD)
SHARE = 0.5
"""Of all pairs of an epoch, for both old directions together."""
SEEDS = (1, 2, 3)
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
    "max_hours": PIECE_HOURS,
}
NEW_STAGE: dict[str, Any] = {"learning_rate": 5e-4, "eval_steps": 100, "save_steps": 250}


class Way(NamedTuple):
    """One way to teach the language."""

    rows: str
    """What the new rows begin as; `none`: nothing is taught."""
    share: float
    """Of all pairs, rehearsed."""
    seeds: tuple[int, ...]
    steps: int = NEW_STEPS


WAYS = {
    "like": Way("like", SHARE, SEEDS),
    "unk": Way("unk", SHARE, SEEDS),
    "like longer": Way("like", SHARE, SEEDS, LONGER_STEPS),
    "alone": Way("like", 0, SEEDS),
    "none": Way("none", 0, SEEDS[:1]),
    "random": Way("random", SHARE, SEEDS[:1]),
    "like 0.2": Way("like", 0.2, SEEDS[:1]),
    "like 0.7": Way("like", 0.7, SEEDS[:1]),
}


def write_data() -> dict[str, Path]:
    """The pairs to train on and to test on for each direction, as TSV files."""
    rows: dict[str, list[str]] = {}
    for pair in OLD:
        sources = open_sources([PACKAGES], parse_pair(pair), on_bad_rows="skip")
        pairs = {key(one.source): one for source in sources for one in source.pairs()}
        for number, (_, one) in enumerate(sorted(pairs.items())):
            source, target = clean(one.source), clean(one.target)
            split = split_of(source, PERCENT, PERCENT)
            # The French of every third sentence is only ever seen as its cipher.
            is_new = pair == "en-fr" and number % 3 == 0
            old, new = f"{source}\t{target}\n", f"{source}\t{ciphered(target)}\n"
            if split != "test" and not is_new:
                rows.setdefault(f"train {pair}", []).append(old)
            if split != "test" and is_new:
                rows.setdefault(f"train en-{NEW}", []).append(new)
            if split == "test" and pair == "en-fr":
                rows.setdefault(f"test en-{NEW}", []).append(new)
            # No later choice looks at the dev split of an old direction, so it tells as much as the test split.
            if split != "train":
                rows.setdefault(f"test {pair}", []).append(old)
    files: dict[str, Path] = {}
    for name, lines in rows.items():
        files[name] = FOLDER / f"{name.replace(' ', '-')}.tsv"
        files[name].write_text("".join(lines), encoding="utf-8")
    return files


def ciphered(text: str) -> str:
    """The text in other letters; fields such as %s and {name} stay."""
    return FIELD.sub(lambda found: found["text"].translate(CIPHER) if found["text"] else found[0], text)


def dragoman(*words: object) -> str:
    """Run a command, and again while it says that it was stopped; what it prints on stdout."""
    command = [sys.executable, "-m", "dragoman", *map(str, words)]
    while (done := subprocess.run(command, stdout=subprocess.PIPE, text=True)).returncode == 75:
        end_if_late()
    done.check_returncode()
    return done.stdout


def end_if_late() -> None:
    if len(sys.argv) > 1 and time.monotonic() - STARTED > 60 * float(sys.argv[1]):
        sys.exit(75)


def train(name: str, model: Path | str, files: dict[str, Path], pairs: tuple[str, ...], **options: Any) -> Path:
    """Train a run to its end; returns its folder."""
    data = [f"{pair}={files[f'train {pair}']}" for pair in pairs]
    words: list[object] = ["train", "--model", model, "--output", FOLDER / name]
    words += ["--language-pairs", *pairs, "--data", *data]
    for flag, value in (COMMON | options).items():
        words += ["--" + flag.replace("_", "-"), *(value if isinstance(value, list) else [value])]
    dragoman(*words)
    return FOLDER / name


def teach(name: str, way: Way, seed: int, base: Path, files: dict[str, Path]) -> Path:
    """Run the second stage once."""
    if way.rows == "none":
        return train(name, base, files, OLD, seed=seed, max_steps=way.steps, **NEW_STAGE)
    options: dict[str, Any] = NEW_STAGE | {
        "max_steps": way.steps,
        "seed": seed,
        "new_language": NEW,
        "like": "fra_Latn",
    }
    if way.share:
        options["replay"] = [f"{pair}={files[f'train {pair}']}:{way.share / len(OLD):g}" for pair in OLD]
    first = base if way.rows == "like" else with_other_rows(way.rows, seed)
    return train(name, first, files, PAIRS[:1], **options)


def with_other_rows(rows: str, seed: int) -> Path:
    """The base that `--like` has made, with other first rows of the new tokens."""
    import torch
    from safetensors.torch import load_file, save_file

    from dragoman.model import nllb, vocabulary

    folder = FOLDER / f"base-{rows}-{seed}"
    if not folder.exists():
        part = folder.with_name(f"{folder.name}.part")
        shutil.copytree(run_of("like", 1) / "dragoman/base", part, dirs_exist_ok=True)
        weights, words = load_file(part / "model.safetensors"), vocabulary.load(part)
        old = weights[nllb.EMBEDDING]
        torch.manual_seed(seed)
        new = slice(words.first_new, len(words))
        old[new] = old[words.unk] if rows == "unk" else torch.randn_like(old[new]) * old[: words.first_new].std()
        save_file(weights, part / "model.safetensors", metadata={"format": "pt"})
        part.rename(folder)
    return folder


def run_of(way: str, seed: int) -> Path:
    return FOLDER / f"{way.replace(' ', '-')}-{seed}"


def scores(run: Path, pairs: tuple[str, ...], files: dict[str, Path]) -> dict[str, float]:
    """chrF++ of the published model on the test of each direction, beam 4."""
    kept = run / "test.json"
    if not kept.exists():
        model = run / "published"  # alone, so that its base is not scored beside it
        shutil.rmtree(model, ignore_errors=True)
        model.mkdir()
        for file in run.iterdir():
            if file.is_file():
                shutil.copy(file, model)
        data = [f"{pair}={files[f'test {pair}']}" for pair in pairs]
        kept.write_text(dragoman("evaluate", model, "--pair", *pairs, "--data", *data, "--json"))
    told = json.loads(kept.read_text())["systems"][-1]["directions"]
    found = [score["chrf"] for score in told.values()]
    return dict(zip(pairs, found, strict=True))


def curve(run: Path) -> dict[int, dict[str, float]]:
    """chrF++ on the dev sample by step and direction."""
    told = [event for event in journal.read(run / "dragoman/journal.jsonl") if event["kind"] == "evaluated"]
    return {event["step"]: {way: at["chrf"] for way, at in event["directions"].items()} for event in told}


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    files = write_data()
    options = {"max_steps": BASE_STEPS, "learning_rate": 2e-3, "eval_steps": 500, "save_steps": 500}
    base = train("base", "scratch:tiny", files, OLD, **options)
    before = scores(base, OLD, files)
    print(before, flush=True)
    after: dict[str, list[dict[str, float]]] = {}
    turns = [(seed, name) for name, way in WAYS.items() for seed in way.seeds]
    # What is run once waits until all that is run more often is done.
    for seed, name in sorted(turns, key=lambda turn: (len(WAYS[turn[1]].seeds) == 1, turn[0])):
        way = WAYS[name]
        run = teach(run_of(name, seed).name, way, seed, base, files)
        after.setdefault(name, []).append(scores(run, OLD if way.rows == "none" else PAIRS, files))
        print(name, seed, after[name][-1], flush=True)
        end_if_late()
    report(files, before, after)


def report(files: dict[str, Path], before: dict[str, float], after: dict[str, list[dict[str, float]]]) -> None:
    today = datetime.date.today().isoformat()
    told = journal.read(run_of("like", 1) / "dragoman/journal.jsonl")
    characters = next(event for event in told if event["kind"] == "languages_added")["characters"]
    lines = [
        f"# A new language, {today}, CPU",
        "",
        f"`python bench/new_language.py`, {platform.machine()}, one thread.",
        "",
        f"The model (`scratch:tiny`, {BASE_STEPS:,} steps to a learning rate of zero) knows {' and '.join(OLD)}. In"
        f" {NEW_STEPS:,} or {LONGER_STEPS:,} steps it is taught a cipher of French,"
        f" {len(characters)} of whose letters it cannot write"
        f" ({' '.join(characters)}); the French of these sentences was never seen. Means of {len(SEEDS)} seeds of the"
        " second stage (in brackets the lowest and highest), of one where none are given. chrF++ on the test, beam 4.",
        "",
        *table(
            ["", *files], [["pairs", *(f"{len(path.read_text('utf-8').splitlines()):,}" for path in files.values())]]
        ),
        "## The base on the dev sample, by step",
        "",
        *base_curve(),
        "## Test",
        "",
        *table(["new rows", "rehearsed", "steps", *PAIRS], list(result_rows(before, after))),
        "## The new direction on the dev sample, by step",
        "",
        *new_curves(),
    ]
    text = "\n".join(lines).rstrip() + "\n"
    Path(f"bench/new_language_cpu_{today}.md").write_text(text, encoding="utf-8")
    print(text)


def result_rows(before: dict[str, float], after: dict[str, list[dict[str, float]]]) -> Iterator[list[str]]:
    yield ["before", "", "", "", *(f"{before[pair]:.1f}" for pair in OLD)]
    for name, found in after.items():
        way = WAYS[name]
        new = f"**{shown([run[PAIRS[0]] for run in found])}**" if way.rows != "none" else ""
        old = (f"{shown([run[pair] - before[pair] for run in found], '+')}" for pair in OLD)
        rows, share = ("nothing new", "alone") if way.rows == "none" else (way.rows, f"{way.share:.0%}")
        yield [rows, share, f"{way.steps:,}", new, *old]


def shown(values: list[float], sign: str = "") -> str:
    around = f" ({min(values):{sign}.1f} to {max(values):{sign}.1f})" if len(values) > 1 else ""
    return f"{statistics.mean(values):{sign}.1f}{around}"


def base_curve() -> list[str]:
    found = curve(FOLDER / "base")
    ways = list(next(iter(found.values())))
    return table(["step", *map(str, found)], [[way, *(f"{at[way]:.1f}" for at in found.values())] for way in ways])


def new_curves() -> list[str]:
    rows: list[list[str]] = []
    steps: list[int] = []
    for name, way in WAYS.items():
        if way.rows != "none" and way.steps == NEW_STEPS:
            curves = [curve(run_of(name, seed)) for seed in way.seeds]
            steps = sorted(curves[0])
            means = [statistics.mean(one[step][f"eng_Latn-{NEW}"] for one in curves) for step in steps]
            rows.append([way.rows, f"{way.share:.0%}", *(f"{mean:.1f}" for mean in means)])
    return table(["new rows", "rehearsed", *map(str, steps)], rows)


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)] + [""]


if __name__ == "__main__":
    main()
