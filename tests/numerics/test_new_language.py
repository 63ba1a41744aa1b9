"""Whole runs that teach a language: what is trained and saved, exact resume, LoRA, and who opens the result."""

import shutil
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import pytest
from safetensors.torch import load_file

from dragoman.checkpoint.log import RunLog
from dragoman.cli.app import run as command
from dragoman.data.corpus import open_corpus
from dragoman.deploy import translate
from dragoman.evaluation.decode import Request, decode
from dragoman.journal import LanguagesAdded, Warned
from dragoman.languages import CODES, Direction
from dragoman.model import nllb, vocabulary
from dragoman.store.local import FolderStore
from dragoman.training import inputs, prepared, state, teaching
from tests.compat import open_saved
from tests.support.runs import contents, make_pairs
from tests.support.sessions import Lab, final, trained

NEW, LIKE = "qaa_Latn", ["fra_Latn,spa_Latn"]
CIPHER = str.maketrans({"e": "ė", "o": "ө", "u": "ꙋ"})
TEXTS = ["the red cat sees the old dog", "the bird finds the river"]


def ciphered(folder: Path) -> Path:
    """The toy pairs with a target that is French in letters which the model lacks."""
    rows = [line.split("\t") for line in make_pairs(folder / "plain.tsv", n=80, seed=1).read_text().splitlines()]
    path = folder / "new.tsv"
    path.write_text("".join(f"{source}\t{target.translate(CIPHER)}\n" for source, target in rows))
    return path


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that knows NLLB's languages, somewhat."""
    lab = Lab(tmp_path_factory.mktemp("first"))
    lab.train("run")
    return lab.folder / "run"


@pytest.fixture(scope="module", params=["full", "active", "lora full", "lora active"])
def lab(request: pytest.FixtureRequest, first: Path, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A run that teaches it another one, from its first step to its last."""
    folder = tmp_path_factory.mktemp("lab")
    options: dict[str, Any] = {
        "model": str(first),
        "new_language": [NEW],
        "like": LIKE,
        "language_pairs": [f"en-{NEW}", f"{NEW}-en"],
        "data": [f"en-qaa={ciphered(folder)}"],
        "vocabulary": request.param.split()[-1],
    }
    if "lora" in request.param:
        options |= {"adapter": "lora", "lora_rank": 4, "learning_rate": 1e-2}
    made = Lab(folder, options)
    assert made.train("plain").outcome == "done"
    return made


def newest(folder: Path) -> Path:
    found = RunLog(FolderStore(folder)).newest
    assert found is not None
    return folder / found.folder


def test_machines_that_share_the_preparation_teach_the_same_model_with_a_mix_and_rehearsed_pairs(
    first: Path, tmp_path: Path
) -> None:
    """No machine can tokenise its part: which tokens are new, only all of the data says."""
    pairs = [f"en-{NEW}", "qaa-en"]
    shared = {"model": str(first), "new_language": [NEW], "like": LIKE, "language_pairs": pairs}
    shared |= {"data": [f"en-qaa={ciphered(tmp_path)}"], "mix": ["en-qaa=2", "qaa-en=1"]}
    # The rehearsed pairs hold the new language too, and characters that only they have.
    old, more = make_pairs(tmp_path / "old.tsv", n=60, seed=2), tmp_path / "more.tsv"
    more.write_text(ciphered(tmp_path).read_text("utf-8").replace("ꙋ", "ꙗ"), "utf-8")
    lab = Lab(tmp_path, shared | {"replay": [f"en--fr={old}:0.2", f"fr-qaa={more}:0.1"]})
    for part in ("1/3", "2/3", "3/3"):
        prepared.prepare_part(lab.config(part[0]), part)
    merged = prepared.prepare(lab.config("merged"), [tmp_path / part for part in "132"])
    alone = prepared.prepare(lab.config("alone"))
    assert merged.digest == alone.digest
    assert contents(tmp_path / "merged" / inputs.BASE) == contents(tmp_path / "alone" / inputs.BASE)
    ways = [f"eng_Latn-{NEW}", f"{NEW}-eng_Latn"]
    old_ways = ["eng_Latn-fra_Latn (replay)", "fra_Latn-eng_Latn (replay)", f"fra_Latn-{NEW} (replay)"]
    assert list(merged.mix) == [*ways, *old_ways]
    learned, rehearsed = (sum(merged.mix[way] for way in some) for some in (ways, old_ways))
    assert merged.mix[ways[0]] == pytest.approx(2 * merged.mix[ways[1]], abs=2)
    assert rehearsed / (learned + rehearsed) == pytest.approx(0.3, abs=0.02)
    words = vocabulary.load(tmp_path / "merged" / inputs.BASE, CODES)
    assert {words.tokenizer.id_to_token(i) for i in range(words.first_new, len(words))} == {NEW, *"ėөꙋꙗ"}

    assert "forgets" not in (tmp_path / "alone/dragoman/journal.jsonl").read_text("utf-8"), "French is rehearsed"
    assert lab.stopped("merged", before=5).exit_code == 75
    for name in ("merged", "alone"):
        assert lab.train(name).exit_code == 0
    assert final(tmp_path / "merged") == final(tmp_path / "alone")
    assert trained(tmp_path / "merged") == trained(tmp_path / "alone")


def test_the_new_tokens_are_told(lab: Lab) -> None:
    if lab.kinds()[0] != "languages_added":  # a later test of this module has trained since
        lab.train("told")
    [event] = [event for event in lab.events if isinstance(event, LanguagesAdded)]
    assert event.languages == {NEW: ["fra_Latn", "spa_Latn"]}
    assert set(event.characters) == set("ėөꙋ")
    warned = [each.message for each in lab.events if isinstance(each, Warned)]
    assert not [message for message in warned if "merged" in message]
    (message,) = [message for message in warned if "forgets" in message]
    assert message.startswith(f"{NEW} begins as fra_Latn or spa_Latn, and no pair to train on is in it")


def test_new_rows_are_trained_with_whatever_else_is_and_nothing_has_moved(lab: Lab, first: Path) -> None:
    before = load_file(lab.folder / "plain" / inputs.BASE / "model.safetensors")[nllb.EMBEDDING]
    after = load_file(newest(lab.folder / "plain") / "model.safetensors")[nllb.EMBEDDING]
    words = vocabulary.load(lab.folder / "plain", CODES)
    new = slice(words.first_new, words.first_new + 4)
    assert (before[new] != after[new]).any(dim=1).all()
    old = load_file(first / "model.safetensors")[nllb.EMBEDDING]
    assert before[: words.first_new].equal(old[: words.first_new])
    if lab.options.get("adapter") == "lora":
        assert after[: words.first_new].equal(old[: words.first_new]), "rows of NLLB were not frozen"
    assert (after[new].std(dim=1) > 0).all()


def test_the_corpus_holds_the_new_rows(lab: Lab) -> None:
    corpus = open_corpus(next((lab.folder / "plain/dragoman/corpus").iterdir()))
    assert corpus is not None
    words = vocabulary.load(lab.folder / "plain")
    assert set(np.arange(words.first_new, words.first_new + 4)) <= set(corpus.rows)
    assert corpus.manifest["splits"]["train"]["unknown_rate"] == {"eng_Latn": 0.0, NEW: 0.0}


def test_a_resume_is_exact_from_the_store_alone(lab: Lab) -> None:
    """On an empty machine: only the durable store is left of the first session."""
    store = str(lab.folder / "durable")
    assert lab.stopped("stopped", before=4, store=store).exit_code == 75
    shutil.rmtree(lab.folder / "stopped")
    assert lab.train("stopped", store=store).outcome == "done"
    assert trained(lab.folder / "stopped") == trained(lab.folder / "plain")
    assert final(lab.folder / "stopped") == final(lab.folder / "plain")
    assert translate.base_of(str(lab.folder / "stopped")) is None, "what NLLB gives lacks the language"


def test_a_run_without_a_checkpoint_begins_with_the_same_model(lab: Lab) -> None:
    shutil.copytree(lab.folder / "plain" / inputs.BASE, lab.folder / "again" / inputs.BASE)
    (lab.folder / "again" / inputs.BASE / teaching.KEY).unlink()
    assert lab.stopped("again", before=1).exit_code == 75
    wanted, found = (lab.folder / name / inputs.BASE for name in ("plain", "again"))
    for file in wanted.iterdir():
        assert (found / file.name).read_bytes() == file.read_bytes(), file.name


def test_lora_remembers_moments_of_new_rows_alone(lab: Lab) -> None:
    if lab.options.get("adapter") != "lora":
        pytest.skip("all rows are trained")
    moments = load_file(newest(lab.folder / "plain") / state.MOMENTS)
    shapes = {name: len(tensor) for name, tensor in moments.items() if "shared" in name}
    # With the whole vocabulary also the spare row behind them, which no token has.
    assert set(shapes) == {"exp_avg.model.shared.lora_new_rows", "exp_avg_sq.model.shared.lora_new_rows"}
    assert set(shapes.values()) <= {4, 5}


# --- who opens it -------------------------------------------------------------------------


def test_transformers_knows_the_language(lab: Lab) -> None:
    folder = lab.folder / "plain"
    seen, ours = open_saved.look(folder), vocabulary.load(folder)
    assert seen["codes"] == [ours.code_id(code) for code in (*CODES, NEW)]
    assert seen["vocabulary"][0] == len(ours)
    assert seen["tied"] == [True, True, True]
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, src_lang=NEW, tgt_lang="eng_Latn")
    assert tokenizer("ꙋn vėrt")["input_ids"] == [ours.code_id(NEW), *ours.encode(["ꙋn vėrt"])[0], ours.eos]


def test_ctranslate2_converts_it_and_translates_as_we_do(lab: Lab, tmp_path: Path) -> None:
    folder = lab.folder / "plain"
    ctranslate2.converters.TransformersConverter(str(folder)).convert(str(tmp_path / "ct2"))
    words, model = vocabulary.load(folder), nllb.load(folder)
    direction = Direction("eng_Latn", NEW)
    ours = decode(model, words, [Request(text, direction) for text in TEXTS], 1, max_new_tokens=12)
    pieces = [["eng_Latn", *(words.tokenizer.id_to_token(i) for i in ids), "</s>"] for ids in words.encode(TEXTS)]
    translator = ctranslate2.Translator(str(tmp_path / "ct2"), device="cpu", compute_type="float32")
    found = translator.translate_batch(pieces, target_prefix=[[NEW]] * 2, beam_size=1, max_decoding_length=13)
    told = [[words.tokenizer.token_to_id(token) for token in result.hypotheses[0]] for result in found]
    assert [ids[0] for ids in told] == [words.code_id(NEW)] * 2
    assert [words.decode(ids) for ids in told] == ours


def test_our_own_tools_know_it(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(lab.folder / "plain")
    for pair in (f"en-{NEW}", "qaa-en"):
        assert command(["translate", "--model", run, "-p", pair, "--num-beams", "1", *TEXTS]) == 0
        assert len(capsys.readouterr().out.splitlines()) == 2
    assert command(["evaluate", run, "--pair", f"en-{NEW}", "--data", str(lab.folder / "new.tsv"), "--json"]) == 0
    assert '"system": "base"' in capsys.readouterr().out
    assert command(["languages", "qaa", "--model", run]) == 0
    assert capsys.readouterr().out.startswith(NEW)
    assert command(["languages", "qaa", "--model", run, "--json"]) == 0
    assert f'"code": "{NEW}"' in capsys.readouterr().out
    assert command(["translate", "--model", run, "-p", "en-tyv_Cyrl", "x"]) == 2
    assert "NLLB-200 has no Tuvinian" in capsys.readouterr().err


def test_a_taught_model_is_tuned_further_and_taught_more(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """Its own language is only named; a second one is added behind it."""
    taught = lab.folder / "plain"
    data, more = str(lab.folder / "new.tsv"), lab.folder / "more.tsv"
    more.write_text((lab.folder / "new.tsv").read_text().replace("ꙋ", "ꙗ"))
    pairs, files = [f"en-{NEW}", "en-tyv_Cyrl"], [f"en-{NEW}={data}", f"en-tyv={more}"]
    lab.train(
        "further",
        model=str(taught),
        new_language=[NEW, "tyv_Cyrl=kaz_Cyrl"],
        like=[],
        language_pairs=pairs,
        data=files,
        max_steps=2,
    )
    before, after = vocabulary.load(taught), vocabulary.load(lab.folder / "further", CODES)
    assert after.code_id(NEW) == before.code_id(NEW)
    assert [after.tokenizer.id_to_token(i) for i in range(len(before), len(after))] == ["tyv_Cyrl", "ꙗ"]
    assert translate.base_of(str(lab.folder / "further")) == str(lab.folder / "further" / inputs.BASE)
    assert after.new_codes == (NEW, "tyv_Cyrl")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"new_language": None}, "NLLB-200 has no"),
        ({"like": None}, "no relative is named"),
        ({"language_pairs": "en-fr", "data": "en-fr={data}"}, "no direction of --language-pairs has it"),
        ({"model": "scratch:tiny"}, "knows no languages to begin from"),
        ({"new_language": None, "language_pairs": "en-fr", "data": "en-fr={data}"}, "--new-language, which is missing"),
    ],
)
def test_what_cannot_be_taught_is_refused_before_anything_is_written(
    first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: dict[str, str | None], message: str
) -> None:
    data = str(ciphered(tmp_path))
    given: dict[str, str | None] = {
        "language_pairs": f"en-{NEW}",
        "data": f"en-{NEW}={data}",
        "model": str(first),
        "new_language": NEW,
        "like": "fra_Latn",
        "output": str(tmp_path / "run"),
    }
    words = [part for name, value in (given | options).items() if value for part in (f"--{name}", value)]
    assert command(["train", *(word.format(data=data) for word in words)]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()
