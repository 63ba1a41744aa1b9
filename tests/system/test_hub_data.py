"""A run on a data set of the Hub, begun on one machine and continued on another one."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import polib
import pytest
import yaml

from tests.support.hub import HubStandIn
from tests.support.hub_data import opus_100, parquet_of, table_of

OPUS = "Helsinki-NLP/opus-100"


def real_pairs() -> list[tuple[str, str]]:
    spec = importlib.util.find_spec("django")
    assert spec is not None
    assert spec.submodule_search_locations
    file = Path(spec.submodule_search_locations[0], "contrib/admin/locale/fr/LC_MESSAGES/django.po")
    return [(entry.msgid, entry.msgstr) for entry in polib.pofile(str(file)).translated_entries() if entry.msgstr]


@pytest.fixture
def hub() -> Iterator[HubStandIn]:
    with HubStandIn() as hub:
        pairs = real_pairs()
        opus_100(hub, {"en-fr": {"train": [pairs[:200], pairs[20:]], "test": [pairs[:20]]}}, OPUS)
        yield hub


def dragoman(hub: HubStandIn, machine: Path, *words: str) -> subprocess.CompletedProcess[str]:
    machine.mkdir(exist_ok=True)
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(machine / "home"), "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-m", "dragoman", *words]
    return subprocess.run(command, cwd=machine, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_run_continues_elsewhere_with_the_revision_that_it_began_with(hub: HubStandIn, tmp_path: Path):
    begun_with = f"{OPUS}@{hub.head(f'datasets/{OPUS}')}"
    shape = ["--language-pairs", "en-fr", "--model", "scratch:tiny", "--device", "cpu", "--output", "run"]
    steps = ["--max-steps", "4", "--save-steps", "2", "--eval-steps", "100"]
    store = ["--store", str(tmp_path / "store"), "--store-data", "no"]

    done = dragoman(hub, tmp_path / "first", "train", *shape, *steps, *store)
    assert done.returncode == 0, done.stderr
    config = yaml.safe_load((tmp_path / "first/run/dragoman/config.yaml").read_text())
    assert config["data"] == [begun_with]

    hub.write(
        f"datasets/{OPUS}", "en-fr/train-00000-of-00002.parquet", parquet_of(table_of([("x", "y")], ("en", "fr")))
    )
    again = dragoman(hub, tmp_path / "first", "train", *shape, *steps, *store)
    assert again.returncode == 0, again.stderr

    records = sorted((tmp_path / "store/dragoman/log").iterdir())
    records[-1].unlink()  # as if the machine had been lost before its end was recorded
    resumed = dragoman(hub, tmp_path / "second", "resume", str(tmp_path / "store"), "--output", "run")
    assert resumed.returncode == 0, resumed.stderr
    config = yaml.safe_load((tmp_path / "second/run/dragoman/config.yaml").read_text())
    assert config["data"] == [begun_with]


def test_one_split_is_learned_without_the_texts_of_another_and_scored_on_that(hub: HubStandIn, tmp_path: Path):
    shape = ["--language-pairs", "en-fr", "--model", "scratch:tiny", "--device", "cpu", "--output", "run"]
    done = dragoman(hub, tmp_path, "train", *shape, "--max-steps", "1", "--held-out", f"{OPUS}:test")
    assert done.returncode == 0, done.stderr
    config = yaml.safe_load((tmp_path / "run/dragoman/config.yaml").read_text())
    assert config["held_out"] == [f"{OPUS}:test@{hub.head(f'datasets/{OPUS}')}"]
    (manifest,) = (tmp_path / "run/dragoman/corpus").glob("*/corpus.json")
    funnel = json.loads(manifest.read_bytes())["funnel"]["eng_Latn-fra_Latn"]
    assert funnel["rejected"]["leak"]["pairs"] >= 15
    assert [one["file"] for one in funnel["files"]] == [f"en-fr/train-{n:05}-of-00002.parquet" for n in range(2)]

    words = ["evaluate", "run", "--pair", "en-fr", "--data", f"{OPUS}:test", "--num-beams", "1", "--json"]
    scored = dragoman(hub, tmp_path, *words)
    assert scored.returncode == 0, scored.stderr
    assert json.loads(scored.stdout)["pairs"] == 20
