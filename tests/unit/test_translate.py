"""Using and judging a finished run: `dragoman translate` and `dragoman evaluate`, in this process."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from dragoman.cli.app import run
from dragoman.data.corpus import Corpus, open_corpus
from dragoman.deploy import compare, translate
from dragoman.errors import CheckSaidNo, ExitCode, InputError, ModelError
from dragoman.evaluation.decode import Request, decode
from dragoman.languages import parse_pair
from dragoman.training import inputs
from tests.support.runs import copy_run, make_pairs, small_run, train_args
from tests.support.shared import finished_run

FR = parse_pair("en-fr")
LINES = ["the red cat", "", "the old dog sees the river", "bird"]


@pytest.fixture(scope="module")
def translator() -> translate.Translator:
    return translate.load(str(finished_run()))


@pytest.fixture(scope="module")
def answers(translator: translate.Translator) -> list[str]:
    """What the run makes of `LINES`, greedily."""
    return decode(translator.model, translator.vocabulary, [Request(line, FR) for line in LINES], 1)


def corpus_of(folder: Path) -> Corpus:
    [found] = (folder / inputs.CORPUS).iterdir()
    opened = open_corpus(found)
    assert opened is not None
    return opened


# --- translate -----------------------------------------------------------------------


def command(*more: object) -> list[str]:
    return ["translate", "--model", str(finished_run()), "-p", "en-fr", "--num-beams", "1", *map(str, more)]


def test_arguments_give_one_line_each(answers: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command(*LINES)) == 0
    assert capsys.readouterr().out == "".join(answer + "\n" for answer in answers)


def test_a_file_gives_one_line_per_line(tmp_path: Path, answers: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in.txt").write_bytes("\r\n".join(LINES).encode())
    assert run(command("--input", tmp_path / "in.txt")) == 0
    assert capsys.readouterr().out == "".join(answer + "\n" for answer in answers)


def test_standard_input_gives_one_line_per_line(
    answers: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # What other programs take for the end of a line is content here.
    text = "\n".join([*LINES, "the red\u2028cat", "the red\x0ccat"]) + "\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert run(command()) == 0
    assert capsys.readouterr().out.split("\n") == [*answers, answers[0], answers[0], ""]


def test_a_stream_longer_than_one_group_keeps_its_order(
    translator: translate.Translator, answers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(translate, "LINES_AT_ONCE", 3)
    assert list(translator.translate(LINES * 2, FR, 1)) == answers * 2


def test_translations_appear_before_the_input_ends(
    translator: translate.Translator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(translate, "LINES_AT_ONCE", 1)

    def endless() -> Any:
        while True:
            yield "the red cat"

    assert next(translator.translate(endless(), FR, 1)) is not None


def test_a_language_that_the_tokenizer_lacks_is_named(tmp_path: Path) -> None:
    copy = copy_run(finished_run(), tmp_path / "run")
    path = copy / "tokenizer.json"
    path.unlink()  # the published files may be links to those of a checkpoint
    path.write_text((finished_run() / "tokenizer.json").read_text("utf-8").replace("zul_Latn", "zul_Xxxx"), "utf-8")
    loaded = translate.load(str(copy))
    with pytest.raises(ModelError, match="the language code zul_Latn is missing"):
        next(loaded.translate(["the cat"], parse_pair("en-zu")))


def test_a_run_without_a_checkpoint_says_so(tmp_path: Path) -> None:
    copy = copy_run(finished_run(), tmp_path / "run")
    (copy / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="this run has no checkpoint yet"):
        translate.load(str(copy))


# --- evaluate ------------------------------------------------------------------------


def test_a_run_is_compared_with_its_base_and_with_copying(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", str(finished_run()), "--num-beams", "1", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [system["system"] for system in said["systems"]] == ["copy source", "base", "tuned"]
    test = corpus_of(finished_run()).texts("test")
    assert said["pairs"] == len(test) > 1
    for system, folder in zip(said["systems"][1:], (finished_run() / inputs.BASE, finished_run()), strict=True):
        loaded = translate.load(str(folder))
        found = decode(loaded.model, loaded.vocabulary, [Request(text.source, FR) for text in test], 1)
        from dragoman.evaluation.score import score

        wanted = score(found, [text.target for text in test], "fra_Latn")
        assert system["directions"]["eng_Latn-fra_Latn"]["chrf"] == wanted.chrf
        assert system["chrf"] == wanted.chrf
    base = translate.base_of(str(finished_run()))
    assert base == str(finished_run() / inputs.BASE)


def test_a_table_shows_all_systems_and_the_signature(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", str(finished_run()), "--num-beams", "1", "--max-samples", "2"]) == 0
    said = capsys.readouterr().out
    for word in ("copy source", "base", "tuned", "chrF++", "BLEU", "version:", "2 pairs"):
        assert word in said


def test_a_model_that_is_no_run_has_no_base(tmp_path: Path) -> None:
    model = shutil.copytree(finished_run() / inputs.BASE, tmp_path / "model")
    data = make_pairs(tmp_path / "test.tsv", 3, seed=5)
    compared = compare.compare(str(model), ["en-fr"], [str(data)], None, 1, None, "cpu")
    assert [system.name for system in compared.systems] == ["copy source", "tuned"]
    with_base = compare.compare(str(finished_run()), ["en-fr"], [str(data)], str(model), 1, None, "cpu")
    assert [system.name for system in with_base.systems] == ["copy source", "base", "tuned"]
    assert with_base.systems[1].hypotheses == compared.systems[1].hypotheses
    with pytest.raises(InputError, match="is no run folder"):
        compare.compare(str(model), [], [], None, 1, None, "cpu")
    with pytest.raises(InputError, match="--pair is missing"):
        compare.compare(str(model), [], [str(data)], None, 1, None, "cpu")


def test_require_says_no_below_and_nothing_from_there_on(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", str(finished_run()), "--num-beams", "1", "--max-samples", "2"]
    assert run([*words, "--require", "100"]) == ExitCode.CHECK_SAID_NO
    said = capsys.readouterr()
    assert "the model reaches only" in said.err
    assert "tuned" in said.out, "the table is shown before the verdict"
    assert run([*words, "--require", "0"]) == 0
    compared = compare.compare(str(finished_run()), [], [], None, 1, 2, "cpu")
    compare.require(compared, compared.systems[-1].mean_chrf)
    compare.require(compared, None)
    with pytest.raises(CheckSaidNo):
        compare.require(compared, compared.systems[-1].mean_chrf + 0.01)


def test_max_samples_draws_over_all_of_the_file_and_always_the_same(tmp_path: Path) -> None:
    model = str(finished_run() / inputs.BASE)
    data = make_pairs(tmp_path / "test.tsv", 300, seed=6)
    order = [line.split("\t")[0] for line in data.read_text().splitlines()]

    def drawn() -> list[int]:
        pairs = compare.compare(model, ["en-fr"], [f"en-fr={data}"], None, 1, 5, "cpu").pairs
        return [order.index(pair.source) for pair in pairs]

    first = drawn()
    assert len(first) == 5
    assert first == sorted(first) == drawn()
    assert max(first) > 50, "not the head of the file"


def test_a_run_is_judged_on_what_its_own_corpus_held_out(tmp_path: Path) -> None:
    folder = copy_run(finished_run(), tmp_path / "run")
    held_out = corpus_of(folder).texts("test")
    # Another corpus in the same run folder, as `dragoman prepare` with other data leaves it: before and behind.
    other = corpus_of(small_run(tmp_path / "other", seed=5, max_steps=1, eval_steps=0, test_percent=30)).folder
    for name in ("0000000000000000", "ffffffffffffffff"):
        shutil.copytree(other, folder / inputs.CORPUS / name)
    (folder / inputs.CORPUS / "fffffffffffffffff.part").mkdir()
    assert compare.compare(str(folder), [], [], None, 1, None, "cpu").pairs == held_out


def test_rows_with_an_empty_side_are_not_scored(tmp_path: Path) -> None:
    (tmp_path / "test.tsv").write_text("the cat\tle chat\n \tle chien\nthe dog\t\n")
    model = str(finished_run() / inputs.BASE)
    compared = compare.compare(model, ["en-fr"], [str(tmp_path / "test.tsv")], None, 1, None, "cpu")
    assert [pair.source for pair in compared.pairs] == ["the cat"]


def test_the_same_run_decodes_the_same_after_it_moved(tmp_path: Path, answers: list[str]) -> None:
    assert train_args(finished_run().parent)  # its data may stay where it was
    moved = copy_run(finished_run(), tmp_path / "moved")
    assert list(translate.load(str(moved)).translate(LINES, FR, 1)) == answers
