"""Both notebooks, run by a kernel as on their platforms: with secrets from stand-ins, against a Hub on loopback.

The cell that installs finds this very version there and installs nothing; installing for
real is `make notebooks`, which builds a wheel and an environment like Colab's.
"""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dragoman.launch import colab, kaggle
from tests.support import real
from tests.support.hub import HubStandIn
from tests.support.hub_data import opus_100
from tests.support.notebooks import Page, filled
from tests.support.runs import make_pairs
from tests.support.sessions import trained

TOKEN = "hf_secretsecretsecret"
STEPS = "--device cpu --threads 1 --max-steps 60 --save-steps 5 --eval-steps 0 --log-steps 50 --learning-rate 1e-3"
NOTEBOOKS = {
    "colab": colab.recipe()["colab/train_nllb_colab.ipynb"],
    "kaggle": kaggle.recipe()["kaggle/train_nllb_kaggle.ipynb"],
}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubStandIn]:
    lines = make_pairs(tmp_path_factory.mktemp("data") / "pairs.tsv", n=60, seed=1).read_text().splitlines()
    with HubStandIn() as made:
        made.add_token(TOKEN, "ada")
        made.add_token("hf_mayonlyreadonlyread", "ada", "read")
        texts = [tuple(line.split("\t")) for line in lines]
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


def opened(name: str, hub: HubStandIn, machine: Path, secrets: dict[str, object] | None = None) -> Page:
    """The notebook with the fields of a small run, on an empty machine."""
    notebook = filled(
        NOTEBOOKS[name],
        hub_model_id=f"ada/{machine.parent.name}",
        language_pairs="en-fr",
        max_samples=50,
        model="scratch:tiny",
        more_options=STEPS,
        folder="run",
    )
    kept = {"HF_TOKEN": {"payload": TOKEN}} if secrets is None else secrets
    return Page(notebook, machine, variables(hub, machine), kept)


@pytest.mark.parametrize("name", ["colab", "kaggle"])
def test_a_notebook_whose_machine_is_lost_ends_on_another_with_the_same_weights(
    name: str, hub: HubStandIn, undisturbed: Path, tmp_path: Path
) -> None:
    repo = f"ada/{tmp_path.name}"
    first = opened(name, hub, tmp_path / "first")
    cells = threading.Thread(target=first.run_until_lost)
    cells.start()
    real.until(lambda: real_checkpoint(hub, repo), "a checkpoint is on the Hub")
    first.lose_machine()
    cells.join(real.SECONDS)
    assert not first.was_given_back

    second = opened(name, hub, tmp_path / "second")
    assert second.run_all() == ""
    assert "continues at step" in second.shown("train")
    assert TOKEN not in str(second.notebook)
    assert trained(tmp_path / "second/run") == trained(undisturbed)
    assert hub.read(repo, "model.safetensors") == (undisturbed / "model.safetensors").read_bytes()
    assert second.was_given_back == (name == "colab")


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
    assert not [seen for seen in hub.requests[before:] if seen.route not in ("whoami",)]
    return message


@pytest.mark.parametrize(("name", "where"), [("colab", "press the key"), ("kaggle", "Add-ons, Secrets")])
def test_without_a_token_a_notebook_says_where_to_click_and_starts_nothing(
    name: str, where: str, hub: HubStandIn, tmp_path: Path
) -> None:
    message = stopped(opened(name, hub, tmp_path / "machine", secrets={}), hub)
    assert where in message
    assert "https://huggingface.co/settings/tokens" in message


def test_a_secret_that_colab_may_not_show_is_named(hub: HubStandIn, tmp_path: Path) -> None:
    page = opened("colab", hub, tmp_path / "machine", {"HF_TOKEN": {"payload": TOKEN, "access": False}})
    assert "Notebook does not have access to secret HF_TOKEN" in stopped(page, hub)


def test_a_token_that_may_only_read_stops_the_notebook_before_anything_is_started(
    hub: HubStandIn, tmp_path: Path
) -> None:
    page = opened("colab", hub, tmp_path / "machine", {"HF_TOKEN": {"payload": "hf_mayonlyreadonlyread"}})
    assert "the token of ada may only read" in stopped(page, hub)
