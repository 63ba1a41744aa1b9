"""Records: what is written is what is read, and one flipped bit is found in any of them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dragoman.errors import Damaged, InputError
from dragoman.store.record import (
    CheckpointRecord,
    DropRecord,
    FileEntry,
    FinishedRecord,
    LeaseRecord,
    Record,
    TrimRecord,
    parse,
    record_name,
)

digests = st.text("0123456789abcdef", min_size=64, max_size=64)
nonces = st.text("0123456789abcdef", min_size=1, max_size=16)
counts = st.integers(0, 2**63)
parts = st.text(st.characters(codec="utf-8", categories=("L", "N", "P")), min_size=1).filter(
    lambda part: part not in (".", "..") and "/" not in part and "\\" not in part and part.isprintable()
)
names = st.lists(parts, min_size=1, max_size=3).map("/".join)
folders = st.builds(
    lambda step, nonce: f"checkpoint-{step}" + (f"-{nonce}" if nonce else ""), counts, st.just("") | nonces
)
entries = st.builds(FileEntry, size=counts, sha256=digests)
common: dict[str, Any] = {
    "seq": st.integers(1, 10**9),
    "epoch": st.integers(1, 10**6),
    "owner": nonces,
    "run": nonces,
    "nonce": nonces,
    "time": st.floats(),
    "parent": st.just("") | digests,
}
records: st.SearchStrategy[Record] = st.one_of(
    st.builds(LeaseRecord, **common, host=st.text()),
    st.builds(
        CheckpointRecord,
        **common,
        step=counts,
        pairs_seen=counts,
        folder=folders,
        files=st.dictionaries(names, entries, max_size=4),
        metrics=st.dictionaries(st.text(), st.floats(), max_size=3),
        config=st.text(),
        corpus=st.text(),
        losses=st.lists(st.tuples(counts, st.floats()), max_size=3).map(tuple),
        best=st.just("") | nonces,
    ),
    st.builds(DropRecord, **common, checkpoints=st.dictionaries(nonces, folders, max_size=3), reason=st.text()),
    st.builds(TrimRecord, **common, checkpoints=st.dictionaries(nonces, folders, max_size=3), reason=st.text()),
    st.builds(
        FinishedRecord,
        **common,
        outcome=st.sampled_from(["done", "stopped", "failed"]),
        reason=st.text(),
        step=counts,
        resumed_from=st.just("") | nonces,
    ),
)


@given(records)
def test_a_record_survives_its_bytes(record: Record) -> None:
    data = record.to_bytes()
    again = parse(data, "x")
    assert type(again) is type(record)
    assert again.to_bytes() == data
    assert again.digest() == record.digest() == json.loads(data)["sha256"]
    assert data.count(b"\n") == 1


@given(records, st.data())
def test_one_flipped_bit_is_found(record: Record, data: st.DataObject) -> None:
    stored = bytearray(record.to_bytes())
    place = data.draw(st.integers(0, len(stored) * 8 - 1))
    stored[place // 8] ^= 1 << place % 8
    with pytest.raises(Damaged, match="000007"):
        parse(bytes(stored), record_name(7))


@given(st.binary(max_size=200))
def test_garbage_is_damage_and_nothing_worse(garbage: bytes) -> None:
    with pytest.raises(Damaged):
        parse(garbage, "x")


def lease(**changes: Any) -> LeaseRecord:
    fields = {"seq": 1, "epoch": 1, "owner": "a", "run": "b", "nonce": "c", "time": 0.0, "parent": "", "host": "h"}
    return LeaseRecord(**(fields | changes))


def test_a_newer_format_is_refused_by_name() -> None:
    newer = lease().model_copy(update={"format": 3})
    with pytest.raises(InputError, match="record format 3, this one reads 2") as raised:
        parse(newer.to_bytes(), "x")
    assert "upgrade" in raised.value.hint


def test_a_record_bears_the_lowest_format_that_has_its_kind() -> None:
    """So a log without trims reads in older versions, and old records keep their bytes."""
    fields = lease().model_dump(exclude={"kind", "host", "format"})
    assert lease().format == 1
    assert TrimRecord(**fields, checkpoints={"a": "checkpoint-1"}, reason="").format == 2
    assert lease().to_bytes().startswith(b'{"epoch":1,"format":1,"host":"h","kind":"lease","nonce":"c","owner":"a",')


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a\\b", "./a", "a\nb", "a/"])
def test_a_record_cannot_name_a_file_outside_its_folder(name: str) -> None:
    entry = FileEntry(size=0, sha256="0" * 64)
    common = lease().model_dump(exclude={"kind", "host"})
    with pytest.raises(ValidationError):
        CheckpointRecord(
            **common, step=1, pairs_seen=1, folder="checkpoint-1", config="", corpus="", files={name: entry}
        )


@pytest.mark.parametrize("folder", ["", "..", "checkpoint-1/..", "checkpoint-", "checkpoint-1\n", "dragoman"])
def test_a_drop_cannot_name_another_folder(folder: str) -> None:
    common = lease().model_dump(exclude={"kind", "host"})
    with pytest.raises(ValidationError):
        DropRecord(**common, checkpoints={"a": folder}, reason="")
