"""Starting a machine so that the run's store knows of it: claimed before, written down after.

`launch` and `supervise` both start machines here, so each sees what the other started.
"""

from collections.abc import Callable
from dataclasses import dataclass

from dragoman.checkpoint.log import RunLog
from dragoman.errors import InputError
from dragoman.launch import clients
from dragoman.launch.job import Handle, Job, Plan
from dragoman.launch.ledger import Claimed, Ended, Ledger, Machine, Started, at_work, new_nonce
from dragoman.platforms import Offer, Platform
from dragoman.store.address import FILE, Access, named, open_store
from dragoman.store.base import Store

Clock = Callable[[], float]


@dataclass(frozen=True)
class Terms:
    """What is started, and where the run stood then."""

    platform: Platform
    offer: Offer
    usd_per_hour: float
    """Of all nodes."""
    max_hours: float
    epoch: int
    """Of the run's lease."""
    step: int
    """The newest in the store."""


def hire(ledger: Ledger, terms: Terms, start: Callable[[], Handle], clock: Clock) -> Handle | None:
    """Claim a machine, start it and write it down; None when somebody else was faster.

    Args:
        ledger: Of the run.
        terms: What is started.
        start: Starts it.
        clock: Seconds since 1970 (UTC).

    Raises:
        InputError: The platform refused it, which is written down; nothing runs.
        StoreUnavailable: Store or platform do not answer. Whether something runs, the message says.
    """
    claim = Claimed(
        seq=ledger.next_seq,
        nonce=new_nonce(),
        time=clock(),
        platform=terms.platform.name,
        flavor=terms.offer.flavor,
        gpu=terms.offer.gpu,
        usd_per_hour=terms.usd_per_hour,
        max_hours=terms.max_hours,
        epoch=terms.epoch,
        step=terms.step,
    )
    if ledger.claim(claim) is None:
        return None
    try:
        handle = start()
    except InputError as error:
        ledger.add(Ended, clock(), claim=claim.nonce, reason=error.message, was_refused=True)
        raise
    ledger.add(Started, clock(), claim=claim.nonce, client=handle.platform, id=handle.id, url=handle.url)
    return handle


def release(machine: Machine, ledger: Ledger, clock: Clock, client_for: clients.Connect = clients.client_for) -> str:
    """Stop paying for a machine; returns what its platform had said of it.

    One that costs nothing by the hour, and that its platform lets nobody end from outside, counts as ended.

    Raises:
        InputError: Its platform refuses us.
        StoreUnavailable: Store or platform do not answer.
    """
    state = "unknown"
    if machine.handle:
        client = client_for(machine.handle.platform)
        state = client.state(machine.handle)
        try:
            client.release(machine.handle)
        except InputError:
            if machine.claim.usd_per_hour:
                raise
    ledger.add(Ended, clock(), claim=machine.claim.nonce, reason=f"released ({state})")
    return state


def launched(job: Job, plan: Plan, clock: Clock) -> Handle:
    """Start the machine of a job that was looked at and agreed to.

    Raises:
        InputError: One is at work for this run, or its store or platform refuses us; nothing runs.
        StoreUnavailable: Store or platform do not answer.
    """
    client = clients.client_for(clients.way(job.platform.name))
    client.check(job, plan)
    try:
        store = open_store(job.store, Access(public=job.config.store.public))
    except InputError:  # a package for such stores is only needed on the machine; then nobody else knows of it
        return client.submit(job, plan)
    store.prepare()
    log, ledger = RunLog(store), Ledger(store)
    _refuse_finished(log, job)
    for machine in at_work(ledger.machines):
        _refuse_second(machine, ledger, job, clock)
    usd_per_hour = (job.offer.usd_per_hour or 0.0) * job.num_nodes
    newest = log.newest.step if log.newest else 0
    terms = Terms(job.platform, job.offer, usd_per_hour, job.max_hours * job.attempts, log.epoch, newest)
    handle = hire(ledger, terms, lambda: client.submit(job, plan), clock)
    if handle is None:
        raise InputError(f"{job.store}: another machine was started for this run just now", "dragoman status, later")
    return handle


def stopped(store_url: str, clock: Clock) -> list[Handle]:
    """Release every machine that was started for the run in a store, and is not known to have ended.

    Raises:
        InputError: There is none.
        StoreUnavailable: Store or platform do not answer.
    """
    ledger = Ledger(_there(store_url))
    machines = at_work(ledger.machines)
    if not machines:
        raise InputError(f"{store_url}: no machine that was started for it is at work", "PLATFORM:ID, as `launch` said")
    for machine in machines:
        release(machine, ledger, clock)
    return [machine.handle for machine in machines if machine.handle]


def ended(store_url: str, handle: Handle, clock: Clock) -> None:
    """Write down that a machine was released.

    Raises:
        InputError: The store cannot be opened here.
        StoreUnavailable: It does not answer.
    """
    ledger = Ledger(open_store(store_url, Access()))
    for machine in at_work(ledger.machines):
        if machine.handle and (machine.handle.platform, machine.handle.id) == (handle.platform, handle.id):
            ledger.add(Ended, clock(), claim=machine.claim.nonce, reason="released by hand")


def _there(text: str) -> Store:
    url = named(text)
    if url.startswith(FILE):
        raise InputError(f"{text}: neither PLATFORM:ID nor the store of a run", "jobs:USER/ID, as `launch` said")
    return open_store(url, Access())


def _refuse_finished(log: RunLog, job: Job) -> None:
    if log.finished and log.finished.outcome == "done":
        raise InputError(
            f"{job.store}: this run is finished, at step {log.finished.step:,}; a machine would have nothing to do",
            "another store for another run; dragoman download brings the model",
        )


def _refuse_second(machine: Machine, ledger: Ledger, job: Job, clock: Clock) -> None:
    """One that has ended by itself is written down as such; another one must be stopped first."""
    handle = machine.handle
    if handle and clients.client_for(handle.platform).state(handle) == "ended":
        ledger.add(Ended, clock(), claim=machine.claim.nonce, reason="ended by itself")
        return
    words = (
        f"{handle.platform}:{handle.id}" if handle else f"one of {machine.claim.platform}, of which no more is known"
    )
    raise InputError(
        f"a machine that trains {job.store} was started already: {words}",
        f"dragoman stop {job.store}, or another store for another run",
    )
