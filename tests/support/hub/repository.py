"""One repository: commits, the branches that point at them, and the LFS objects it is charged for.

A repository is what its log of events makes of it; a change is an event, appended to the
log and then applied, live and at a restart alike.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.support.hub.storage import Storage
from tests.support.hub.trees import Entry, Operation, after

SQUASH_FREES_AFTER_SECONDS = 36 * 3600.0
"""A squash gives space back late: that long is what users of the Hub report."""


class Commit(NamedTuple):
    """One commit with its whole tree."""

    oid: str
    parent: str | None
    title: str
    message: str
    author: str
    date: float
    operations: tuple[tuple[str, str], ...]
    """Kind and path of each, as the client sent them."""
    tree: Mapping[str, Entry]


@dataclass
class Charge:
    """One LFS object that counts against the quota."""

    size: int
    pushed_at: float
    filename: str = ""
    """A path under which it was committed, if it ever was."""
    xet_hash: str | None = None
    """What Xet calls it, if it came that way."""
    frees_at: float | None = None
    """When a squash will have given its space back."""


class NoSuchRevision(Exception):
    """No branch, tag or commit has this name."""


@dataclass
class Repository:
    """A repository of any kind."""

    key: str
    """KIND/USER/NAME."""
    storage: Storage
    private: bool = True
    created_at: float = 0.0
    commits: dict[str, Commit] = field(default_factory=dict)
    """Every commit that was ever made, also those that no branch reaches any more."""
    heads: dict[str, list[str]] = field(default_factory=dict)
    """By branch: the commits it pointed at, the present one last."""
    tags: dict[str, str] = field(default_factory=dict)
    charges: dict[str, Charge] = field(default_factory=dict)
    held_bytes: int = 0
    peak_bytes: int = 0
    commit_times: list[float] = field(default_factory=list)
    """Commits by clients within the last hour; a restart of the server forgets them."""
    parts: dict[tuple[str, str], dict[int, bytes]] = field(default_factory=dict)
    """Parts of unfinished uploads, by object and upload; a restart of the server forgets them."""

    def __post_init__(self) -> None:
        self._log = f"repositories/{self.key}"
        for line in self.storage.lines(self._log):
            self._apply(json.loads(line))

    @property
    def repo_id(self) -> str:
        """USER/NAME."""
        return self.key.split("/", 1)[1]

    def blob_name(self, oid: str) -> str:
        """Where the storage has a file of Git or an LFS object."""
        return f"{self.key}/{oid}"

    def contents(self, entry: Entry, start: int = 0, end: int | None = None) -> bytes | None:
        """Bytes of a file; None when the storage has lost them."""
        return self.storage.get(self.blob_name(entry.lfs or entry.blob), start, end)

    def head(self, branch: str = "main") -> str:
        """The commit that a branch points at."""
        return self.heads[branch][-1]

    def commit_at(self, revision: str, stale_commits: int = 0) -> Commit:
        """The commit that a branch, a tag or (the beginning of) an oid means.

        Raises:
            NoSuchRevision: Nothing is called that.
        """
        heads = self.heads.get(revision.removeprefix("refs/heads/"))
        if heads:
            return self.commits[heads[max(-1 - stale_commits, -len(heads))]]
        oid = self.tags.get(revision, revision)
        if oid in self.commits:
            return self.commits[oid]
        found = [commit for name, commit in self.commits.items() if len(oid) >= 7 and name.startswith(oid)]
        if len(found) != 1:
            raise NoSuchRevision(revision)
        return found[0]

    def history(self, commit: Commit | None) -> Iterable[Commit]:
        """A commit and all before it, newest first."""
        while commit is not None:
            yield commit
            commit = self.commits[commit.parent] if commit.parent else None

    # -- changes --

    def create(self, private: bool, date: float) -> None:
        """Begin to exist."""
        self._record({"do": "create", "private": private, "date": date})

    def remove(self) -> None:
        """Cease to exist."""
        self.storage.remove_all(self.key, self._log)

    def set_private(self, private: bool) -> None:
        """Show or hide the repository."""
        self._record({"do": "private", "private": private})

    def point(self, what: str, name: str, oid: str | None) -> None:
        """Let a `branch` or a `tag` point at a commit, or remove it."""
        self._record({"do": what, "name": name, "oid": oid})

    def commit(
        self,
        operations: Iterable[Operation],
        title: str,
        *,
        date: float,
        message: str = "",
        author: str = "",
        parent: str | None = None,
    ) -> str:
        """Make a commit that no branch points at yet; its oid.

        Raises:
            NoSuchEntry: Something is to be deleted that is not there; nothing was changed.
        """
        operations = list(operations)
        tree = dict(self.commits[parent].tree) if parent else {}
        new = after(tree, operations)
        changes = {path: new.get(path) for path in tree.keys() | new.keys() if tree.get(path) != new.get(path)}
        return self._add_commit(
            parent=parent,
            title=title,
            message=message,
            author=author,
            date=date,
            operations=[(kind, path) for kind, path, _ in operations],
            changes=changes,
        )

    def _add_commit(self, **fields: Any) -> str:
        text = json.dumps([self.key, len(self.commits), fields], sort_keys=True)
        oid = hashlib.sha1(text.encode()).hexdigest()
        self._record({"do": "commit", "oid": oid, **fields})
        return oid

    def squash(self, branch: str, title: str, author: str, date: float) -> None:
        """Replace the history of a branch by one commit with the same tree."""
        tree = self.commits[self.head(branch)].tree
        oid = self._add_commit(
            parent=None, title=title, message="", author=author, date=date, operations=[], changes=dict(tree)
        )
        self.point("branch", branch, oid)
        for lost in sorted(self.charges.keys() - self._reachable()):
            if self.charges[lost].frees_at is None:
                self._record({"do": "free_later", "oid": lost, "date": date + SQUASH_FREES_AFTER_SECONDS})

    def charge(self, oid: str, data: bytes, date: float) -> None:
        """Keep an uploaded LFS object."""
        self.storage.put(self.blob_name(oid), data)
        if oid not in self.charges:
            self._record({"do": "charge", "oid": oid, "size": len(data), "date": date})

    def name_for_xet(self, oid: str, xet_hash: str) -> None:
        """Remember what Xet calls an object."""
        if self.charges[oid].xet_hash != xet_hash:
            self._record({"do": "xet_hash", "oid": oid, "xet_hash": xet_hash})

    def xet_oid(self, xet_hash: str) -> str | None:
        """The object that Xet calls so."""
        return next((oid for oid, charge in self.charges.items() if charge.xet_hash == xet_hash), None)

    def delete_objects(self, oids: Iterable[str], rewrite: bool) -> None:
        """Delete LFS objects for ever; when told, also from every commit of every branch and tag."""
        gone = {oid for oid in oids if oid in self.charges}
        for oid in sorted(gone):
            self._uncharge(oid)
        rewritten: dict[str | None, str | None] = {None: None}
        names = [("branch", name, heads[-1]) for name, heads in self.heads.items()]
        names += [("tag", name, oid) for name, oid in self.tags.items()]
        for what, name, oid in names if rewrite else ():
            for commit in reversed(list(self.history(self.commits[oid]))):
                if commit.oid not in rewritten:
                    rewritten[commit.oid] = self._without(commit, gone, rewritten[commit.parent])
            if rewritten[oid] != oid:
                self.point(what, name, rewritten[oid])

    def _without(self, commit: Commit, gone: set[str], parent: str | None) -> str:
        """The same commit without some LFS objects; the very same when it and its history never named them."""
        tree = {path: entry for path, entry in commit.tree.items() if entry.lfs not in gone}
        if parent == commit.parent and len(tree) == len(commit.tree):
            return commit.oid
        base = dict(self.commits[parent].tree) if parent else {}
        changes = {path: tree.get(path) for path in base.keys() | tree.keys() if base.get(path) != tree.get(path)}
        kept = {name: getattr(commit, name) for name in ("title", "message", "author", "date", "operations")}
        return self._add_commit(parent=parent, changes=changes, **kept)

    def free_what_is_due(self, now: float) -> None:
        """Give back the space of objects that a squash left behind long enough ago."""
        for oid in [oid for oid, it in self.charges.items() if it.frees_at is not None and it.frees_at <= now]:
            self._uncharge(oid)

    def _uncharge(self, oid: str) -> None:
        self._record({"do": "uncharge", "oid": oid})
        self.storage.remove(self.blob_name(oid))

    def _reachable(self) -> set[str]:
        """LFS objects in the history of a branch or a tag."""
        tips = {*(heads[-1] for heads in self.heads.values()), *self.tags.values()}
        commits = {commit.oid: commit for tip in tips for commit in self.history(self.commits[tip])}
        return {entry.lfs for commit in commits.values() for entry in commit.tree.values() if entry.lfs}

    # -- the log --

    def _record(self, event: dict[str, Any]) -> None:
        self.storage.append(self._log, json.dumps(event, separators=(",", ":")))
        self._apply(event)

    def _apply(self, event: dict[str, Any]) -> None:
        getattr(self, f"_apply_{event.pop('do')}")(**event)

    def _apply_create(self, private: bool, date: float) -> None:
        self.private, self.created_at = private, date

    def _apply_private(self, private: bool) -> None:
        self.private = private

    def _apply_branch(self, name: str, oid: str | None) -> None:
        if oid is None:
            self.heads.pop(name, None)
        else:
            self.heads.setdefault(name, []).append(oid)

    def _apply_tag(self, name: str, oid: str | None) -> None:
        if oid is None:
            self.tags.pop(name, None)
        else:
            self.tags[name] = oid

    def _apply_commit(self, oid: str, parent: str | None, changes: dict[str, Any], **fields: Any) -> None:
        tree = dict(self.commits[parent].tree) if parent else {}
        for path, entry in changes.items():
            if entry is None:
                del tree[path]
            else:
                tree[path] = entry = Entry(*entry)
                charge = self.charges.get(entry.lfs or "")
                if charge:
                    charge.filename, charge.frees_at = path, None
        operations = tuple((kind, path) for kind, path in fields.pop("operations"))
        self.commits[oid] = Commit(oid=oid, parent=parent, operations=operations, tree=tree, **fields)

    def _apply_charge(self, oid: str, size: int, date: float) -> None:
        self.charges[oid] = Charge(size, date)
        self.held_bytes += size
        self.peak_bytes = max(self.peak_bytes, self.held_bytes)

    def _apply_uncharge(self, oid: str) -> None:
        self.held_bytes -= self.charges.pop(oid).size

    def _apply_xet_hash(self, oid: str, xet_hash: str) -> None:
        self.charges[oid].xet_hash = xet_hash

    def _apply_free_later(self, oid: str, date: float) -> None:
        self.charges[oid].frees_at = date
