"""A run with a mix, rehearsed pairs and text written another way: resumed exactly, and its model says how to ask it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dragoman.checkpoint.log import RunLog
from dragoman.cli.app import run as command
from dragoman.data import planning
from dragoman.data.corpus import open_corpus, read_texts
from dragoman.data.loader import Loader
from dragoman.data.normalization import FILE, Normalization
from dragoman.deploy import translate
from dragoman.journal import Evaluated, SessionStarted
from dragoman.store.local import FolderStore
from tests.support.runs import make_pairs, small_run
from tests.support.sessions import Lab, final, trained

RAW, WRITTEN = "the “red” cat…", 'the "red" cat...'


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A lab in which the run `plain` was never disturbed."""
    folder = tmp_path_factory.mktemp("lab")
    rows = make_pairs(folder / "small.tsv", 30, seed=2).read_text("utf-8").splitlines()
    (folder / "german.tsv").write_text("".join(f"„{row.replace(chr(9), f'“…{chr(9)}das ')}\n" for row in rows), "utf-8")
    make_pairs(folder / "old.tsv", 40, seed=3)
    options = {
        "language_pairs": ["en--fr", "en-de"],
        "data": [f"en-fr={folder / 'pairs.tsv'}", f"en-de={folder / 'german.tsv'}"],
        "mix": ["en--fr=1", "en-de=2"],
        "replay": [f"it-fr={folder / 'old.tsv'}:0.2"],
        "normalize": "nllb",
        "normalize_target": "nfc",
    }
    made = Lab(folder, options)
    assert made.train("plain").outcome == "done"
    return made


def corpus_of(run: Path) -> Any:
    [folder] = (run / "dragoman/corpus").iterdir()
    opened = open_corpus(folder)
    assert opened is not None
    return opened


def test_a_mixed_run_resumes_exactly(lab: Lab) -> None:
    lab.prepared("stopped", like="plain")
    assert lab.stopped("stopped", before=5).exit_code == 75
    assert lab.train("stopped").exit_code == 0
    assert trained(lab.folder / "stopped") == trained(lab.folder / "plain")
    assert final(lab.folder / "stopped") == final(lab.folder / "plain")


def test_steps_hold_directions_in_the_proportion_of_the_mix(lab: Lab) -> None:
    corpus = corpus_of(lab.folder / "plain")
    plan = replace(planning.plan_of(lab.config("plain"), corpus), max_steps=None, epochs=1)
    assert plan.mix
    loader = Loader(corpus, plan)
    way = loader.arrays.way
    assert np.array_equal(way, np.sort(way)), "the pairs of a direction stand together, in the order of the directions"
    epoch = np.concatenate([plan.indices(step) for step in range(plan.total_steps)])
    drawn = np.bincount(way[epoch], minlength=4).tolist()
    learned = len(way) - int(np.count_nonzero(way == 3))
    assert drawn == [part.quota for part in plan.mix.parts]
    assert sum(drawn[:3]) == learned
    assert drawn[0] == pytest.approx(learned / 4, abs=1)
    assert drawn[2] == pytest.approx(learned / 2, abs=1)
    assert drawn[3] == round(learned * 0.2 / 0.8)


def test_rehearsed_pairs_are_trained_on_and_never_held_out(lab: Lab) -> None:
    corpus = corpus_of(lab.folder / "plain")
    names = ["eng_Latn-fra_Latn", "fra_Latn-eng_Latn", "eng_Latn-deu_Latn", "ita_Latn-fra_Latn (replay)"]
    assert [str(way) for way in corpus.directions] == names
    held_out = {split: corpus.counts(split)[names[3]] for split in ("dev", "test")}
    assert held_out == {"dev": 0, "test": 0}
    funnel = corpus.manifest["funnel"][names[3]]
    assert corpus.counts("train")[names[3]] == funnel["kept"] == 40 - funnel["rejected"]["held_out"]["pairs"]
    assert funnel["rejected"]["held_out"]["examples"]
    lab.train("scored", max_steps=4)
    [started] = [event for event in lab.events if isinstance(event, SessionStarted)]
    [scored] = [event for event in lab.events if isinstance(event, Evaluated)]
    assert set(scored.directions) == set(names[:3])
    plan = planning.plan_of(lab.config("plain"), corpus)
    assert started.steps_per_epoch == plan.pairs_per_epoch / 8


def test_the_card_names_what_was_learned(lab: Lab) -> None:
    card = (lab.folder / "plain/README.md").read_text("utf-8")
    assert "eng_Latn-deu_Latn" in card
    assert "replay" not in card


def test_text_is_learned_as_it_is_written_in_the_options(lab: Lab) -> None:
    pairs = read_texts(corpus_of(lab.folder / "plain").folder / "dev.jsonl")
    german = [pair for pair in pairs if pair.direction.target == "deu_Latn"]
    assert german
    assert all(pair.source.startswith('"') and pair.source.endswith('..."') for pair in german)


def test_the_record_is_in_every_checkpoint_and_beside_the_published_model(lab: Lab) -> None:
    folder = lab.folder / "plain"
    kept = RunLog(FolderStore(folder)).kept
    assert kept
    for checkpoint in kept:
        assert FILE in checkpoint.model_files
        assert Normalization.of_folder(folder / checkpoint.folder) == Normalization("nllb", "nfc")
    assert json.loads((folder / FILE).read_bytes()) == {"format": 1, "source": "nllb", "target": "nfc"}


def test_a_downloaded_model_is_asked_as_it_was_trained(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    into = lab.folder / "downloaded"
    assert command(["download", str(lab.folder / "plain"), "--output", str(into)]) == 0
    loaded = translate.load(str(into), "cpu")
    seen: list[str] = []
    encode = type(loaded.vocabulary).encode

    def spying(self: Any, texts: Any) -> Any:
        seen.extend(texts)
        return encode(self, texts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(loaded.vocabulary), "encode", spying)
        assert command(["translate", "--model", str(into), "-p", "en-de", "--num-beams", "1", RAW]) == 0
        assert seen == [WRITTEN]
        (into / FILE).unlink()
        seen.clear()
        assert command(["translate", "--model", str(into), "-p", "en-de", "--num-beams", "1", RAW]) == 0
        assert seen == [RAW]


def test_a_base_that_was_tuned_on_other_text_is_warned_of(lab: Lab, tmp_path: Path) -> None:
    base = lab.folder / "plain"
    small_run(tmp_path, model=base, max_steps=1, eval_steps=0)
    warned = [line for line in (tmp_path / "run/dragoman/journal.jsonl").read_text().splitlines() if "warned" in line]
    assert any("--normalize nllb --normalize-target nfc" in line for line in warned), warned
