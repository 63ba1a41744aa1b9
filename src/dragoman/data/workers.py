"""The same task for many chunks, in several processes when there are many.

Processes and not threads: cleaning is Python, and a tokenizer's own threads would wait for
it. A worker leaves a file for each chunk and answers nothing, so neither their number nor
their order shows in what is made. None outlives the process that started it.
"""

import contextlib
import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, as_completed, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, NamedTuple

from dragoman import host
from dragoman.errors import WorkerLost

FEW_PAIRS = 40_000
"""So many pairs are done here: starting processes would take longer."""

WAITING = 2
"""Chunks per process that may wait; more would only fill memory."""


class Call(NamedTuple):
    """One chunk."""

    num_pairs: int
    arguments: tuple[Any, ...]


def each(
    task: Callable[..., None],
    state: object,
    calls: Iterable[Call],
    processes: int | None = None,
    done: Callable[[Call], None] = lambda call: None,
) -> None:
    """Call `task(state, *arguments)` for each of `calls`, which are made while others run.

    Args:
        task: A function of a module.
        state: What all calls share; each process gets it once.
        calls: What else each call gets.
        processes: At most this many; one for each core when left out.
        done: Told of each call that has returned.

    Raises:
        WorkerLost: The system has ended one of the processes.
    """
    processes = processes or host.num_cores()
    first: list[Call] = []
    num_pairs, remaining = 0, iter(calls)
    while num_pairs <= FEW_PAIRS and (call := next(remaining, None)):
        first.append(call)
        num_pairs += call.num_pairs
    calls = itertools.chain(first, remaining)
    if processes == 1 or num_pairs <= FEW_PAIRS:
        for call in calls:
            task(state, *call.arguments)
            done(call)
        return
    with _pool(state, processes) as pool:
        running: dict[Future[None], Call] = {}

        def settle(ended: Iterable[Future[None]]) -> None:
            for future in ended:
                future.result()
                done(running.pop(future))

        for call in calls:
            if len(running) >= WAITING * processes:
                settle(wait(running, return_when=FIRST_COMPLETED).done)
            running[pool.submit(_run, task, call.arguments)] = call
        settle(as_completed(list(running)))


@contextlib.contextmanager
def _pool(state: object, processes: int) -> Generator[ProcessPoolExecutor]:
    # A forked process would inherit torch's and the tokenizer's threads in any state.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, context, initializer=_begin, initargs=(state,))
    try:
        yield pool
    except BrokenProcessPool:
        hint = "the same command again: what was done is kept; with less memory --prepare-processes 1"
        raise WorkerLost("a process that prepared data was ended by the system", hint) from None
    finally:
        pool.shutdown(cancel_futures=True)


_shared: Any = None


def _begin(state: object) -> None:
    global _shared
    _shared = state
    host.compute_alone()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started us tells us when to end
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # the queue we wait at would never tell


def _run(task: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    task(_shared, *arguments)
