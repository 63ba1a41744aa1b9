"""How far a preparation is: counted by chunks and bytes, told every few seconds, shown by what prepares."""

import gzip
import json
import random
import subprocess
import sys
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dragoman.cli.app import run
from dragoman.config import DataConfig
from dragoman.data import cleaning, prepare, progress, workers
from dragoman.data.progress import EVERY_SECONDS, Progress
from dragoman.errors import DataError
from dragoman.journal import Event, Preparing
from dragoman.model import scratch
from dragoman.store.disk import Disk
from tests.support.preparing import directions_of, options
from tests.support.shared import catalogue_vocabulary

ROWS = 600


@dataclass
class Watch:
    """A clock that moves on whenever it is looked at, and what was told."""

    seconds: float = EVERY_SECONDS
    now: float = 0.0
    told: list[Preparing] = field(default_factory=list[Preparing])

    def clock(self) -> float:
        self.now += self.seconds
        return self.now

    def tell(self, event: Event) -> None:
        assert isinstance(event, Preparing)
        self.told.append(event)

    def progress(self) -> Progress:
        return Progress(self.tell, self.clock)

    def of(self, stage: str) -> list[Preparing]:
        """What was told of one stage."""
        return [event for event in self.told if event.stage == stage]


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Different pairs, read in small chunks."""
    monkeypatch.setattr(cleaning, "CHUNK_PAIRS", 50)
    monkeypatch.setattr(workers, "FEW_PAIRS", 0)  # so many are read before any is cleaned
    path = tmp_path / "pairs.tsv"
    path.write_text("".join(f"number {row} of all\tnuméro {row} de tous\n" for row in range(ROWS)))
    return path


def prepared(folder: Path, data: DataConfig, watch: Watch) -> None:
    """Prepare a corpus in the folder."""
    ways, vocabulary = directions_of(data), catalogue_vocabulary()
    place = prepare.work_of(folder, "0" * 64)
    chosen = prepare.select(data, ways, 1, place, processes=1, progress=watch.progress())
    prepare.build(folder, "0" * 64, chosen, ways, vocabulary, data.max_tokens, Disk())


# --- what is told ----------------------------------------------------------------------


def test_every_stage_is_told_in_its_order_and_shares_grow(rows: Path, tmp_path: Path) -> None:
    watch = Watch()
    prepared(tmp_path / "made", options(f"en-fr={rows}"), watch)
    stages = list(dict.fromkeys(event.stage for event in watch.told))
    assert stages == ["reading", "comparing", "tokenising", "writing"]
    reading = [event.share for event in watch.of("reading")]
    assert len(reading) == ROWS / 50
    assert all(share is not None for share in reading)
    assert reading == sorted(reading, key=lambda share: share or 0)
    assert reading[0] == pytest.approx(50 / ROWS, abs=0.02)
    assert reading[-1] == 1.0
    assert watch.of("tokenising")[-1].share == 1.0
    assert [event.share for event in (*watch.of("comparing"), *watch.of("writing"))] == [None, None]
    assert (watch.told[0].rows, watch.told[0].kept) == (50, 50)
    assert (watch.told[-1].rows, watch.told[-1].kept) == (ROWS, ROWS)


def test_rows_that_are_dropped_are_read_and_not_kept(rows: Path, tmp_path: Path) -> None:
    with rows.open("a") as file:
        file.write("the same\tthe same\n" * 30 + "no tab\n" * 20)
    watch = Watch()
    data = options(f"en-fr={rows}", on_bad_rows="skip")
    prepared(tmp_path / "made", data, watch)
    assert (watch.of("comparing")[0].rows, watch.of("comparing")[0].kept) == (ROWS + 50, ROWS)


def test_the_speed_is_that_of_this_session_and_stage(rows: Path) -> None:
    watch = Watch(seconds=0.0)
    told = watch.progress()
    told.begin("tokenising", 1000)
    told.add(400, earlier=True)
    watch.now += 2 * EVERY_SECONDS
    told.add(100)
    (event,) = watch.told
    assert (event.share, event.pairs_per_second) == (0.5, 100 / (2 * EVERY_SECONDS))


def test_what_takes_no_time_tells_nothing(rows: Path, tmp_path: Path) -> None:
    watch = Watch(seconds=EVERY_SECONDS / 1000)
    prepared(tmp_path / "made", options(f"en-fr={rows}"), watch)
    assert watch.told == []


def test_one_that_goes_on_counts_what_was_done_before(
    rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, folder = options(f"en-fr={rows}"), tmp_path / "made"
    place = prepare.work_of(folder, "0" * 64)
    prepare.select(data, directions_of(data), 1, place, processes=1)
    for path in sorted(place.folder.glob("cleaned-*"))[7:]:
        path.unlink()
    watch = Watch()
    prepared(folder, data, watch)
    assert watch.of("reading")[-1].rows == ROWS
    assert watch.of("reading")[6].pairs_per_second is None
    assert watch.of("reading")[7].pairs_per_second
    again = Watch()
    prepare.select(data, directions_of(data), 1, place, processes=1, progress=again.progress())
    assert (again.of("comparing")[0].rows, again.of("comparing")[0].kept) == (ROWS, ROWS)


@pytest.mark.usefixtures("rows")
def test_the_share_of_a_packed_file_is_that_of_its_packed_bytes(tmp_path: Path) -> None:
    chooser = random.Random(1)
    content = "".join(f"{chooser.random()}\t{chooser.random()}\n" for _ in range(5 * ROWS)).encode()
    (tmp_path / "packed.tsv.gz").write_bytes(gzip.compress(content))
    with zipfile.ZipFile(tmp_path / "packed.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("pairs.tsv", content)
    for name in ("packed.tsv.gz", "packed.zip"):
        watch = Watch()
        data = options(f"en-fr={tmp_path / name}")
        prepare.select(data, directions_of(data), 1, processes=1, progress=watch.progress())
        shares = [event.share or 0.0 for event in watch.of("reading")]
        assert shares == sorted(shares), name
        assert 0 < shares[0] < 0.5 < shares[-1] <= 1, name


def test_bytes_of_several_sources_count_together(rows: Path, tmp_path: Path) -> None:
    for side, place in (("en", 0), ("fr", 1)):
        lines = (line.split("\t")[place] for line in rows.read_text().splitlines())
        (tmp_path / f"moses.{side}").write_text("\n".join(lines) + "\n")
    watch = Watch()
    data = options(f"en-fr={rows}", f"en-fr={tmp_path / 'moses.en'}", f"en-fr={tmp_path / 'moses.fr'}", f"en-fr={rows}")
    prepare.select(data, directions_of(data), 1, processes=1, progress=watch.progress())
    shares = [event.share or 0.0 for event in watch.of("reading")]
    assert shares == sorted(shares)
    each = ROWS // 50
    assert [shares[count * each - 1] for count in (1, 2, 3)] == pytest.approx([1 / 3, 2 / 3, 1.0], abs=0.02)


def test_a_file_that_is_refused_is_not_taken_for_one_being_read(tmp_path: Path) -> None:
    from dragoman.data.sources.opening import num_read

    (tmp_path / "bad.tsv").write_text("no tab\n")
    data = options(f"en-fr={tmp_path / 'bad.tsv'}")
    with pytest.raises(DataError):
        prepare.select(data, directions_of(data), 1, processes=1)
    assert num_read(tmp_path / "bad.tsv") == 0


# --- who shows it ----------------------------------------------------------------------


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    scratch.build(folder, ["number of all", "numéro de tous", "0123456789"] * 5, scratch.PRESETS["tiny"], seed=1)
    return folder


def words(rows: Path, model: Path, output: Path) -> list[str]:
    """Options of a run."""
    data = ["--language-pairs", "en-fr", "--data", f"en-fr={rows}"]
    return [*data, "--model", str(model), "--output", str(output), "--prepare-processes", "1"]


def events(output: Path) -> list[dict[str, Any]]:
    """The journal of a run."""
    return [json.loads(line) for line in (output / "dragoman/journal.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("more", [[], ["--shard", "1/1"]])
def test_prepare_shows_the_stages_and_writes_them_down(
    rows: Path,
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    more: list[str],
) -> None:
    monkeypatch.setattr(progress, "EVERY_SECONDS", 0.0)
    output = tmp_path / "run"
    assert run(["prepare", *words(rows, model, output), "--json", *more]) == 0
    said = capsys.readouterr()
    json.loads(said.out)
    stages = ["reading", "comparing", "tokenising"] + ["writing"] * (not more)
    assert [line.split()[1].rstrip(",") for line in said.err.splitlines() if line.startswith("preparing: ")] == stages
    assert list(dict.fromkeys(event.get("stage") for event in events(output) if event["kind"] == "preparing")) == stages


def test_of_data_that_is_refused_at_last_no_folder_stays(
    rows: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "EVERY_SECONDS", 0.0)
    with rows.open("a") as file:
        file.write("no tab\n")
    assert run(["prepare", *words(rows, model, tmp_path / "run")]) == 2
    assert not (tmp_path / "run").exists()


def test_training_shows_it_too_when_it_prepares_first(
    rows: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "EVERY_SECONDS", 0.0)
    assert run(["train", *words(rows, model, tmp_path / "run"), "--max-steps", "1", "--device", "cpu"]) == 0
    said = capsys.readouterr().err
    assert said.index("preparing: reading") < said.index("preparing: writing") < said.index("corpus ")
    kinds = [event["kind"] for event in events(tmp_path / "run")]
    assert kinds.index("preparing") < kinds.index("prepared") < kinds.index("session_started")


def test_preparing_for_a_model_imports_no_tensors(rows: Path, model: Path, tmp_path: Path) -> None:
    program = f"""
import sys
from dragoman.cli.app import run
assert run({["prepare", *words(rows, model, tmp_path / "run"), "--device", "cuda"]!r}) == 0
sys.exit(" ".join({{"torch", "transformers"}} & set(sys.modules)) or 0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
