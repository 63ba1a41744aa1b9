"""The newest commit of a Hub repository: what it holds, and how it is moved on.

An exception says nothing about a commit. So what came of one is always read back, and a
change is done when, looking at the newest commit, nothing is left to change.

What a Hub shows may lag behind what was committed. So a commit that we have seen replaced
is never taken for the newest again, and a log that shrinks is an old one.
"""

from collections import deque
from collections.abc import Callable, Sequence

from dragoman.errors import StoreUnavailable
from dragoman.store.deadline import Transfer
from dragoman.store.hub_api import HubApi
from dragoman.store.hub_files import Change, Snapshot
from dragoman.store.outcome import MOVED_ON, NOT_FOUND, HubFailure

Plan = Callable[[Snapshot], Sequence[Change]]
"""What is left to change in a repository."""

_NUM_TRIES = 5
"""Commits that are built anew because somebody else's came before."""
_HOUR_SECONDS = 3600.0


class Branch:
    """The branch that a store is kept in, and what this process knows of it.

    Args:
        api: The repository.
        commits_per_hour: More than so many commits are put off while they can wait.
        bytes_per_second: Cap of the uploads; None for none.
        clock: In seconds; only differences count.
        sleep: Waits for so many seconds.
    """

    def __init__(
        self,
        api: HubApi,
        commits_per_hour: int,
        bytes_per_second: float | None,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._api, self._commits_per_hour, self._bytes_per_second = api, commits_per_hour, bytes_per_second
        self._clock, self._sleep = clock, sleep
        self._newest: Snapshot | None = None
        self._replaced: set[str] = set()
        self._last_record = 0
        self._committed: deque[float] = deque(maxlen=max(commits_per_hour, 1))

    def look(self) -> Snapshot | None:
        """What the newest commit holds; None where there is no repository yet.

        Raises:
            StoreUnavailable: The Hub does not show it, or shows an old state.
        """
        oid = self._api.head()
        if oid is None:
            if self._newest:
                raise StoreUnavailable(f"{self._api}: {NOT_FOUND}: it is gone, or hidden from this token")
            return None
        if self._newest and (oid == self._newest.oid or oid in self._replaced):
            return self._newest
        return self._remember(self._snapshot(oid))

    def there(self) -> Snapshot:
        """What the newest commit holds.

        Raises:
            StoreUnavailable: As `look`, and where there is no repository.
        """
        at = self.look()
        if at is None:
            raise StoreUnavailable(f"{self._api}: {NOT_FOUND}: not there, or hidden from this token")
        return at

    def change(self, plan: Plan, message: str) -> Snapshot:
        """Commit what a plan wants changed, all at once, until it wants nothing more.

        Args:
            plan: What is left to change, looking at a commit.
            message: Says it to people.

        Returns:
            The repository without anything left to change.

        Raises:
            StoreUnavailable: The Hub failed; the commit may have landed, or may still land, as a whole.
        """
        at = self.there()
        for attempt in range(_NUM_TRIES):
            changes = plan(at)
            if not changes:
                return at
            try:
                oid = self._commit(changes, message, at)
            except StoreUnavailable as failure:
                at = self._read_back(plan, at, failure, attempt)
            else:
                return self._check(plan, oid)
        if not plan(at):
            return at
        raise StoreUnavailable(
            f"{self._api}: {message}: {MOVED_ON}: somebody else changes the repository all the time, "
            f"or the Hub shows an old state ({at.oid[:8]})"
        )

    def pause_seconds(self) -> float:
        """How long until one more commit is within the hour's number."""
        if len(self._committed) < self._commits_per_hour:
            return 0.0
        return max(0.0, self._committed[0] + _HOUR_SECONDS - self._clock())

    def _commit(self, changes: Sequence[Change], message: str, at: Snapshot) -> str:
        transfer = Transfer(lambda num_bytes: self._api.beat(), self._bytes_per_second, sleep=self._sleep)
        try:
            return self._api.commit(changes, message, at.oid, transfer=transfer)
        finally:
            self._committed.append(self._clock())

    def _read_back(self, plan: Plan, before: Snapshot, failure: StoreUnavailable, attempt: int) -> Snapshot:
        """What the newest commit holds after a commit whose outcome is not known.

        Raises:
            StoreUnavailable: The failure itself, when it had no effect and would have none if repeated.
        """
        try:
            at = self.there()
        except StoreUnavailable:
            raise failure from None
        if at.oid == before.oid:  # it did not land; with any luck what replaced our parent is shown soon
            if not (isinstance(failure, HubFailure) and failure.status == MOVED_ON):
                raise failure
            self._sleep(2.0**attempt)
            return self.there()
        return at

    def _check(self, plan: Plan, oid: str) -> Snapshot:
        """What our own commit holds; it must be all that we sent."""
        for attempt in range(_NUM_TRIES):
            try:
                at = self._remember(self._snapshot(oid))
                break
            except HubFailure as failure:
                if failure.status != NOT_FOUND or attempt == _NUM_TRIES - 1:
                    raise
            self._sleep(2.0**attempt)  # committed, but not shown yet
        else:
            raise AssertionError
        if left := plan(at):
            paths = ", ".join(change.path for change in left[:3])
            raise StoreUnavailable(
                f"{self._api}: commit {oid[:8]} does not hold what was sent ({len(left)} differ: {paths})",
                "look at the repository's page: has it a .gitattributes or a hook that changes files?",
            )
        return at

    def _snapshot(self, oid: str) -> Snapshot:
        return Snapshot(str(self._api), oid, self._api.tree(oid))

    def _remember(self, at: Snapshot) -> Snapshot:
        if at.last < self._last_record:
            raise StoreUnavailable(
                f"{self._api}: it shows an old state: {at.last} records, and there were {self._last_record}"
            )
        if self._newest:
            self._replaced.add(self._newest.oid)
        self._newest, self._last_record = at, at.last
        self._replaced.discard(at.oid)
        return at
