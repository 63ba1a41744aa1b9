"""Small whole runs, in this process, from data made on the spot.

`small_run` takes about three seconds the first time a process imports torch, and about one
second afterwards. A run may be copied (`copy_run`): its data stays where it was made, so
`train_args` of the original with another `output` continue the copy.
"""

import random
import shutil
from collections.abc import Sequence
from pathlib import Path

from dragoman.cli.app import run as command

LEXICON = dict(
    zip(
        [
            "the",
            "red",
            "blue",
            "green",
            "old",
            "young",
            "cat",
            "dog",
            "bird",
            "house",
            "tree",
            "river",
            "sees",
            "eats",
            "finds",
            "likes",
        ],
        [
            "le",
            "rouge",
            "bleu",
            "vert",
            "vieux",
            "jeune",
            "chat",
            "chien",
            "oiseau",
            "maison",
            "arbre",
            "fleuve",
            "voit",
            "mange",
            "trouve",
            "aime",
        ],
        strict=True,
    )
)
"""Words of a toy language pair that is translated word by word."""


def make_pairs(path: Path, n: int, seed: int) -> Path:
    """Write `n` different pairs of the toy language as TSV; returns the path."""
    chooser = random.Random(seed)
    words, rows = list(LEXICON), dict[str, str]()
    while len(rows) < n:
        sentence = [chooser.choice(words) for _ in range(chooser.randint(3, 7))]
        rows[" ".join(sentence)] = " ".join(LEXICON[word] for word in sentence)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{source}\t{target}\n" for source, target in rows.items()), encoding="utf-8")
    return path


def train_args(tmp: Path, **overrides: object) -> list[str]:
    """Words after `dragoman` for a tiny run of four steps in `tmp`/run on `tmp`/pairs.tsv, which is made if missing.

    Args:
        tmp: Folder of data and run.
        overrides: Options by name; None removes one, True is a switch, a list gives all its values.
    """
    data = tmp / "pairs.tsv"
    if not data.exists() and "data" not in overrides:
        make_pairs(data, n=60, seed=1)
    options: dict[str, object] = {
        "language_pairs": "en-fr",
        "data": f"en-fr={data}",
        "model": "scratch:tiny",
        "max_steps": 4,
        "batch_size": 4,
        "gradient_accumulation": 2,
        "learning_rate": "1e-3",
        "dev_percent": 10,
        "test_percent": 10,
        "save_steps": 2,
        "eval_steps": 4,
        "eval_samples": 2,
        "log_steps": 1,
        "device": "cpu",
        "output": tmp / "run",
    }
    return ["train", *flags(options | overrides)]


def flags(options: dict[str, object]) -> list[str]:
    """Options by name as words of a command line."""
    words: list[str] = []
    for name, value in options.items():
        if value is None:
            continue
        words.append("--" + name.replace("_", "-"))
        if isinstance(value, (list, tuple)):
            words.extend(map(str, value))
        elif value is not True:
            words.append(str(value))
    return words


def small_run(folder: Path, **overrides: object) -> Path:
    """Train `train_args(folder)` to its end, in this process; returns the run folder."""
    words = train_args(folder, **overrides)
    assert command(words) == 0, words
    return folder / "run"


def copy_run(run: Path, to: Path) -> Path:
    """A copy of a run folder; returns `to`. Continue it with `train_args(run.parent, output=to)`."""
    return shutil.copytree(run, to)


def contents(folder: Path, leave_out: Sequence[str] = ()) -> dict[str, bytes]:
    """Every file below `folder` by its relative name, without those whose name begins with one of `leave_out`."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in sorted(files.items()) if not name.startswith(tuple(leave_out))}
