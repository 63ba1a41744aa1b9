"""Both notebooks, run by a kernel as on their platforms: with secrets from stand-ins, against a Hub on loopback.

Kaggle's is the recipe with its form filled in. Colab's is that of `dragoman launch`, whose
pairs were carried and come from the private data set on the Hub. The cell that installs finds this
very version there and installs nothing; installing for real is `make notebooks`, in an
environment like Colab's.
"""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dragoman import platforms
from dragoman.config import from_flat
from dragoman.launch import colab, kaggle
from dragoman.launch.hub_account import Account
from dragoman.launch.job import Job
from tests.support import real
from tests.support.hub import HubStandIn
from tests.support.hub_data import opus_100
from tests.support.notebooks import Page, filled
from tests.support.runs import make_pairs
from tests.support.sessions import trained

TOKEN = "hf_secretsecretsecret"
STEPS = "--device cpu --threads 1 --max-steps 60 --save-steps 5 --eval-steps 0 --log-steps 50 --learning-rate 1e-3"
SHAPE = {"language_pairs": ["en-fr"], "max_samples": 50, "model": "scratch:tiny"}
KAGGLE = kaggle.recipe()["kaggle/train_nllb_kaggle.ipynb"]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return make_pairs(tmp_path_factory.mktemp("data") / "pairs.tsv", n=60, seed=1).read_bytes()


@pytest.fixture(scope="module")
def hub(pairs: bytes) -> Iterator[HubStandIn]:
    with HubStandIn() as made:
        made.add_token(TOKEN, "ada")
        made.add_token("hf_mayonlyreadonlyread", "ada", "read")
        texts = [(source, target) for source, _, target in (row.partition("\t") for row in pairs.decode().splitlines())]
        opus_100(made, {"en-fr": {"train": [texts]}}, "Helsinki-NLP/opus-100")
        yield made


@pytest.fixture(scope="module")
def undisturbed(hub: HubStandIn, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run without a notebook, a store or an accident."""
    run = tmp_path_factory.mktemp("plain") / "run"
    words = ["train", "--language-pairs", "en-fr", "--data", "Helsinki-NLP/opus-100", "--max-samples", "50"]
    words += ["--epochs", "3", "--batch-size", "4", "--model", "scratch:tiny", *STEPS.split(), "--output", str(run)]
    done = real.run(words, variables(hub, run.parent))
    assert done.returncode == 0, done.stderr
    return run


def variables(hub: HubStandIn, machine: Path) -> dict[str, str]:
    return real.environment({"HF_ENDPOINT": hub.url, "HF_HOME": f"{machine}-home", "HF_HUB_DISABLE_XET": "1"})


def opened(name: str, hub: HubStandIn, pairs: bytes, machine: Path, secrets: dict[str, object] | None = None) -> Page:
    """The notebook of a small run, on an empty machine."""
    repo = f"ada/{machine.parent.name}"
    if name == "colab":
        notebook = filled(launched(hub, pairs, repo), more_options=STEPS, folder=str(machine / "run"))
    else:
        given = {"language_pairs": "en-fr", "max_samples": 50, "model": "scratch:tiny", "folder": "run"}
        notebook = filled(KAGGLE, hub_model_id=repo, more_options=STEPS, **given)
    kept = {"HF_TOKEN": {"payload": TOKEN}} if secrets is None else secrets
    return Page(notebook, machine, variables(hub, machine), kept)


def launched(hub: HubStandIn, pairs: bytes, repo: str) -> bytes:
    """The notebook as `dragoman launch colab` makes it for a file of this machine, which is on the Hub then."""
    there = platforms.find("colab")
    config = from_flat(SHAPE | {"data": ["en-fr=pairs.tsv"], "hub_model_id": repo})
    job = Job("en-fr", config, there, there.offer(), carries={"files/pairs.tsv": pairs})
    plan = colab.plan(job)
    colab.ColabClient(Account(hub.url, lambda: TOKEN)).submit(job, plan)
    return plan.files[colab.NOTEBOOK]


@pytest.mark.parametrize("name", ["colab", pytest.param("kaggle", marks=pytest.mark.slow)])
def test_a_notebook_whose_machine_is_lost_ends_on_another_with_the_same_weights(
    name: str, hub: HubStandIn, pairs: bytes, undisturbed: Path, tmp_path: Path
) -> None:
    repo = f"ada/{tmp_path.name}"
    first = opened(name, hub, pairs, tmp_path / "first")
    cells = threading.Thread(target=first.run_until_lost)
    cells.start()
    real.until(lambda: real_checkpoint(hub, repo), "a checkpoint is on the Hub")
    first.lose_machine()
    cells.join(real.SECONDS)
    assert not first.was_given_back

    second = opened(name, hub, pairs, tmp_path / "second")
    assert second.run_all() == ""
    assert "continues at step" in second.shown("train")
    assert TOKEN not in str(second.notebook)
    assert trained(tmp_path / "second/run") == trained(undisturbed)
    assert hub.read(repo, "model.safetensors") == (undisturbed / "model.safetensors").read_bytes()
    model = next((tmp_path / "second").glob("run-model-*/model.safetensors"))
    assert model.read_bytes() == (undisturbed / "model.safetensors").read_bytes()
    # A model that has learned next to nothing: the test says so, and the notebook still comes to its end.
    assert "en-fr: " in second.shown("trial")
    assert "its model FAILED the test" in second.shown("trial")
    assert second.was_given_back == (name == "colab")

    if name == "kaggle":  # once is enough: the cells are the same
        later = opened(name, hub, pairs, tmp_path / "later")
        later.notebook.cells = [cell for cell in later.notebook.cells if cell.id != "train"]
        assert later.run_all() == ""
        assert "en-fr: " in later.shown("trial")


def test_the_last_cell_alone_says_what_to_run_first(hub: HubStandIn, pairs: bytes, tmp_path: Path) -> None:
    page = opened("kaggle", hub, pairs, tmp_path / "machine")
    page.notebook.cells = [cell for cell in page.notebook.cells if cell.id == "trial"]
    assert "run the cells 1 to 3 first" in page.run_all()


def real_checkpoint(hub: HubStandIn, repo: str) -> bool:
    try:
        return any(name.startswith("checkpoint-") for name in hub.names(repo))
    except LookupError:
        return False


def stopped(page: Page, hub: HubStandIn) -> str:
    """The message that stopped a notebook, which had started nothing."""
    before = len(hub.requests)
    message = page.run_all()
    assert message.startswith("STOPPED: ")
    assert "Traceback" not in message
    assert "nothing was started" in message
    assert not [seen for seen in hub.requests[before:] if seen.method not in ("GET", "HEAD")]
    assert not list(page.machine.rglob("run"))
    return message


@pytest.mark.parametrize(("name", "where"), [("colab", "press the key"), ("kaggle", "Add-ons, Secrets")])
def test_without_a_token_a_notebook_says_where_to_click_and_starts_nothing(
    name: str, where: str, hub: HubStandIn, pairs: bytes, tmp_path: Path
) -> None:
    message = stopped(opened(name, hub, pairs, tmp_path / "machine", {}), hub)
    assert where in message
    assert "https://huggingface.co/settings/tokens" in message


def test_a_secret_that_colab_may_not_show_is_named(hub: HubStandIn, pairs: bytes, tmp_path: Path) -> None:
    page = opened("colab", hub, pairs, tmp_path / "machine", {"HF_TOKEN": {"payload": TOKEN, "access": False}})
    assert "Notebook does not have access to secret HF_TOKEN" in stopped(page, hub)


def test_a_token_that_may_only_read_stops_the_notebook_before_anything_is_started(
    hub: HubStandIn, pairs: bytes, tmp_path: Path
) -> None:
    page = opened("colab", hub, pairs, tmp_path / "machine", {"HF_TOKEN": {"payload": "hf_mayonlyreadonlyread"}})
    assert "the token of ada may only read" in stopped(page, hub)
