"""Data sets on the Hub: the real client against the stand-in, in the layouts that the Hub has."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from huggingface_hub import constants, file_download

from dragoman.checkpoint.run_folder import CONFIG
from dragoman.config import from_flat
from dragoman.data.sources import open_sources, pinned
from dragoman.data.sources.rows import counts_of
from dragoman.errors import DataError, InputError
from dragoman.languages import Direction
from dragoman.training import pinning
from tests.support.hub import Fault, HubStandIn
from tests.support.hub.client import without_waiting
from tests.support.hub_data import opus_100, parquet_of, table_of

EN_FR = Direction("eng_Latn", "fra_Latn")
FR_EN = Direction("fra_Latn", "eng_Latn")
EN_DE = Direction("eng_Latn", "deu_Latn")
OPUS = "Helsinki-NLP/opus-100"
FRENCH = [("one", "un"), ("tea \u2028 time", "l'heure du thé")]
MORE_FRENCH = [("two", "deux")]
GERMAN = [("eins", "one")]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
    without_waiting(monkeypatch)
    with HubStandIn() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(file_download, "HUGGINGFACE_CO_URL_TEMPLATE", "", raising=False)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "home"))
        configurations = {
            "de-en": {"train": [GERMAN], "test": [[("zwei", "two")]]},
            "en-fr": {"test": [[("test", "essai")]], "train": [FRENCH, MORE_FRENCH], "validation": [[("dev", "dév")]]},
            "en-zh": {"train": [[("one", "一")]]},
            "ar-fr": {"test": [[("x", "y")]]},
        }
        opus_100(hub, configurations, OPUS)
        yield hub


def texts(entry: str = OPUS, direction: Direction = EN_FR, **options: Any) -> list[tuple[str, str]]:
    opened = open_sources([entry], direction, **{"on_bad_rows": "fail", **options})
    return [(pair.source, pair.target) for source in opened for pair in source.pairs()]


def message(entry: str = OPUS, direction: Direction = EN_FR) -> str:
    with pytest.raises(InputError) as caught:
        texts(entry, direction)
    return str(caught.value)


def downloads(hub: HubStandIn) -> list[str]:
    return [seen.path for seen in hub.requests if seen.route in ("resolve", "download") and seen.method == "GET"]


def test_the_training_split_of_the_configuration_is_read_shard_by_shard(hub: HubStandIn):
    assert texts() == [*FRENCH, *MORE_FRENCH]
    (source,) = open_sources([OPUS], EN_FR, on_bad_rows="fail")
    assert source.name == f"{OPUS}@{hub.head(f'datasets/{OPUS}')[:7]} en-fr"
    assert list(source.pairs()) == list(source.pairs())
    assert source.rows.num_read == 3


def test_the_configuration_is_found_in_either_order_of_the_pair(hub: HubStandIn):
    assert texts(direction=FR_EN) == [(french, english) for english, french in [*FRENCH, *MORE_FRENCH]]
    assert texts(direction=EN_DE) == [("one", "eins")]
    assert texts(direction=Direction("zho_Hans", "eng_Latn")) == [("一", "one")]


def test_the_configuration_of_a_language_that_nllb_lacks_is_found(hub: HubStandIn):
    opus_100(hub, {"en-fr": {"train": [FRENCH]}, "en-tyv": {"train": [[("one", "бир")]]}}, "ada/tuvan")
    assert texts("ada/tuvan", Direction("eng_Latn", "tyv_Cyrl")) == [("one", "бир")]
    assert texts("ada/tuvan", Direction("tyv_Cyrl", "eng_Latn")) == [("бир", "one")]


def test_nothing_is_downloaded_before_the_files_are_asked_for(hub: HubStandIn):
    (source,) = open_sources([OPUS], EN_FR, on_bad_rows="fail")
    assert not [path for path in downloads(hub) if path.endswith(".parquet")]
    assert [file.name for file in source.files] == ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"]


def test_another_direction_or_split_is_refused_with_what_there_is(hub: HubStandIn):
    text = message(direction=Direction("eng_Latn", "spa_Latn"))
    assert "no configuration for eng_Latn-spa_Latn; it has ar-fr, de-en, en-fr, en-zh" in text
    text = message(direction=Direction("arb_Arab", "fra_Latn"))
    assert f"ar-fr: no split `train`; it has test\n  try: --data {OPUS}:test" in text
    assert "en-fr: no split `tset`; it has test, train, validation" in message(f"{OPUS}:tset")


@pytest.mark.parametrize("name", ["validation", "dev", "valid"])
def test_another_split_is_read_where_it_is_named(hub: HubStandIn, name: str):
    assert texts(f"{OPUS}:test") == texts(f"hf:opus-100:test@{hub.head(f'datasets/{OPUS}')}") == [("test", "essai")]
    assert texts(f"{OPUS}:{name}") == [("dev", "dév")]
    assert texts(f"de-en={OPUS}:test", EN_DE) == [("two", "zwei")]
    assert texts(f"{OPUS}:train") == texts()
    (source,) = open_sources([f"{OPUS}:{name}"], EN_FR, on_bad_rows="fail")
    assert source.name == f"{OPUS}@{hub.head(f'datasets/{OPUS}')[:7]} en-fr validation"


def test_a_split_stays_named_beside_the_commit(hub: HubStandIn, tmp_path: Path):
    head = hub.head(f"datasets/{OPUS}")
    assert pinned([f"en-fr={OPUS}:test"]) == [f"en-fr={OPUS}:test@{head}"]
    assert pinned([f"{OPUS}:test", OPUS], stored=[f"{OPUS}@{'a' * 40}", f"{OPUS}:test@{'b' * 40}"]) == [
        f"{OPUS}:test@{'b' * 40}",
        f"{OPUS}@{'a' * 40}",
    ]
    config = from_flat({"language_pairs": ["en-fr"], "data": [OPUS], "replay": [f"en--de={OPUS}:validation:0.25"]})
    assert pinning.pinned(config, tmp_path / "new").data.replay == [f"en--de={OPUS}:validation@{head}:0.25"]
    config = from_flat({"language_pairs": ["en-fr"], "data": ["a.tsv"], "held_out": [f"{OPUS}:test"]})
    assert pinning.pinned(config, tmp_path / "new").data.held_out == [f"{OPUS}:test@{head}"]


def test_each_file_of_a_data_set_is_counted(hub: HubStandIn):
    bad = parquet_of(pa.table({"translation": [{"en": "three", "fr": None}, {"en": "four", "fr": "quatre"}]}))
    hub.write(f"datasets/{OPUS}", "en-fr/train-00001-of-00002.parquet", bad)
    (source,) = open_sources([OPUS], EN_FR, on_bad_rows="skip")
    expected = [("en-fr/train-00000-of-00002.parquet", 2, 0), ("en-fr/train-00001-of-00002.parquet", 2, 1)]
    for _ in range(2):
        assert len(list(source.pairs())) == 3
        assert counts_of(source) == expected


def test_a_pinned_entry_means_the_same_pairs_after_the_data_set_has_changed(hub: HubStandIn):
    (pin,) = pinned([OPUS])
    assert pin == f"{OPUS}@{hub.head(f'datasets/{OPUS}')}"
    changed = parquet_of(table_of([("new", "nouveau")], ("en", "fr")))
    hub.write(f"datasets/{OPUS}", "en-fr/train-00000-of-00002.parquet", changed)

    assert texts(pin) == [*FRENCH, *MORE_FRENCH]
    assert texts(OPUS) == [("new", "nouveau"), *MORE_FRENCH]
    assert pinned([OPUS], stored=[pin]) == [pin]
    assert pinned([OPUS]) != [pin]


def test_only_data_sets_are_pinned(hub: HubStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.tsv").write_text("one\tun\n")
    data = ["a.tsv", "en-fr=a.tsv", "x.en", "gettext:django"]
    assert pinned(data) == data
    assert pinned([f"en-fr={OPUS}"]) == [f"en-fr={OPUS}@{hub.head(f'datasets/{OPUS}')}"]


def test_data_sets_to_rehearse_are_pinned_before_their_share_and_stay_so(hub: HubStandIn, tmp_path: Path):
    options = {"language_pairs": ["en-fr"], "data": ["a.tsv"], "replay": [f"{OPUS}:0.25", f"en-de={OPUS}:0.1"]}
    config = from_flat(options)
    head = hub.head(f"datasets/{OPUS}")
    found = pinning.pinned(config, tmp_path / "new")
    assert found.data.replay == [f"{OPUS}@{head}:0.25", f"en-de={OPUS}@{head}:0.1"]
    assert found.data.data == ["a.tsv"]
    (tmp_path / "run/dragoman").mkdir(parents=True)
    (tmp_path / "run" / CONFIG).write_text(found.to_yaml(stored=True))
    hub.write(f"datasets/{OPUS}", "README.md", b"changed")
    assert hub.head(f"datasets/{OPUS}") != head
    assert pinning.pinned(config, tmp_path / "run").data.replay == found.data.replay


def test_what_was_downloaded_is_read_without_the_hub(hub: HubStandIn):
    expected = texts()
    hub.faults.add(Fault("any", drop=True, times=None))
    num_requests = len(hub.requests)

    assert texts() == expected
    (pin,) = pinned([OPUS])
    num_asked = len(hub.requests) - num_requests
    assert texts(pin) == expected
    assert len(hub.requests) - num_requests == num_asked, "a pinned revision needs no question"


def test_what_was_only_half_downloaded_is_not_read_as_if_it_were_all(hub: HubStandIn):
    (source,) = open_sources([OPUS], EN_FR, on_bad_rows="fail")
    pairs = source.pairs()
    next(pairs)
    hub.faults.add(Fault("any", drop=True, times=None))
    second = Path(constants.HF_HUB_CACHE).rglob("train-00001-of-00002.parquet")
    for file in second:
        file.unlink()

    with pytest.raises(DataError, match="train-00001-of-00002"):
        texts()


def test_without_the_hub_and_without_a_download_the_data_set_is_named(hub: HubStandIn):
    hub.faults.add(Fault("any", drop=True, times=None))
    assert f"--data {OPUS}@main: the Hub does not give it" in message()


def test_wrong_bytes_are_downloaded_once_more_and_then_refused(hub: HubStandIn):
    hub.damage(f"datasets/{OPUS}", "en-fr/train-00000-of-00002.parquet", "flip", at=20)
    assert "en-fr/train-00000-of-00002.parquet: the Hub gives other bytes than it states" in message()
    assert not list(Path(constants.HF_HUB_CACHE).rglob("train-00000-of-00002.parquet"))


def test_a_data_set_or_revision_that_is_not_there_is_refused_with_a_way_out(hub: HubStandIn):
    assert "the Hub has no such data set" in message("nobody/nothing")
    assert "the Hub has no such revision of it" in message(f"{OPUS}@v9")


def test_a_script_is_refused_with_the_way_out(hub: HubStandIn):
    hub.create("datasets/ada/tatoeba", private=False)
    hub.write("datasets/ada/tatoeba", "tatoeba.py", b"raise SystemExit('run')")
    text = message("ada/tatoeba")
    assert "it is a script (tatoeba.py)" in text
    assert "ada/tatoeba@refs/convert/parquet" in text


def test_the_hubs_own_conversion_of_a_script_is_read_by_its_folders(hub: HubStandIn):
    hub.create("datasets/ada/tatoeba", private=False)
    hub.write("datasets/ada/tatoeba", "tatoeba.py", b"raise SystemExit('run')")
    for split, pairs in (("train", FRENCH), ("test", MORE_FRENCH)):
        content = parquet_of(table_of(pairs, ("en", "fr")))
        hub.write("datasets/ada/tatoeba", f"fr-en/{split}/0000.parquet", content, branch="refs/convert/parquet")
    assert texts("ada/tatoeba@refs/convert/parquet") == FRENCH


@pytest.mark.parametrize(
    ("card", "files", "expected"),
    [
        ("", ["data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"], 1),
        ("", ["train.parquet"], 1),
        ("configs:\n- config_name: default\n  data_files: some/*.parquet", ["some/a.parquet", "some/b.parquet"], 2),
        ("configs:\n- config_name: fr-en\n  data_dir: here", ["here/train.parquet", "there/train.parquet"], 1),
        ("configs:\n- config_name: x\n  data_files:\n    train: [a.parquet, c.parquet]", ["a.parquet", "c.parquet"], 2),
    ],
)
def test_the_files_are_those_that_card_or_folders_name(hub: HubStandIn, card: str, files: list[str], expected: int):
    hub.create("datasets/ada/set", private=False)
    for file in files:
        hub.write("datasets/ada/set", file, parquet_of(table_of(MORE_FRENCH, ("en", "fr"))))
    hub.write("datasets/ada/set", "README.md", f"---\n{card}\n---\n".encode())
    assert texts("ada/set") == MORE_FRENCH * expected


def test_named_columns_in_other_formats_are_read(hub: HubStandIn):
    hub.create("datasets/ada/csv", private=False)
    hub.write("datasets/ada/csv", "train.csv", b'fr,en\r\n"un, deux",one\r\n')
    hub.create("datasets/ada/lines", private=False)
    hub.write("datasets/ada/lines", "train.jsonl", b'{"en": "one", "fr": "un"}\n{"en": "two"}\n')
    assert texts("ada/csv") == [("one", "un, deux")]
    assert texts("hf://datasets/ada/lines", on_bad_rows="skip") == [("one", "un")]


def test_columns_without_languages_are_read_only_when_something_says_what_they_hold(hub: HubStandIn):
    hub.create("datasets/ada/columns", private=False)
    hub.write("datasets/ada/columns", "train.csv", b"source,target\r\none,un\r\n")
    hub.create("datasets/ada/named", private=False)
    hub.write("datasets/ada/named", "fr-en/train.csv", b"source,target\r\nun,one\r\n")

    text = message("ada/columns")
    assert (
        "two columns that name no languages\n  try: say which they hold: --data eng_Latn-fra_Latn=ada/columns" in text
    )
    assert texts("en-fr=ada/columns") == texts("ada/named") == [("one", "un")]
    assert texts("en-fr=ada/columns", FR_EN) == texts("ada/named", FR_EN) == [("un", "one")]


def test_a_wrong_path_is_not_taken_for_a_data_set(hub: HubStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    assert "there is no file or folder data/train" in message("data/train")
    assert "there is no folder corpus" in message("corpus/train.tsv")
    assert not hub.requests


def environment(hub: HubStandIn, tmp_path: Path) -> dict[str, str]:
    return os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}


def test_without_data_the_command_line_reads_opus_100(hub: HubStandIn, tmp_path: Path):
    out = tmp_path / "pairs.jsonl"
    words = ["prepare", "--language_pairs", "en-fr", "de-en", "--dump", str(out)]
    subprocess.run([sys.executable, "-m", "dragoman", *words], env=environment(hub, tmp_path), check=True)

    rows = [json.loads(line) for line in out.read_text("ascii").splitlines()]
    assert [row[:2] for row in rows] == [list(pair) for pair in [*FRENCH, *MORE_FRENCH, *GERMAN]]
    assert rows[-1][2:] == ["deu_Latn", "eng_Latn"]


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_the_datasets_library_reads_the_same_rows(hub: HubStandIn, tmp_path: Path, split: str):
    code = (
        "import json, sys, datasets\n"
        f"rows = datasets.load_dataset({OPUS!r}, 'en-fr', split={split!r})\n"
        "json.dump([[row['translation']['en'], row['translation']['fr']] for row in rows], sys.stdout)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(hub, tmp_path), check=True, capture_output=True, text=True
    )
    assert [tuple(row) for row in json.loads(done.stdout)] == texts(f"{OPUS}:{split}")
