"""Whatever the Hub answers, or does not, a publish is whole or absent, and the reason is said in words."""

import contextlib
import re
from collections.abc import Callable, Generator
from pathlib import Path

import huggingface_hub.constants
import pytest

from dragoman.checkpoint.lease import take_lease
from dragoman.checkpoint.log import RunLog
from dragoman.errors import Damaged, DragomanError, StoreUnavailable, Superseded
from dragoman.store.base import CARD, NumberTaken
from dragoman.store.deadline import GivenUp, Patience, Transfer, together, within
from dragoman.store.disk import part
from dragoman.store.hub_access import Tokens
from dragoman.store.outcome import HubFailure, explain
from dragoman.store.record import LeaseRecord
from tests.store.hub_session import IMPATIENT, MODEL, OPTIMIZER, STATE, TOKEN, HubRun, words
from tests.support.hub import Fault, HubStandIn
from tests.support.hub.client import without_waiting

QUOTA = "Private repository storage limit reached, please upgrade your plan"
ECHO = f"Bad token {TOKEN}"


@pytest.fixture(scope="module")
def hub() -> Generator[HubStandIn]:
    with HubStandIn() as hub:
        hub.add_token(TOKEN, "ada")
        yield hub


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the client would have slept between its own attempts."""
    return without_waiting(monkeypatch)


@pytest.fixture
def run(hub: HubStandIn, tmp_path: Path, slept: list[float]) -> Generator[HubRun]:
    run = HubRun(hub, tmp_path / "run")
    yield run
    hub.faults.clear()
    for commit in hub.commits(run.repo) if hub.key(run.repo) in hub.repositories else ():
        assert TOKEN not in commit.title + commit.message
    for name in hub.names(run.repo) if hub.key(run.repo) in hub.repositories else ():
        with contextlib.suppress(FileNotFoundError):
            assert TOKEN.encode() not in hub.read(run.repo, name)
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or TOKEN.encode() not in path.read_bytes()


@pytest.fixture
def log(run: HubRun) -> RunLog:
    return run.start()


def unavailable(attempt: Callable[[], object]) -> StoreUnavailable:
    """What a failing attempt says; one line, without secrets and with the store's name."""
    with pytest.raises(StoreUnavailable) as caught:
        attempt()
    message = caught.value.message
    assert "\n" not in message
    assert "secret" not in message.lower()
    assert message.startswith("hf://ada/")
    assert caught.value.__cause__ is None  # which may quote headers
    return caught.value


# --- a commit ------------------------------------------------------------------------

REFUSALS = [
    (401, "", ECHO, r"401: the token is not valid \(HF_TOKEN"),
    (402, "", "Payment required", r"402: the storage of ada is full"),
    (403, "", QUOTA, r"403: the storage of ada is full, .*\(Private repository storage"),
    (403, "", "Forbidden", r"403: this token may not do that in ada/run-\d+ \(Forbidden\)"),
    (403, "", "No rights under the namespace ada", r"403: this token may not do that in ada/run-\d+ \(No rights"),
    (404, "RepoNotFound", "Repository not found", r"404: ada/run-\d+ is gone, or hidden"),
    (409, "", "Conflict", r"409: another change is in progress"),
    (413, "", "too large", r"413: refused \(too large\)"),
    (429, "", "Slow down", r"429: asked too often"),
    (500, "", "Oops", r"500: the Hub failed \(Oops\)"),
    (502, "", "", r"502: the Hub failed"),
    (503, "", "", r"503: the Hub failed"),
    (504, "", "", r"504: the Hub failed"),
]


@pytest.mark.parametrize(("status", "code", "said", "reason"), REFUSALS)
def test_a_refused_commit_says_why_and_is_made_next_time(
    run: HubRun, log: RunLog, status: int, code: str, said: str, reason: str
) -> None:
    run.hub.faults.add(Fault("commit", status=status, error_code=code, error_message=said))
    failure = unavailable(lambda: run.save(log, 500))
    assert re.search(rf"checkpoint-500: step 500: not stored: {reason}", failure.message)
    assert words(run.open().records) == ["lease"]
    since = len(run.hub.requests)
    run.save(log, 500)
    assert run.routes(since).count("upload") == 0  # they have arrived already
    run.check_whole()


@pytest.mark.parametrize("fault", [{"status": 500}, {"status": 504}, {"status": 429}, {"drop": True}])
def test_a_commit_that_landed_is_a_success_whatever_the_answer_was(
    run: HubRun, log: RunLog, fault: dict[str, int]
) -> None:
    run.hub.faults.add(Fault("commit", after_effect=True, **fault))  # pyright: ignore[reportArgumentType]
    run.save(log, 500)
    assert words(run.open().records) == ["lease", "checkpoint"]
    assert len(run.hub.commits(run.repo)) == 3  # the Hub's own, the lease, the checkpoint
    run.check_whole()


def test_an_answer_that_was_lost_and_cannot_be_read_back_is_found_by_the_next_save(run: HubRun, log: RunLog) -> None:
    run.hub.faults.add(Fault("commit", drop=True, after_effect=True))
    run.hub.faults.add(Fault("info", skip=2, times=2, status=503))  # when it reads back
    assert "the connection was cut" in unavailable(lambda: run.save(log, 500)).message
    run.hub.faults.clear()
    assert words(run.open().records) == ["lease", "checkpoint"]
    run.safe.append(run.open().checkpoints[0].nonce)
    run.save(log, 1000)
    assert [checkpoint.step for checkpoint in log.checkpoints] == [1000, 500]
    run.check_whole()


def test_a_commit_that_is_never_answered_is_given_up(run: HubRun, log: RunLog) -> None:
    impatient = run.open(run.store(patience=IMPATIENT))
    take_lease(impatient, "here")
    hold = run.hub.faults.add(Fault("commit", hold=True))
    assert "no answer within 0.6 s" in unavailable(lambda: run.save(impatient, 500)).message
    assert words(run.open().records) == ["lease", "lease"]
    hold.release()  # it lands now, while nobody waits for it
    while len(words(run.open().records)) == 2:
        pass
    impatient = run.open(run.store())
    assert words(impatient.records) == ["lease", "lease", "checkpoint"]
    run.check_whole()


def test_a_commit_that_landed_and_is_never_answered_is_a_success(run: HubRun, log: RunLog) -> None:
    impatient = run.open(run.store(patience=IMPATIENT))
    take_lease(impatient, "here")
    run.hub.faults.add(Fault("commit", hold=True, after_effect=True))
    run.save(impatient, 500)
    run.check_whole()


def test_a_person_who_edits_the_card_while_we_commit_keeps_the_edit(run: HubRun, log: RunLog) -> None:
    run.hub.faults.add(Fault("commit", act=lambda: run.hub.write(run.repo, CARD, b"a person's words")))
    run.save(log, 500)
    assert run.hub.read(run.repo, CARD) == b"a person's words"
    # Every attempt builds its operations anew: one that is used twice commits a record without its file.
    run.check_whole()
    run.check_tidy(log)


def test_a_branch_that_somebody_else_moves_all_the_time_is_said(run: HubRun, log: RunLog) -> None:
    edits = iter(range(100))
    edit = Fault("commit", times=None, act=lambda: run.hub.write(run.repo, CARD, b"edit %d" % next(edits)))
    run.hub.faults.add(edit)
    assert "412" in unavailable(lambda: run.save(log, 500)).message
    assert edit.num_matched == 5
    run.hub.faults.clear()
    run.save(log, 500)
    run.check_whole()


def test_an_edit_that_is_not_shown_yet_is_waited_for(run: HubRun) -> None:
    waited: list[float] = []
    log = run.start(run.store(sleep=waited.append))
    run.hub.write(run.repo, CARD, b"a person's words")
    run.hub.faults.add(Fault("info", stale_commits=1, times=4))
    run.save(log, 500)
    assert waited
    run.check_whole()
    run.hub.write(run.repo, CARD, b"other words")
    run.hub.faults.add(Fault("info", stale_commits=1, times=None))
    assert "412" in unavailable(lambda: run.save(log, 1000)).message
    run.hub.faults.clear()
    run.save(log, 1000)


def test_our_own_commit_is_known_though_the_hub_does_not_show_it_yet(run: HubRun, log: RunLog) -> None:
    run.hub.faults.add(Fault("info", stale_commits=1, times=None))
    for step in (500, 1000, 1500):
        run.save(log, step, keep=None)
    assert [record.seq for record in log.store.records()] == [1, 2, 3, 4]
    run.hub.faults.clear()
    run.check_whole()


def test_a_commit_that_is_not_shown_yet_is_waited_for(run: HubRun) -> None:
    waited: list[float] = []
    log = run.start(run.store(sleep=waited.append))
    run.hub.faults.add(Fault("tree", status=404, error_code="RevisionNotFound", times=2))
    run.save(log, 500)
    assert waited == [1, 2]


def test_a_log_that_shrinks_is_an_old_state(run: HubRun, log: RunLog) -> None:
    reader = run.store()
    run.save(log, 500)
    run.save(log, 1000)
    assert len(reader.records()) == 3
    run.hub.faults.add(Fault("info", stale_commits=1))  # a commit that this reader has never seen
    assert "old state: 2 records, and there were 3" in unavailable(reader.records).message
    assert len(reader.records()) == 3


def test_a_record_is_never_published_behind_a_gap(run: HubRun, log: RunLog) -> None:
    early = log.records[0].model_copy(update={"seq": 3, "nonce": "77"})
    assert "old state, without record 2" in unavailable(lambda: log.store.publish([early], {})).message
    assert words(run.open().records) == ["lease"]


def test_a_late_retry_does_not_bring_back_what_was_removed_since(run: HubRun, log: RunLog) -> None:
    first = run.save(log, 500)
    for step in (1000, 1500):
        run.save(log, step)
    before = run.hub.names(run.repo)
    log.store.publish([first], run.files(500), first)
    assert run.hub.names(run.repo) == before
    assert run.hub.read(run.repo, MODEL) == run.contents(1500)[MODEL]


def test_a_repository_that_is_deleted_during_the_run_is_said(run: HubRun, log: RunLog) -> None:
    del run.hub.repositories[run.hub.key(run.repo)]
    assert "404: it is gone" in unavailable(lambda: run.save(log, 500)).message
    assert "404: not there" in unavailable(lambda: run.store().publish(log.records, {})).message


def test_a_number_that_another_machine_takes_while_we_commit_is_theirs(run: HubRun, log: RunLog) -> None:
    other = run.open()
    run.hub.faults.add(Fault("commit", act=lambda: take_lease(other, "there")))
    with pytest.raises(Superseded, match="there"):
        run.save(log, 500)
    assert [record.host for record in run.open().records if isinstance(record, LeaseRecord)] == ["here", "there"]
    assert not [name for name in run.hub.names(run.repo) if name.startswith("checkpoint-")]
    taken = log.records[0].model_copy(update={"nonce": "77"})
    with pytest.raises(NumberTaken, match=r"hf://ada/run-\d+/dragoman/log/000001.json"):
        log.store.publish([taken], {})


# --- uploads -------------------------------------------------------------------------


def test_an_upload_that_is_cut_once_goes_on(run: HubRun, log: RunLog) -> None:
    run.hub.faults.add(Fault("upload", cut_upload_at=100))
    try:
        run.save(log, 500)
    except StoreUnavailable:  # huggingface_hub 1.5 does not try again by itself
        run.save(log, 500)
    run.check_whole()


def test_uploads_that_are_always_cut_are_said(run: HubRun, log: RunLog) -> None:
    run.hub.faults.add(Fault("upload", cut_upload_at=100, times=None))
    assert "not stored: the connection was cut" in unavailable(lambda: run.save(log, 500)).message
    run.hub.faults.clear()
    run.save(log, 500)
    run.check_whole()


@pytest.mark.parametrize("route", ["preupload", "batch", "upload", "verify"])
def test_a_step_of_an_upload_that_fails_is_said(run: HubRun, log: RunLog, route: str) -> None:
    run.hub.faults.add(Fault(route, status=503, times=None))
    assert "503: the Hub failed" in unavailable(lambda: run.save(log, 500)).message
    run.hub.faults.clear()
    run.save(log, 500)
    run.check_whole()


def test_a_full_quota_is_said_where_the_hub_says_it(run: HubRun, log: RunLog) -> None:
    run.hub.private_quota_bytes = 10
    try:
        failure = unavailable(lambda: run.save(log, 500))
    finally:
        run.hub.private_quota_bytes = None
    assert "the storage of ada is full" in failure.message
    assert "free space" in failure.hint


def test_an_upload_that_stands_still_is_given_up_and_sends_nothing_more(run: HubRun, log: RunLog) -> None:
    impatient = run.open(run.store(patience=IMPATIENT))
    take_lease(impatient, "here")
    run.hub.faults.add(Fault("upload", hold=True, times=None))
    assert "no byte moved for 0.6 s" in unavailable(lambda: run.save(impatient, 500)).message
    run.hub.faults.drop_all_held()  # the client would try again now
    run.hub.faults.clear()
    since = len(run.hub.requests)
    run.save(impatient, 500)
    assert run.routes(since).count("upload") >= 2
    run.check_whole()


def test_large_uploads_in_parts_are_held_back_and_whole(run: HubRun, log: RunLog) -> None:
    run.hub.part_bytes = 600
    try:
        run.save(log, 500)
        assert "part" in run.routes()
    finally:
        run.hub.part_bytes = None
    run.check_whole()


# --- asked too often -----------------------------------------------------------------


@pytest.mark.parametrize("route", ["info", "tree", "preupload", "batch", "commit", "lfs_list", "resolve"])
def test_a_long_wait_is_left_to_whoever_asked(run: HubRun, log: RunLog, slept: list[float], route: str) -> None:
    for step in (500, 1000, 1500):
        run.save(log, step)
    run.hub.faults.add(Fault(route, status=429, headers={"Retry-After": "300"}, times=None))
    attempt = (lambda: run.store().records()) if route == "resolve" else (lambda: run.save(log, 2000))
    failure = unavailable(attempt)
    assert "429: asked too often" in failure.message
    assert "in 300 s" in failure.message
    assert failure.retry_after == 300
    assert not slept


def test_the_hubs_own_limits_are_understood(run: HubRun, log: RunLog, slept: list[float]) -> None:
    run.hub.commits_per_hour = 1
    failure = unavailable(lambda: run.save(log, 500))
    run.hub.commits_per_hour = None
    assert "429" in failure.message
    assert failure.retry_after == 0  # it did not say
    run.hub.requests_per_five_minutes = 1
    failure = unavailable(lambda: run.save(log, 500))
    run.hub.requests_per_five_minutes = None
    run.hub.request_counts.clear()
    assert 0 < failure.retry_after <= 300


# --- tokens --------------------------------------------------------------------------


def test_a_token_that_was_replaced_heals_the_run(run: HubRun) -> None:
    tokens = [run.hub.add_token("hf_first000", "ada")]
    log = run.start(run.store(token=lambda: tokens[-1]))
    run.hub.revoke(tokens[0])
    assert "401: the token is not valid" in unavailable(lambda: run.save(log, 500)).message
    tokens.append(run.hub.add_token("hf_second00", "ada"))
    run.save(log, 500)
    run.check_whole()


def test_a_token_file_helps_where_the_environment_has_an_old_token(
    run: HubRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = run.hub.add_token("hf_oldold00", "ada"), "hf_newnew00"
    monkeypatch.setenv("HF_TOKEN", old)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(run.folder / "token"))
    log = run.start(run.store(token=None))
    run.save(log, 500)
    run.hub.revoke(old)
    assert "401" in unavailable(lambda: run.save(log, 1000)).message
    (run.folder / "token").write_text(run.hub.add_token(new, "ada") + "\n")
    run.save(log, 1000)
    since = len(run.hub.requests)
    log.store.records()
    assert run.routes(since) == ["info"]  # the old one is not tried first any more
    run.check_whole()
    run.hub.revoke(new)
    run.hub.add_token(old, "ada")
    run.save(log, 1500)


def test_no_token_is_in_any_text() -> None:
    tokens = Tokens(lambda: "another-kind-of-secret")
    tokens.choose()
    said = tokens.scrub(f"sent another-kind-of-secret,\n {TOKEN} and Authorization: Bearer abc.def")
    assert said == "sent hf_…, hf_… and Authorization: Bearer hf_…"


def test_a_hub_that_repeats_our_token_does_not_make_us_repeat_it(run: HubRun) -> None:
    run.hub.add_token("another-kind-of-secret", "ada")
    log = run.start(run.store(token=lambda: "another-kind-of-secret"))
    run.hub.faults.add(Fault("commit", status=500, error_message="Not for another-kind-of-secret"))
    assert "500: the Hub failed (Not for hf_…)" in unavailable(lambda: run.save(log, 500)).message


def test_no_token_at_all_is_said(run: HubRun, log: RunLog) -> None:
    assert "401: no token" in unavailable(run.store(token=lambda: None).records).message


# --- downloads -----------------------------------------------------------------------


def test_a_download_that_is_cut_is_continued_where_it_was(run: HubRun, log: RunLog) -> None:
    checkpoint = run.save(log, 500)
    moved: list[int] = []
    store = run.store()
    store.progress = moved.append
    run.hub.faults.add(Fault("download", cut_download_at=1000, times=2))
    store.fetch(checkpoint, [OPTIMIZER], run.folder / "there")
    assert (run.folder / "there" / OPTIMIZER).read_bytes() == run.contents(500)[OPTIMIZER]
    assert sum(moved) == len(run.contents(500)[OPTIMIZER])


def test_a_download_goes_on_after_the_process_is_gone(run: HubRun, log: RunLog) -> None:
    checkpoint = run.save(log, 500)
    target = run.folder / "there" / OPTIMIZER
    run.hub.faults.add(Fault("download", cut_download_at=1000))
    run.hub.faults.add(Fault("download", skip=1, times=None, drop=True))
    assert (
        "connection was cut"
        in unavailable(lambda: run.store().fetch(checkpoint, [OPTIMIZER], target.parents[1])).message
    )
    run.hub.faults.clear()
    assert part(target).stat().st_size == 1000
    moved: list[int] = []
    store = run.store()
    store.progress = moved.append
    store.fetch(checkpoint, [OPTIMIZER], target.parents[1])
    assert sum(moved) == len(run.contents(500)[OPTIMIZER]) - 1000
    assert target.read_bytes() == run.contents(500)[OPTIMIZER]
    assert not part(target).exists()


def test_a_hub_that_begins_again_is_understood(run: HubRun, log: RunLog, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint, store = run.save(log, 500), run.store()
    stream = store._api.stream
    monkeypatch.setattr(store._api, "stream", lambda path, oid, start, take: stream(path, oid, 0, take))
    run.hub.faults.add(Fault("download", cut_download_at=1000))
    moved: list[int] = []
    store.progress = moved.append
    store.fetch(checkpoint, [OPTIMIZER], run.folder / "there")
    assert (run.folder / "there" / OPTIMIZER).read_bytes() == run.contents(500)[OPTIMIZER]
    assert sum(moved) == 1000 + len(run.contents(500)[OPTIMIZER])


@pytest.mark.parametrize("left", [b"\0" * 1000, b"\0" * 100_000])
def test_what_a_power_cut_left_of_a_download_is_not_trusted(run: HubRun, log: RunLog, left: bytes) -> None:
    checkpoint = run.save(log, 500)
    target = run.folder / "there" / OPTIMIZER
    target.parent.mkdir(parents=True)
    part(target).write_bytes(left)
    run.hub.faults.add(Fault("download", skip=int(len(left) == 1000), flip_byte=0))  # and one wrong transfer after it
    run.store().fetch(checkpoint, [OPTIMIZER], target.parents[1])
    assert target.read_bytes() == run.contents(500)[OPTIMIZER]


@pytest.mark.parametrize("name", [MODEL, STATE])
@pytest.mark.parametrize("spoil", [{"flip_byte": -1}, {"truncate_to": 5}, {"status": 404}])
def test_one_bad_transfer_is_not_damage_and_two_are(run: HubRun, log: RunLog, name: str, spoil: dict[str, int]) -> None:
    checkpoint = run.save(log, 500)
    store = run.store()
    route = "download" if name == MODEL else "resolve"
    for bring in (
        lambda: store.verify(checkpoint, [name]),
        lambda: store.fetch(checkpoint, [name], run.folder / "there"),
    ):
        run.hub.faults.add(Fault(route, path="checkpoint-500" if route == "resolve" else "", **spoil))  # pyright: ignore
        bring()
        (run.folder / "there" / name).unlink(missing_ok=True)
        run.hub.faults.clear()
        if "truncate_to" in spoil:
            continue  # five bytes at a time it becomes whole
        run.hub.faults.add(Fault(route, times=None, **spoil))  # pyright: ignore
        with pytest.raises(Damaged, match=f"hf://ada/run-[0-9]+/checkpoint-500/{name}: "):
            bring()
        run.hub.faults.clear()
        assert not list((run.folder / "there").rglob("*.*"))


@pytest.mark.parametrize("name", [MODEL, STATE])
@pytest.mark.parametrize("how", ["flip", "truncate", "remove"])
def test_bytes_that_the_hub_has_lost_are_damage(run: HubRun, log: RunLog, name: str, how: str) -> None:
    checkpoint = run.save(log, 500)
    run.hub.damage(run.repo, f"checkpoint-500/{name}", how)  # pyright: ignore[reportArgumentType]
    with pytest.raises(Damaged, match=name):
        run.store().verify(checkpoint)
    with pytest.raises(Damaged, match=name):
        run.store().fetch(checkpoint, checkpoint.files, run.folder / "there")
    assert not (run.folder / "there" / name).exists()


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"status": 503}, "503: the Hub failed"),
        ({"status": 404, "error_code": "RepoNotFound"}, "404: .* is gone"),
        ({"status": 404, "error_code": "RevisionNotFound"}, "404: a commit is not shown"),
        ({"status": 403}, "403: this token may not"),
        ({"drop": True}, "the connection was cut"),
    ],
)
def test_a_failing_hub_is_not_damage(run: HubRun, log: RunLog, fault: dict[str, str], reason: str) -> None:
    checkpoint = run.save(log, 500)
    run.hub.faults.add(Fault("resolve", times=None, **fault))  # pyright: ignore[reportArgumentType]
    assert re.search(reason, unavailable(lambda: run.store().verify(checkpoint)).message)


def test_a_download_that_stands_still_is_given_up(run: HubRun, log: RunLog) -> None:
    checkpoint = run.save(log, 500)
    run.hub.faults.add(Fault("download", hold=True, times=None))
    patience = Patience(stall_seconds=0.6)
    failure = unavailable(lambda: run.store(patience=patience).verify(checkpoint))
    assert "no byte moved" in failure.message or "no answer" in failure.message


def test_a_full_disk_is_said(run: HubRun, log: RunLog) -> None:
    checkpoint = run.save(log, 500)
    (run.folder / "there").write_bytes(b"a file where a folder should be")
    with pytest.raises(StoreUnavailable, match="cannot be written"):
        run.store().fetch(checkpoint, checkpoint.files, run.folder / "there/deeper")


# --- calls ---------------------------------------------------------------------------


@pytest.mark.parametrize("route", ["info", "tree", "whoami", "create", "lfs_list", "lfs_delete", "paths_info"])
def test_every_question_has_a_deadline_and_a_reason(run: HubRun, log: RunLog, route: str) -> None:
    for step in (500, 1000):
        run.save(log, step)
    store = run.store(patience=IMPATIENT)
    log = run.open(store)
    take_lease(log, "here")
    attempts: dict[str, Callable[[], object]] = {
        "info": store.records,
        "tree": run.store(patience=IMPATIENT).records,
        "whoami": store.prepare,
        "create": store.prepare,
        "lfs_list": store.num_bytes,
        "lfs_delete": lambda: log.retire(1),
        "paths_info": store.idle_seconds,
    }
    run.hub.faults.add(Fault(route, hold=True))
    assert "no answer within 0.6 s" in unavailable(attempts[route]).message
    run.hub.faults.clear()
    run.hub.faults.add(Fault(route, status=500, times=None))
    if route == "lfs_delete":
        log.retire(1)  # nothing to retire any more: the bytes are freed with the next ones
        run.hub.faults.clear()
        run.save(log, 1500)
        run.save(log, 2000)
        assert run.held_steps() == 2
    else:
        assert "500: the Hub failed" in unavailable(attempts[route]).message


def test_a_name_that_does_not_resolve_and_a_safe_connection_that_fails_are_said() -> None:
    class ConnectError(Exception):
        pass

    for text, reason in (
        ("[Errno -2] Name or service not known", "its name cannot be resolved"),
        ("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed", "no safe connection: .*certificate verify"),
        ("[Errno 111] Connection refused", "cannot be reached"),
    ):
        outer = RuntimeError("Error while uploading 'model.safetensors' to the Hub.")
        outer.__cause__ = ConnectError(text)
        assert re.search(reason, explain(outer, "hf://ada/run: not stored", "ada/run").message)
    strange = explain(KeyError("oid"), "hf://ada/run: not stored", "ada/run")
    assert strange.message == "hf://ada/run: not stored: KeyError: 'oid'"
    assert isinstance(strange, HubFailure)
    assert strange.may_pass


def test_a_call_ends_in_time_or_with_its_own_error() -> None:
    assert within(5, "x", lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        within(5, "x", lambda: 1 // 0)
    with pytest.raises(KeyboardInterrupt):
        within(5, "x", lambda: exec("raise KeyboardInterrupt"))


def test_of_calls_side_by_side_the_error_is_raised() -> None:
    assert together([lambda n=n: n for n in range(20)], 4) == list(range(20))
    with pytest.raises(DragomanError):
        together([lambda: 1, lambda: exec("from dragoman.errors import InputError; raise InputError('x')")], 2)


def test_a_transfer_is_paced_over_all_of_its_bytes() -> None:
    now, waited = 0.0, []

    def sleep(seconds: float) -> None:
        nonlocal now
        waited.append(seconds)
        now += seconds

    transfer = Transfer(lambda num_bytes: None, 1000.0, clock=lambda: now, sleep=sleep)
    for _ in range(10):
        transfer.moved(500)
    assert now == pytest.approx(5.0)
    assert Patience().for_bytes(200_000_000, 1000.0) > 200_000


def test_a_transfer_that_was_given_up_moves_nothing_more() -> None:
    transfer = Transfer(lambda num_bytes: None)
    transfer.moved(1)
    transfer.give_up()
    with pytest.raises(GivenUp):
        transfer.moved(1)
