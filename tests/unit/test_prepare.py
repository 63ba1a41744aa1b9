"""Streaming gives what everything in memory gives: in any chunks, processes and parts, and after any kill."""

import json
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dragoman.cli.app import run as command
from dragoman.config import DataConfig, from_flat
from dragoman.data import choosing, cleaning, parts, prepare, replay, work, workers
from dragoman.data.corpus import Corpus, Text, open_corpus
from dragoman.data.filters import clean, key, split_of
from dragoman.data.shares import Share, parse
from dragoman.errors import DataError, InputError, WorkerLost
from dragoman.languages import parse_pairs
from dragoman.model.vocabulary import Vocabulary
from tests.support.preparing import corpus_of, directions_of, naive, options
from tests.support.real import until
from tests.support.runs import LEXICON, contents
from tests.support.shared import catalogue_vocabulary

FR = "eng_Latn-fra_Latn"


def sentences(path: Path, n: int, seed: int) -> Path:
    """Pairs of few words, so that the same sides and pairs come again, some of them shouted."""
    chooser = random.Random(seed)
    rows: list[str] = []
    for _ in range(n):
        chosen = [chooser.choice(list(LEXICON)) for _ in range(chooser.randint(1, 3))]
        source, target = " ".join(chosen), " ".join(LEXICON[word] for word in chosen)
        if chooser.random() < 0.2:
            target = f"{target} {chooser.choice('!?.')}"
        rows.append(f"{source.upper() if chooser.random() < 0.3 else source}\t{target}\n")
    path.write_text("".join(rows))
    return path


@pytest.fixture
def both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataConfig:
    """Two directions that see each other's sentences, from three files, in small chunks."""
    monkeypatch.setattr(cleaning, "CHUNK_PAIRS", 50)
    files = [sentences(tmp_path / f"{seed}.tsv", 240, seed) for seed in (1, 2, 3)]
    entries = [f"en-fr={files[0]}", f"en-fr={files[1]}", f"fr-en={swapped(files[2])}"]
    return options(*entries, pairs=["en-fr", "fr-en"], dev_percent=8, test_percent=8)


def swapped(path: Path) -> Path:
    other = path.with_suffix(".swapped.tsv")
    rows = (line.rstrip("\n").split("\t") for line in path.read_text().splitlines())
    other.write_text("".join(f"{target}\t{source}\n" for source, target in rows))
    return other


# --- what is chosen ------------------------------------------------------------------


@pytest.mark.parametrize("max_samples", [None, 1, 40, 10_000])
@pytest.mark.parametrize("size", [9, 60, 100_000])
def test_chunks_choose_what_one_heap_of_everything_chooses(
    both: DataConfig, monkeypatch: pytest.MonkeyPatch, size: int, max_samples: int | None
) -> None:
    monkeypatch.setattr(cleaning, "CHUNK_PAIRS", size)
    monkeypatch.setattr(choosing, "PART_PAIRS", 3 * size)
    monkeypatch.setattr(choosing, "TEXT_PAIRS", 5)
    data = both.model_copy(update={"max_samples": max_samples})
    splits, dropped = naive(data)
    chosen = prepare.select(data, directions_of(data), 1)
    assert {split: list(texts) for split, texts in chosen.splits.items()} == splits
    assert {split: len(texts) for split, texts in chosen.splits.items()} == {s: len(t) for s, t in splits.items()}
    found = {way: +funnel.rejected for way, funnel in chosen.funnels.items()}
    assert found == {way: Counter(counts) for way, counts in dropped.items()}
    assert all(counts[why] > 3 for counts in dropped.values() for why in ("duplicate", "leak")), dropped


@pytest.mark.parametrize("size", [9, 100_000])
def test_near_duplicates_are_dropped_when_asked_and_only_then(
    both: DataConfig, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(cleaning, "CHUNK_PAIRS", size)
    monkeypatch.setattr(choosing, "PART_PAIRS", 3 * size)
    for asked in ("keep", "drop"):
        data = both.model_copy(update={"near_duplicates": asked})
        splits, dropped = naive(data)
        chosen = prepare.select(data, directions_of(data), 1)
        assert {split: list(texts) for split, texts in chosen.splits.items()} == splits
        found = {way: +funnel.rejected for way, funnel in chosen.funnels.items()}
        assert found == {way: Counter(counts) for way, counts in dropped.items()}
        assert all((counts.get("near_duplicate", 0) > 3) == (asked == "drop") for counts in dropped.values()), dropped


def test_samples_with_equal_priorities_are_the_first(both: DataConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def same(*_: object) -> int:
        return 7

    monkeypatch.setattr(cleaning, "sample_priority", same)
    every = list(prepare.select(both, directions_of(both), 1).splits["train"])
    few = list(prepare.select(both.model_copy(update={"max_samples": 9}), directions_of(both), 1).splits["train"])
    by_way = [[text for text in every if text.direction == way][:9] for way in directions_of(both)]
    assert few == [text for texts in by_way for text in texts]


def test_a_pair_is_new_once_whatever_its_case_and_spaces(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("One\tUn\none \t UN\none\tune\nun\tone\non\teun\n")
    data = options(f"en-fr={tmp_path / 'a.tsv'}", dev_percent=0, test_percent=0)
    chosen = prepare.select(data, directions_of(data), 1)
    kept = [("One", "Un"), ("one", "une"), ("un", "one"), ("on", "eun")]
    assert [text[:2] for text in chosen.splits["train"]] == kept
    assert chosen.funnels[FR].examples["duplicate"] == [("one", "UN")]


def test_all_planted_leaks_are_found_and_shown(tmp_path: Path) -> None:
    rows = [f"sentence number {n}\tphrase {n} de la liste" for n in range(400)]
    path = tmp_path / "a.tsv"
    path.write_text("\n".join(rows) + "\n")
    clear = options(f"en-fr={path}")
    before = prepare.select(clear, directions_of(clear), 1)
    held = [*before.splits["dev"], *before.splits["test"]]
    assert len(held) > 40
    assert not before.funnels[FR].rejected["leak"]
    planted: list[str] = []
    for number, text in enumerate(held):
        # The target of a pair held out behind another source, in other case and width.
        planted.append(f"quite another {number}\t{text.target.upper().replace(' ', chr(0x3000))}")
        # And a source held out as the target of the other direction.
        planted.append(f"{text.source.title()}\ttout autre {number}")
    other = tmp_path / "b.tsv"
    rows = [*planted, *(f"good {number}\tbien {number}" for number in range(50))]
    other.write_text("\n".join(f"{target}\t{source}" for source, target in (row.split("\t") for row in rows)))
    data = options(f"en-fr={path}", f"fr-en={other}", pairs=["en-fr", "fr-en"])
    chosen = prepare.select(data, directions_of(data), 1)
    texts = {key(side) for text in held for side in text[:2]}
    assert texts.isdisjoint(key(side) for text in chosen.splits["train"] for side in text[:2])
    funnel = chosen.funnels["fra_Latn-eng_Latn"]
    # Of the planted ones, some are held out themselves: the hash of their source says so.
    sources_held = {text.source for split in ("dev", "test") for text in chosen.splits[split]}
    assert funnel.rejected["leak"] == len([row for row in planted if clean(row.split("\t")[1]) not in sources_held])
    assert len(funnel.examples["leak"]) == 3


def disguised(text: str, number: int) -> str:
    """The same text for a reader who does not mind case, width or spaces."""
    wide = "".join(chr(ord(letter) + 0xFEE0) if "!" <= letter <= "~" else letter for letter in text)
    return (text.upper(), text.title(), text.replace(" ", " \u3000 "), wide)[number % 4]


LEAKING = ["en-fr", "fr-en", "en-tyv", "tyv-de", "de-tyv", "de-fr", "en-de"]


@pytest.mark.parametrize("as_replay", [False, True])
@pytest.mark.parametrize("pair", LEAKING)
def test_leaks_are_found_in_every_direction_rehearsed_ones_and_new_languages_included(
    tmp_path: Path, pair: str, as_replay: bool
) -> None:
    """Texts held out in en-fr and en-tyv, planted on either side of a pair to train on, all dropped and counted."""
    said = {"en": "sentence number {}", "fr": "phrase {} de la liste", "tyv": "домак {} дугаар"}
    for tag in ("fr", "tyv"):
        rows = (f"{said['en'].format(n)}\t{said[tag].format(n)}\n" for n in range(300))
        (tmp_path / f"{tag}.tsv").write_text("".join(rows), "utf-8")
    shape: dict[str, Any] = {"new_language": ["tyv_Cyrl"], "like": ["kaz_Cyrl"]}
    files = [f"en-fr={tmp_path / 'fr.tsv'}", f"en-tyv={tmp_path / 'tyv.tsv'}"]

    def select(**more: Any) -> prepare.Selection:
        data = from_flat({"language_pairs": ["en-fr", "en-tyv"], "data": files} | shape | more).data
        ways = [way for text in data.language_pairs for way in parse_pairs(text, data.new_codes)]
        return prepare.select(data, [*dict.fromkeys(ways), *replay.directions_of(data)], 1)

    held = [text for split in ("dev", "test") for text in select().splits[split]]
    source, target = pair.split("-")
    texts = {"en": sorted({text.source for text in held}), "de": []}
    texts |= {tag: [text.target for text in held if text.direction.target[:2] == tag[:2]] for tag in ("fr", "tyv")}
    planted = [f"{disguised(text, n)}\tanderes {n}" for n, text in enumerate(texts[source])]
    planted += [f"etwas {n}\t{disguised(text, n)}" for n, text in enumerate(texts[target])]
    assert len(planted) > 5
    rows = [*planted, *(f"neues {n} für alle\tgut {n} für alle" for n in range(50))]
    (tmp_path / "planted.tsv").write_text("\n".join(rows), "utf-8")
    entry = f"{pair}={tmp_path / 'planted.tsv'}"
    limits = {"min_script_percent": 0}  # the planted ones are in no language
    if as_replay:
        chosen = select(replay=[f"{entry}:0.2"], **limits)
    else:
        chosen = select(language_pairs=[*dict.fromkeys(["en-fr", "en-tyv", pair])], data=[*files, entry], **limits)
    codes = {"en": "eng_Latn", "fr": "fra_Latn", "tyv": "tyv_Cyrl", "de": "deu_Latn"}
    found = chosen.funnels[f"{codes[source]}-{codes[target]}{' (replay)' * as_replay}"].rejected
    now_held = [text for split in ("dev", "test") for text in chosen.splits[split]]
    forbidden = {(code, key(side)) for text in (*held, *now_held) for side, code in _sides(text)}
    for text in chosen.splits["train"]:
        assert forbidden.isdisjoint((code, key(side)) for side, code in _sides(text))
    # What is planted and not a leak has a source that is held out itself, in this or in any direction.
    itself = sum(clean(text.split("\t")[0]) in {other.source for other in now_held} for text in planted)
    if as_replay:
        assert found["leak"] + found["held_out"] >= len(planted)
        assert found["held_out"] <= len(
            [text for text in rows if split_of(clean(text.split("\t")[0]), 2, 2) != "train"]
        )
    else:
        assert found["leak"] == len(planted) - itself


def _sides(text: Text) -> list[tuple[str, str]]:
    return [(text.source, text.direction.source), (text.target, text.direction.target)]


# --- test sets that stand apart ----------------------------------------------------------


@pytest.fixture
def apart(tmp_path: Path) -> DataConfig:
    """Two directions of which some pairs hold, on some side, a text of one of three test sets, disguised."""
    rows = {pair: [f"sentence {n} of {pair}\tphrase {n} en {pair}" for n in range(120)] for pair in ("en-fr", "fr-de")}
    sets = {
        "en-fr": [(f"english {n} apart", f"français {n} à part") for n in range(8)],
        "de-en": [(f"deutsch {n} beiseite", f"more english {n} apart") for n in range(8)],
        "tyv-fr": [(f"тыва {n} чугула", f"encore français {n} à part") for n in range(8)],
    }
    leaks = {
        "en-fr": [text for pair, side in (("en-fr", 0), ("de-en", 1)) for text in sides_of(sets[pair], side)],
        "fr-de": [text for pair, side in (("en-fr", 1), ("tyv-fr", 1)) for text in sides_of(sets[pair], side)],
    }
    for pair, texts in leaks.items():
        rows[pair] += [f"{disguised(text, n)}\tneu {n}" for n, text in enumerate(texts)]
    rows["fr-de"] += [f"nouveau {n}\t{disguised(text, n)}" for n, text in enumerate(sides_of(sets["de-en"], 0))]
    for name, lines in rows.items():
        (tmp_path / f"{name}.tsv").write_text("\n".join(lines), "utf-8")
    for name, pairs in sets.items():
        (tmp_path / f"{name}.test.tsv").write_text("\n".join(map("\t".join, pairs)), "utf-8")
    held_out = [f"{pair}={tmp_path / pair}.test.tsv" for pair in sets]
    files = [f"{pair}={tmp_path / pair}.tsv" for pair in rows]
    more: dict[str, Any] = {"new_language": ["tyv_Cyrl"], "held_out": held_out, "min_script_percent": 0}
    return options(*files, pairs=["en-fr", "fr-de"], dev_percent=0, test_percent=0, **more)


def sides_of(pairs: Sequence[tuple[str, str]], side: int) -> list[str]:
    return [pair[side] for pair in pairs]


@pytest.mark.parametrize("as_replay", [False, True])
def test_no_text_of_a_test_set_apart_is_trained_on_on_any_side_of_any_direction(
    apart: DataConfig, as_replay: bool
) -> None:
    data = apart
    if as_replay:
        places = {"data": apart.data[:1], "language_pairs": ["en-fr"], "replay": [f"{apart.data[1]}:0.5"]}
        data = apart.model_copy(update=places)
    ways = [*directions_of(data), *replay.directions_of(data)]
    chosen = prepare.select(data, ways, 1)
    assert [funnel.rejected["leak"] for funnel in chosen.funnels.values()] == [16, 24]
    assert len(chosen.splits["train"]) == 240
    assert all(" apart" not in key(side) for text in chosen.splits["train"] for side in text[:2])
    without = data.model_copy(update={"held_out": []})
    assert len(prepare.select(without, ways, 1).splits["train"]) == 280


def test_test_sets_apart_leave_what_is_held_out_itself_and_decide_the_corpus_by_their_bytes_alone(
    apart: DataConfig, tmp_path: Path
) -> None:
    split = apart.model_copy(update={"dev_percent": 10.0, "test_percent": 10.0})
    with_it, without = (
        prepare.select(data, directions_of(data), 1).splits
        for data in (split, split.model_copy(update={"held_out": []}))
    )
    for name in ("dev", "test"):
        assert list(with_it[name]) == list(without[name])
    ways = directions_of(apart)
    before = prepare.inputs_digest(apart, ways, 1)
    (tmp_path / "moved").mkdir()
    entry = apart.held_out[0].partition("=")[2]
    moved = Path(entry).rename(tmp_path / "moved/test.tsv")
    there = apart.model_copy(update={"held_out": [f"en-fr={moved}", *apart.held_out[1:]]})
    assert prepare.inputs_digest(there, ways, 1) == before
    moved.write_text("another\tautre\n")
    assert prepare.inputs_digest(there, ways, 1) != before
    assert prepare.inputs_digest(there.model_copy(update={"held_out": apart.held_out[1:]}), ways, 1) != before


def test_machines_that_share_the_work_hold_the_same_texts_out(
    apart: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleaning, "CHUNK_PAIRS", 30)
    whole = list(prepare.select(apart, directions_of(apart), 1).splits["train"])
    folder = work.Work(tmp_path / "work")
    for number in (1, 2):
        prepare.select(apart, directions_of(apart), 1, folder, share=Share(number, 2))
    assert list(prepare.select(apart, directions_of(apart), 1, folder).splits["train"]) == whole


def test_a_test_set_apart_that_cannot_be_read_so_is_refused_by_its_option(
    apart: DataConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "prepare",
        "--language-pairs",
        "en-fr",
        "en-de",
        "--model",
        "scratch:tiny",
        "--output",
        str(tmp_path / "r"),
    ]
    words += ["--data", apart.data[0], f"en-de={tmp_path / 'en-fr.tsv'}"]
    for held_out, why in (
        (str(tmp_path / "de-en.test.tsv"), "two columns that name no languages"),
        (str(tmp_path / "nothing.tsv"), "there is no file or folder"),
        (f"en-xx={tmp_path / 'de-en.test.tsv'}", "the pair before '=' is wrong"),
        ("gettext:nothing_such", "no package nothing_such is installed"),
    ):
        assert command([*words, "--held-out", held_out]) == 2
        told = " ".join(capsys.readouterr().err.split())
        assert "error: --held-out " in told
        assert why in told
        assert "--data" not in told
    assert command([*words, "--held-out", f"de-en={tmp_path / 'de-en.test.tsv'}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["funnel"][FR]["rejected"]["leak"]["pairs"] >= 8


def test_equal_text_of_another_language_is_no_leak(tmp_path: Path) -> None:
    rows = [f"word {n} alpha\tmot {n} beta" for n in range(200)]
    (tmp_path / "a.tsv").write_text("\n".join(rows))
    (tmp_path / "b.tsv").write_text("\n".join(f"{n} gamma\t{row.split(chr(9))[1]}" for n, row in enumerate(rows)))
    data = options(f"en-fr={tmp_path / 'a.tsv'}", f"en-de={tmp_path / 'b.tsv'}", pairs=["en-fr", "en-de"])
    chosen = prepare.select(data, directions_of(data), 1)
    assert not any(funnel.rejected["leak"] for funnel in chosen.funnels.values())


def test_the_order_of_files_moves_no_sentence_to_another_split(both: DataConfig) -> None:
    turned = both.model_copy(update={"data": [both.data[1], both.data[0], both.data[2]]})
    one, other = (prepare.select(data, directions_of(data), 1) for data in (both, turned))
    for split in ("train", "dev", "test"):
        keys = [{(key(text.source), key(text.target)) for text in some.splits[split]} for some in (one, other)]
        assert keys[0] == keys[1]
    sides = [[key(text.source) for text in some.splits["dev"]] for some in (one, other)]
    assert sides[0] == sides[1]


def test_the_funnel_counts_each_file_wherever_it_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By several machines, of which each sees a part of the rows, and of several catalogues of a package."""
    monkeypatch.setattr(cleaning, "CHUNK_PAIRS", 7)
    sentences(tmp_path / "one.tsv", 50, 1)
    (tmp_path / "two.tsv").write_text("a\tb\nbad\nc\td\n")
    (tmp_path / "empty.tsv").write_text("")
    files = [str(tmp_path / name) for name in ("one.tsv", "two.tsv", "empty.tsv")]
    data = options(*(f"en-fr={file}" for file in files), on_bad_rows="skip")
    expected = [("one.tsv", 50, 0), ("two.tsv", 3, 1), ("empty.tsv", 0, 0)]
    folder = work.Work(tmp_path / "part")
    prepare.select(data, directions_of(data), 1, folder, share=Share(2, 3))
    again = prepare.select(data, directions_of(data), 1, folder)
    assert again.funnels[FR].files == expected
    told = again.funnels[FR].to_json()
    assert told["files"][1] == {"file": "two.tsv", "read": 3, "bad_rows": 1}
    assert told["read"] == sum(one["read"] for one in told["files"])

    words = ["--language-pairs", "en-fr", "--data", "gettext:wtforms,django", *files[:2], "--on-bad-rows", "skip"]
    assert command(["prepare", *words, "--dump", str(tmp_path / "pairs.jsonl"), "--json"]) == 0
    sources = json.loads(capsys.readouterr().out)["sources"]
    assert [source["files"] for source in sources[2:]] == [
        [{"file": name, "read": read, "bad_rows": bad}] for name, read, bad in expected[:2]
    ]
    names = [one["file"] for one in sources[1]["files"]]
    assert "conf/locale/fr/LC_MESSAGES/django.po" in names
    assert len(set(names)) == len(names) > 5
    assert sum(one["read"] for one in sources[1]["files"]) == sources[1]["read"]


# --- the record of what cannot be written ----------------------------------------------


def test_characters_that_cannot_be_written_are_named_with_counts(tmp_path: Path) -> None:
    rows = ["Save ☃ ☃\tEnregistrer", "Open ☃ ✈\tOuvrir ⛄", "Close\tFermer", "Save all\tTout enregistrer"]
    (tmp_path / "a.tsv").write_text("\n".join(rows))
    data = options(f"en-fr={tmp_path / 'a.tsv'}", dev_percent=0, test_percent=0)
    made = corpus_of(tmp_path / "made", data, catalogue_vocabulary())
    assert made.unknown_characters == {"eng_Latn": [("☃", 3), ("✈", 1)], "fra_Latn": [("⛄", 1)]}
    ours = catalogue_vocabulary()
    for side, code in enumerate(("eng_Latn", "fra_Latn")):
        ids = [token for row in rows for token in ours.encode([row.split("\t")[side]])[0]]
        assert made.manifest["splits"]["train"]["unknown_rate"][code] == ids.count(ours.unk) / len(ids) > 0


# --- the same bytes ----------------------------------------------------------------------


def test_neither_chunks_nor_processes_show_in_the_corpus(
    both: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = corpus_of(tmp_path / "small chunks", both, catalogue_vocabulary())
    monkeypatch.setattr(workers, "FEW_PAIRS", 60)
    other = corpus_of(tmp_path / "processes", both, catalogue_vocabulary(), processes=2)
    monkeypatch.setattr(cleaning, "CHUNK_PAIRS", 10_000)
    one = corpus_of(tmp_path / "one chunk", both, catalogue_vocabulary())
    assert contents(made.folder) == contents(other.folder) == contents(one.folder)
    assert sum(made.counts("dev").values()) > 5


class Lost(BaseException):
    """The process is gone."""


class Counting:
    """Counts the files that preparing leaves, and dies before one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        self.lose_before: int | None = None
        for name in ("save", "replace"):
            monkeypatch.setattr(work, name, self.watched(getattr(work, name)))

    def watched(self, function: Any) -> Any:
        def call(path: Path, *args: Any, **arrays: Any) -> None:
            if len(self.names) == self.lose_before:
                raise Lost
            self.names.append(path.name)
            function(path, *args, **arrays)

        return call


def test_a_preparation_killed_before_any_file_goes_on_and_does_nothing_twice(
    both: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = Counting(monkeypatch)
    whole = corpus_of(tmp_path / "whole", both, catalogue_vocabulary())
    names = files.names
    assert len(names) > 30
    assert len(set(names)) == len(names)
    for lost in range(len(names)):
        folder = tmp_path / f"lost {lost}"
        files.names, files.lose_before = [], lost
        with pytest.raises(Lost):
            corpus_of(folder, both, catalogue_vocabulary())
        before, files.names, files.lose_before = files.names, [], None
        made = corpus_of(folder, both, catalogue_vocabulary())
        chunks = [name for name in (*before, *files.names) if name.endswith(".npz")]
        assert len(set(chunks)) == len(chunks), "a part that was done is done again"
        assert contents(folder) == contents(whole.folder.parent)
        assert made.digest == whole.digest


@pytest.mark.parametrize("damage", [b"", None, b"x"])
def test_what_a_power_cut_left_of_a_part_is_not_believed(
    both: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes | None
) -> None:
    whole = corpus_of(tmp_path / "whole", both, catalogue_vocabulary())
    folder, ways = tmp_path / "made", directions_of(both)
    place = prepare.work_of(folder, prepare.inputs_digest(both, ways, 1))
    chosen = prepare.select(both, ways, 1, place)
    prepare.tokenize(chosen, catalogue_vocabulary(), both.max_tokens)
    for path in sorted(place.folder.glob("*.npz"))[::5]:
        content = path.read_bytes()
        middle = len(content) // 2
        path.write_bytes(content[:middle] if damage is None else damage + content[len(damage) :] if damage else b"")
    corpus_of(folder, both, catalogue_vocabulary())
    assert contents(folder) == contents(whole.folder.parent)


def test_nothing_is_left_of_a_preparation_that_was_refused(both: DataConfig, tmp_path: Path) -> None:
    (tmp_path / "bad.tsv").write_text("no tab\n")
    data = both.model_copy(update={"data": [*both.data, f"en-fr={tmp_path / 'bad.tsv'}"]})
    with pytest.raises(DataError, match=r"bad\.tsv line 1"):
        corpus_of(tmp_path / "made", data, catalogue_vocabulary())
    assert not (tmp_path / "made").exists()


# --- several machines ------------------------------------------------------------------------


def part_of(folder: Path, data: DataConfig, encoder: Any, share: Share) -> Path:
    """Prepare one machine's part, as `--shard` does."""
    ways = directions_of(data)
    inputs = prepare.inputs_digest(data, ways, 1)
    place = prepare.work_of(folder, inputs)
    prepare.tokenize(prepare.select(data, ways, 1, place, share=share), encoder, data.max_tokens)
    parts.finish(place, inputs, share)
    return folder


def merged(folder: Path, data: DataConfig, encoder: Any, folders: Sequence[Path]) -> Corpus:
    inputs = prepare.inputs_digest(data, directions_of(data), 1)
    parts.merge(prepare.work_of(folder, inputs), inputs, folders)
    return corpus_of(folder, data, encoder)


@pytest.mark.parametrize("max_samples", [None, 60])
@pytest.mark.parametrize("of", [1, 3])
def test_parts_of_several_machines_make_the_corpus_of_one(
    both: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of: int, max_samples: int | None
) -> None:
    data = both.model_copy(update={"max_samples": max_samples})
    whole = corpus_of(tmp_path / "whole", data, catalogue_vocabulary())
    shares = [Share(number, of) for number in range(1, of + 1)]
    folders = [part_of(tmp_path / f"part {share.number}", data, catalogue_vocabulary(), share) for share in shares]
    before = [contents(folder) for folder in folders]

    def refuse(*_: object) -> None:
        raise AssertionError("cleaned again")

    monkeypatch.setattr(cleaning, "_clean_chunk", refuse)
    made = merged(tmp_path / "merged", data, catalogue_vocabulary(), folders)
    assert contents(made.folder) == contents(whole.folder)
    assert [contents(folder) for folder in folders] == before


def test_what_a_part_has_tokenised_is_not_tokenised_again(both: DataConfig, tmp_path: Path) -> None:
    asked: list[str] = []

    class Asked(Vocabulary):
        def encode(self, texts: Sequence[str]) -> list[list[int]]:
            asked.extend(texts)
            return super().encode(texts)

    folders = [part_of(tmp_path / f"{n}", both, catalogue_vocabulary(), Share(n, 2)) for n in (1, 2)]
    ours = catalogue_vocabulary()
    merged(tmp_path / "merged", both, Asked(ours.tokenizer, ours.folder), folders)
    assert set(asked) == {"a"}, "only the word between which others are tried"


def test_parts_in_one_folder_and_in_the_output_itself_are_found(both: DataConfig, tmp_path: Path) -> None:
    whole = corpus_of(tmp_path / "whole", both, catalogue_vocabulary())
    for number in (1, 2):
        part_of(tmp_path / "here", both, catalogue_vocabulary(), Share(number, 3))
    other = part_of(tmp_path / "there", both, catalogue_vocabulary(), Share(3, 3))
    made = merged(tmp_path / "here", both, catalogue_vocabulary(), [other])
    assert contents(made.folder) == contents(whole.folder)


def test_parts_that_make_no_whole_are_refused(both: DataConfig, tmp_path: Path) -> None:
    one, two = (part_of(tmp_path / f"{n}", both, catalogue_vocabulary(), Share(n, 3)) for n in (1, 2))
    strange = part_of(tmp_path / "s", both.model_copy(update={"max_chars": 900}), catalogue_vocabulary(), Share(3, 3))
    of_two = part_of(tmp_path / "t", both, catalogue_vocabulary(), Share(2, 2))
    (tmp_path / "empty").mkdir()
    for folders, why in (
        ([one, two], "parts are missing: 3/3"),
        ([one, two, strange], "other data or settings"),
        ([one, of_two], "a part of 2"),
        ([one, tmp_path / "empty"], "no part is finished there"),
        ([one, tmp_path / "nowhere"], "no part is finished there"),
    ):
        with pytest.raises(InputError, match=why):
            merged(tmp_path / "merged", both, catalogue_vocabulary(), folders)
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "1/0", "-1/2", "1/2/3", "a/b", "1 / 2"])
def test_a_share_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="--shard"):
        parse(text)


def test_shares_divide_all_chunks_among_the_machines() -> None:
    shares = [parse(f"{number}/3") for number in (1, 2, 3)]
    assert [[share.has(chunk) for share in shares].count(True) for chunk in range(20)] == [1] * 20
    assert [sum(share.has(chunk) for chunk in range(300)) for share in shares] == [100] * 3


# --- processes ---------------------------------------------------------------------------------


def test_a_process_that_the_system_ends_is_no_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "FEW_PAIRS", 0)
    calls = [workers.Call(1, ())] * 3
    with pytest.raises(WorkerLost, match="ended by the system"):
        workers.each(signal.raise_signal, signal.SIGKILL, calls, processes=2)


def test_no_process_outlives_the_one_that_was_killed(both: DataConfig, tmp_path: Path) -> None:
    """And what it had done is gone on with."""
    script = tmp_path / "prepare.py"
    script.write_text(SCRIPT)
    folder = tmp_path / "made"
    (tmp_path / "options.json").write_text(both.model_dump_json())
    pid = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, str(script), str(tmp_path), str(folder)])
    until(lambda: (tmp_path / "workers").exists(), "the first chunk is there")
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    until(lambda: not any(map(is_running, json.loads((tmp_path / "workers").read_text()))), "all workers have ended")
    whole = corpus_of(tmp_path / "whole", both, catalogue_vocabulary())
    corpus_of(folder, both, catalogue_vocabulary())
    assert contents(folder) == contents(whole.folder.parent)


def is_running(pid: int) -> bool:
    """Whether a process lives; one that is dead and not yet buried does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


SCRIPT = """
import json, multiprocessing, sys, threading, time
from pathlib import Path
from dragoman.config import DataConfig
from dragoman.data import cleaning, prepare, workers
from dragoman.languages import parse_pair

def watch(base, folder):
    while not list(folder.glob("*/cleaned-*.npz")) or not multiprocessing.active_children():
        time.sleep(0.01)
    pids = [child.pid for child in multiprocessing.active_children()]
    (base / "part").write_text(json.dumps(pids))
    (base / "part").rename(base / "workers")

def slow(cut):
    def rows(*args):
        for row in cut(*args):
            time.sleep(0.2)  # so that it is killed in the middle
            yield row
    return rows

if __name__ == "__main__":
    base, folder = map(Path, sys.argv[1:])
    data = DataConfig.model_validate_json((base / "options.json").read_text())
    ways = [parse_pair(pair) for pair in data.language_pairs]
    cleaning.CHUNK_PAIRS, workers.FEW_PAIRS = 50, 50
    cleaning._cut = slow(cleaning._cut)
    threading.Thread(target=watch, args=(base, folder), daemon=True).start()
    prepare.select(data, ways, 1, prepare.work_of(folder, prepare.inputs_digest(data, ways, 1)), processes=2)
    time.sleep(600)
"""


def test_a_folder_of_work_is_no_corpus(both: DataConfig, tmp_path: Path) -> None:
    ways = directions_of(both)
    place = prepare.work_of(tmp_path / "made", prepare.inputs_digest(both, ways, 1))
    prepare.select(both, ways, 1, place)
    assert place.folder.is_dir()
    assert open_corpus(place.folder) is None
