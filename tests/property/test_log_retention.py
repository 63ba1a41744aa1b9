"""Retention: the bound holds whatever was saved, the newest and the best stay, and no byte that may come again goes."""

from hypothesis import given
from hypothesis import strategies as st

from dragoman.checkpoint.retention import best_of, existing, freeable, retired
from dragoman.store.record import CheckpointRecord, DropRecord, FileEntry, Record, TrimRecord

MODEL, MOMENTS = "model.safetensors", "training/optimizer.safetensors"


def entry(what: str, step: int) -> FileEntry:
    return FileEntry(size=step, sha256=f"{step:060x}{what:0>4}")


def common(seq: int, nonce: str) -> dict[str, object]:
    return {"seq": seq, "epoch": 1, "owner": "a", "run": "b", "nonce": nonce, "time": 0.0, "parent": ""}


def checkpoint(seq: int, step: int, best: str = "") -> CheckpointRecord:
    files = {MODEL: entry("a", step), MOMENTS: entry("b", step), "config.json": entry("c", 0)}
    fields = {"step": step, "pairs_seen": step, "folder": f"checkpoint-{step}", "files": files, "best": best}
    return CheckpointRecord.model_validate(common(seq, f"{seq:06x}") | fields | {"config": "", "corpus": ""})


def retire(records: list[Record], keep: int, reason: str = "retention") -> None:
    old = retired(existing(records), keep)
    for kind, checkpoints in ((DropRecord, old.dropped), (TrimRecord, old.trimmed)):
        if checkpoints:
            folders = {each.nonce: each.folder for each in checkpoints}
            seq = len(records) + 1
            fields = common(seq, f"{seq:06x}") | {"checkpoints": folders, "reason": reason}
            records.append(kind.model_validate(fields))


saves = st.lists(st.booleans(), max_size=30)
"""Whether each save in turn was the best so far."""


def session(improved: list[bool], keep: int) -> list[list[Record]]:
    """The log after each save."""
    records: list[Record] = []
    best = ""
    logs: list[list[Record]] = []
    for number, better in enumerate(improved, start=1):
        seq = len(records) + 1
        best = f"{seq:06x}" if better or not best else best
        records.append(checkpoint(seq, number, best))
        retire(records, keep)
        logs.append(list(records))
    return logs


@given(saves, st.integers(-1, 4))
def test_the_newest_stay_whole_and_of_the_best_the_model(improved: list[bool], keep: int) -> None:
    for log in session(improved, keep):
        made = [record for record in log if isinstance(record, CheckpointRecord)]
        kept = existing(log)
        whole = [each.step for each in kept if each.is_whole]
        assert whole == [each.step for each in made[::-1][: max(keep, 1)]]
        best = best_of(kept)
        assert best is not None
        assert best.nonce == made[-1].best
        assert MODEL in best.files
        assert len(kept) <= max(keep, 1) + 1


@given(saves, st.integers(1, 3))
def test_what_may_go_for_ever_is_older_than_all_that_training_could_continue_from(
    improved: list[bool], keep: int
) -> None:
    for log in session(improved, keep):
        kept, made = existing(log), [record for record in log if isinstance(record, CheckpointRecord)]
        oldest = min(each.step for each in kept if each.is_whole)
        freed = freeable(log)
        assert not freed & {file.sha256 for each in kept for file in each.files.values()}
        assert freed <= {file.sha256 for each in made if each.step < oldest for file in each.files.values()}
        # Nothing leaks: of what is older, only what is still named stays.
        named = {file.sha256 for each in kept for file in each.files.values()}
        older = {file.sha256 for each in made if each.step < oldest for file in each.files.values()}
        assert freed == older - named


def test_a_damaged_checkpoint_may_go_though_it_is_the_newest_and_a_skipped_one_may_not() -> None:
    records: list[Record] = [checkpoint(1, 500), checkpoint(2, 1000)]
    drop = {"checkpoints": {"000002": "checkpoint-1000"}, "reason": "damaged: model.safetensors: missing"}
    records.append(DropRecord.model_validate(common(3, "000003") | drop))
    assert freeable(records) == {entry("a", 1000).sha256, entry("b", 1000).sha256}
    records[-1] = DropRecord.model_validate(common(3, "000003") | drop | {"reason": "retention"})
    assert freeable(records) == set()


def test_a_name_that_was_dropped_may_be_recorded_again() -> None:
    records: list[Record] = [checkpoint(1, 500)]
    drop = {"checkpoints": {"000001": "checkpoint-500"}, "reason": "damaged: x"}
    records.append(DropRecord.model_validate(common(2, "000002") | drop))
    assert existing(records) == []
    again = checkpoint(1, 500).model_copy(update={"seq": 3})
    assert existing([*records, again]) == [again]
    assert freeable([*records, again]) == set()
