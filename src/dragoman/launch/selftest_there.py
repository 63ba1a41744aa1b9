"""The tiny run on a platform: its first machine is taken away from outside, and the next one finishes it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from dragoman.checkpoint.doctor import Check
from dragoman.checkpoint.log import RunLog
from dragoman.errors import CheckSaidNo, DragomanError, InputError, StoreUnavailable
from dragoman.launch import clients, hiring, selftest
from dragoman.launch.hub_account import Account
from dragoman.launch.job import Handle, Job, Plan
from dragoman.launch.ledger import Ledger, at_work
from dragoman.launch.selftest import Pace
from dragoman.launch.started import words
from dragoman.platforms import Platform
from dragoman.store.address import Access, open_store
from dragoman.store.base import Store
from dragoman.store.record import CheckpointRecord

T = TypeVar("T")

MACHINES = 2
"""The one that is cut, and the one that goes on."""
_BY_HAND = ("colab", "kaggle")
"""Nobody can end a session there from outside."""
_RELEASES = 3


def refuse_by_hand(platform: Platform) -> None:
    """Raise `InputError` for a platform where no program can end a session; its hint is what a person does."""
    if platform.by_hand or platform.name in _BY_HAND:
        raise InputError(
            f"{platform.title}: no program can end a session from elsewhere, so a person must cut it",
            f"dragoman launch {platform.name} run.yaml with a store; once dragoman status STORE says that a step is "
            "safe, disconnect or stop the session in its page; start it there again; dragoman status STORE then says "
            "`done`, and dragoman download STORE --test tries the model",
        )


def usual_store(platform: Platform, now: float) -> str:
    """URL of a new private repository of this machine's account.

    Raises:
        InputError: There is no token.
        StoreUnavailable: The Hub does not answer.
    """
    return selftest.fresh_store(f"hf://{Account().user}/dragoman", platform.name, now)


def refuse_dear(job: Job, max_usd: float) -> None:
    """Raise `InputError` if both machines together may cost more."""
    usd = job.most_usd * MACHINES
    if usd > max_usd:
        raise InputError(
            f"--max-usd {max_usd:g}: {MACHINES} machines of {job.max_hours:g} h may cost ${usd:.2f} "
            f"({job.offer.flavor} at {job.platform.title})",
            f"--max-usd {usd:.2f}, a smaller --max-hours, or a cheaper --gpu",
        )


@dataclass(frozen=True)
class Hands:
    """What takes and gives machines, and when it is looked."""

    start: Callable[[Job, Plan], Handle]
    """Starts a machine that was agreed to, as `hiring.launched`."""
    pace: Pace
    time: Callable[[], float]
    """Seconds since 1970 (UTC)."""


def run(job: Job, plan: Plan, folder: Path, steps: int, hands: Hands) -> Iterator[Check]:
    """Start, cut, start again, and look; however it ends, every machine is released.

    Args:
        job: The tiny run on its platform; its store holds nothing.
        plan: Of that job.
        folder: An empty one, for the model.
        steps: Of the whole run.
        hands: Takes and gives machines.

    Raises:
        InputError: The store holds a run, or store or platform refuse us.
        CheckSaidNo: Something did not come in time.
        StoreUnavailable: A machine may be left; the message says how to stop it.
    """
    store = open_store(job.store, Access())
    log = RunLog(store)
    selftest.refuse_used(log)
    try:
        handle = hands.start(job, plan)
        first = _Watched(handle, log)
        safe = selftest.wait_for("the first checkpoint in the store", first.safe, hands.pace, first.far)
        hiring.stopped(job.store, hands.time)
        log.refresh()
        yield selftest.safe_check(safe, log)
        if log.finished and log.finished.outcome == "done":
            raise CheckSaidNo(f"the run was done before it could be cut, at step {safe.step:,}", "more --steps")
        again = _next(job)
        second = _Watched(hands.start(again, clients.plan_for(again)), log)
        selftest.wait_for("the end of the run on the next machine", second.done, hands.pace, second.far)
    finally:
        _release_all(store, hands)
    yield from selftest.aftermath(log, safe, steps)
    yield selftest.translation(job.store, folder)


def _next(job: Job) -> Job:
    """The same run on the next machine, which need not wait for the silence of one that we took away."""
    there = job.config.store.model_copy(update={"take_over": True})
    return replace(job, config=job.config.model_copy(update={"store": there}))


@dataclass(frozen=True)
class _Watched:
    """One machine, watched through the run's store."""

    handle: Handle
    log: RunLog

    def safe(self) -> CheckpointRecord | None:
        """The newest checkpoint in the store."""
        return self._found(lambda: selftest.newest(self.log), "before anything was safe")

    def done(self) -> bool | None:
        """True when the run is done."""
        return self._found(lambda: selftest.is_done(self.log) or None, "before the run was done")

    def far(self) -> str:
        """How far it has come, and where a person sees more."""
        return f"{selftest.far(self.log)}; the machine: {words(self.handle)} {self.handle.url}".rstrip()

    def _found(self, look: Callable[[], T | None], when: str) -> T | None:
        found = look()
        if found is None and clients.client_for(self.handle.platform).state(self.handle) == "ended":
            found = look()  # its last words may have come while its state was asked for
            if found is None:
                raise CheckSaidNo(f"the machine ended {when} ({self.far()})", "its log in the platform's page")
        return found


def _release_all(store: Store, hands: Hands) -> None:
    """Release what may cost something, and say it loudly when that fails."""
    for left in reversed(range(_RELEASES)):
        try:
            if at_work(Ledger(store).machines):
                hiring.stopped(str(store), hands.time)
            return
        except DragomanError as error:
            if not left:
                what = f"a machine of this selftest may still be running, and cost money: {error.message}"
                raise StoreUnavailable(what, f"dragoman stop {store}, or the platform's page") from error
            hands.pace.sleep(hands.pace.look_seconds)
