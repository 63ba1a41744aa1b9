"""`dragoman prepare` as people use it: in parts on several machines, and what it says."""

import json
from pathlib import Path

import pytest

from dragoman.cli.app import run
from tests.support.real import run as start
from tests.support.runs import contents, train_args


def prepare(tmp_path: Path, output: str, *words: object, **options: object) -> int:
    """Run `dragoman prepare` for an output below `tmp_path`."""
    args = train_args(tmp_path, output=tmp_path / output, **options)[1:]
    return run(["prepare", *args, *map(str, words)])


def test_parts_of_two_machines_give_the_corpus_and_the_model_of_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare(tmp_path, "alone") == 0
    for part in (1, 2):
        capsys.readouterr()
        assert prepare(tmp_path, f"part {part}", "--shard", f"{part}/2") == 0
        assert f"part {part}/2: " in capsys.readouterr().out
    assert prepare(tmp_path, "merged", "--merge", tmp_path / "part 1", tmp_path / "part 2") == 0
    made, alone = (tmp_path / name / "dragoman" for name in ("merged", "alone"))
    for folder in ("corpus", "base"):
        assert contents(made / folder) == contents(alone / folder), folder
    assert run(train_args(tmp_path, output=tmp_path / "merged")) == 0
    events = [json.loads(line) for line in (made / "journal.jsonl").read_text().splitlines()]
    assert [event["reused"] for event in events if event["kind"] == "prepared"] == [False, True]


def test_prepare_shows_leaks_and_what_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"a line of text {n}\tune ligne de texte {n}" for n in range(100)]
    rows += [f"some other line {n}\tune ligne de texte {n}" for n in range(100)]
    (tmp_path / "a.tsv").write_text("\n".join(rows) + "\n")
    # More characters than the alphabet of a scratch tokenizer holds; of those that occur once the highest are left out.
    strange = "".join(chr(0x4E00 + n) for n in range(1500))
    (tmp_path / "b.tsv").write_text("".join(f"sign {n}\t{strange[n]}\n" for n in range(1500)))
    data = [f"en-fr={tmp_path / name}" for name in ("a.tsv", "b.tsv")]
    assert prepare(tmp_path, "run", "--json", data=data) == 0
    told = json.loads(capsys.readouterr().out)
    leaks = told["funnel"]["eng_Latn-fra_Latn"]["rejected"]["leak"]
    assert leaks["pairs"] == len(leaks["examples"]) or leaks["pairs"] > 3
    (characters,) = told["unknown_characters"].values()
    assert len(characters) == 10
    assert all(count == 1 and character in strange for character, count in characters)
    assert prepare(tmp_path, "run", data=data) == 0
    shown = capsys.readouterr().out
    assert "leak" in shown
    assert "       200  in a.tsv" in shown
    assert "     1,500  in b.tsv" in shown
    assert f"fra_Latn, most often for: {characters[0][0]} U+{ord(characters[0][0]):04X} 1" in shown


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--shard", "3/2"], "--shard: '3/2' is no part of a whole"),
        (["--shard", "1/2", "--merge", "x"], "--shard and --merge"),
        (["--merge", "nowhere"], "--merge nowhere: no part is finished there"),
    ],
)
def test_wrong_parts_are_refused_and_leave_no_folder(
    words: list[str], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare(tmp_path, "run", *words) == 2
    assert why in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_command_prepares_in_processes_as_alone(tmp_path: Path) -> None:
    """In a process of its own, as the workers start by importing what it was started with."""
    rows = "".join(f"line {n} of text\tligne {n} de texte\n" for n in range(45_000))
    (tmp_path / "pairs.tsv").write_text(rows)
    for number, name in ((2, "two"), (1, "one")):
        words = train_args(tmp_path, output=tmp_path / name, prepare_processes=number)
        done = start(["prepare", *words[1:]])
        assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "two/dragoman/corpus") == contents(tmp_path / "one/dragoman/corpus")
