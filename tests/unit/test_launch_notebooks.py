"""Notebooks as they are rendered: valid, the same each time, and carrying every option of a run."""

import ast
import contextlib
import dataclasses
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat
import pytest
from slugify import slugify

from dragoman import platforms
from dragoman.config import RunConfig, from_flat
from dragoman.errors import ExitCode, InputError
from dragoman.launch import bundle, cells, colab, kaggle
from dragoman.launch.job import Job, Plan
from tests.support.places import Place, begin, place, save

ROOT = Path(__file__).parents[2]
RECIPES = {**colab.recipe(), **kaggle.recipe()}
WHEEL = "dragoman-0.1.0+x0123456789ab-py3-none-any.whl"


def job(platform: str, **options: Any) -> Job:
    config = from_flat({"language_pairs": ["en-fr"], "hub_model_id": "ada/run"} | options)
    there = platforms.find(platform)
    return Job("en-fr", config, there, there.offer(), max_hours=7.5)


def carrying(platform: str, **options: Any) -> Job:
    """A job as `dragoman launch` makes it: with its package and a file of pairs."""
    made = job(platform, data=["en-fr=pairs.tsv"], **options)
    carries = {WHEEL: b"PK wheel", "files/pairs.tsv": b"a\tb\n"}
    return dataclasses.replace(made, carries=carries, requires=(f"{WHEEL}[langid]", "Django==5.2"))


def cell_of(plan: Plan, cell_id: str) -> str:
    """The source of one cell."""
    name = next(name for name in plan.files if name.endswith(".ipynb"))
    parsed = nbformat.reads(plan.files[name].decode(), as_version=4)
    return next(cell.source for cell in parsed.cells if cell.id == cell_id)


def settings_of(plan: Plan) -> dict[str, Any]:
    """What the first cell of code sets."""
    values: dict[str, Any] = {}
    exec(cell_of(plan, "settings"), values)
    return values


@pytest.mark.parametrize("path", RECIPES)
def test_recipes_are_what_is_committed(path: str) -> None:
    """`make recipes` writes them."""
    assert (ROOT / "recipes" / path).read_bytes() == RECIPES[path]


@pytest.mark.parametrize("path", [path for path in RECIPES if path.endswith(".ipynb")])
def test_notebooks_are_valid_have_no_outputs_and_their_cells_are_python(path: str) -> None:
    parsed = nbformat.reads(RECIPES[path].decode(), as_version=4)
    nbformat.validate(parsed)
    for cell in parsed.cells:
        if cell.cell_type == "code":
            ast.parse(cell.source)
            assert cell.outputs == []
            assert cell.execution_count is None


@pytest.mark.parametrize("renderer", [colab, kaggle])
def test_every_option_of_a_run_file_reaches_the_command(renderer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {
        "language_pairs": ["en-fr", "de-en"],
        "data": ["en-fr=my texts.tsv", "de-en=other.tsv"],
        "learning_rate": 1e-4,
        "save_steps": 100,
        "replay": ["fr-en=old.tsv:0.1"],
        "langid": True,
        "epochs": 0.5,
        "output": "elsewhere",
    }
    made = job(renderer.__name__.rpartition(".")[2], **options)
    ran: list[tuple[str, ...]] = []
    monkeypatch.setattr(cells, "run", lambda *words: ran.append(words))
    values = settings_of(renderer.plan(made))
    names = ("hub_model_id", "language_pairs", "data", "max_samples", "epochs", "batch_size", "model")
    cells.train(**{name: values[name] for name in (*names, "more_options", "folder")})
    words = list(ran[0])
    assert words[0] == "train"
    assert parsed_by_the_command(words) == expected(made.config, values["folder"])


def expected(config: RunConfig, folder: str) -> dict[str, Any]:
    return config.flat() | {"output": folder, "take_over": True}


def parsed_by_the_command(words: list[str]) -> dict[str, Any]:
    """What the real command line makes of words."""
    from dragoman.cli import train_verbs
    from dragoman.cli.grammar import app

    _, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
    options = bound.arguments["options"]
    assert train_verbs is not None
    return options.flat()


@pytest.mark.parametrize("renderer", [colab, kaggle])
@pytest.mark.parametrize("place", [{"store": "s3://bucket/run"}, {}])
def test_a_run_that_is_not_kept_on_the_hub_is_refused(renderer: Any, place: Mapping[str, str]) -> None:
    made = job(renderer.__name__.rpartition(".")[2], hub_model_id=None, **place)
    with pytest.raises(InputError, match=r"durable store|s3://bucket/run"):
        renderer.plan(made)


@pytest.mark.parametrize("renderer", [colab, kaggle])
def test_a_notebook_installs_the_very_wheel_that_is_carried_with_its_extras(renderer: Any) -> None:
    source = cell_of(renderer.plan(carrying(renderer.__name__.rpartition(".")[2])), "install")
    assert 'VERSION, EXTRAS, MORE = "0.1.0+x0123456789ab", "[langid]", ["Django==5.2"]' in source
    assert 'DATA, BRING = "files/pairs.tsv"' in source
    assert ast.parse(source)


def test_colab_fetches_from_the_bundle_and_a_recipe_from_nowhere() -> None:
    made = carrying("colab")
    plan = colab.plan(made)
    assert settings_of(plan)["carried_in"] == f"ada/dragoman-launch/{bundle.folder(made)}"
    assert plan.files[WHEEL] == made.carries[WHEEL]
    assert settings_of(colab.plan(job("colab")))["carried_in"] == ""


def test_kaggle_attaches_what_is_carried_as_a_private_data_set_of_the_job() -> None:
    made = carrying("kaggle")
    plan = kaggle.plan(made)
    assert {name: plan.files[f"package/{name}"] for name in made.carries} == made.carries
    described = json.loads(plan.files["package/dataset-metadata.json"])
    assert json.loads(plan.files[kaggle.METADATA])["dataset_sources"] == [described["id"]]
    assert json.loads(kaggle.plan(job("kaggle")).files[kaggle.METADATA])["dataset_sources"] == []


@pytest.mark.parametrize("renderer", [colab, kaggle])
def test_several_machines_are_refused(renderer: Any) -> None:
    made = dataclasses.replace(job(renderer.__name__.rpartition(".")[2]), num_nodes=2)
    with pytest.raises(InputError, match="a notebook is one machine"):
        renderer.plan(made)


def test_kaggle_gets_a_private_notebook_with_a_gpu_and_the_internet_under_the_name_of_the_job() -> None:
    metadata = json.loads(kaggle.plan(job("kaggle")).files[kaggle.METADATA])
    assert (metadata["is_private"], metadata["enable_gpu"], metadata["enable_internet"]) == (True, True, True)
    assert metadata["machine_shape"] == "NvidiaTeslaT4"
    assert metadata["id"] == f"{kaggle.YOU}/{slugify(metadata['title'])}"


@pytest.mark.parametrize("renderer", [colab, kaggle])
def test_a_plan_holds_no_secret_and_is_the_same_each_time(renderer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecretsecret")
    made = job(renderer.__name__.rpartition(".")[2])
    assert renderer.plan(made) == renderer.plan(made)
    assert b"hf_secretsecret" not in b"".join(renderer.plan(made).files.values())


# --- what cells call -------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (ExitCode.BUG, "bug"),
        (ExitCode.BAD_INPUT, "correct it"),
        (ExitCode.SUPERSEDED, "another machine"),
        (ExitCode.RESUME_ME, "run all cells again"),
        (-9, "signal 9, mostly for want of memory"),
    ],
)
def test_every_ending_but_the_good_one_stops_the_cells_after_it(
    code: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cells, "_follow", lambda command: code)
    with pytest.raises(cells.Stopped, match=words):
        cells.run("train")


@pytest.fixture
def where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    with place("hub", tmp_path, monkeypatch) as found:
        yield found


def test_the_last_cell_says_what_to_do_while_the_run_is_not_done(
    where: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cells, "_follow", lambda command: pytest.fail("nothing may be started"))
    with pytest.raises(cells.Stopped, match="there is no run here; there is no model to test yet"):
        cells.download_and_test(hub_model_id="ada/run", folder="run")
    log = begin(where.store)
    save(log, tmp_path, 10)
    with pytest.raises(cells.Stopped, match=r"still being trained: step 10 is .*\n  try: run this cell again when"):
        cells.download_and_test(hub_model_id="ada/run", folder="run")
    log.finish("stopped", "deadline", step=10)
    with pytest.raises(cells.Stopped, match=r"not finished \(stopped\): step 10 is .*\n  try: run all cells again"):
        cells.download_and_test(hub_model_id="ada/run", folder="run")


@pytest.mark.parametrize(
    ("code", "said", "stops"),
    [
        (ExitCode.DONE, "", ""),
        (ExitCode.CHECK_SAID_NO, "FAILED the test", ""),
        (ExitCode.BAD_INPUT, "NOT TESTED", ""),
        (ExitCode.RESUME_ME, "", "run this cell again; it goes on where it stopped"),
        (-9, "", "run this cell again"),
        (ExitCode.BUG, "", "this is a bug"),
    ],
)
def test_the_model_of_a_run_that_is_done_is_brought_and_tested_and_a_bad_one_stops_nothing(
    code: int,
    said: str,
    stops: str,
    where: Place,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    log = begin(where.store)
    save(log, tmp_path, 10)
    log.finish("done", "all steps", step=10)
    ran: list[Sequence[str]] = []
    monkeypatch.setattr(cells, "_follow", lambda command: ran.append(command) or code)
    ended = pytest.raises(cells.Stopped, match=stops) if stops else contextlib.nullcontext()
    with ended:
        assert cells.download_and_test(hub_model_id="ada/run", folder="runs/here/") == "runs/here-model-10"
    assert list(ran[0][-5:]) == ["download", "hf://ada/run", "--output", "runs/here-model-10", "--test"]
    assert said in capsys.readouterr().out


def test_what_is_printed_is_shown_as_it_is_whatever_pieces_it_comes_in(capsys: pytest.CaptureFixture[str]) -> None:
    program = r"import os, time; [os.write(2, bytes([b])) for b in 'ж 1 %\r2 %\r\ndone\n'.encode()]; os._exit(75)"
    assert cells._follow([sys.executable, "-c", program]) == 75
    assert capsys.readouterr().out == "ж 1 %\r2 %\r\ndone\n"


SAVES_WHEN_STOPPED = """
import signal, sys
def stop(*_):
    print("saved", flush=True)
    sys.exit(75)
signal.signal(signal.SIGINT, stop)
print("ready", flush=True)
signal.pause()
"""
KERNEL = (
    "import sys; from dragoman.launch import cells; print('code', cells._follow([sys.executable, '-c', sys.argv[1]]))"
)


def test_the_stop_button_waits_until_the_command_has_saved() -> None:
    """It interrupts the kernel's whole group of processes, as Jupyter does."""
    words = [sys.executable, "-c", KERNEL, SAVES_WHEN_STOPPED]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True) as kernel:
        assert kernel.stdout is not None
        assert kernel.stdout.readline() == "ready\n"
        os.killpg(kernel.pid, signal.SIGINT)
        assert kernel.stdout.read() == "saved\ncode 75\n"


def test_the_command_is_shown_as_it_could_be_typed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(cells.Stopped, match="correct it"):
        cells.run("translate", "--pair", "no pair", "a sentence")
    shown = capsys.readouterr().out
    assert shown.splitlines()[0] == f"$ dragoman {shlex.join(['translate', '--pair', 'no pair', 'a sentence'])}"
    assert "error:" in shown


def test_launching_imports_no_client_of_a_platform() -> None:
    heavy = ("kaggle", "kagglesdk", "requests", "huggingface_hub", "nbformat", "torch")
    program = (
        "import sys; from dragoman.launch import colab, kaggle; colab.recipe(); kaggle.recipe();"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
