"""Every question to a Hub, each with a deadline, and each refusal in words.

Nothing else asks it. `huggingface_hub` brings the requests; it has no deadlines, and it
sleeps as long as a server asks. What may take effect twice is asked once: whoever asks
reads back what came of it.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar, cast

from dragoman import __version__, host
from dragoman.errors import DragomanError
from dragoman.store.base import MODEL_FILE
from dragoman.store.deadline import GivenUp, Patience, Transfer, within
from dragoman.store.hub_access import Tokens
from dragoman.store.hub_files import Change, Entry
from dragoman.store.hub_upload import Operations, no_bars
from dragoman.store.outcome import DENIED, NOT_FOUND, TOO_OFTEN, AskedTooOften, HubFailure, explain, wait_seconds

if TYPE_CHECKING:
    from huggingface_hub import HfApi

T = TypeVar("T")

BRANCH = "main"
_LONGEST_SLEEP_SECONDS = 20.0
"""When a server asks to wait longer than this, whoever asked decides, and not the client."""
_asking = threading.local()


@dataclass(frozen=True)
class Blob:
    """Bytes that the Hub keeps apart from Git, and charges for."""

    sha256: str
    """Their digest."""
    size: int
    """Their number."""
    handle: Any
    """What the client calls them."""

    @property
    def was_never_committed(self) -> bool:
        """Whether they were sent, and no commit ever gave them a name that could be somebody else's."""
        name = str(self.handle.filename or "")
        return not self.handle.ref and (name in ("", self.sha256, MODEL_FILE) or name.startswith("checkpoint-"))


class HubApi:
    """One model repository, as a Hub shows it.

    Everything here raises `HubFailure` when the Hub refused or did not answer in time.

    Args:
        repo_id: USER/REPO.
        endpoint: Which Hub; by default the one that HF_ENDPOINT names, else huggingface.co.
        tokens: Which token to send.
        patience: How long to wait.
        beat: Called before and after each request, and while files are read.
    """

    def __init__(
        self, repo_id: str, endpoint: str | None, tokens: Tokens, patience: Patience, *, beat: Callable[[], None]
    ) -> None:
        self._lfs = host.prefer_lfs()
        self.repo_id, self.tokens, self.patience, self.beat = repo_id, tokens, patience, beat
        self._endpoint = endpoint

    def __str__(self) -> str:
        return f"hf://{self.repo_id}"

    # --- what is there ---------------------------------------------------------------

    def head(self) -> str | None:
        """The commit that is newest, as far as it is shown; None where there is no repository."""
        try:
            info = self._ask("its newest commit cannot be asked for", lambda api: api.model_info(self.repo_id))
        except HubFailure as failure:
            if failure.status == NOT_FOUND:
                return None
            raise
        return str(info.sha) if info.sha else None

    def tree(self, oid: str) -> dict[str, Entry]:
        """Every file at a commit, by its path."""
        from huggingface_hub.hf_api import RepoFile

        def listed(api: "HfApi") -> dict[str, Entry]:
            found = api.list_repo_tree(self.repo_id, recursive=True, revision=oid)
            files = [item for item in found if isinstance(item, RepoFile)]
            return {it.path: Entry(it.size, it.blob_id, it.lfs.sha256 if it.lfs else None) for it in files}

        return self._ask("its files cannot be listed", listed)

    def blobs(self) -> list[Blob]:
        """All bytes that the Hub charges for, whether a commit names them or not."""

        def listed(api: "HfApi") -> list[Blob]:
            return [Blob(it.file_oid, it.size, it) for it in api.list_lfs_files(self.repo_id)]

        return self._ask("its bytes cannot be counted", listed)

    def age(self, path: str, oid: str) -> float:
        """Seconds since a file was last changed, both times by the Hub's clock."""
        url = f"{self._api(None).endpoint}/api/models/{self.repo_id}/paths-info/{oid}"

        def asked(api: "HfApi") -> float:
            from huggingface_hub.utils import get_session, hf_raise_for_status

            answer = get_session().post(url, headers=self._headers(api), data={"paths": [path], "expand": True})
            hf_raise_for_status(answer)
            changed = datetime.fromisoformat(answer.json()[0]["lastCommit"]["date"])
            return (parsedate_to_datetime(answer.headers["Date"]) - changed).total_seconds()

        return max(0.0, self._ask("its age cannot be asked for", asked))

    def read(self, path: str, oid: str) -> bytes:
        """The bytes of a small file."""
        data: list[bytes] = []
        seconds = self.patience.answer_seconds
        within(seconds, f"{self}/{path}", lambda: self.stream(path, oid, 0, lambda got: data.append(got.read())))
        return data[-1]

    def stream(self, path: str, oid: str, start: int, take: Callable[[Any], None]) -> None:
        """Ask for the bytes of a file from `start` on.

        Args:
            path: Which file.
            oid: At which commit.
            start: How many bytes are not needed.
            take: Reads the response; a `start` was heeded only if its status is 206.
        """
        from huggingface_hub import hf_hub_url
        from huggingface_hub.utils import get_session, hf_raise_for_status

        url = hf_hub_url(self.repo_id, path, revision=oid, endpoint=self._api(None).endpoint)
        more = {"accept-encoding": "identity"} | ({"range": f"bytes={start}-"} if start else {})

        def asked(api: "HfApi") -> None:
            headers, seconds = self._headers(api) | more, self.patience.stall_seconds
            session = get_session()
            with session.stream("GET", url, headers=headers, timeout=seconds, follow_redirects=True) as response:
                if response.status_code >= 400:
                    response.read()
                hf_raise_for_status(response)
                take(response)

        self._with_token(f"{self}/{path}: cannot be downloaded", asked)

    # --- who we are ------------------------------------------------------------------

    def whoami(self) -> Mapping[str, Any]:
        """What the Hub knows of the owner of the token, and what the token may do."""

        def asked(api: "HfApi") -> dict[str, Any]:
            return cast("Any", api).whoami()

        return self._ask("the token cannot be checked", asked)

    def create(self, *, private: bool) -> None:
        """Make the repository; one that is there stays as private as it is."""
        self._ask("it cannot be created", lambda api: api.create_repo(self.repo_id, private=private, exist_ok=True))

    def move(self, repo_id: str) -> None:
        """Give the repository another name."""
        self._ask("it cannot be renamed", lambda api: api.move_repo(self.repo_id, repo_id))

    # --- changes ---------------------------------------------------------------------

    def commit(
        self,
        changes: Sequence[Change],
        message: str,
        parent: str,
        *,
        transfer: Transfer,
    ) -> str:
        """Upload what is new, then change everything at once, if `parent` is still the newest commit.

        Args:
            changes: What to change.
            message: Says it to people.
            parent: The commit that it was derived from.
            transfer: What is told of the bytes.

        Returns:
            The new commit. When this raises, there may be one all the same.

        Raises:
            Damaged: A file to be uploaded is not what was recorded.
        """
        what = f"{message.splitlines()[0]}: not stored"
        operations = Operations(changes, lfs=self._lfs, beat=self.beat)
        try:
            if operations.uploads:
                with operations.sending(transfer):
                    self._ask(
                        what,
                        lambda api: self._upload(api, operations),
                        seconds=self.patience.for_bytes(operations.num_bytes, transfer.bytes_per_second),
                        transfer=transfer if self._lfs else None,
                    )
            done = self._ask(
                what,
                lambda api: api.create_commit(
                    self.repo_id, operations.all(), commit_message=message, parent_commit=parent, revision=BRANCH
                ),
            )
            return done.oid
        finally:
            operations.close()

    def free(self, blobs: Sequence[Blob]) -> None:
        """Delete bytes for ever, from every commit that ever named them. The newest commit gets another name."""
        handles = [blob.handle for blob in blobs]
        self._ask("dropped bytes are not freed", lambda api: api.permanently_delete_lfs_files(self.repo_id, handles))

    def _upload(self, api: "HfApi", operations: Operations) -> None:
        with no_bars():
            # What the repository's .gitignore names would be left out of the commit: name something else instead.
            for uploads in operations.rounds:
                api.preupload_lfs_files(
                    self.repo_id, uploads, revision=BRANCH, free_memory=False, gitignore_content="# nothing"
                )

    # --- how to ask ------------------------------------------------------------------

    def _ask(
        self, what: str, call: "Callable[[HfApi], T]", *, seconds: float = 0.0, transfer: Transfer | None = None
    ) -> T:
        """The answer to one question, in time or not at all."""
        what = f"{self}: {what}"
        seconds = seconds or self.patience.answer_seconds
        stall = self.patience.stall_seconds

        def in_time(api: "HfApi") -> T:
            return within(seconds, what, lambda: _listening(lambda: call(api)), transfer=transfer, stall_seconds=stall)

        return self._with_token(what, in_time)

    def _with_token(self, what: str, call: "Callable[[HfApi], T]") -> T:
        """The same question again while it is refused for its token and there is another one."""
        tried: set[str] = set()
        while True:
            token = None
            self.beat()
            try:
                token = self.tokens.choose(tried)
                result = call(self._api(token))
            except (DragomanError, GivenUp):
                raise
            except Exception as error:  # the client raises its own, the HTTP library's, RuntimeError, OSError …
                failure = explain(error, what, self.repo_id, has_token=token is not None)
            else:
                self.tokens.note(token or "", refused=False)
                return result
            finally:
                self.beat()
            if failure.status in DENIED and token:
                self.tokens.note(token, refused=True)
                tried.add(token)
                if self.tokens.choose(tried):
                    continue
            message, hint = self.tokens.scrub(failure.message), failure.hint
            # Without its cause: that may quote headers.
            raise HubFailure(message, hint, failure.retry_after, status=failure.status, code=failure.code)

    def _api(self, token: str | None) -> "HfApi":
        from huggingface_hub import HfApi

        return HfApi(
            endpoint=self._endpoint, token=token or False, library_name="dragoman", library_version=__version__
        )

    def _headers(self, api: "HfApi") -> dict[str, str]:
        from huggingface_hub.utils import (
            build_hf_headers,  # pyright: ignore[reportUnknownVariableType]  a dict of anything is among its types
        )

        return build_hf_headers(token=api.token, library_name=api.library_name, library_version=api.library_version)


def _listening(call: Callable[[], T]) -> T:
    """Make a call in this thread, and end it when the server asks for a long wait."""
    from huggingface_hub.utils import get_session

    hooks = get_session().event_hooks["response"]
    if _refuse_long_sleeps not in hooks:
        hooks.append(_refuse_long_sleeps)
    _asking.on = True
    try:
        return call()
    finally:
        _asking.on = False


def _refuse_long_sleeps(response: Any) -> None:
    is_long = response.status_code == TOO_OFTEN and wait_seconds(response) > _LONGEST_SLEEP_SECONDS
    if is_long and getattr(_asking, "on", False):
        with suppress(Exception):
            response.read()
        raise AskedTooOften(response)
