"""Kaggle's own client against a stand-in: what it checks, what it sends, and what we make of its answers."""

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path

import pytest

from dragoman import platforms
from dragoman.config import from_flat
from dragoman.errors import InputError, StoreUnavailable
from dragoman.launch import kaggle
from dragoman.launch.job import Handle, Job
from tests.support.kaggle import USER, KaggleStandIn

WHEEL = "dragoman-0.1.0+x0123456789ab-py3-none-any.whl"
CARRIED = {WHEEL: b"PK a wheel that has YOUR-KAGGLE-NAME in it", "files/pairs.tsv": b"a\tb\n"}
OURS = f"{USER}/nllb-en-fr"
HANDLE = Handle("kaggle", OURS, f"https://www.kaggle.com/code/{OURS}")


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KaggleStandIn]:
    with KaggleStandIn() as made:
        for name, value in made.environment(tmp_path).items():
            monkeypatch.setenv(name, value)
        from kaggle.api.kaggle_api_extended import KaggleApi

        monkeypatch.setattr(KaggleApi, "args", ["--local"])  # it reads the variable only while it is imported
        yield made


def job(carries: Mapping[str, bytes] | None = None) -> Job:
    config = from_flat({"language_pairs": ["en-fr"], "hub_model_id": "ada/run"})
    platform = platforms.find("kaggle")
    carried = carries or {}
    return Job("en-fr", config, platform, platform.offer(), max_hours=7.5, carries=carried, requires=(WHEEL,))


def client(pauses: list[float] | None = None) -> kaggle.KaggleClient:
    return kaggle.KaggleClient(pause=(pauses if pauses is not None else []).append)


def launch(carries: Mapping[str, bytes] | None = None) -> Handle:
    made, talker = job(carries), client()
    plan = kaggle.plan(made)
    talker.check(made, plan)
    return talker.submit(made, plan)


def changes(there: KaggleStandIn) -> list[str]:
    return [method for method, _ in there.calls if method.startswith(("Save", "Create", "Start"))]


def test_the_recipe_is_accepted_by_the_real_command(tmp_path: Path) -> None:
    """`kaggle kernels push`, as a person types it, with a name in the place of ours."""
    for path, content in kaggle.recipe().items():
        (tmp_path / Path(path).name).write_bytes(content.replace(kaggle.YOU.encode(), USER.encode()))
    with KaggleStandIn() as there:
        words = [sys.executable, "-m", "kaggle", "kernels", "push", "-p", str(tmp_path), "--timeout", "32400"]
        environment = os.environ | there.environment(tmp_path)
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "successfully pushed" in done.stdout
    assert "does not resolve" not in done.stdout
    [sent] = [body for method, body in there.calls if method == "SaveKernel"]
    assert sent["sessionTimeoutSeconds"] == 32400


def test_what_is_sent_is_private_has_its_gpu_and_the_limit_that_ends_it(there: KaggleStandIn) -> None:
    assert launch() == HANDLE
    sent = dict(there.kernels[OURS])
    text = json.loads(sent.pop("text"))
    assert [cell["id"] for cell in text["cells"]] == ["title", "settings", "token", "install", "train", "trial", "end"]
    assert sent == {
        "slug": OURS,
        "newTitle": "nllb en fr",
        "language": "python",
        "kernelType": "notebook",
        "isPrivate": True,
        "enableGpu": True,
        "enableTpu": False,
        "enableInternet": True,
        "machineShape": "NvidiaTeslaT4",
        "sessionTimeoutSeconds": 27000,
        "kernelExecutionType": "QUICK_SAVE",
    }


def test_a_new_notebook_waits_for_its_secret_and_runs_from_the_second_time_on(there: KaggleStandIn) -> None:
    assert client().state(launch()) == "ended"
    assert client().state(launch()) == "running"
    assert "kernelExecutionType" not in there.kernels[OURS]


def test_what_is_carried_goes_into_a_private_data_set_before_the_notebook_is_saved(there: KaggleStandIn) -> None:
    launch(CARRIED)
    dataset = f"{USER}/nllb-en-fr"
    held = there.files_of(dataset)
    assert held[WHEEL] == CARRIED[WHEEL]
    with zipfile.ZipFile(BytesIO(held["files.zip"])) as archive:  # Kaggle makes a folder of it
        assert archive.read("pairs.tsv") == CARRIED["files/pairs.tsv"]
    assert there.datasets[dataset]["isPrivate"] is True
    assert there.kernels[OURS]["datasetDataSources"] == [dataset]
    assert [name for name in changes(there) if name != "StartBlobUpload"] == ["CreateDataset", "SaveKernel"]
    launch({WHEEL: b"PK newer"})
    assert there.files_of(dataset) == {WHEEL: b"PK newer"}


def test_a_data_set_is_waited_for(there: KaggleStandIn) -> None:
    pauses: list[float] = []
    there.dataset_states = ["blobs_received", "blobs_decompressed", "ready"]
    client(pauses).submit(job(CARRIED), kaggle.plan(job(CARRIED)))
    assert pauses == [5.0, 5.0]


@pytest.mark.parametrize("state", ["blobs_received", "failed"])
def test_a_data_set_that_is_never_ready_starts_nothing(there: KaggleStandIn, state: str) -> None:
    there.dataset_states = [state]
    with pytest.raises(StoreUnavailable, match=f"is {state} after a while; nothing was started"):
        launch(CARRIED)
    assert not there.kernels


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("QUEUED", "waiting"),
        ("RUNNING", "running"),
        ("CANCEL_REQUESTED", "running"),
        ("COMPLETE", "ended"),
        ("ERROR", "ended"),
        ("CANCEL_ACKNOWLEDGED", "ended"),
    ],
)
def test_states_are_those_of_the_seam(there: KaggleStandIn, status: str, state: str) -> None:
    launch()
    launch()
    there.status = status
    assert client().state(HANDLE) == state


def test_what_is_not_there_or_does_not_answer_is_unknown(there: KaggleStandIn) -> None:
    assert client().state(HANDLE) == "unknown"
    launch()
    there.refuse["GetKernelSessionStatus"] = (503, "later")
    assert client().state(HANDLE) == "unknown"


def test_a_second_session_of_a_running_notebook_is_refused_before_anything_is_sent(there: KaggleStandIn) -> None:
    launch()
    launch()
    before = changes(there)
    with pytest.raises(InputError, match=f"{OURS} is running already"):
        launch()
    assert changes(there) == before


def test_a_week_without_hours_is_refused_before_anything_is_sent(there: KaggleStandIn) -> None:
    there.hours_used = 30.0
    with pytest.raises(InputError, match="no GPU hours are left"):
        launch()
    assert not changes(there)


def test_refusals_and_silence_are_told_apart(there: KaggleStandIn) -> None:
    there.refuse["SaveKernel"] = (403, "Phone verification is needed")
    with pytest.raises(InputError, match="Phone verification is needed"):
        launch()
    there.refuse["SaveKernel"] = (503, "later")
    with pytest.raises(StoreUnavailable, match="look at its page whether it runs"):
        launch()


def test_without_an_account_the_message_says_how_to_sign_in(
    there: KaggleStandIn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("KAGGLE_USERNAME", "KAGGLE_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(InputError, match="no account is signed in") as refused:
        launch()
    assert "KAGGLE_API_TOKEN" in refused.value.hint
    assert capsys.readouterr().out == ""


def test_nobody_can_end_a_session_from_elsewhere_and_the_message_says_who_can() -> None:
    with pytest.raises(InputError, match="no program can end a session") as refused:
        client().release(HANDLE)
    assert OURS in refused.value.hint
