"""Everything a user can get wrong: one message that names the place, exit code 2, and nothing half done."""

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import constants

from dragoman.cli.app import run
from dragoman.errors import ExitCode
from tests.support.runs import contents, copy_run, make_pairs, small_run, train_args

LOCK = "dragoman/lock"
"""Holds the process id of the last session; every session that looks writes it."""


@pytest.fixture(scope="session")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps that ended well; copy it before changing anything."""
    return small_run(tmp_path_factory.mktemp("done"))


@pytest.fixture
def killed(done: Path, tmp_path: Path) -> Path:
    """A copy of it that was killed right before its last record."""
    copy = copy_run(done, tmp_path / "run")
    max((copy / "dragoman/log").iterdir()).unlink()
    return copy


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")


class Refusal:
    """Runs a command that must be refused, and returns what it said."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, words: list[str], *fragments: str, code: int = ExitCode.BAD_INPUT) -> str:
        self.capsys.readouterr()
        got = run([str(word) for word in words])
        said = self.capsys.readouterr()
        assert got == code, said.err
        assert said.out == ""
        assert "error: " in said.err
        assert "Traceback" not in said.err
        assert [fragment for fragment in fragments if fragment not in said.err] == [], said.err
        return said.err


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refusal:
    return Refusal(capsys)


# --- the data ----------------------------------------------------------------------


def data(content: bytes) -> Callable[[Path], dict[str, object]]:
    """A change of the arguments: the data is a file with this content."""

    def change(tmp: Path) -> dict[str, object]:
        (tmp / "bad.tsv").write_bytes(content)
        return {"data": f"en-fr={tmp / 'bad.tsv'}"}

    return change


def options(**changes: object) -> Callable[[Path], dict[str, object]]:
    """A change of the arguments: these options."""
    return lambda tmp: changes


GOOD = b"a red cat\tun chat rouge\n"

BAD: dict[str, tuple[Callable[[Path], dict[str, object]], list[str]]] = {
    "missing data file": (
        options(data="en-fr=nowhere.tsv"),
        ["--data en-fr=nowhere.tsv: there is no file or folder nowhere.tsv", "try:"],
    ),
    "unknown format": (options(data="en-fr=setup.docx"), ["setup.docx"]),
    "three columns": (
        data(GOOD * 2 + b"e\tf\tg\n"),
        ["bad.tsv line 3: 3 columns, expected 2 (source<TAB>target)", "--on-bad-rows skip"],
    ),
    "one column": (data(GOOD + b"one\n"), ["bad.tsv line 2: 1 column, expected 2"]),
    "bad UTF-8": (data(GOOD + b"caf\xe9\tcaf\xe9\n"), ["bad.tsv line 2", "0xE9", "not UTF-8"]),
    "empty file": (data(b""), ["no pair of eng_Latn-fra_Latn is left to train on: 0 read", "the files are empty"]),
    "everything filtered": (
        data(b"same\tsame\nas well\tas well\n\t\n"),
        ["is left to train on: 3 read", "2 identical", "1 empty", "both sides are the same text"],
    ),
    "all bad rows skipped": (
        lambda tmp: data(b"one\ntwo\n")(tmp) | {"on_bad_rows": "skip"},
        ["is left to train on: 2 read"],
    ),
    "all too long": (
        lambda tmp: (
            data(b"a b c d e f g h i j\tz y x w v u t s r q\n")(tmp)
            | {"max_tokens": 8, "dev_percent": 0, "test_percent": 0}
        ),
        ["--max-tokens 8: no pair of eng_Latn-fra_Latn is that short"],
    ),
    "no data and no Hub": (
        options(data=None),
        ["--data Helsinki-NLP/opus-100@main: the Hub does not give it", "name files of your own"],
    ),
    "no languages": (options(language_pairs=None), ["--language-pairs is missing"]),
    "unknown language": (options(language_pairs="en-qqq"), ["--language-pairs 'en-qqq'", "dragoman languages"]),
    "ambiguous language": (
        options(language_pairs="en-zh"),
        ["--language-pairs 'en-zh'", "zho_Hans = Chinese (Simplified)", "zho_Hant = Chinese (Traditional)"],
    ),
    "source is target": (options(language_pairs="en-eng_Latn"), ["source and target are both English"]),
    "a direction twice": (options(language_pairs=["en-fr", "eng-fra"]), ["eng_Latn-fra_Latn twice"]),
    "data for another direction": (options(language_pairs="en-de"), ["serves none of --language-pairs"]),
    "wrong value": (options(batch_size="many"), ["--batch-size: 'many' is not a whole number"]),
    "value out of bounds": (options(learning_rate=2), ["--learning-rate: '2'", "less than 1"]),
    "unknown flag": (options(bath_size=2), ["--bath-size", "did you mean --batch-size?"]),
    "missing run file": (options(config="nowhere.yaml"), ["there is no file nowhere.yaml"]),
    "unknown preset": (options(model="scratch:huge"), ["there is no scratch:huge", "scratch:tiny or scratch:small"]),
    "no such model": (options(model="nowhere"), ["there is no folder nowhere", "USER/MODEL"]),
    "fp16 on a CPU": (options(precision="fp16"), ["--precision fp16: needs a GPU", "fp32 or bf16"]),
    "adapters without adapters": (options(lora_rank=8), ["--lora-rank: there are no adapters", "--adapter lora"]),
    "static shapes of transformers": (
        options(static_shapes=True, forward="reference"),
        ["--static-shapes: --forward reference pads as transformers does", "--forward packed"],
    ),
    "resume must without a run": (options(resume="must"), ["--resume must: there is no run in"]),
}


@pytest.mark.parametrize("name", BAD)
def test_wrong_input_is_refused_and_leaves_no_run_folder(name: str, tmp_path: Path, refused: Refusal) -> None:
    change, fragments = BAD[name]
    refused(train_args(tmp_path, **change(tmp_path)), *fragments)
    if name != "all too long":  # only the tokenizer could tell: what it was made from is kept, and found again
        assert not (tmp_path / "run").exists()
    assert not (tmp_path / "run/dragoman/config.yaml").exists()


@pytest.mark.parametrize("name", ["three columns", "empty file", "unknown language"])
def test_prepare_refuses_it_as_well(name: str, tmp_path: Path, refused: Refusal) -> None:
    change, fragments = BAD[name]
    options_of_a_run = train_args(tmp_path, **change(tmp_path))[1:]
    refused(["prepare", *options_of_a_run], *fragments)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["missing data file", "unknown language", "no such model", "fp16 on a CPU"])
def test_config_check_refuses_what_needs_no_reading_of_data(name: str, tmp_path: Path, refused: Refusal) -> None:
    change, fragments = BAD[name]
    refused(["config", "check", *train_args(tmp_path, **change(tmp_path))[1:]], *fragments)


def test_config_check_agrees_with_good_options_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["config", "check", *train_args(tmp_path)[1:]]
    assert run(words) == 0
    assert "the options are fine" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_an_unknown_variable_or_key_is_refused(
    tmp_path: Path, refused: Refusal, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run.yaml").write_text("seed: 1\nbath_size: 2\n")
    refused(train_args(tmp_path, config=tmp_path / "run.yaml"), "run.yaml line 2: bath_size: unknown key")
    monkeypatch.setenv("DRAGOMAN_BATH_SIZE", "2")
    refused(train_args(tmp_path), "environment variable DRAGOMAN_BATH_SIZE", "did you mean DRAGOMAN_BATCH_SIZE?")
    assert not (tmp_path / "run").exists()


def test_a_missing_gpu_is_no_reason_for_a_traceback(
    tmp_path: Path, refused: Refusal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    refused(train_args(tmp_path, device="cuda"), "--device cuda: torch sees no GPU", "--device cpu")
    assert not (tmp_path / "run").exists()


# --- the model ---------------------------------------------------------------------


def no_weights(model: Path) -> None:
    (model / "model.safetensors").unlink()


def no_config(model: Path) -> None:
    (model / "config.json").unlink()


def other_architecture(model: Path) -> None:
    (model / "config.json").write_text('{"model_type": "marian"}')


def torn_config(model: Path) -> None:
    (model / "config.json").write_bytes((model / "config.json").read_bytes()[:40])


def no_tokenizer(model: Path) -> None:
    (model / "tokenizer.json").unlink()


def torn_tokenizer(model: Path) -> None:
    path = model / "tokenizer.json"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def no_codes(model: Path) -> None:
    path = model / "tokenizer.json"
    content = json.loads(path.read_text("utf-8"))
    content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] != "fra_Latn"]
    content["model"]["vocab"] = {
        ("unused" if token == "fra_Latn" else token): number for token, number in content["model"]["vocab"].items()
    }
    path.write_text(json.dumps(content), "utf-8")


def torn_weights(model: Path) -> None:
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


SPOILT: list[tuple[Callable[[Path], None], list[str]]] = [
    (no_weights, ["holds no weights"]),
    (no_config, ["holds no config.json"]),
    (other_architecture, ["is a marian model; NLLB models are m2m_100", "facebook/nllb-200"]),
    (torn_config, ["config.json is not the configuration of a model"]),
    (no_tokenizer, ["holds no tokenizer.json"]),
    (torn_tokenizer, ["tokenizer.json is not a tokenizer"]),
    (no_codes, ["tokenizer.json: the language code fra_Latn is missing", "original NLLB repository"]),
    (torn_weights, ["holds no weights that can be read", "download the model again"]),
]
IDS = [spoil.__name__ for spoil, _ in SPOILT]


@pytest.fixture
def model(done: Path, tmp_path: Path) -> Path:
    """A whole model folder, to be spoilt."""
    return Path(shutil.copytree(done / "dragoman/base", tmp_path / "model"))


@pytest.mark.parametrize(("spoil", "fragments"), SPOILT, ids=IDS)
def test_a_model_that_cannot_be_trained_is_refused(
    spoil: Callable[[Path], None], fragments: list[str], model: Path, tmp_path: Path, refused: Refusal
) -> None:
    spoil(model)
    refused(train_args(tmp_path, model=model), *fragments)
    if spoil is torn_weights:  # found when the weights are read, after the data: the corpus stays for the next try
        assert {path.name for path in (tmp_path / "run").iterdir()} == {"dragoman"}
    else:
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("spoil", "fragments"), SPOILT, ids=IDS)
def test_a_model_that_cannot_translate_is_refused(
    spoil: Callable[[Path], None], fragments: list[str], model: Path, refused: Refusal
) -> None:
    spoil(model)
    refused(["translate", "--model", str(model), "-p", "en-fr", "red"], *fragments)


def test_a_hub_that_cannot_be_reached_is_named_with_its_reason(
    tmp_path: Path, refused: Refusal, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unreachable(Exception):
        """Not an OSError: the HTTP library has its own tree."""

    def fail(*_: object, **__: object) -> None:
        raise Unreachable("Name or service not known")

    monkeypatch.setattr("huggingface_hub.list_repo_files", fail)
    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    refused(train_args(tmp_path, model="someone/model"), "someone/model", "the Hub does not give it", "HF_TOKEN")
    assert not (tmp_path / "run").exists()


# --- the run folder ----------------------------------------------------------------


@pytest.mark.parametrize("output", ["file", "file/below", "a" * 300])
def test_an_output_that_cannot_be_a_folder_is_refused(output: str, tmp_path: Path, refused: Refusal) -> None:
    (tmp_path / "file").write_text("mine")
    before = {path.name for path in tmp_path.iterdir()}
    refused(train_args(tmp_path, output=tmp_path / output), output.split("/")[0])
    assert (tmp_path / "file").read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == before | {"pairs.tsv"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_that_may_not_be_written_is_refused(tmp_path: Path, refused: Refusal) -> None:
    (tmp_path / "closed").mkdir(mode=0o555)
    refused(train_args(tmp_path, output=tmp_path / "closed/run"), "cannot be written", "--output")


def test_resume_never_refuses_a_folder_that_holds_a_run(done: Path, refused: Refusal) -> None:
    before = contents(done)
    refused(train_args(done.parent, resume="never"), "--resume never:", str(done), "another --output")
    assert contents(done) == before


def test_a_done_run_is_left_as_it_is(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(done, [LOCK, "dragoman/journal.jsonl"])
    assert run(train_args(done.parent)) == 0
    assert run(["resume", str(done)]) == 0
    assert f"was done before; the model is in {done}" in capsys.readouterr().err
    assert contents(done, [LOCK, "dragoman/journal.jsonl"]) == before


def test_other_settings_are_refused_with_every_difference(done: Path, killed: Path, refused: Refusal) -> None:
    before = contents(killed, [LOCK])
    changed = train_args(done.parent, output=killed, learning_rate="2e-3", schedule="cosine", keep=7)
    said = refused(changed, "holds a run with other settings", "dragoman resume", "another --output")
    assert "  --learning-rate: 0.001 → 0.002\n  --schedule: linear → cosine\n" in said
    assert "--keep" not in said, "it may change"
    refused(["resume", str(killed), "--seed", "5"], "--seed: 1 → 5")
    assert contents(killed, [LOCK]) == before


def test_resume_goes_where_the_run_is(done: Path, refused: Refusal) -> None:
    refused(["resume", str(done), "--output", "elsewhere"], "--output:", "is continued where it is")
    refused(["resume", str(done.parent / "nowhere")], "there is no run here")


def test_a_damaged_configuration_is_named(killed: Path, refused: Refusal) -> None:
    (killed / "dragoman/config.yaml").write_text("batch_size: [")
    refused(["resume", str(killed)], "config.yaml is not a run's configuration")


def test_changed_data_is_refused_and_the_run_stays_whole(tmp_path: Path, refused: Refusal) -> None:
    folder = small_run(tmp_path)
    max((folder / "dragoman/log").iterdir()).unlink()
    old = (tmp_path / "pairs.tsv").read_bytes()
    left_out = [LOCK, "dragoman/journal.jsonl", "dragoman/log", "dragoman/corpus"]
    before = contents(folder, left_out)
    make_pairs(tmp_path / "pairs.tsv", n=60, seed=2)
    refused(train_args(tmp_path), "--data", "have changed", "put the original files back")
    assert contents(folder, left_out) == before, "model, tokenizer and base are those of the run"
    (tmp_path / "pairs.tsv").write_bytes(old)
    assert run(train_args(tmp_path)) == 0


def test_a_run_whose_checkpoints_are_all_damaged_is_refused_and_nothing_is_removed(
    killed: Path, refused: Refusal
) -> None:
    for weights in killed.glob("checkpoint-*/model.safetensors"):
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
    before = {name: content for name, content in contents(killed).items() if name.startswith("checkpoint-")}
    assert len({name.split("/")[0] for name in before}) == 2
    said = refused(["resume", str(killed)], "every checkpoint is damaged", "checkpoint-4/model.safetensors")
    assert "warning: checkpoint-2 is not used: damaged" in said
    after = contents(killed)
    assert {name: content for name, content in after.items() if name.startswith("checkpoint-")} == before


def test_a_damaged_log_is_named(killed: Path, refused: Refusal) -> None:
    record = killed / "dragoman/log/000002.json"
    record.write_bytes(record.read_bytes()[:-20])
    refused(["resume", str(killed)], "000002.json")
    refused(["status", str(killed)], "000002.json")


def test_a_folder_that_another_process_trains_in_is_refused(done: Path, killed: Path, refused: Refusal) -> None:
    program = (
        "import sys, pathlib; from dragoman.store.local import FolderStore\n"
        "with FolderStore(pathlib.Path(sys.argv[1])).lock(): print('locked', flush=True); sys.stdin.read()"
    )
    words = [sys.executable, "-c", program, str(killed)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == "locked\n"
        before = contents(killed)
        refused(train_args(done.parent, output=killed), f"process {other.pid} is training in this folder", "--output")
        refused(["prepare", *train_args(done.parent, output=killed)[1:]], f"process {other.pid} is training")
        assert contents(killed) == before
        other.stdin.close()
    assert run(["resume", str(killed)]) == 0


def test_a_folder_that_holds_something_else_is_no_run(tmp_path: Path, refused: Refusal) -> None:
    refused(["status", str(tmp_path)], "there is no run here")
    refused(["resume", str(tmp_path)], "there is no run here")
    refused(["status", str(tmp_path / "nowhere")], "there is no run here")


# --- evaluate and translate --------------------------------------------------------


def test_evaluate_needs_to_know_what_the_data_holds(done: Path, tmp_path: Path, refused: Refusal) -> None:
    test = str(make_pairs(tmp_path / "test.tsv", n=3, seed=9))
    refused(["evaluate", str(done), "--data", test], "--pair is missing", "--pair en-fr")
    refused(["evaluate", str(done / "dragoman/base")], "is no run folder", "--pair en-fr --data test.tsv")
    refused(["evaluate", str(done), "-p", "en-de"], "holds no pair to score")
    refused(["evaluate", str(done), "-p", "en-zh"], "--pair 'en-zh'", "zho_Hans")
    said = refused(["evaluate", str(done), "-p", "en-fr", "--data", f"en-de={test}"], "serves none of --pair")
    assert "--language-pairs" not in said


def test_evaluate_refuses_bad_rows_without_naming_an_option_that_it_lacks(
    done: Path, tmp_path: Path, refused: Refusal
) -> None:
    (tmp_path / "bad.tsv").write_bytes(GOOD + b"a\tb\tc\n")
    said = refused(["evaluate", str(done), "-p", "en-fr", "--data", str(tmp_path / "bad.tsv")], "bad.tsv line 2")
    assert "--on-bad-rows" not in said


def test_evaluate_says_no_with_exit_code_4(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", str(done), "--max-samples", "1", "--num-beams", "1", "--device", "cpu"]
    assert run([*words, "--require", "99", "--json"]) == ExitCode.CHECK_SAID_NO
    said = capsys.readouterr()
    assert [system["system"] for system in json.loads(said.out)["systems"]] == ["copy source", "base", "tuned"]
    assert "--require 99: the model reaches only" in said.err


@pytest.mark.parametrize("command", [["evaluate"], ["translate", "-p", "en-fr", "red", "--model"]])
def test_a_run_without_a_checkpoint_has_no_model_yet(command: list[str], tmp_path: Path, refused: Refusal) -> None:
    assert run(["prepare", *train_args(tmp_path)[1:]]) == 0
    refused([*command, str(tmp_path / "run")], "this run has no checkpoint yet")


@pytest.mark.parametrize("command", [["evaluate"], ["translate", "-p", "en-fr", "red", "--model"]])
def test_a_folder_without_a_model_is_named(command: list[str], tmp_path: Path, refused: Refusal) -> None:
    refused([*command, str(tmp_path)], str(tmp_path))


def stdin(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding="utf-8"))


def test_translate_names_the_line_of_its_input_that_is_not_utf8(
    done: Path, refused: Refusal, monkeypatch: pytest.MonkeyPatch
) -> None:
    stdin(b"red\ncaf\xe9\n", monkeypatch)
    refused(["translate", "--model", str(done), "-p", "en-fr"], "standard input line 2: not UTF-8", "iconv")


def test_translate_gives_one_line_for_each_line(
    done: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    stdin("red cat\n\nthe é [bold]\n".encode(), monkeypatch)
    assert run(["translate", "--model", str(done), "-p", "en-fr", "--num-beams", "1", "--device", "cpu"]) == 0
    said = capsys.readouterr()
    assert said.out.count("\n") == 3
    assert said.out.split("\n")[1] == ""
    assert said.err == ""


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        (["-p", "en-en", "red"], "--pair 'en-en': source and target are both English"),
        (["-p", "en-zh", "red"], "--pair 'en-zh'"),
        (["-p", "fr", "red"], "--pair 'fr'"),
        (["-p", "en-fr", "--input", "/nowhere"], "--input: cannot read /nowhere"),
        (["-p", "en-fr", "--device", "tpu", "red"], "--device"),
        (["-p", "en-fr", "--num-beams", "0", "red"], "--num-beams"),
    ],
)
def test_translate_refuses_what_it_cannot_do(done: Path, words: list[str], fragment: str, refused: Refusal) -> None:
    refused(["translate", "--model", str(done), *words], fragment)
