"""`dragoman export`: a smaller model that reads and answers as the whole one, on its texts; and one for CTranslate2."""

import json
import shutil
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from dragoman.cli.app import run as command
from dragoman.data import normalization
from dragoman.data.corpus import open_corpus
from dragoman.data.normalization import Normalization
from dragoman.deploy import corpora, export, translate
from dragoman.deploy.export import Exported
from dragoman.errors import InputError, ModelError
from dragoman.evaluation.decode import Request, decode
from dragoman.languages import CODES, parse_pair, parse_pairs
from dragoman.model import nllb, scratch, trim, vocabulary
from tests.compat import open_saved
from tests.support.runs import contents, small_run
from tests.support.shared import catalogue, catalogue_vocabulary, finished_run

FRENCH = [text for pair in catalogue("fr")[:200] for text in pair]
OTHER = [text for pair in catalogue("fr")[200:] + catalogue("ar") + catalogue("de") for text in pair]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model with a vocabulary of several languages, and two spare rows."""
    folder = tmp_path_factory.mktemp("whole")
    for file in catalogue_vocabulary().folder.iterdir():
        shutil.copyfile(file, folder / file.name)
    scratch.build_model(folder, scratch.Preset(width=32, layers=1, heads=2, pieces=1000), seed=1)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("data") / "texts.tsv"
    path.write_text("".join(f"{source}\t{target}\n" for source, target in catalogue("fr")[:200]))
    return f"en-fr={path}"


@pytest.fixture(scope="module")
def done(whole: Path, data: str, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    output = tmp_path_factory.mktemp("out") / "trimmed"
    return export.export(str(whole), output, trimmed=True, pair=["en-fr"], data=[data])


def written(words: vocabulary.Vocabulary, texts: list[str]) -> list[list[str | None]]:
    return [[words.tokenizer.id_to_token(token) for token in ids] for ids in words.encode(texts)]


def test_the_texts_are_written_by_the_same_pieces(whole: Path, done: Exported) -> None:
    before, after = vocabulary.load(whole), vocabulary.load(Path(done.folder))
    assert written(after, FRENCH) == written(before, FRENCH)
    assert done.texts_checked == len(FRENCH)
    assert len(after) == done.rows < 0.8 * len(before)


def test_other_texts_fall_back_to_smaller_pieces_and_to_nothing_unknown(whole: Path, done: Exported) -> None:
    before, after = vocabulary.load(whole), vocabulary.load(Path(done.folder))
    pairs = list(zip(written(before, OTHER), written(after, OTHER), strict=True))
    assert sum(old != new for old, new in pairs) > 100
    assert all("".join(map(str, old)) == "".join(map(str, new)) for old, new in pairs)
    assert all(len(new) >= len(old) for old, new in pairs)
    assert sum(len(new) for _, new in pairs) > sum(len(old) for old, _ in pairs)


def test_ids_are_counted_anew_in_the_old_order(whole: Path, done: Exported) -> None:
    before, after = vocabulary.load(whole), vocabulary.load(Path(done.folder), CODES)
    old = [before.tokenizer.token_to_id(str(after.tokenizer.id_to_token(index))) for index in range(len(after))]
    assert None not in old
    assert old == sorted(map(int, map(str, old)))
    assert [after.tokenizer.token_to_id(token) for token in ("<s>", "<pad>", "</s>", "<unk>")] == [0, 1, 2, 3]
    assert after.first_new == len(after)


def test_rows_are_the_old_ones_bit_for_bit_and_logits_are_those_of_the_whole_model(whole: Path, done: Exported) -> None:
    before, after = vocabulary.load(whole), vocabulary.load(Path(done.folder))
    rows = torch.tensor([before.tokenizer.token_to_id(str(after.tokenizer.id_to_token(i))) for i in range(len(after))])
    old, new = (load_file(folder / "model.safetensors") for folder in (whole, Path(done.folder)))
    assert new[nllb.EMBEDDING].equal(old[nllb.EMBEDDING][rows])
    assert all(new[name].equal(old[name]) for name in old.keys() - {nllb.EMBEDDING})
    long = [text for text in FRENCH if len(text) > 20][:20]
    models: list[Any] = [nllb.load(whole).eval(), nllb.load(Path(done.folder)).eval()]
    for ours, theirs in zip(before.encode(long), after.encode(long), strict=True):
        with torch.inference_mode():
            one, other = (
                model(input_ids=torch.tensor([ids]), decoder_input_ids=torch.tensor([ids])).logits
                for model, ids in zip(models, (ours, theirs), strict=True)
            )
        # Products of other widths may be summed in another order, which moves the last bit.
        torch.testing.assert_close(one[..., rows], other, rtol=0, atol=1e-5)


def test_texts_count_as_the_model_was_taught_to_read_and_write_them(whole: Path, tmp_path: Path) -> None:
    taught = tmp_path / "taught"
    shutil.copytree(whole, taught)
    (taught / normalization.FILE).write_bytes(Normalization("nfkc", "nfc").to_json())
    (tmp_path / "texts.tsv").write_text("a \ufb01le\tun \ufb01chier\n")
    data, words = [f"en-fr={tmp_path / 'texts.tsv'}"], vocabulary.load(whole)
    wanted = export._wanted(str(taught), taught, words, parse_pairs("en-fr"), data)
    assert wanted.texts == ["a file", "un \ufb01chier"]


def test_a_piece_that_can_be_merged_in_two_ways_keeps_both(tmp_path: Path) -> None:
    """As in NLLB's own list, which has every way: abc from ab+c before a+bc, but xabc breaks x+a first."""
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁", "a", "b", "c", "ab", "bc", "abc", "▁a", "q"]
    merges = [["▁", "a"], ["b", "c"], ["a", "b"], ["a", "bc"], ["ab", "c"]]
    scratch.build_tokenizer(tmp_path, ["a b c q"], 10)
    content = json.loads((tmp_path / "tokenizer.json").read_bytes())
    names = [*pieces, *CODES, "<mask>"]
    content["model"] |= {"vocab": {token: index for index, token in enumerate(names)}, "merges": merges}
    for token in content["added_tokens"]:
        token["id"] = names.index(token["content"])
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    words = vocabulary.load(tmp_path)
    texts = ["qabc", "qabcabc"]
    used = np.unique([token for ids in words.encode(texts) for token in ids])
    kept = trim.closed(words, used)
    assert {"ab", "bc", "abc"} <= {words.tokenizer.id_to_token(int(token)) for token in kept}
    assert "▁a" not in {words.tokenizer.id_to_token(int(token)) for token in kept}
    before = written(words, texts)
    (tmp_path / "tokenizer.json").write_bytes(trim.trim_tokenizer((tmp_path / "tokenizer.json").read_bytes(), kept))
    assert written(vocabulary.load(tmp_path), texts) == before


def test_texts_are_written_as_before_with_every_way_to_cut_a_piece_among_the_merges(tmp_path: Path) -> None:
    """As converters of SentencePiece models list them, NLLB's too: by the rank of what they make."""
    content = json.loads((catalogue_vocabulary().folder / "tokenizer.json").read_bytes())
    ids: dict[str, int] = content["model"]["vocab"]
    pieces = [token for token in sorted(ids, key=ids.__getitem__) if token not in CODES and not token.startswith("<")]
    cuts = [(token[:i], token[i:]) for token in pieces for i in range(1, len(token))]
    content["model"]["merges"] = [[first, second] for first, second in cuts if first in ids and second in ids]
    assert len(content["model"]["merges"]) > 1.1 * sum(len(token) > 1 for token in pieces)
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    words = vocabulary.load(tmp_path)
    before = written(words, FRENCH)
    kept = trim.closed(words, np.unique([token for ids in words.encode(FRENCH) for token in ids]))
    assert len(kept) < 0.9 * len(words)
    (tmp_path / "tokenizer.json").write_bytes(trim.trim_tokenizer((tmp_path / "tokenizer.json").read_bytes(), kept))
    assert written(vocabulary.load(tmp_path), FRENCH) == before


def test_transformers_opens_it(whole: Path, done: Exported) -> None:
    seen, ours = open_saved.look(Path(done.folder)), vocabulary.load(Path(done.folder))
    assert seen["codes"] == [ours.code_id(code) for code in CODES]
    assert seen["vocabulary"] == [len(ours), len(ours)]
    assert seen["tied"] == [True, True, True]
    assert [ids[1:-1] for ids in seen["ids"][: len(open_saved.TEXTS)]] == ours.encode(open_saved.TEXTS)


def test_an_export_has_the_precision_of_its_model(whole: Path, data: str, tmp_path: Path) -> None:
    half = shutil.copytree(whole, tmp_path / "half")
    weights = {name: tensor.half() for name, tensor in load_file(whole / "model.safetensors").items()}
    save_file(weights, half / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((half / "config.json").read_text()) | {"dtype": "float16"}
    (half / "config.json").write_text(json.dumps(config))
    export.export(str(half), tmp_path / "out", trimmed=True, pair=["en-fr"], data=[data])
    found = load_file(tmp_path / "out/model.safetensors")
    assert {tensor.dtype for tensor in found.values()} == {torch.float16}
    assert set(found) == set(weights)


# --- of a run, by the command line -----------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two directions whose texts share no word."""
    folder = tmp_path_factory.mktemp("two")
    rows = [f"the cat number {n} sees\tdie katze {n} sieht\n" for n in range(60)]
    (folder / "de.tsv").write_text("".join(rows))
    (folder / "fr.tsv").write_text(
        "".join(f"a ghost phoned {n} twins\tun fantome appelle {n} fois\n" for n in range(60))
    )
    data = [f"en-de={folder / 'de.tsv'}", f"en-fr={folder / 'fr.tsv'}"]
    return small_run(folder, language_pairs=["en-de", "en-fr"], data=data)


def test_a_run_is_trimmed_to_its_own_texts_and_translates_as_before(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "small"
    assert command(["export", str(run), "--trim", "--output", str(output), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    corpus = open_corpus(next((run / "dragoman/corpus").iterdir()))
    assert corpus is not None
    assert told["rows"] <= told["rows_before"] - 2
    assert told["texts_checked"] == 2 * sum(len(corpus.texts(split)) for split in ("dev", "test"))
    lines = [text.source for text in corpus.texts("test")[:4]]
    whole, small = translate.load(str(run)), translate.load(str(output))
    direction = parse_pair("en-de")
    assert list(small.translate(lines, direction, 1)) == list(whole.translate(lines, direction, 1))
    assert command(["translate", "--model", str(output), "-p", "en-de", *lines]) == 0


def test_one_direction_of_a_run_is_smaller_than_both(run: Path, tmp_path: Path) -> None:
    both = export.export(str(run), tmp_path / "both", trimmed=True)
    one = export.export(str(run), tmp_path / "one", trimmed=True, pair=["en-de"])
    assert one.rows < both.rows
    words = vocabulary.load(tmp_path / "one")
    assert written(words, ["the cat 7 sees"]) == written(vocabulary.load(run), ["the cat 7 sees"])
    assert len(words.encode(["ghost"])[0]) > len(vocabulary.load(run).encode(["ghost"])[0])


def test_the_tokens_of_a_direction_are_those_of_its_pairs(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpora, "PAIRS_AT_ONCE", 7)
    corpus = corpora.trained_on(run)
    assert corpus is not None
    words = vocabulary.load(run)
    texts = [line.split("\t") for line in (run.parent / "de.tsv").read_text().splitlines()]
    expected = {token for pair in texts for ids in words.encode(pair) for token in ids}
    assert set(corpora.tokens(corpus, [parse_pair("en-de")])) == expected


def test_ctranslate2_answers_as_we_do(tmp_path: Path) -> None:
    done = export.export(str(finished_run()), tmp_path / "fast", target="ctranslate2")
    assert (done.target, done.rows) == ("ctranslate2", done.rows_before)
    words, model = vocabulary.load(tmp_path / "fast"), nllb.load(finished_run())
    texts = ["the red cat sees the old dog", "the bird finds the river"]
    ours = decode(model, words, [Request(text, parse_pair("en-fr")) for text in texts], 1, max_new_tokens=12)
    translator = ctranslate2.Translator(str(tmp_path / "fast"), device="cpu", compute_type="float32")
    pieces = [["eng_Latn", *map(str, tokens), "</s>"] for tokens in written(words, texts)]
    found = translator.translate_batch(pieces, target_prefix=[["fra_Latn"]] * 2, beam_size=1, max_decoding_length=13)
    told = [[words.tokenizer.token_to_id(token) for token in result.hypotheses[0]] for result in found]
    assert [words.decode(map(int, map(str, ids))) for ids in told] == ours


def test_a_trimmed_model_goes_to_ctranslate2_in_8_bits(run: Path, tmp_path: Path) -> None:
    words = ["export", str(run), "--trim", "--to", "ctranslate2", "--quantization", "int8"]
    assert command([*words, "--output", str(tmp_path / "fast")]) == 0
    tokens = json.loads((tmp_path / "fast/shared_vocabulary.json").read_text())
    assert len(tokens) == len(vocabulary.load(tmp_path / "fast"))
    assert (tmp_path / "fast/model.bin").stat().st_size < 0.4 * (run / "model.safetensors").stat().st_size


# --- what is refused ------------------------------------------------------------------------------


def test_a_model_that_would_answer_otherwise_is_not_written(
    whole: Path, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = trim.trim_tokenizer
    monkeypatch.setattr(trim, "trim_tokenizer", lambda content, kept: real(content, kept).replace(b'["e", "s"], ', b""))
    with pytest.raises(ModelError, match="the trimmed tokenizer writes"):
        export.export(str(whole), tmp_path / "out", trimmed=True, pair=["en-fr"], data=[data])
    monkeypatch.setattr(trim, "trim_tokenizer", real)
    monkeypatch.setattr(export, "largest_difference", lambda *_: 0.5)
    with pytest.raises(ModelError, match="logits differ by"):
        export.export(str(whole), tmp_path / "out", trimmed=True, pair=["en-fr"], data=[data])
    assert not list(tmp_path.iterdir()), "something is left"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--trim"], "is no run folder: which text must stay"),
        (["--pair", "en-fr"], "say what --trim keeps"),
        (["--trim", "--data", "x.tsv"], "--pair is missing"),
        (["--trim", "--pair", "en-tyv"], "--pair 'en-tyv': NLLB-200 has no Tuvinian"),
        (["--quantization", "int8"], "is for CTranslate2"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert command(["export", str(whole), "--output", str(tmp_path / "out"), *words]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())


def test_nothing_is_written_over_and_a_run_lacks_what_it_was_not_trained_on(run: Path, tmp_path: Path) -> None:
    before = contents(run)
    with pytest.raises(InputError, match="is there already"):
        export.export(str(run), tmp_path)
    with pytest.raises(InputError, match="has no such text"):
        export.export(str(run), tmp_path / "out", trimmed=True, pair=["fr-en"])
    assert contents(run) == before
