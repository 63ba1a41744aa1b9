"""Flags, variables and run files through the real command line: `config show` prints what came of them."""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from dragoman.cli import settings
from dragoman.cli.app import run
from dragoman.config import FIELDS, RunConfig, from_flat
from dragoman.errors import ExitCode, InputError
from tests.unit.test_config import OTHER


class Shell:
    """`dragoman config show` with a run file, variables and flags, in an empty folder."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.capsys, self.monkeypatch = folder, capsys, monkeypatch
        monkeypatch.chdir(folder)
        for name in [name for name in os.environ if name.startswith("DRAGOMAN_")]:
            monkeypatch.delenv(name)

    def show(self, *words: str, file: str | None = None, **variables: str) -> dict[str, Any]:
        """The options as understood."""
        assert self._run(words, file, variables) == ExitCode.DONE, self.capsys.readouterr().err
        return yaml.safe_load(self.capsys.readouterr().out)

    def refuse(self, *words: str, file: str | None = None, **variables: str) -> str:
        """The complaint."""
        assert self._run(words, file, variables) == ExitCode.BAD_INPUT
        said = self.capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith("error: ")
        assert "Traceback" not in said.err
        return said.err

    def _run(self, words: tuple[str, ...], file: str | None, variables: dict[str, str]) -> int:
        if file is not None:
            (self.folder / "run.yaml").write_text(file, encoding="utf-8")
            words = (*words, "-c", "run.yaml")
        for name, value in variables.items():
            self.monkeypatch.setenv(name, value)
        return run(["config", "show", *words])


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    return Shell(tmp_path, capsys, monkeypatch)


# --- who wins ----------------------------------------------------------------------


def test_flags_outdo_variables_which_outdo_the_file(shell: Shell) -> None:
    file = "batch_size: 1\nseed: 1\nkeep: 1\n"
    assert shell.show(file=file)["batch_size"] == 1
    shown = shell.show("--keep", "3", file=file, DRAGOMAN_SEED="2", DRAGOMAN_KEEP="2")
    assert (shown["batch_size"], shown["seed"], shown["keep"]) == (1, 2, 3)


def test_a_flag_that_says_the_default_still_outdoes_the_file(shell: Shell) -> None:
    assert shell.show("--batch-size", "4", file="batch_size: 1\n")["batch_size"] == 4


def test_a_switch_can_be_set_off_again(shell: Shell) -> None:
    assert shell.show("--deterministic")["deterministic"] is True
    assert shell.show("--deterministic=false", file="deterministic: true\n")["deterministic"] is False


def test_a_flag_replaces_a_list_of_the_file(shell: Shell) -> None:
    file = "language_pairs: [en-fr, en-de]\n"
    assert shell.show("--language-pairs", "en-es", file=file)["language_pairs"] == ["en-es"]
    assert shell.show(file=file, DRAGOMAN_LANGUAGE_PAIRS="en-it")["language_pairs"] == ["en-it"]


def test_a_repeated_list_flag_extends(shell: Shell) -> None:
    shown = shell.show("--language-pairs", "en-fr", "en-de", "--data", "a.tsv", "--language_pairs", "en-es")
    assert shown["language_pairs"] == ["en-fr", "en-de", "en-es"]
    assert shown["data"] == ["a.tsv"]


def test_dashes_and_underscores_are_the_same(shell: Shell) -> None:
    assert shell.show("--batch_size", "2")["batch_size"] == shell.show("--batch-size", "2")["batch_size"] == 2
    assert shell.show(file="batch-size: 3\n")["batch_size"] == shell.show(file="batch_size: 3\n")["batch_size"] == 3


def test_a_list_in_a_variable_is_split_on_spaces(shell: Shell) -> None:
    assert shell.show(DRAGOMAN_LANGUAGE_PAIRS=" en-fr  en-de ")["language_pairs"] == ["en-fr", "en-de"]


def test_an_empty_variable_says_nothing(shell: Shell) -> None:
    # Compose files and CI pass variables on whether they are set or not; as --output it would mean this folder.
    shown = shell.show(file="seed: 5\noutput: runs/x\n", DRAGOMAN_SEED="", DRAGOMAN_OUTPUT=" ")
    assert (shown["seed"], shown["output"]) == (5, "runs/x")


def test_one_text_in_the_file_is_a_list_of_one(shell: Shell) -> None:
    assert shell.show(file="language_pairs: en-fr\ndata: my pairs.tsv\n")["data"] == ["my pairs.tsv"]


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("revision: 1234567", "1234567"),
        ("revision: 12e4567", "12e4567"),
        ("revision: null", None),
        ("revision: ~", None),
        ("revision:", None),
        ("revision: 'null'", "null"),
        ("model: 2024-01-01", "2024-01-01"),
        ("learning_rate: 5e-5", 5e-5),
        ("learning-rate: 0.001  # a comment", 1e-3),
        ("deterministic: yes", True),
        ("data: [no, 'a: b.tsv']", ["no", "a: b.tsv"]),
        ("data:\n- x.tsv\n- y.tsv", ["x.tsv", "y.tsv"]),
    ],
)
def test_the_field_and_not_yaml_decides_what_a_text_means(shell: Shell, line: str, value: object) -> None:
    name = line.split(":")[0].replace("-", "_")
    assert shell.show(file=line + "\n")[name] == value


def test_every_option_can_be_given_in_each_of_the_three_places(shell: Shell) -> None:
    file = yaml.safe_dump(OTHER)
    assert from_flat(shell.show(file=file)) == from_flat(OTHER)
    words: list[str] = []
    for name, value in OTHER.items():
        flag = "--" + name.replace("_", "-")
        words += [flag] if value is True else [flag, *map(str, value if isinstance(value, list) else [value])]
    assert from_flat(shell.show(*words)) == from_flat(OTHER)
    variables = {
        "DRAGOMAN_" + name.upper(): " ".join(value) if isinstance(value, list) else str(value)
        for name, value in OTHER.items()
    }
    assert from_flat(shell.show(**variables)) == from_flat(OTHER)


# --- round trips -------------------------------------------------------------------


@pytest.mark.parametrize("config", [RunConfig(), from_flat(OTHER), from_flat({"data": ["null", "1:30", "é: [x]"]})])
def test_what_config_show_prints_loads_again(shell: Shell, config: RunConfig) -> None:
    (shell.folder / "shown.yaml").write_text(config.to_yaml(), encoding="utf-8")
    assert settings.load(None, shell.folder / "shown.yaml") == config
    assert run(["config", "show", "-c", "shown.yaml"]) == 0
    again = shell.capsys.readouterr().out
    assert again.strip() == config.to_yaml().strip()


def test_config_show_lists_every_variable_once(shell: Shell) -> None:
    assert run(["config", "show", "--variables"]) == 0
    names = shell.capsys.readouterr().out.split()
    assert names == ["DRAGOMAN_" + name.upper() for name in FIELDS]


def test_a_stored_run_is_outdone_by_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAGOMAN_KEEP", "7")
    stored = from_flat({"keep": 5, "save_steps": 50, "batch_size": 2})
    loaded = settings.load(from_flat({"save_steps": 10}), stored=stored)
    assert (loaded.save.keep, loaded.save.save_steps, loaded.training.batch_size) == (7, 10, 2)


# --- mistakes name their place -----------------------------------------------------


def test_an_unknown_flag_is_named_and_the_right_one_suggested(shell: Shell) -> None:
    said = shell.refuse("--bath-size", "3")
    assert "--bath-size" in said
    assert "did you mean --batch-size?" in said


def test_an_unknown_variable_is_named_and_the_right_one_suggested(shell: Shell) -> None:
    said = shell.refuse(DRAGOMAN_BATH_SIZE="3")
    assert "DRAGOMAN_BATH_SIZE" in said
    assert "did you mean DRAGOMAN_BATCH_SIZE?" in said


def test_an_unknown_key_is_named_with_its_line_and_the_right_one_suggested(shell: Shell) -> None:
    said = shell.refuse(file="# a run\nseed: 3\nbath_size: 3\n")
    assert "run.yaml line 3: bath_size: unknown key" in said
    assert "did you mean batch_size?" in said


def test_a_word_without_any_likeness_gets_no_suggestion(shell: Shell) -> None:
    assert "did you mean" not in shell.refuse(file="qqq: 3\n")


def test_a_wrong_value_names_its_flag(shell: Shell) -> None:
    assert "--batch-size: 'x' is not a whole number" in shell.refuse("--batch-size", "x")


def test_a_wrong_value_names_its_variable(shell: Shell) -> None:
    said = shell.refuse(file="batch_size: 3\n", DRAGOMAN_BATCH_SIZE="x")
    assert "environment variable DRAGOMAN_BATCH_SIZE: 'x' is not a whole number" in said


def test_a_wrong_value_names_its_file_and_line(shell: Shell) -> None:
    assert "run.yaml line 2: batch-size: 'x' is not a whole number" in shell.refuse(file="seed: 3\nbatch-size: x\n")


def test_a_wrong_value_that_was_outdone_does_not_matter(shell: Shell) -> None:
    assert shell.show("--batch-size", "2", file="batch_size: x\n")["batch_size"] == 2


@pytest.mark.parametrize(
    ("words", "fragments"),
    [
        (["--precision", "fp61"], ["--precision: 'fp61'", "did you mean fp64?", "auto | fp32 | bf16 | fp16 | fp64"]),
        (["--schedule", "zzz"], ["--schedule: 'zzz'", "linear | cosine | inverse-sqrt | constant"]),
        (["--epochs", "many"], ["--epochs: 'many' is not a number"]),
        (["--epochs", "inf"], ["--epochs", "finite"]),
        (["--dev-percent", "50"], ["--dev-percent: '50'", "less than or equal to 40"]),
        (["--keep", "2.5"], ["--keep: '2.5' is not a whole number"]),
        (["--output", ""], ["--output", "not empty"]),
        (["--keep"], ["--keep", "requires an argument"]),
        (["stray"], ["'stray'"]),
        (["--deterministic", "false"], ["'false'", "--SWITCH=false"]),
    ],
)
def test_what_is_wrong_with_a_flag_and_what_would_fit(shell: Shell, words: list[str], fragments: list[str]) -> None:
    said = shell.refuse(*words)
    assert [fragment for fragment in fragments if fragment not in said] == [], said


@pytest.mark.parametrize(
    ("file", "fragments"),
    [
        ("- batch_size\n- 3\n", ["run.yaml holds no options", "key: value"]),
        ("hello\n", ["run.yaml holds no options"]),
        ("seed: 1\nbatch_size: [3\n", ["run.yaml line 3 is not YAML"]),
        ("seed: 1\n\tbatch_size: 3\n", ["run.yaml line 2 is not YAML", "spaces instead of tabs"]),
        ("seed: 1\n---\nseed: 2\n", ["run.yaml line 2 is not YAML"]),
        ("batch_size: 1\nbatch-size: 2\n", ["run.yaml line 2", "stands twice"]),
        ("seed: 1\nseed: 1\n", ["run.yaml line 2", "stands twice"]),
        ("data: {en-fr: a.tsv}\n", ["run.yaml line 1: data", "e.g."]),
        ("data: &a [x, *a]\n", ["run.yaml line 1: data"]),
        ("? [a, b]\n: 3\n", ["run.yaml line 1", "unknown key"]),
        ("epochs:\n", ["run.yaml line 1: epochs: there is no value"]),
        ("max_hours: 1:30\n", ["run.yaml line 1: max_hours: '1:30' is not a number"]),
        ("save_steps: true\n", ["run.yaml line 1: save_steps: 'true' is not a whole number"]),
        ("resume: no\n", ["run.yaml line 1: resume: 'no' is none of the choices", "auto | must | never"]),
        ("seed: 1\x00\n", ["run.yaml is not YAML"]),
    ],
)
def test_what_is_wrong_with_a_run_file(shell: Shell, file: str, fragments: list[str]) -> None:
    said = shell.refuse(file=file)
    assert [fragment for fragment in fragments if fragment not in said] == [], said


def test_an_empty_run_file_says_nothing(shell: Shell) -> None:
    assert shell.show(file="# nothing yet\n") == RunConfig().flat()


def test_a_run_file_that_is_not_there_is_named(shell: Shell) -> None:
    assert "there is no file nowhere.yaml" in shell.refuse("-c", "nowhere.yaml")


def test_a_run_file_that_is_a_folder_or_not_utf8_is_named(shell: Shell) -> None:
    (shell.folder / "folder.yaml").mkdir()
    assert "cannot read folder.yaml: Is a directory" in shell.refuse("-c", "folder.yaml")
    (shell.folder / "latin.yaml").write_bytes(b"output: caf\xe9\n")
    assert "latin.yaml is not UTF-8" in shell.refuse("-c", "latin.yaml")


def test_a_run_file_whose_name_is_not_utf8_can_be_named_and_read(shell: Shell) -> None:
    name = os.fsdecode(b"caf\xe9.yaml")
    assert "caf" in shell.refuse("-c", name)
    Path(name).write_text("seed: 9\n")
    assert shell.show("-c", name)["seed"] == 9


def test_the_callers_texts_come_from_words_or_file_or_stdin(shell: Shell) -> None:
    file = shell.folder / "lines.txt"
    file.write_bytes("one\r\n\ntwo\u2028three\n".encode())
    assert list(settings.lines(["a", "b"], file)) == ["a", "b"]
    assert list(settings.lines([], file)) == ["one", "", "two\u2028three"]
    file.write_bytes(b"good\nb\xffd\n")
    with pytest.raises(InputError, match=r"lines\.txt line 2: not UTF-8"):
        list(settings.lines([], file))
    with pytest.raises(InputError, match="--input: cannot read"):
        settings.lines([], shell.folder / "nowhere")
