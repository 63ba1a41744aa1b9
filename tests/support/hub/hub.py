"""The stand-in itself: its repositories, its settings, and what tests do to it directly."""

import hashlib
import itertools
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

from tests.support.hub import jobs, lfs, reading, spaces, writing, xet
from tests.support.hub.access import admit
from tests.support.hub.accounts import Accounts, Role, Token
from tests.support.hub.faults import ConnectionCut, Fault, Faults
from tests.support.hub.messages import Answer, Refused, Request
from tests.support.hub.repository import Commit, Repository
from tests.support.hub.routes import ROUTES
from tests.support.hub.server import Server
from tests.support.hub.storage import FolderStorage, MemoryStorage
from tests.support.hub.trees import Entry, Operation, git_oid, pointer

Handler = Callable[["HubStandIn", Request], Answer]
HANDLERS: dict[str, Handler] = {
    route: next(
        getattr(module, route) for module in (reading, writing, lfs, xet, jobs, spaces) if hasattr(module, route)
    )
    for route in ROUTES
}


class Seen(NamedTuple):
    """One request that arrived."""

    route: str
    path: str
    method: str
    range: str = ""
    """The bytes that were asked for, such as `bytes=100-`."""


class HubStandIn:
    """A Hub on this machine. See the package for how it is used.

    Repositories are named USER/NAME, data sets datasets/USER/NAME.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        port: int = 0,
        lfs_from_bytes: int = 10_000_000,
        part_bytes: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Open a hub.

        Args:
            folder: Where it keeps its state; None for memory only.
            port: Of 127.0.0.1; 0 for any that is free.
            lfs_from_bytes: Files larger than this go to LFS, whatever their ending.
            part_bytes: LFS objects larger than this are uploaded in parts of it; None for never.
            clock: Seconds since 1970.
        """
        self.storage = FolderStorage(folder) if folder else MemoryStorage()
        self.accounts = Accounts(self.storage)
        self.faults = Faults()
        self.lfs_from_bytes, self.part_bytes, self.clock = lfs_from_bytes, part_bytes, clock
        self.private_quota_bytes: int | None = None
        """Most bytes of LFS objects in all private repositories of one owner."""
        self.commits_per_hour: int | None = None
        """Most commits to one repository in an hour."""
        self.retry_after_seconds: int | None = None
        """What a client with too many commits is told to wait; None to say nothing."""
        self.requests_per_five_minutes: int | None = None
        """Most requests of one user, those for files not counted."""
        self.request_counts: dict[str, tuple[int, int]] = {}
        """By user: which five minutes, and how many requests in them."""
        self.jobs: dict[str, jobs.Job] = {}
        """Jobs by id, with what was asked for; nothing runs them."""
        self.job_prices = {"t4-small": 0.40, "l4x1": 0.80, "a10g-small": 1.00, "a100-large": 2.50, "h200": 5.00}
        """Machines for jobs, in USD an hour."""
        self.has_credit = True
        """Whether its users can pay for jobs."""
        self.entries_per_page = 1000
        self.commits_per_page = 50
        self.requests: list[Seen] = []
        """Every request of a client, in the order of arrival, those without an answer included."""
        self.spaces: dict[str, spaces.Space] = {}
        """What runs in Spaces, by USER/NAME."""
        self.bugs: list[str] = []
        """Tracebacks of the stand-in's own errors; leaving the context raises them."""
        self.repositories: dict[str, Repository] = {}
        for name in self.storage.logs():
            if name.startswith("repositories/"):
                key = name.removeprefix("repositories/")
                self.repositories[key] = Repository(key, self.storage)
        self._lock = threading.RLock()
        self._upload_ids = itertools.count(1)
        self._server = Server(self, port)
        self.url = f"http://127.0.0.1:{self._server.port}"
        # Another origin, like the real one: clients look at redirects within one host differently.
        self.cdn_url = f"http://localhost:{self._server.port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()
        if self.bugs and failure[0] is None:
            raise AssertionError("the stand-in failed:\n" + "\n".join(self.bugs))

    def start(self) -> None:
        """Answer requests, in threads of this process."""
        self._server.start()

    def close(self) -> None:
        """Cut all connections and stop. The folder may be opened again."""
        self.faults.drop_all_held()
        self._server.stop()
        self.storage.close()
        # Not at the top: whoever starts a stand-in sets HF_ENDPOINT before the client is imported and reads it.
        from huggingface_hub import close_session

        # The client keeps connections by host and port, and the system may give the next stand-in this very port.
        close_session()

    # -- what tests do --

    def add_token(
        self,
        name: str,
        user: str,
        role: Role = "write",
        orgs: Sequence[str] = (),
        scopes: Mapping[str, Sequence[str]] | None = None,
    ) -> str:
        """Make a token valid; its name again. `scopes` are those of a fine-grained token, see `Token`."""
        self.accounts.add(Token(name, user, role, tuple(orgs), dict(scopes or {})))
        return name

    def revoke(self, token: str) -> None:
        """Make a token invalid."""
        self.accounts.revoke(token)

    def create(self, repo: str, private: bool = True) -> None:
        """Make a repository, with the commit that the Hub itself makes."""
        with self._lock:
            self.make_repository(self.key(repo), private)

    def head(self, repo: str, branch: str = "main") -> str:
        """Oid of the newest commit."""
        return self._find(repo).head(branch)

    def names(self, repo: str, revision: str = "main") -> set[str]:
        """Paths of all files."""
        return set(self._find(repo).commit_at(revision).tree)

    def read(self, repo: str, path: str, revision: str = "main") -> bytes:
        """Contents of a file."""
        repository = self._find(repo)
        data = repository.contents(repository.commit_at(revision).tree[path])
        if data is None:
            raise FileNotFoundError(path)
        return data

    def write(self, repo: str, path: str, data: bytes | None, message: str = "Edit", branch: str = "main") -> str:
        """Change a file in a commit of its own, as somebody does in the web interface; None deletes it."""
        with self._lock:
            repository = self._find(repo)
            operation = Operation("delete", path) if data is None else self._kept(repository, path, data)
            parent = repository.head(branch) if branch in repository.heads else None
            oid = repository.commit([operation], message, parent=parent, author="somebody", date=self.clock())
            repository.point("branch", branch, oid)
            return oid

    def _kept(self, repository: Repository, path: str, data: bytes) -> Operation:
        if not self.goes_to_lfs(path, len(data), data[:512]):
            entry = Entry(len(data), git_oid(data))
            self.storage.put(repository.blob_name(entry.blob), data)
            return Operation("add", path, entry)
        oid = hashlib.sha256(data).hexdigest()
        repository.charge(oid, data, self.clock())
        return Operation("add_lfs", path, Entry(len(data), git_oid(pointer(oid, len(data))), oid))

    def space(self, repo: str) -> dict[str, Any]:
        """What was asked for a Space, given as USER/NAME; see `spaces.py`."""
        return spaces.space(self, repo)

    def commits(self, repo: str, branch: str = "main") -> list[Commit]:
        """The history of a branch, oldest first, each with its operations."""
        repository = self._find(repo)
        return list(repository.history(repository.commit_at(branch)))[::-1]

    def held_bytes(self, repo: str) -> int:
        """Bytes of all LFS objects that the repository is charged for."""
        self._find(repo).free_what_is_due(self.clock())
        return self._find(repo).held_bytes

    def peak_bytes(self, repo: str) -> int:
        """Most bytes it was ever charged for."""
        return self._find(repo).peak_bytes

    def damage(self, repo: str, path: str, how: Literal["flip", "truncate", "remove"], at: int = 0) -> None:
        """Spoil the stored contents of a file; its name, size and hash stay as they were."""
        repository = self._find(repo)
        entry = repository.commit_at("main").tree[path]
        name = repository.blob_name(entry.lfs or entry.blob)
        data = bytearray(self.read(repo, path))
        if how == "remove":
            self.storage.remove(name)
            return
        if how == "flip":
            data[at] ^= 1
        self.storage.put(name, bytes(data if how == "flip" else data[:at]))

    def lose_machine(self, before: int, route: str | tuple[str, ...] = "any") -> Fault:
        """Lose all clients before the `before`-th such request from now (1 is the next), until `restore`."""
        return self.faults.lose_machine(before, route)

    def restore(self) -> None:
        """Let clients through again."""
        self.faults.restore()

    def key(self, repo: str) -> str:
        """KIND/USER/NAME of what tests call USER/NAME."""
        return repo if repo.count("/") == 2 else f"models/{repo}"

    def _find(self, repo: str) -> Repository:
        return self.repositories[self.key(repo)]

    # -- what requests do --

    def page(self, key: str) -> str:
        """The page of a repository: where its files and its Git are."""
        return f"{self.url}/{key.removeprefix('models/')}"

    def repository(self, key: str) -> Repository:
        """A repository that was already found to be there."""
        return self.repositories[key]

    def make_repository(self, key: str, private: bool) -> None:
        """Make a repository, with the commit that the Hub itself makes."""
        repository = self.repositories[key] = Repository(key, self.storage)
        repository.create(private, self.clock())
        rules = "".join(f"*{ending} filter=lfs diff=lfs merge=lfs -text\n" for ending in writing.LFS_ENDINGS)
        operation = self._kept(repository, ".gitattributes", rules.encode())
        oid = repository.commit([operation], "initial commit", author="system", date=self.clock())
        repository.point("branch", "main", oid)

    def goes_to_lfs(self, path: str, size: int, sample: bytes) -> bool:
        """Whether a file is kept in LFS: by its size, its ending or its first bytes."""
        return size > self.lfs_from_bytes or path.endswith(writing.LFS_ENDINGS) or writing.is_binary(sample)

    def new_upload_id(self) -> str:
        """Names one upload in parts."""
        return f"{time.monotonic_ns()}-{next(self._upload_ids)}"

    def note(self, request: Request) -> None:
        """Remember that a request arrived."""
        self.requests.append(Seen(request.route, request.path, request.method, request.headers.get("range", "")))

    def answer(self, request: Request, faults: Sequence[Fault]) -> Answer:
        """Do what is asked, with the faults that meet this request.

        Raises:
            ConnectionCut: There is no answer.
        """
        request.stale_commits = max((fault.stale_commits for fault in faults), default=0)
        for fault in faults:
            if not fault.after_effect and (injected := fault.strike()):
                return injected
        if self.faults.machine_lost:
            raise ConnectionCut  # lost while this request was on its way
        answer = self._do(request)
        for fault in faults:
            if fault.after_effect and (injected := fault.strike()):
                return injected
            if answer.status < 300:
                fault.spoil(answer)
        return answer

    def _do(self, request: Request) -> Answer:
        if request.route == "unknown":
            return Answer.json({"error": f"The stand-in has no {request.method} {request.path}"}, 404)
        with self._lock:
            try:
                admit(self, request)
                return HANDLERS[request.route](self, request)
            except Refused as refused:
                return Answer.refusal(refused)
            except Exception:
                self.bugs.append(traceback.format_exc())
                return Answer.json({"error": traceback.format_exc()}, 500)
