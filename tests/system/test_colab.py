"""What `dragoman launch colab` can do without Colab: everything up to the click of a person."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import snapshot_download

from dragoman import platforms
from dragoman.config import from_flat
from dragoman.errors import InputError
from dragoman.launch import bundle, colab
from dragoman.launch.hub_account import Account
from dragoman.launch.job import Handle, Job
from tests.support import real
from tests.support.hub import HubStandIn

TOKEN = "hf_secretsecretsecret"
WHEEL = "dragoman-0.1.0+x0123456789ab-py3-none-any.whl"
CARRIED = {WHEEL: b"PK wheel", "files/pairs.tsv": b"a\tb\n"}
DATA_SET = "datasets/ada/dragoman-launch"


@pytest.fixture
def hub() -> Iterator[HubStandIn]:
    with HubStandIn() as made:
        made.add_token(TOKEN, "ada")
        made.add_token("hf_mayonlyreadonlyread", "ada", "read")
        made.add_token("hf_somebodyelsesomebody", "bob")
        yield made


def job() -> Job:
    config = from_flat({"language_pairs": ["en-fr"], "data": ["en-fr=pairs.tsv"], "hub_model_id": "ada/run"})
    there = platforms.find("colab")
    return Job("en-fr", config, there, there.offer(), max_hours=7.5, carries=CARRIED, requires=(WHEEL,))


def client(hub: HubStandIn, token: str = TOKEN) -> colab.ColabClient:
    return colab.ColabClient(Account(hub.url, lambda: token))


def test_the_notebook_finds_in_the_private_data_set_what_was_carried(hub: HubStandIn, tmp_path: Path) -> None:
    made = job()
    plan = colab.plan(made)
    client(hub).check(made, plan)
    handle = client(hub).submit(made, plan)
    assert handle.id == f"ada/dragoman-launch/{bundle.folder(made)}"
    assert handle.url.endswith(f"{bundle.folder(made)}/{colab.NOTEBOOK}")
    got = snapshot_download(
        "ada/dragoman-launch", repo_type="dataset", local_dir=tmp_path, endpoint=hub.url, token=TOKEN
    )
    found = {str(path.relative_to(got)): path.read_bytes() for path in Path(got, bundle.folder(made)).rglob("*.*")}
    assert {f"{bundle.folder(made)}/{name}": content for name, content in CARRIED.items()}.items() <= found.items()
    notebook = found[f"{bundle.folder(made)}/{colab.NOTEBOOK}"]
    assert notebook == plan.files[colab.NOTEBOOK]
    assert TOKEN.encode() not in b"".join(found.values())
    assert client(hub).submit(made, plan) == handle


@pytest.mark.parametrize(
    ("token", "message"), [("hf_mayonlyreadonlyread", "may only read"), ("hf_somebodyelsesomebody", "belongs to ada")]
)
def test_a_token_that_may_not_write_is_refused_before_anything_is_made(
    hub: HubStandIn, token: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        client(hub, token).check(job(), colab.plan(job()))
    assert not [seen for seen in hub.requests if seen.route == "create"]


def test_a_public_data_set_is_refused(hub: HubStandIn) -> None:
    hub.create(DATA_SET, private=False)
    with pytest.raises(InputError, match="is public"):
        client(hub).check(job(), colab.plan(job()))


def test_nobody_knows_or_ends_a_session_from_elsewhere_and_the_message_says_who_can(hub: HubStandIn) -> None:
    handle = Handle("colab", "ada/dragoman-launch/en-fr")
    assert client(hub).state(handle) == "unknown"
    with pytest.raises(InputError, match="no program can end a session") as refused:
        client(hub).release(handle)
    assert "Disconnect and delete runtime" in refused.value.hint


def test_the_command_shows_all_steps_and_sends_nothing_with_dry_run(hub: HubStandIn, tmp_path: Path) -> None:
    (tmp_path / "pairs.tsv").write_text("a\tb\n")
    run_file = tmp_path / "run.yaml"
    run_file.write_text(f"language_pairs: [en-fr]\ndata: ['en-fr={tmp_path}/pairs.tsv']\nhub_model_id: ada/run\n")
    before = len(hub.requests)
    for platform in ("colab", "kaggle"):
        into = tmp_path / platform
        words = ["launch", platform, str(run_file), "--dry-run", "--output", str(into), "--json"]
        done = real.run(words, {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN})
        assert done.returncode == 0, done.stderr
        shown = json.loads(done.stdout)
        assert any("Run" in step and "ll" in step for step in shown["steps"])
        assert list(into.rglob(f"train_nllb_{platform}.ipynb"))
        assert (shown["usd_per_hour"], shown["most_usd"]) == (0, 0)
    assert len(hub.requests) == before
