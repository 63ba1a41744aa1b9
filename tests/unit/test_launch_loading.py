"""From a run file to a job: what is changed for another machine, and what cannot be started at all."""

from pathlib import Path
from typing import Any

import pytest

from dragoman import platforms
from dragoman.config import from_flat
from dragoman.errors import InputError
from dragoman.launch import auto, carrying, loading
from dragoman.launch.job import Job
from dragoman.launch.options import LaunchOptions
from tests.support.launching import RUN


@pytest.fixture(autouse=True)
def _no_wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(loading.wheel, "contents", lambda: ("w.whl", b"wheel"))
    monkeypatch.chdir(tmp_path)


def job(platform: str = "jobs", *, run: dict[str, Any] | None = None, **said: Any) -> Job:
    return loading.job(from_flat(RUN | (run or {})), LaunchOptions(**said), platforms.find(platform))


def refusal(*args: Any, **more: Any) -> str:
    with pytest.raises(InputError) as caught:
        job(*args, **more)
    return str(caught.value)


# --- the run there -----------------------------------------------------------------


def test_what_belongs_to_this_machine_stays_here() -> None:
    run = {"store": None, "hub_model_id": "ada/run", "output": "/home/ada/run", "resume": "must", "take_over": True}
    config = job(run=run, max_hours=8).config
    assert (config.store.store, config.store.hub_model_id) == ("hf://ada/run", None)
    assert (config.save.output, config.save.resume, config.store.take_over) == (None, "auto", False)


def test_the_run_saves_and_stops_before_the_platform_ends_the_machine() -> None:
    assert job(max_hours=8).config.training.max_hours == pytest.approx(8 - 25 / 60, abs=0.01)
    assert job(max_hours=8, run={"max_hours": 2.0}).config.training.max_hours == 2
    assert job(max_hours=0.5).config.training.max_hours == 0.25
    assert job("kaggle").max_hours == 9


def test_the_wheel_is_installed_with_the_extras_that_the_run_needs() -> None:
    run = {"store": "s3://bucket/run", "adapter": "lora", "optimizer": "adamw8bit", "langid": True}
    assert job(run=run).requires == ("w.whl[s3,langid,lora,8bit]",)
    assert job().requires == ("w.whl",)
    assert job().carries == {"w.whl": b"wheel"}


def test_packages_whose_catalogues_are_read_are_installed_in_the_version_of_this_machine() -> None:
    [_, *more] = job(run={"data": ["gettext:django,nowhere_to_be_found", "fr-en=gettext:rest_framework"]}).requires
    assert [name.partition("==")[0] for name in more] == ["django", "nowhere_to_be_found", "djangorestframework"]
    assert more[0].startswith("django==")


def test_a_machine_is_called_like_its_store() -> None:
    assert job(run={"store": "hf://ada/Fine_Tuned.NLLB-600M"}).name == "fine-tuned-nllb-600m"
    assert job(run={"store": "s3://bucket/ü"}).name == "run"
    assert job(name="mine-2").name == "mine-2"


# --- data of this machine ----------------------------------------------------------


def write(name: str, size: int = 8) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"a\tb\n" * (size // 4))
    return path


def test_relative_paths_keep_their_names_and_others_get_one(tmp_path: Path) -> None:
    write("texts/a.tsv"), write("books.en"), write("books.fr")
    write(str(tmp_path / "elsewhere/b.tsv")), write(str(tmp_path / "other/b.tsv"))
    data = ["en-fr=texts/a.tsv", "books.en", "books.fr", f"{tmp_path}/elsewhere/b.tsv", "Helsinki-NLP/opus-100"]
    made = job(run={"data": data, "replay": [f"de-en={tmp_path}/other/b.tsv:0.1"]})
    assert made.config.data.data == [*data[:3], "data/b.tsv", "Helsinki-NLP/opus-100"]
    assert made.config.data.replay == ["de-en=data2/b.tsv:0.1"]
    files = {"texts/a.tsv", "books.en", "books.fr", "data/b.tsv", "data2/b.tsv"}
    assert made.carries.keys() == {"w.whl", *(f"files/{name}" for name in files)}
    assert made.carries["files/texts/a.tsv"] == b"a\tb\na\tb\n"


def test_a_folder_is_carried_with_all_that_is_in_it() -> None:
    write("locale/fr/LC_MESSAGES/x.po"), write("locale/de/LC_MESSAGES/x.po")
    made = job(run={"data": ["locale"]})
    assert made.config.data.data == ["locale"]
    assert {name for name in made.carries if name.startswith("files/")} == {
        "files/locale/fr/LC_MESSAGES/x.po",
        "files/locale/de/LC_MESSAGES/x.po",
    }


def test_data_that_is_only_on_the_hub_or_in_packages_is_not_carried() -> None:
    made = job(run={"data": ["hf://datasets/ada/texts", "opus_books", "gettext:django"]})
    assert made.carries.keys() == {"w.whl"}
    assert made.config.data.data == ["hf://datasets/ada/texts", "opus_books", "gettext:django"]


def test_too_much_data_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    write("a.tsv", 64), write("b.tsv", 64)
    monkeypatch.setattr(carrying, "MOST_BYTES", 100)
    said = refusal(run={"data": ["a.tsv", "b.tsv"]})
    assert "--data b.tsv: more than 0 MB of data files cannot be carried along" in said
    assert "put them into a private data set on the Hub" in said


def test_data_that_is_not_here_is_refused() -> None:
    write("texts/a.tsv")
    assert "did you mean texts/a.tsv?" in refusal(run={"data": ["texts/aa.tsv"]})


# --- what cannot be started --------------------------------------------------------


def test_a_run_without_a_store_that_the_machine_reaches_is_refused(tmp_path: Path) -> None:
    assert "names no store" in refusal(run={"store": None})
    assert "no other machine reaches a folder" in refusal(run={"store": f"{tmp_path}/store"})
    assert "unknown kind of store" in refusal(run={"store": "s4://bucket"})


def test_a_run_that_cannot_train_there_is_refused(tmp_path: Path) -> None:
    assert "no language_pairs" in refusal(run={"language_pairs": []})
    assert "--language-pairs 'en-qqq'" in refusal(run={"language_pairs": ["en-qqq"]})
    assert "a folder of this machine" in refusal(run={"model": str(tmp_path)})


def test_gpus_that_are_let_one_by_one_cost_as_often_what_one_does_and_all_of_them_train() -> None:
    one, four = job("runpod"), job("runpod", num_gpus=4)
    assert (four.offer.num_gpus, four.offer.flavor) == (4, one.offer.flavor)
    assert four.most_usd == pytest.approx(4 * one.most_usd)
    assert "devices" not in four.config.given()
    assert job("kaggle").offer.num_gpus == 2
    assert "--devices 4: this machine has 1 GPUs" in refusal("runpod", run={"devices": 4})
    assert job("runpod", run={"devices": 4}, num_gpus=4).config.ranks.devices == 4


def test_how_this_machine_stands_among_others_stays_here() -> None:
    run = {"nodes": 2, "node_rank": 1, "main_address": "10.0.0.7", "parallel": "fsdp"}
    there = job(run=run).config.ranks
    assert (there.nodes, there.node_rank, there.main_address, there.parallel) == (1, None, None, "fsdp")


def test_auto_takes_a_machine_with_as_many_gpus_as_were_reckoned_with() -> None:
    runpod = platforms.find("runpod")
    said, run = LaunchOptions(max_usd=50.0, max_hours=1), from_flat(RUN | {"devices": 4})
    found = auto.choose(run, said, [auto.Candidate(runpod, runpod.offer().times(4), "why")])
    assert found.job.offer.num_gpus == 4


def test_a_machine_that_the_platform_has_not_is_refused() -> None:
    assert "--gpu: Hugging Face Jobs has no rtx4090" in refusal(gpu="rtx4090")
    assert "--num-gpus 4: Hugging Face Jobs has no machine with so many l4" in refusal(gpu="l4", num_gpus=4)
    assert "--spot: Hugging Face Jobs has no machines that may be taken away" in refusal(spot=True)
    assert "--max-hours 10: Kaggle ends a session after 9 hours" in refusal("kaggle", max_hours=10)
    assert "--name My Run: not a name" in refusal(name="My Run")


# --- money -------------------------------------------------------------------------


def test_a_budget_ends_the_machine_when_it_is_used_up() -> None:
    made = job(gpu="l4", max_usd=5)
    assert made.max_hours == pytest.approx(6.25, abs=0.02)
    assert made.most_usd <= 5
    assert job(gpu="l4", max_usd=100).max_hours == 24
    assert job(gpu="l4", max_usd=5, attempts=2).most_usd <= 5


def test_a_budget_below_the_hours_that_were_asked_for_is_refused_with_what_would_do() -> None:
    said = refusal(gpu="l4", max_usd=5, max_hours=8)
    assert "--max-usd 5: 8 hours may cost $6.40 (l4x1 at Hugging Face Jobs, $0.80 an hour)" in said
    assert "try: --max-usd 6.40, or --max-hours 6.25" in said
    assert "16 hours" not in said
    assert "8 hours may cost $12.80" in refusal(gpu="l4", max_usd=7, max_hours=8, attempts=2)


def test_a_budget_that_buys_minutes_is_refused() -> None:
    said = refusal(gpu="a100-80", max_usd=1)
    assert "--max-usd 1: buys 24 minutes (a100-large at Hugging Face Jobs, $2.50 an hour)" in said
    assert "--max-usd 1.25 or more" in said


def test_what_is_free_is_no_matter_of_budget() -> None:
    assert job("kaggle", max_usd=0.01).most_usd == 0
