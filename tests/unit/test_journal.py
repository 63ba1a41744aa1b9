import errno
import json
import os
from dataclasses import fields
from pathlib import Path

import pytest

from dragoman import journal
from dragoman.journal import Event, Journal, SaveFailed, StepSkipped, Warned

FIRST, SECOND = Warned(message="first"), Warned(message="zweite\n漢字 \u2028")


# Not __subclasses__: a dataclass with slots leaves the class that it was made from behind.
KINDS = [kind for kind in vars(journal).values() if isinstance(kind, type) and issubclass(kind, Event)]


def num_open() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def make(path: Path) -> Journal:
    return Journal(path, clock=lambda: 1000.12345)


def test_what_was_appended_is_read_in_order(tmp_path: Path) -> None:
    log = make(tmp_path / "journal.jsonl")
    log.append(FIRST)
    log.append(SECOND)
    assert list(journal.read(log.path)) == [
        {"kind": "warned", "time": 1000.123, "message": "first"},
        {"kind": "warned", "time": 1000.123, "message": "zweite\n漢字 \u2028"},
    ]


def test_every_event_is_one_line_of_json_whatever_its_text_holds(tmp_path: Path) -> None:
    log = make(tmp_path / "journal.jsonl")
    log.append(SECOND)
    lines = log.path.read_bytes().split(b"\n")
    assert len(lines) == 2
    assert lines[1] == b""
    assert json.loads(lines[0])["kind"] == "warned"


def test_a_missing_journal_is_an_empty_one(tmp_path: Path) -> None:
    assert list(journal.read(tmp_path / "journal.jsonl")) == []


def test_a_line_torn_at_any_byte_is_skipped_and_closed_by_the_next_writer(tmp_path: Path) -> None:
    log = make(tmp_path / "journal.jsonl")
    log.append(FIRST)
    whole = log.path.read_bytes()
    log.append(SECOND)
    second = log.path.read_bytes()[len(whole) :]
    for cut in range(1, len(second)):  # the last one lacks only its line end
        log.path.write_bytes(whole + second[:cut])
        torn = [event["message"] for event in journal.read(log.path)]
        assert torn == ["first"] or (cut == len(second) - 1 and len(torn) == 2)
        log.append(FIRST)
        after = [event["message"] for event in journal.read(log.path)]
        assert after == [*torn, "first"], cut


def test_lines_that_are_no_events_are_skipped(tmp_path: Path) -> None:
    log = make(tmp_path / "journal.jsonl")
    log.append(FIRST)
    with log.path.open("ab") as file:
        file.write(b"\n[1, 2]\n\xff\xfe\nnull\n")
    log.append(FIRST)
    assert [event["message"] for event in journal.read(log.path)] == ["first", "first"]


def test_a_disk_that_refuses_does_not_stop_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Event] = []
    log = Journal(tmp_path / "journal.jsonl", seen.append)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        log.append(FIRST)
    assert "No space left on device" in log.broken
    assert str(log.path) in log.broken
    assert "the journal cannot be written" in getattr(seen[0], "message", "")
    assert seen[1:] == [FIRST], "the terminal still tells"
    log.append(SECOND)
    assert log.broken == ""
    assert len(list(journal.read(log.path))) == 1


def test_a_folder_that_is_gone_does_not_stop_training(tmp_path: Path) -> None:
    log = make(tmp_path / "gone" / "journal.jsonl")
    log.append(FIRST)
    assert log.broken


def test_no_descriptor_stays_open(tmp_path: Path) -> None:
    log = make(tmp_path / "journal.jsonl")
    before = num_open()
    for _ in range(20):
        log.append(FIRST)
    assert num_open() == before


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind())
def test_no_event_has_a_field_that_the_journal_itself_writes(kind: type[Event]) -> None:
    assert not {"kind", "time"} & {field.name for field in fields(kind)}


def test_kinds_are_words_in_the_past_tense_joined_by_underscores() -> None:
    assert StepSkipped.kind() == "step_skipped"
    assert SaveFailed.kind() == "save_failed"
    kinds = [kind.kind() for kind in KINDS]
    assert len(set(kinds)) == len(kinds)
