import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cyclopts import App

from dragoman.cli.app import app, run
from dragoman.config import FIELDS, may_change

HEAVY = ("torch", "transformers", "ctranslate2", "sacrebleu", "tokenizers", "huggingface_hub", "datasets")


def commands(owner: App = app, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command, the bare `dragoman` first."""
    yield words
    for name in owner:
        if not name.startswith("-"):
            yield from commands(owner[name], (*words, name))


COMMANDS = list(commands())


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def test_every_command_of_the_first_release_is_walked() -> None:
    names = {" ".join(words) for words in COMMANDS}
    assert names >= {"", "train", "resume", "prepare", "status", "evaluate", "translate", "languages"}
    assert names >= {"doctor", "download"}
    assert names >= {"config", "config show", "config check"}


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_is_grouped_explained_and_ends_with_examples(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*words, "--help"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert re.match(r"Usage: dragoman\b", said.out)
    assert re.search(r"^╭─ \w", said.out, re.MULTILINE)
    _, examples, last = said.out.partition("Examples:")
    assert examples
    lines = [line for line in last.splitlines() if line.startswith(" • ")]
    assert lines, "each example stands on a line of its own"
    assert all(line.startswith(" • dragoman ") for line in lines), lines
    if words:
        assert f" • dragoman {' '.join(words)}" in last


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_in_a_pipe_holds_no_escape_codes_and_fits_80_columns(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    run([*words, "--help"])
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert max(map(len, shown.splitlines())) <= 80
    for residue in ("`", "[default: ]", "[default: []]", "[default: None]", "[default: False]", "[default: <"):
        assert residue not in shown


def test_help_groups_the_options_of_a_run_and_explains_each(capsys: pytest.CaptureFixture[str]) -> None:
    run(["train", "--help"])
    shown = capsys.readouterr().out
    for title in ("Run file", "Data", "Model", "Training", "Checkpoints", "Evaluation and progress"):
        assert f"╭─ {title} ─" in shown
    for name in FIELDS:
        assert re.search(rf"│ {flag(name)}( \S+)? +\S", shown), name
    assert re.search(r"│ --config -c PATH +\S", shown)


def test_the_bare_command_lists_every_verb_in_its_group(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    shown = capsys.readouterr().out
    titles = ["Train", "Look", "Use", "Other"]
    places = [shown.index(f"╭─ {title} ─") for title in titles]
    assert places == sorted(places)
    assert places[0] < shown.index("│ train ") < places[1] < shown.index("│ status ") < places[2]
    assert places[2] < shown.index("│ translate ") < places[3] < shown.index("│ --help ")
    assert "75 stopped: resume me" in shown


def test_resume_names_exactly_the_options_that_may_be_new(capsys: pytest.CaptureFixture[str]) -> None:
    run(["resume", "--help"])
    words = " ".join(capsys.readouterr().out.split())
    named = re.search(r"these may be new: ([-a-z ]+)\.", words)
    assert named
    # --output is RUN itself or a place for it, and the others are what the command does.
    itself = {"--output", "--resume", "--resume-from-checkpoint", "--take-over"}
    assert set(named[1].split()) == {flag(name) for name in FIELDS if may_change(name)} - itself


def test_help_short_flags_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    run(["translate", "--help"])
    shown = capsys.readouterr().out
    assert "--pair -p STR" in shown
    run(["status", "--help"])
    assert re.search(r"│ --json +Print one JSON object", capsys.readouterr().out)


def test_no_help_imports_a_heavy_package() -> None:
    program = f"""
import sys
from dragoman.cli.app import run
for words in {[list(words) for words in COMMANDS]!r} + [["--version"], ["config", "show"], ["languages", "portu"]]:
    assert run(words + (["--help"] if words[0:1] not in (["--version"], ["languages"]) else [])) == 0, words
    heavy = [name for name in {HEAVY!r} if name in sys.modules]
    if heavy:
        sys.exit(f"{{words}} imports {{heavy}}")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def in_a_terminal(words: list[str], **variables: str) -> str:
    """What a command shows on a terminal of 100 columns."""
    outer, inner = pty.openpty()
    environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "CI")}
    environment |= {"TERM": "xterm-256color", "COLUMNS": "100"} | variables
    process = subprocess.Popen([sys.executable, "-m", "dragoman", *words], stdout=inner, stderr=inner, env=environment)
    os.close(inner)
    shown = b""
    while True:
        try:
            part = os.read(outer, 65536)
        except OSError:  # Linux says EIO when the other side has closed
            break
        if not part:
            break
        shown += part
    os.close(outer)
    process.wait(timeout=60)
    return shown.decode()


COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-8]|4[0-8]|9[0-7])(?:;\d+)*m")


def test_no_color_is_kept_to_on_a_terminal() -> None:
    words = ["status", "/nowhere/at/all"]
    assert COLOUR.search(in_a_terminal(words))
    assert not COLOUR.search(in_a_terminal(words, NO_COLOR="1"))
    assert not COLOUR.search(in_a_terminal(["train", "--help"], NO_COLOR="1"))


def test_a_dumb_terminal_gets_no_escape_codes() -> None:
    assert "\x1b" not in in_a_terminal(["status", "/nowhere/at/all"], TERM="dumb")


def test_piped_complaints_hold_no_escape_codes_and_leave_stdout_alone(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "dragoman", "status", "nowhere"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 2
    assert done.stdout == ""
    way_out = "the --output folder of a run, or the URL of its store"
    assert done.stderr == f"error: nowhere: there is no run here\n  try: {way_out}\n"


def test_a_reader_that_goes_away_early_is_no_error() -> None:
    program = f"{sys.executable} -m dragoman languages | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "0"
    assert done.stderr == ""


def test_data_is_utf8_whatever_the_terminal_speaks() -> None:
    words = [sys.executable, "-m", "dragoman", "config", "show", "--model", "модель"]
    done = subprocess.run(words, capture_output=True, env=os.environ | {"PYTHONIOENCODING": "latin-1"}, timeout=60)
    assert done.returncode == 0
    assert "model: модель\n" in done.stdout.decode("utf-8")


def test_version_is_one_line_of_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("words", "fragments"),
    [
        (["trian"], ['"trian"', 'did you mean "train"?']),
        (["translate", "x"], ["--pair"]),
        (["translate", "--model", "m", "x"], ["--pair"]),
        (["evaluate"], ["MODEL"]),
        (["resume"], ["RUN"]),
        (["download"], ["URL"]),
        (["evaluate", "m", "--device", "gpu"], ["--device", '"auto", "cpu", "cuda"']),
        (["evaluate", "m", "--num-beams", "0"], ["--num-beams", "> 0"]),
        (["evaluate", "m", "--max-samples", "-1"], ["--max-samples", "> 0"]),
        (["status", "a", "b"], ["'b'"]),
    ],
)
def test_a_command_that_is_misspelt_or_lacks_a_word_says_so(
    words: list[str], fragments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert [fragment for fragment in fragments if fragment not in said.err] == [], said.err
    assert "try:" in said.err
    assert "Traceback" not in said.err


def test_a_bug_shows_its_traceback_and_asks_for_a_report(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("on purpose")

    monkeypatch.setattr("dragoman.checkpoint.status.newest_run", broken)
    assert run(["status"]) == 1
    said = capsys.readouterr().err
    assert "ZeroDivisionError: on purpose" in said
    assert "this is a bug in dragoman" in said
