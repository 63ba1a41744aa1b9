"""The stand-in for the Hub, as the real client sees it."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationCopy,
    CommitOperationDelete,
    HfApi,
    constants,
    get_session,
    snapshot_download,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.support.hub import Fault, HubStandIn
from tests.support.hub.client import without_waiting

REPO = "ada/run"
WEIGHTS = bytes(range(256)) * 20
LFS = ("batch", "upload", "verify")


@pytest.fixture(autouse=True)
def _impatient_client(monkeypatch: pytest.MonkeyPatch) -> None:
    without_waiting(monkeypatch)


@pytest.fixture
def hub() -> Iterator[HubStandIn]:
    with HubStandIn() as hub:
        hub.add_token("hf_ada", "ada")
        hub.create(REPO)
        yield hub


@pytest.fixture
def api(hub: HubStandIn) -> HfApi:
    return HfApi(endpoint=hub.url, token="hf_ada")


def commit(api: HfApi, files: dict[str, bytes], parent: str | None = None, repo: str = REPO) -> str:
    operations = [CommitOperationAdd(path, data) for path, data in files.items()]
    return api.create_commit(repo, operations, commit_message="save", parent_commit=parent).oid


def routes(hub: HubStandIn) -> list[str]:
    return [seen.route for seen in hub.requests]


def status_of(call: Callable[[], object]) -> int:
    with pytest.raises(HfHubHTTPError) as failure:
        call()
    return failure.value.response.status_code


class TestRepositories:
    def test_a_repository_is_made_once_and_its_url_is_told_again(self, hub: HubStandIn, api: HfApi) -> None:
        made = api.create_repo("ada/new", private=True)
        assert (made.repo_id, api.model_info("ada/new").private) == ("ada/new", True)
        assert api.create_repo("ada/new", exist_ok=True) == made
        assert status_of(lambda: api.create_repo("ada/new")) == 409
        api.update_repo_settings("ada/new", private=False)
        assert not api.model_info("ada/new").private
        commit(api, {"model.safetensors": WEIGHTS}, repo="ada/new")
        api.delete_repo("ada/new")
        assert not api.repo_exists("ada/new")
        api.create_repo("ada/new")
        assert (hub.held_bytes("ada/new"), len(api.list_repo_commits("ada/new"))) == (0, 1)

    def test_whoami_tells_name_organisations_and_rights(self, hub: HubStandIn, api: HfApi) -> None:
        hub.add_token("hf_fine", "bob", "fineGrained", orgs=["lab"], scopes={"lab/run": ["repo.write"]})
        fine = api.whoami(token="hf_fine")
        assert (fine["name"], [org["name"] for org in fine["orgs"]]) == ("bob", ["lab"])
        assert fine["auth"]["accessToken"]["role"] == "fineGrained"
        assert fine["auth"]["accessToken"]["fineGrained"]["scoped"][0]["permissions"] == ["repo.write"]
        assert api.whoami()["auth"]["accessToken"]["role"] == "write"

    def test_each_token_may_do_what_its_role_says(self, hub: HubStandIn, api: HfApi) -> None:
        hub.add_token("hf_read", "ada", "read")
        hub.add_token("hf_bob", "bob")
        hub.add_token("hf_fine", "ada", "fineGrained", scopes={REPO: ["repo.write"]})
        hub.create("ada/public", private=False)
        clients = {name: HfApi(endpoint=hub.url, token=name) for name in ("hf_read", "hf_bob", "hf_fine")}
        assert clients["hf_read"].model_info(REPO).sha == hub.head(REPO)
        with pytest.raises(HfHubHTTPError, match="403 Forbidden: Forbidden: you must use a write token"):
            commit(clients["hf_read"], {"a": b"a"})
        assert status_of(lambda: clients["hf_read"].create_repo("ada/new")) == 403
        assert status_of(lambda: commit(clients["hf_bob"], {"a": b"a"}, repo="ada/public")) == 403
        assert status_of(lambda: commit(clients["hf_fine"], {"a": b"a"}, repo="ada/public")) == 403
        assert status_of(lambda: HfApi(endpoint=hub.url, token="hf_no").whoami()) == 401
        assert commit(clients["hf_fine"], {"a": b"a"}) == hub.head(REPO)
        for stranger in (clients["hf_bob"], HfApi(endpoint=hub.url, token=False)):
            assert stranger.model_info("ada/public").sha
            with pytest.raises(RepositoryNotFoundError):
                stranger.model_info(REPO)

    def test_a_data_set_is_served(self, hub: HubStandIn, tmp_path: Path) -> None:
        hub.create("datasets/lab/pairs", private=False)
        hub.write("datasets/lab/pairs", "train.jsonl", b"{}\n")
        anybody = HfApi(endpoint=hub.url, token=False)
        assert anybody.dataset_info("lab/pairs").sha == hub.head("datasets/lab/pairs")
        assert anybody.list_repo_files("lab/pairs", repo_type="dataset") == [".gitattributes", "train.jsonl"]
        path = anybody.hf_hub_download("lab/pairs", "train.jsonl", repo_type="dataset", cache_dir=tmp_path)
        assert Path(path).read_bytes() == b"{}\n"

    def test_every_answer_has_a_date_and_a_number(self, hub: HubStandIn) -> None:
        hub.clock = lambda: 86400.0
        answers = [
            get_session().get(f"{hub.url}{path}") for path in ("/api/models/ada/run", "/nowhere", "/api/whoami-v2")
        ]
        assert [answer.status_code for answer in answers] == [401, 404, 401]
        assert {answer.headers["Date"] for answer in answers} == {"Fri, 02 Jan 1970 00:00:00 GMT"}
        assert len({answer.headers["X-Request-Id"] for answer in answers}) == 3


class TestCommits:
    def test_files_of_both_kinds_are_committed_at_once(self, hub: HubStandIn, api: HfApi) -> None:
        made = commit(api, {"log/1.json": b"{}", "model.safetensors": WEIGHTS, "README.md": b"---\n---\nhi"})
        assert routes(hub) == ["validate", "preupload", *LFS, "commit"]
        assert (hub.head(REPO), hub.read(REPO, "model.safetensors")) == (made, WEIGHTS)
        assert hub.commits(REPO)[-1].operations == (
            ("add", "log/1.json"),
            ("add_lfs", "model.safetensors"),
            ("add", "README.md"),
        )

    def test_a_large_object_is_uploaded_in_parts(self, hub: HubStandIn, api: HfApi) -> None:
        hub.part_bytes = 2000
        commit(api, {"model.safetensors": WEIGHTS})
        assert routes(hub) == ["preupload", "batch", "part", "part", "part", "complete", "verify", "commit"]
        assert hub.read(REPO, "model.safetensors") == WEIGHTS

    def test_size_ending_and_contents_decide_what_goes_to_lfs(self, hub: HubStandIn, api: HfApi) -> None:
        hub.lfs_from_bytes = 1000
        cut_in_a_letter = b"a" + "é".encode() * 300
        commit(
            api, {"a": b"a" * 1000, "b": b"b" * 1001, "c.npz": b"c", "d": b"\0", "e": b"\xff" * 9, "f": cut_in_a_letter}
        )
        assert {file.path for file in api.list_repo_tree(REPO) if file.lfs} == {"b", "c.npz", "d", "e"}

    def test_an_object_that_is_there_is_not_uploaded_again(self, hub: HubStandIn, api: HfApi) -> None:
        addition = CommitOperationAdd("model.safetensors", WEIGHTS)
        api.preupload_lfs_files(REPO, [addition])
        assert routes(hub) == ["preupload", *LFS]
        assert (hub.held_bytes(REPO), hub.names(REPO)) == (len(WEIGHTS), {".gitattributes"})
        api.create_commit(REPO, [addition], commit_message="save")
        commit(api, {"checkpoint-1/model.safetensors": WEIGHTS})
        assert routes(hub).count("upload") == 1
        assert hub.held_bytes(REPO) == len(WEIGHTS)

    def test_an_unchanged_file_makes_no_commit(self, hub: HubStandIn, api: HfApi) -> None:
        first = commit(api, {"a.txt": b"a", "model.safetensors": WEIGHTS})
        assert commit(api, {"a.txt": b"a", "model.safetensors": WEIGHTS}) == first

    def test_a_commit_on_a_parent_that_is_not_the_head_is_refused(self, hub: HubStandIn, api: HfApi) -> None:
        base = hub.head(REPO)
        first = commit(api, {"a.txt": b"a"}, parent=base)
        assert status_of(lambda: commit(api, {"b.txt": b"b"}, parent=base)) == 412
        assert commit(api, {"b.txt": b"b"}, parent=first) == hub.head(REPO)

    def test_a_commit_that_names_an_object_nobody_uploaded_is_refused(self, hub: HubStandIn, api: HfApi) -> None:
        addition = CommitOperationAdd("model.safetensors", WEIGHTS)
        addition._upload_mode, addition._is_uploaded, addition._should_ignore = "lfs", True, False
        before = hub.head(REPO)
        assert status_of(lambda: api.create_commit(REPO, [addition], commit_message="save")) == 400
        assert hub.head(REPO) == before

    def test_files_and_folders_are_deleted_and_copied(self, hub: HubStandIn, api: HfApi) -> None:
        commit(api, {"a/1.txt": b"1", "a/b/2.txt": b"2", "ab.txt": b"3", "a/model.safetensors": WEIGHTS})
        operations = [
            CommitOperationCopy("a/model.safetensors", "model.safetensors"),
            CommitOperationCopy("a/1.txt", "one.txt"),
            CommitOperationDelete("a/"),
            CommitOperationDelete("ab.txt"),
        ]
        api.create_commit(REPO, operations, commit_message="move")
        assert hub.names(REPO) == {".gitattributes", "model.safetensors", "one.txt"}
        assert (hub.read(REPO, "one.txt"), hub.read(REPO, "model.safetensors")) == (b"1", WEIGHTS)

    @pytest.mark.parametrize("path", ["nothing", "nothing/", ".gitattribute"])
    def test_what_is_not_there_cannot_be_deleted(self, hub: HubStandIn, api: HfApi, path: str) -> None:
        before = hub.head(REPO)
        with pytest.raises(EntryNotFoundError):
            api.create_commit(
                REPO, [CommitOperationAdd("a", b"a"), CommitOperationDelete(path)], commit_message="delete"
            )
        assert hub.head(REPO) == before

    def test_branches_and_tags_have_histories_of_their_own(self, hub: HubStandIn, api: HfApi) -> None:
        base = hub.head(REPO)
        api.create_branch(REPO, branch="side/way")
        api.create_commit(REPO, [CommitOperationAdd("a", b"a")], commit_message="aside", revision="side/way")
        api.create_tag(REPO, tag="v1", revision="side/way")
        refs = api.list_repo_refs(REPO)
        assert {it.name: it.target_commit for it in refs.branches} == {
            "main": base,
            "side/way": hub.head(REPO, "side/way"),
        }
        assert refs.tags[0].target_commit == hub.head(REPO, "side/way")
        assert api.list_repo_files(REPO, revision="v1") == [".gitattributes", "a"]
        api.delete_branch(REPO, branch="side/way")
        api.delete_tag(REPO, tag="v1")
        assert [it.name for it in api.list_repo_refs(REPO).branches] == ["main"]


class TestReading:
    def test_trees_are_listed_page_by_page(self, hub: HubStandIn, api: HfApi) -> None:
        commit(api, {"a/1": b"1", "a/b/2": b"2", "a-b": b"3", "model.safetensors": WEIGHTS})
        hub.entries_per_page = 2
        everything = [".gitattributes", "a", "a-b", "a/1", "a/b", "a/b/2", "model.safetensors"]
        assert [it.path for it in api.list_repo_tree(REPO, recursive=True)] == everything
        assert routes(hub).count("tree") == 4
        assert [it.path for it in api.list_repo_tree(REPO)] == [".gitattributes", "a", "a-b", "model.safetensors"]
        assert [it.path for it in api.list_repo_tree(REPO, "a/b", recursive=True)] == ["a/b/2"]
        with pytest.raises(EntryNotFoundError):
            list(api.list_repo_tree(REPO, "c"))
        with pytest.raises(RevisionNotFoundError):
            list(api.list_repo_tree(REPO, revision="nowhere"))

    def test_paths_info_tells_of_files_folders_and_their_last_commit(self, hub: HubStandIn, api: HfApi) -> None:
        first = commit(api, {"a/1": b"1", "model.safetensors": WEIGHTS})
        commit(api, {"a/2": b"2"})
        weights, folder = api.get_paths_info(REPO, ["model.safetensors", "a", "nothing"], expand=True)
        assert (weights.size, weights.lfs.size, weights.last_commit.oid) == (len(WEIGHTS), len(WEIGHTS), first)
        assert folder.path == "a"
        assert api.get_paths_info(REPO, "a/2", revision=first) == []

    def test_commits_are_listed_newest_first(self, hub: HubStandIn, api: HfApi) -> None:
        made = [hub.head(REPO), *(commit(api, {"a": b"%d" % number}) for number in range(5))]
        hub.commits_per_page = 4
        listed = api.list_repo_commits(REPO)
        assert [it.commit_id for it in listed] == made[::-1]
        assert (listed[0].title, listed[0].authors) == ("save", ["ada"])

    def test_what_was_committed_is_downloaded(self, hub: HubStandIn, api: HfApi, tmp_path: Path) -> None:
        first = commit(api, {"a.txt": b"a", "b/model.safetensors": WEIGHTS, "b/empty": b""})
        second = commit(api, {"a.txt": b"other"})
        folders = [
            snapshot_download(REPO, endpoint=hub.url, token="hf_ada", cache_dir=tmp_path, revision=it)
            for it in (first, second)
        ]
        assert [(Path(folder) / "a.txt").read_bytes() for folder in folders] == [b"a", b"other"]
        assert (Path(folders[1]) / "b/model.safetensors").read_bytes() == WEIGHTS
        assert (Path(folders[1]) / "b/empty").read_bytes() == b""
        metadata = api.get_hf_file_metadata(url=f"{hub.url}/{REPO}/resolve/main/b/model.safetensors")
        assert (metadata.commit_hash, metadata.size) == (second, len(WEIGHTS))
        assert metadata.etag == next(iter(api.get_paths_info(REPO, "b/model.safetensors"))).lfs.sha256
        with pytest.raises(EntryNotFoundError):
            api.hf_hub_download(REPO, "nothing", cache_dir=tmp_path)

    @pytest.mark.parametrize(
        ("asked", "status", "served"),
        [("0-9", 206, WEIGHTS[:10]), ("5100-", 206, WEIGHTS[5100:]), ("-7", 206, WEIGHTS[-7:]), ("5120-", 416, None)],
    )
    def test_a_range_is_served(self, hub: HubStandIn, asked: str, status: int, served: bytes | None) -> None:
        hub.write(REPO, "model.safetensors", WEIGHTS)
        headers = {"Range": f"bytes={asked}", "Authorization": "Bearer hf_ada"}
        answer = get_session().get(f"{hub.url}/{REPO}/resolve/main/model.safetensors", headers=headers)
        assert answer.status_code == status
        assert served is None or answer.content == served

    def test_the_address_of_an_object_belongs_to_another_host(self, hub: HubStandIn) -> None:
        hub.write(REPO, "model.safetensors", WEIGHTS)
        url, headers = f"{hub.url}/{REPO}/resolve/main/model.safetensors", {"Authorization": "Bearer hf_ada"}
        answer = get_session().head(url, headers=headers, follow_redirects=False)
        assert (answer.status_code, answer.headers["X-Linked-Size"]) == (302, str(len(WEIGHTS)))
        assert answer.headers["Location"].startswith("http://localhost")


class TestSpace:
    def test_every_version_of_an_object_is_charged_until_it_is_deleted_for_ever(
        self, hub: HubStandIn, api: HfApi
    ) -> None:
        for number in range(3):
            commit(api, {"model.safetensors": WEIGHTS + bytes([number]), "a": b"%d" % number})
        size = len(WEIGHTS) + 1
        assert hub.held_bytes(REPO) == 3 * size
        hub.entries_per_page = 2
        files = list(api.list_lfs_files(REPO))
        assert {file.filename for file in files} == {"model.safetensors"}
        current = next(iter(api.get_paths_info(REPO, "model.safetensors"))).lfs.sha256
        head, tree = hub.head(REPO), hub.names(REPO)
        api.permanently_delete_lfs_files(REPO, [file for file in files if file.file_oid != current])
        assert (hub.held_bytes(REPO), hub.peak_bytes(REPO)) == (size, 3 * size)
        assert hub.head(REPO) != head
        assert hub.names(REPO) == tree
        assert [("model.safetensors" in it.tree, "a" in it.tree) for it in hub.commits(REPO)] == [
            (False, False),
            (False, True),
            (False, True),
            (True, True),
        ]
        assert hub.read(REPO, "model.safetensors") == WEIGHTS + bytes([2])
        commit(api, {"small.bin": b"\0"})
        assert (hub.held_bytes(REPO), hub.peak_bytes(REPO)) == (size + 1, 3 * size)

    def test_history_that_never_named_a_deleted_object_is_not_rewritten(self, hub: HubStandIn, api: HfApi) -> None:
        commit(api, {"model.safetensors": WEIGHTS})
        api.preupload_lfs_files(REPO, [CommitOperationAdd("other.bin", b"\0")])
        head, [never] = hub.head(REPO), [it for it in api.list_lfs_files(REPO) if it.ref is None]
        api.permanently_delete_lfs_files(REPO, [never])
        assert (hub.head(REPO), hub.held_bytes(REPO)) == (head, len(WEIGHTS))

    def test_a_squash_keeps_the_tree_and_gives_space_back_late(self, hub: HubStandIn, api: HfApi) -> None:
        now = [1_000_000.0]
        hub.clock = lambda: now[0]
        for number in range(3):
            commit(api, {"model.safetensors": WEIGHTS + bytes([number])})
        head, tree = hub.head(REPO), hub.names(REPO)
        api.super_squash_history(REPO)
        assert (hub.head(REPO) != head, hub.names(REPO), len(api.list_repo_commits(REPO))) == (True, tree, 1)
        assert hub.held_bytes(REPO) == 3 * (len(WEIGHTS) + 1)
        commit(api, {"again.safetensors": WEIGHTS + b"\0"})
        now[0] += 36 * 3600
        assert hub.held_bytes(REPO) == 2 * (len(WEIGHTS) + 1)
        contents = [hub.read(REPO, path)[-1] for path in ("again.safetensors", "model.safetensors")]
        assert contents == [0, 2]

    def test_a_private_repository_that_is_full_takes_no_more_objects(self, hub: HubStandIn, api: HfApi) -> None:
        hub.private_quota_bytes = len(WEIGHTS) + 100
        commit(api, {"model.safetensors": WEIGHTS})
        assert status_of(lambda: commit(api, {"model.safetensors": WEIGHTS[1:]})) == 403
        commit(api, {"small.txt": b"not an object"})
        api.update_repo_settings(REPO, private=False)
        commit(api, {"model.safetensors": WEIGHTS * 2})

    def test_too_many_commits_in_an_hour_are_refused(self, hub: HubStandIn, api: HfApi) -> None:
        now = [1_000_000.0]
        hub.clock, hub.commits_per_hour = lambda: now[0], 2
        for number in range(2):
            commit(api, {"a": b"%d" % number})
        with pytest.raises(HfHubHTTPError, match="2 per hour") as silent:
            commit(api, {"a": b"2"})
        hub.retry_after_seconds = 1200
        with pytest.raises(HfHubHTTPError) as telling:
            commit(api, {"a": b"2"})
        answers = silent.value.response, telling.value.response
        assert [(it.status_code, it.headers.get("Retry-After")) for it in answers] == [(429, None), (429, "1200")]
        now[0] += 3600
        commit(api, {"a": b"2"})

    def test_too_many_requests_are_refused(self, hub: HubStandIn, api: HfApi) -> None:
        hub.clock, hub.requests_per_five_minutes = lambda: 300.0, 2
        api.whoami(), api.model_info(REPO)
        assert status_of(lambda: api.model_info(REPO)) == 429


class TestXet:
    @pytest.fixture(autouse=True)
    def _xet(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)

    def test_large_files_go_through_xet_and_are_what_they_were(
        self, hub: HubStandIn, api: HfApi, tmp_path: Path
    ) -> None:
        # Never the same twice: the client remembers for all servers which chunks it has uploaded.
        new = os.urandom(150_000)
        files = {
            "random.bin": new,
            "repeated.bin": new[:50_000] * 3,
            "periodic.bin": new[:8] * 20_000,
            "numbers.bin": b"".join(new[at : at + 2] + b"\x80\x3f" for at in range(0, 99_999, 2))[:-1],
            "short.bin": new[:10],
        }
        commit(api, files)
        assert {"xet_token", "xet_xorb", "xet_shard", "commit"} < set(routes(hub))
        assert hub.held_bytes(REPO) == sum(map(len, files.values()))
        for path, data in files.items():
            assert hub.read(REPO, path) == data
            assert Path(api.hf_hub_download(REPO, path, cache_dir=tmp_path)).read_bytes() == data
        assert "download" not in routes(hub)
        assert routes(hub).count("xet_download") == len(files)

    def test_xet_and_plain_lfs_are_the_same_objects(
        self, hub: HubStandIn, api: HfApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        new = os.urandom(10_000)
        commit(api, {"model.safetensors": new})
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        assert Path(api.hf_hub_download(REPO, "model.safetensors", cache_dir=tmp_path)).read_bytes() == new
        commit(api, {"again.safetensors": new})
        assert (routes(hub).count("upload"), hub.held_bytes(REPO)) == (0, len(new))

    def test_a_wrong_bit_is_served_without_complaint_through_xet_too(
        self, hub: HubStandIn, api: HfApi, tmp_path: Path
    ) -> None:
        new = os.urandom(10_000)
        commit(api, {"model.safetensors": new})
        hub.faults.add(Fault("xet_download", flip_byte=-1))
        path = api.hf_hub_download(REPO, "model.safetensors", cache_dir=tmp_path)
        assert Path(path).read_bytes() == new[:-1] + bytes([new[-1] ^ 1])

    def test_only_who_may_write_gets_leave_to_write(self, hub: HubStandIn) -> None:
        hub.add_token("hf_read", "ada", "read")
        url, headers = f"{hub.url}/api/models/{REPO}", {"Authorization": "Bearer hf_read"}
        asked = [get_session().get(f"{url}/xet-{what}-token/main", headers=headers) for what in ("read", "write")]
        assert [answer.status_code for answer in asked] == [200, 403]

    def test_a_full_private_repository_gives_no_leave_to_write(self, hub: HubStandIn, api: HfApi) -> None:
        hub.private_quota_bytes = 0
        with pytest.raises(Exception, match=r"403|Forbidden|storage limit"):
            commit(api, {"model.safetensors": os.urandom(100)})
        assert (hub.held_bytes(REPO), hub.names(REPO)) == (0, {".gitattributes"})


@pytest.mark.parametrize("in_folder", [False, True])
def test_a_repository_keeps_everything_under_another_name(tmp_path: Path, in_folder: bool) -> None:
    with HubStandIn(tmp_path / "hub" if in_folder else None) as hub:
        api = HfApi(endpoint=hub.url, token=hub.add_token("hf_ada", "ada"))
        hub.create(REPO)
        made = commit(api, {"a": b"1", "model.safetensors": WEIGHTS})
        hub.create("ada/taken")
        assert status_of(lambda: api.move_repo(REPO, "ada/taken")) == 409
        assert status_of(lambda: api.move_repo(REPO, "bob/run")) == 403
        api.move_repo(REPO, "ada/aside")
        assert (hub.head("ada/aside"), hub.read("ada/aside", "model.safetensors")) == (made, WEIGHTS)
        assert status_of(lambda: api.model_info(REPO)) == 404
        api.create_repo(REPO)
        commit(api, {"b": b"2"})
        commit(api, {"c": b"3"}, repo="ada/aside")
        assert "a" not in hub.names(REPO)
        assert {"a", "c"} <= hub.names("ada/aside")
    if in_folder:
        with HubStandIn(tmp_path / "hub") as hub:
            assert {"a", "c"} <= hub.names("ada/aside")
            assert "b" in hub.names(REPO)


FRONT = "---\nlibrary_name: transformers\n{more}\n---\n# A model\n"
INDEX = """model-index:
- name: run
  results:
  - task: {type: translation}
    dataset: {type: held-out, name: held-out}
    metrics: [{type: chrf, value: 41.2}]"""


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("license: my-own", "license: mit"),
        ("language: [eng_Latn]", "language: [en, fra]"),
        ("datasets: ['a file.tsv']", "datasets: [Helsinki-NLP/opus-100]"),
        ("base_model: scratch:tiny", "base_model: facebook/nllb-200-distilled-600M"),
        ("tags: [{a: b}]", "tags: [a]"),
        ("pipeline_tag: [translation]", "pipeline_tag: translation"),
        ("model-index: [{name: run}]", INDEX),
        (INDEX.replace("{type: translation}", "{name: x}"), INDEX),
        (INDEX.replace(", name: held-out", ""), INDEX),
        (INDEX.replace(", value: 41.2", ""), INDEX),
        (INDEX.replace("[{type: chrf, value: 41.2}]", "[]"), INDEX),
        ("a: b: c", "a: b"),
    ],
)
def test_a_commit_with_a_card_that_is_not_well_formed_is_refused(
    hub: HubStandIn, api: HfApi, wrong: str, right: str
) -> None:
    with pytest.raises(ValueError, match=r"Invalid metadata in README\.md"):
        commit(api, {"README.md": FRONT.format(more=wrong).encode()})
    assert "README.md" not in hub.names(REPO)
    commit(api, {"README.md": FRONT.format(more=right).encode()})
    assert "README.md" in hub.names(REPO)


def test_the_address_of_a_stand_in_may_be_set_after_its_own_modules_are_imported() -> None:
    """The client reads HF_ENDPOINT once: `make crashes` and `make chaos` set it when they know the port."""
    code = """
import os, tests.support.hub
os.environ["HF_ENDPOINT"] = "http://127.0.0.1:1"
from huggingface_hub import constants
print(constants.ENDPOINT)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "http://127.0.0.1:1\n"
