"""The stand-in for the Hub when things go wrong, as the real client sees it."""

import base64
import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi, constants
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

from tests.support.hub import Fault, HubStandIn, hub_process
from tests.support.hub.client import without_waiting

REPO = "ada/run"
WEIGHTS = bytes(range(256)) * 20
MODEL = "model.safetensors"


@pytest.fixture(autouse=True)
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    return without_waiting(monkeypatch)


@pytest.fixture
def hub() -> Iterator[HubStandIn]:
    with HubStandIn() as hub:
        hub.add_token("hf_ada", "ada")
        hub.create(REPO)
        yield hub


@pytest.fixture
def api(hub: HubStandIn) -> HfApi:
    return HfApi(endpoint=hub.url, token="hf_ada")


@pytest.fixture
def download(api: HfApi, tmp_path: Path) -> Callable[[str], bytes]:
    """Fetch a file into an empty cache."""

    def download(path: str) -> bytes:
        cache = tmp_path / f"cache-{time.monotonic_ns()}"
        return Path(api.hf_hub_download(REPO, path, cache_dir=cache)).read_bytes()

    return download


def commit(api: HfApi, files: dict[str, bytes], parent: str | None = None) -> str:
    operations = [CommitOperationAdd(path, data) for path, data in files.items()]
    return api.create_commit(REPO, operations, commit_message="save", parent_commit=parent).oid


def routes(hub: HubStandIn) -> list[str]:
    return [seen.route for seen in hub.requests]


def status_of(call: Callable[[], object]) -> int:
    with pytest.raises(HfHubHTTPError) as failure:
        call()
    return failure.value.response.status_code


def assert_no_answer(call: Callable[[], object]) -> None:
    """The connection was closed: an error of httpx, or one that was raised from it."""
    with pytest.raises(Exception, match=r".") as failure:
        call()
    error = failure.value
    if isinstance(error, RuntimeError) and error.__cause__:
        error = error.__cause__
    assert type(error).__module__.startswith("httpx"), repr(error)


class TestAnswers:
    @pytest.mark.parametrize("after_effect", [False, True])
    def test_an_error_comes_before_the_commit_lands_or_after(
        self, hub: HubStandIn, api: HfApi, after_effect: bool
    ) -> None:
        before = hub.head(REPO)
        hub.faults.add(Fault("commit", status=500, after_effect=after_effect))
        assert status_of(lambda: commit(api, {"a": b"a"})) == 500
        assert (hub.head(REPO) != before) == after_effect
        assert routes(hub).count("commit") == 1
        commit(api, {"b": b"b"})

    @pytest.mark.parametrize("after_effect", [False, True])
    def test_an_answer_is_lost_before_the_commit_lands_or_after(
        self, hub: HubStandIn, api: HfApi, after_effect: bool
    ) -> None:
        before = hub.head(REPO)
        hub.faults.add(Fault("commit", drop=True, after_effect=after_effect))
        assert_no_answer(lambda: commit(api, {"a": b"a"}))
        assert (hub.head(REPO) != before) == after_effect
        assert routes(hub).count("commit") == 1

    def test_a_fault_meets_the_requests_it_names(self, hub: HubStandIn, api: HfApi) -> None:
        hub.faults.add(Fault(("info", "whoami"), skip=1, times=2, status=502))
        assert api.whoami()
        assert [status_of(api.whoami), status_of(lambda: api.model_info(REPO))] == [502, 502]
        assert api.whoami()
        forever = hub.faults.add(Fault("any", path="/refs", method="GET", times=None, status=400))
        assert {status_of(lambda: api.list_repo_refs(REPO)) for _ in range(3)} == {400}
        assert (api.whoami()["name"], forever.num_matched) == ("ada", 3)
        hub.faults.clear()
        assert api.list_repo_refs(REPO)
        with pytest.raises(ValueError, match="no such route"):
            Fault("comit")

    def test_an_error_has_the_headers_of_the_hub(self, hub: HubStandIn, api: HfApi, slept: list[float]) -> None:
        hub.faults.add(Fault("info", status=401, error_code="RepoNotFound"))
        with pytest.raises(RepositoryNotFoundError):
            api.model_info(REPO)
        hub.faults.add(Fault("preupload", status=429, headers={"Retry-After": "17"}))
        commit(api, {"a": b"a"})
        assert slept == [18]

    def test_a_revoked_token_is_refused_from_then_on(self, hub: HubStandIn, api: HfApi) -> None:
        hub.faults.add(Fault("commit", act=lambda: hub.revoke("hf_ada")))
        assert status_of(lambda: commit(api, {"a": b"a"})) == 401
        assert status_of(api.whoami) == 401

    def test_somebody_else_commits_at_just_the_wrong_moment(self, hub: HubStandIn, api: HfApi) -> None:
        hub.faults.add(Fault("commit", act=lambda: hub.write(REPO, "README.md", b"edited")))
        assert status_of(lambda: commit(api, {"a": b"a"}, parent=hub.head(REPO))) == 412
        assert hub.names(REPO) == {".gitattributes", "README.md"}

    def test_branches_are_shown_as_they_were(self, hub: HubStandIn, api: HfApi) -> None:
        old = hub.head(REPO)
        new = commit(api, {"a": b"a"})
        hub.faults.add(Fault(("refs", "info", "tree", "paths_info"), times=4, stale_commits=1))
        assert api.list_repo_refs(REPO).branches[0].target_commit == old
        assert api.model_info(REPO).sha == old
        assert api.get_paths_info(REPO, "a") == []
        assert api.list_repo_files(REPO) == [".gitattributes"]
        assert api.model_info(REPO).sha == new

    def test_an_answer_is_late(self, hub: HubStandIn, api: HfApi) -> None:
        hub.faults.add(Fault("whoami", delay_seconds=0.1))
        begun = time.monotonic()
        api.whoami()
        assert time.monotonic() - begun >= 0.1


class TestTransfers:
    @pytest.mark.parametrize("part_bytes", [None, 2000])
    def test_an_upload_that_is_cut_is_tried_again(
        self, hub: HubStandIn, api: HfApi, slept: list[float], part_bytes: int | None
    ) -> None:
        hub.part_bytes = part_bytes
        hub.faults.add(Fault(("upload", "part"), skip=int(part_bytes is not None), cut_upload_at=1000))
        commit(api, {MODEL: WEIGHTS})
        assert (hub.read(REPO, MODEL), len(slept)) == (WEIGHTS, 1)

    def test_an_upload_that_is_always_cut_leaves_nothing(self, hub: HubStandIn, api: HfApi) -> None:
        before = hub.head(REPO)
        hub.faults.add(Fault("upload", times=None, cut_upload_at=len(WEIGHTS)))
        assert_no_answer(lambda: commit(api, {MODEL: WEIGHTS}))
        assert (hub.head(REPO), hub.held_bytes(REPO)) == (before, 0)

    def test_an_upload_whose_answer_is_lost_is_charged_once(self, hub: HubStandIn, api: HfApi) -> None:
        hub.faults.add(Fault("upload", drop=True, after_effect=True))
        commit(api, {MODEL: WEIGHTS})
        assert (hub.held_bytes(REPO), routes(hub).count("upload")) == (len(WEIGHTS), 2)

    def test_an_upload_is_slow(self, hub: HubStandIn, api: HfApi) -> None:
        hub.faults.add(Fault("upload", upload_bytes_per_second=50_000))
        begun = time.monotonic()
        commit(api, {MODEL: WEIGHTS})
        assert time.monotonic() - begun >= len(WEIGHTS) / 50_000

    def test_a_download_that_is_cut_goes_on_where_it_ended(
        self, hub: HubStandIn, download: Callable[[str], bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # The client keeps only whole chunks of what arrived before the cut.
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 500)
        hub.write(REPO, MODEL, WEIGHTS)
        hub.faults.add(Fault("download", times=2, cut_download_at=1000))
        assert download(MODEL) == WEIGHTS
        asked = [seen.range for seen in hub.requests if seen.route == "download"]
        assert asked == ["", "bytes=1000-", "bytes=2000-"]

    def test_a_wrong_bit_is_served_without_complaint(self, hub: HubStandIn, download: Callable[[str], bytes]) -> None:
        hub.write(REPO, MODEL, WEIGHTS)
        hub.write(REPO, "a.txt", b"a")
        hub.faults.add(Fault("download", flip_byte=-1))
        hub.faults.add(Fault("resolve", method="GET", path="a.txt", flip_byte=0))
        assert download(MODEL) == WEIGHTS[:-1] + bytes([WEIGHTS[-1] ^ 1])
        assert download("a.txt") == b"`"
        assert (download(MODEL), download("a.txt")) == (WEIGHTS, b"a")

    def test_a_short_file_is_served(self, hub: HubStandIn, download: Callable[[str], bytes]) -> None:
        hub.write(REPO, MODEL, WEIGHTS)
        hub.faults.add(Fault("download", times=None, truncate_to=100))
        with pytest.raises(OSError, match="Consistency check failed"):
            download(MODEL)

    @pytest.mark.parametrize("path", [MODEL, "a.txt"])
    def test_a_stored_file_is_spoilt(self, hub: HubStandIn, download: Callable[[str], bytes], path: str) -> None:
        hub.write(REPO, path, WEIGHTS if path == MODEL else b"a text")
        hub.damage(REPO, path, "flip", at=3)
        spoilt = download(path)
        assert [index for index, byte in enumerate(hub.read(REPO, path)) if byte != spoilt[index]] == []
        hub.damage(REPO, path, "flip", at=3)
        assert download(path) in (WEIGHTS, b"a text") != spoilt
        hub.damage(REPO, path, "truncate", at=2)
        assert len(hub.read(REPO, path)) == 2
        hub.damage(REPO, path, "remove")
        with pytest.raises(FileNotFoundError):
            hub.read(REPO, path)
        with pytest.raises((HfHubHTTPError, LocalEntryNotFoundError)):
            download(path)


class TestHolding:
    @pytest.mark.parametrize("after_effect", [False, True])
    @pytest.mark.parametrize("release", [False, True])
    def test_a_request_stops_at_an_exact_point(
        self, hub: HubStandIn, api: HfApi, after_effect: bool, release: bool
    ) -> None:
        before = hub.head(REPO)
        hold = hub.faults.add(Fault("commit", hold=True, after_effect=after_effect))
        with ThreadPoolExecutor() as pool:
            committing = pool.submit(commit, api, {"a": b"a"})
            assert hold.held.wait(10)
            assert (hub.head(REPO) != before) == after_effect
            hold.release() if release else hold.drop_held()
            if release:
                assert committing.result() == hub.head(REPO)
            else:
                assert_no_answer(committing.result)
        assert (hub.head(REPO) != before) == (after_effect or release)

    def test_a_commit_may_land_when_its_client_is_gone(self, hub: HubStandIn) -> None:
        before = hub.head(REPO)
        hold = hub.faults.add(Fault("commit", hold=True))
        with socket.create_connection(("127.0.0.1", int(hub.url.rsplit(":", 1)[1]))) as client:
            client.sendall(raw_commit())
            assert hold.held.wait(10)
        hold.release()
        deadline = time.monotonic() + 10
        while hub.head(REPO) == before and time.monotonic() < deadline:
            time.sleep(0.001)
        assert hub.read(REPO, "a") == b"a"

    def test_closing_cuts_what_is_held(self, api: HfApi, hub: HubStandIn) -> None:
        hold = hub.faults.add(Fault("whoami", hold=True))
        with ThreadPoolExecutor() as pool:
            asking = pool.submit(api.whoami)
            assert hold.held.wait(10)
            hub.close()
            assert_no_answer(asking.result)


def raw_commit() -> bytes:
    """A commit of one file as the client sends it."""
    content = base64.b64encode(b"a").decode()
    lines = [
        {"key": "header", "value": {"summary": "late", "description": ""}},
        {"key": "file", "value": {"path": "a", "content": content, "encoding": "base64"}},
    ]
    body = "".join(json.dumps(line) + "\n" for line in lines)
    head = f"POST /api/models/{REPO}/commit/main HTTP/1.1\r\nAuthorization: Bearer hf_ada\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()


class TestLostMachines:
    @pytest.mark.parametrize("part_bytes", [None, 2000])
    def test_a_machine_lost_before_any_request_leaves_what_came_before(self, part_bytes: int | None) -> None:
        with HubStandIn(part_bytes=part_bytes) as hub:
            api = HfApi(endpoint=hub.url, token=hub.add_token("hf_ada", "ada"))
            hub.create(REPO)
            commit(api, {MODEL: WEIGHTS})
            whole = routes(hub)
        for lost in range(1, len(whole) + 1):
            with HubStandIn(part_bytes=part_bytes) as hub:
                api = HfApi(endpoint=hub.url, token=hub.add_token("hf_ada", "ada"))
                hub.create(REPO)
                before = hub.head(REPO)
                hub.lose_machine(before=lost)
                assert_no_answer(lambda api=api: commit(api, {MODEL: WEIGHTS}))
                assert_no_answer(api.whoami)
                assert hub.requests[lost - 1].route == whole[lost - 1]
                hub.restore()
                charged = bool({"upload", "complete"}.intersection(whole[: lost - 1]))
                assert (hub.head(REPO), hub.held_bytes(REPO)) == (before, charged * len(WEIGHTS))
                assert commit(api, {MODEL: WEIGHTS}) == hub.head(REPO)

    def test_a_request_on_its_way_is_lost_with_the_machine(self, hub: HubStandIn, api: HfApi) -> None:
        before = hub.head(REPO)
        hold = hub.faults.add(Fault("commit", hold=True))
        with ThreadPoolExecutor() as pool:
            committing = pool.submit(commit, api, {"a": b"a"})
            assert hold.held.wait(10)
            hub.lose_machine(before=1)
            assert_no_answer(api.whoami)
            hold.release()
            assert_no_answer(committing.result)
        assert hub.head(REPO) == before

    def test_only_requests_that_write_may_be_counted(self, hub: HubStandIn, api: HfApi) -> None:
        hub.lose_machine(before=2, route="write")
        first = commit(api, {"a": b"a"})
        assert api.model_info(REPO).sha == first
        assert_no_answer(lambda: commit(api, {"b": b"b"}))
        assert_no_answer(lambda: api.model_info(REPO))
        hub.write(REPO, "README.md", b"somebody else is not lost")
        hub.restore()
        assert hub.names(REPO) == {".gitattributes", "a", "README.md"}


class TestRestarts:
    def test_a_hub_is_the_same_when_its_folder_is_opened_again(self, tmp_path: Path) -> None:
        with HubStandIn(tmp_path) as hub:
            api = HfApi(endpoint=hub.url, token=hub.add_token("hf_ada", "ada"))
            hub.revoke(hub.add_token("hf_old", "ada"))
            api.create_repo(REPO)
            for number in range(3):
                commit(api, {MODEL: WEIGHTS + bytes([number]), "a": b"%d" % number})
            api.create_tag(REPO, tag="v1")
            api.permanently_delete_lfs_files(REPO, list(api.list_lfs_files(REPO))[-1:])
            api.super_squash_history(REPO)
            api.create_repo("ada/gone")
            api.delete_repo("ada/gone")
            port, known = int(hub.url.rsplit(":", 1)[1]), everything(hub)
        for _ in range(2):
            with HubStandIn(tmp_path, port=port) as again:
                assert everything(again) == known
                assert api.whoami()["name"] == "ada"
                assert status_of(lambda: HfApi(endpoint=again.url, token="hf_old").whoami()) == 401
                commit(api, {"a": b"after the restart %d" % time.monotonic_ns()})
                known = everything(again)

    def test_a_line_that_was_cut_off_is_forgotten(self, tmp_path: Path) -> None:
        with HubStandIn(tmp_path) as hub:
            hub.create(REPO)
            known = everything(hub)
        log = tmp_path / "logs/repositories/models" / f"{REPO}.jsonl"
        log.write_bytes(log.read_bytes() + b'{"do":"bra')
        with HubStandIn(tmp_path) as again:
            assert everything(again) == known
            again.write(REPO, "a", b"a")
            known = everything(again)
        with HubStandIn(tmp_path) as again:
            assert everything(again) == known

    def test_a_hub_in_another_process_is_steered_and_killed(self, tmp_path: Path) -> None:
        words = ("--token", "hf_ada:ada:write", "--repo", REPO)
        with hub_process(tmp_path / "hub", *words) as hub:
            api = HfApi(endpoint=hub.url, token="hf_ada")
            first = commit(api, {MODEL: WEIGHTS})
            assert (hub.head(REPO), hub.read(REPO, MODEL), hub.held_bytes(REPO)) == (first, WEIGHTS, len(WEIGHTS))
            second = hub.write(REPO, "README.md", b"edited")
            assert [it["operations"] for it in hub.commits(REPO)][1:] == [[["add_lfs", MODEL]], [["add", "README.md"]]]
            assert hub.requests()[-1]["route"] == "commit"
            hub.set("commits_per_hour", 0)
            assert status_of(lambda: commit(api, {"a": b"a"})) == 429
            hub.set("commits_per_hour", None)
            with pytest.raises(RuntimeError, match="no such call"):
                hub.nonsense()
            held = tmp_path / "held"
            fault = hub.add_fault("commit", hold=True, held_file=str(held))
            with ThreadPoolExecutor() as pool:
                committing = pool.submit(commit, api, {"a": b"a"})
                while not held.exists():
                    time.sleep(0.001)
                assert (hub.is_held(fault), hub.head(REPO)) == (True, second)
                hub.release(fault)
                third = committing.result()
        with hub_process(tmp_path / "hub", *words) as hub:
            assert (hub.head(REPO), hub.names(REPO)) == (third, sorted([".gitattributes", MODEL, "README.md", "a"]))


def everything(hub: HubStandIn) -> dict[str, object]:
    """All that a hub knows."""
    return {
        key: (it.private, it.created_at, it.commits, it.heads, it.tags, it.charges, it.held_bytes, it.peak_bytes)
        for key, it in hub.repositories.items()
    }


def test_an_error_of_the_stand_in_itself_does_not_pass_for_one_of_the_hub() -> None:
    def ask_a_broken_one() -> None:
        with HubStandIn() as hub:
            hub.create(REPO, private=False)
            hub.repositories[f"models/{REPO}"].commits.clear()
            assert status_of(lambda: HfApi(endpoint=hub.url, token=False).model_info(REPO)) == 500

    with pytest.raises(AssertionError, match="KeyError"):
        ask_a_broken_one()
