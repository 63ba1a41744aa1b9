"""Which files a data set on the Hub has, at one revision that never changes.

The Hub is asked once; its answer is kept beside its cache, so that the same revision is
found again without it. What is downloaded is compared with the hash that the Hub states.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, cast

from dragoman import host
from dragoman.errors import DataError

PREFIXES = ("hf://datasets/", "hf:")
KNOWN = {name: f"Helsinki-NLP/{name}" for name in ("opus-100", "opus_books", "europarl", "un_pc")}
HUB_SECONDS = 20.0
TRAIN = "train"
_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]*[\w-]")
_SPLIT = re.compile(r"\w[\w.-]*")
_COMMIT = re.compile("[0-9a-f]{40}")


class DataSetName(NamedTuple):
    """USER/NAME, and the revision and the split that are wanted."""

    repo_id: str
    revision: str
    """Branch, tag or commit; `main` when none is given."""
    split: str = TRAIN

    @property
    def is_pinned(self) -> bool:
        """Whether the revision is a commit, so that it always means the same bytes."""
        return _COMMIT.fullmatch(self.revision) is not None

    def __str__(self) -> str:
        return f"{self.repo_id}@{self.revision}"


def parse(place: str) -> DataSetName | None:
    """What `USER/NAME:SPLIT@REVISION` or `hf://datasets/…` names, split and revision left out or not.

    None when the text cannot be that.
    """
    prefix = next((prefix for prefix in PREFIXES if place.startswith(prefix)), "")
    name, _, revision = place.removeprefix(prefix).partition("@")
    repo_id, colon, split = name.partition(":")
    repo_id = KNOWN.get(repo_id, repo_id)
    if not _NAME.fullmatch(repo_id) or (colon and not _SPLIT.fullmatch(split)):
        return None
    return DataSetName(repo_id, revision or "main", split or TRAIN)


@dataclass(frozen=True)
class DataSet:
    """A data set at a commit."""

    repo_id: str
    commit: str
    files: Mapping[str, str | None]
    """Every path, with the sha256 of its bytes where the Hub states it."""

    def __str__(self) -> str:
        return f"{self.repo_id}@{self.commit[:7]}"

    @cached_property
    def configurations(self) -> list[dict[str, Any]]:
        """The `configs` of the data set's card; empty when it has none.

        Raises:
            DataError: The card cannot be downloaded or read.
        """
        if "README.md" not in self.files:
            return []
        from huggingface_hub.repocard import metadata_load  # pyright: ignore[reportUnknownVariableType]

        try:
            card = cast("dict[str, Any]", metadata_load(self.fetch("README.md")) or {})
        except Exception as error:  # yaml has a tree of errors of its own, repocard adds ValueError
            if isinstance(error, DataError):
                raise
            raise DataError(f"{self}: its README.md cannot be read: {_one_line(error)}", "another revision") from error
        found = cast("list[Any]", configs) if isinstance(configs := card.get("configs"), list) else []
        return [cast("dict[str, Any]", entry) for entry in found if isinstance(entry, dict)]

    def fetch(self, path: str) -> Path:
        """A file of the data set on this machine: downloaded before, or now.

        Raises:
            DataError: It cannot be had, or its bytes are twice not those that the Hub states.
        """
        host.prefer_lfs()
        import huggingface_hub

        cached = huggingface_hub.try_to_load_from_cache(self.repo_id, path, revision=self.commit, repo_type="dataset")
        if isinstance(cached, str):
            return Path(cached)
        for again in (False, True):
            try:
                download = cast("Callable[..., str]", cast("Any", huggingface_hub).hf_hub_download)
                found = Path(
                    download(self.repo_id, path, repo_type="dataset", revision=self.commit, force_download=again)
                )
            except Exception as error:  # the errors of its HTTP library come through as they are
                raise cannot_be_had(f"{self} {path}", error) from error
            if self._is_whole(found, path):
                return found
            found.resolve().unlink()
        raise DataError(f"{self} {path}: the Hub gives other bytes than it states", "try again later")

    def _is_whole(self, file: Path, path: str) -> bool:
        if (stated := self.files[path]) is None:
            return True
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest() == stated


def find(name: DataSetName) -> DataSet:
    """A data set as the Hub shows it; without the Hub, as it was when it was last asked.

    Raises:
        DataError: There is no such data set or revision, it may not be read, or the Hub cannot be reached and
            was never asked before.
    """
    kept = _kept(name)
    if kept is not None and name.is_pinned:
        return kept
    host.prefer_lfs()
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        api = HfApi()
        info = api.dataset_info(name.repo_id, revision=name.revision, timeout=HUB_SECONDS, files_metadata=True)
    except Exception as error:  # the errors of its HTTP library come through as they are
        # A Hub that answered has said no; one that is not there has said nothing about what we have.
        if kept is None or (isinstance(error, HfHubHTTPError) and error.response.status_code < 500):
            raise cannot_be_had(str(name), error) from error
        return kept
    siblings = info.siblings or []
    files = {it.rfilename: it.lfs.sha256 if it.lfs else None for it in siblings}
    found = DataSet(name.repo_id, str(info.sha), files)
    for revision in {name.revision, found.commit}:
        _keep(DataSetName(name.repo_id, revision), found)
    return found


def cannot_be_had(what: str, error: Exception) -> DataError:
    """Why the Hub does not give something, with a way out."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    match error:
        case GatedRepoError():
            why, hint = "its owner must let you read it", "ask for access on its page, and set HF_TOKEN"
        case RepositoryNotFoundError():
            why, hint = "the Hub has no such data set, or shows it only to others", "check USER/NAME, and HF_TOKEN"
        case RevisionNotFoundError():
            why, hint = "the Hub has no such revision of it", "another revision after @, or none"
        case _:
            why, hint = f"the Hub does not give it: {_one_line(error)}", "check the network, or name files of your own"
    return DataError(f"--data {what}: {why}", hint)


def _one_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _place(name: DataSetName) -> Path:
    from huggingface_hub import constants

    file = re.sub(r"[^\w.-]", "--", str(name)) + ".json"
    return Path(constants.HF_HOME) / "dragoman" / "data-sets" / file


def _kept(name: DataSetName) -> DataSet | None:
    try:
        values = json.loads(_place(name).read_bytes())
        return DataSet(name.repo_id, str(values["commit"]), dict(values["files"]))
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _keep(name: DataSetName, found: DataSet) -> None:
    place = _place(name)
    part = place.with_name(f"{place.name}.{host.process_id()}.part")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps({"commit": found.commit, "files": dict(found.files)}))
        part.replace(place)
    except OSError:
        return  # a cache that cannot be written costs a question next time
