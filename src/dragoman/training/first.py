"""The first rank's side of a session with several: meeting the others, releasing them, leaving when one is lost."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING

from dragoman.checkpoint.run_folder import run_folder
from dragoman.config import RunConfig
from dragoman.data import balance
from dragoman.errors import DragomanError, ExitCode, RankLost
from dragoman.host import cluster
from dragoman.journal import SessionEnded
from dragoman.training import short_memory
from dragoman.training.feed import Feed
from dragoman.training.forward import Forward
from dragoman.training.ranks import Ranks, joined

if TYPE_CHECKING:
    from dragoman.training.session import Session


FEW_OPERATIONS = 500
"""A rank's floating point operations in a step, for each byte of gradients that travels: below it, even the GPUs of one
machine, fast as their links are, wait for each other longer than they compute."""


def advice(feed: Feed, trained_bytes: int) -> str:
    """What to say about steps that are too small for so many GPUs; empty when there is nothing.

    Args:
        feed: Of the first rank; its first step stands for all.
        trained_bytes: Of all gradients.
    """
    share = feed.share
    if share is None:
        return ""
    pairs = feed.loader.batch(0)
    operations = int(balance.costs(feed.loader.lengths(pairs), share.costs).sum())
    if operations >= FEW_OPERATIONS * trained_bytes * share.count:
        return ""
    why = f"{trained_bytes / 1e9:.1f} GB of gradients travel in each"
    small = f"steps of {len(pairs):,} pairs are small for {share.count} GPUs: {why}"
    return f"{small}; dragoman estimate says whether --devices 1 is as fast"


@contextmanager
def with_others(config: RunConfig) -> Iterator[Ranks | None]:
    """The other ranks of this session, told how it ends when it ends by an error; None when there are none.

    Raises:
        RankLost: They do not come.
    """
    place = cluster.rank()
    # One rank alone needs no others, unless somebody wants to see that nothing changes.
    if place is None or (place.count == 1 and config.ranks.parallel == "auto"):
        yield None
        return

    def leave(why: str) -> None:
        if why.startswith("{"):
            told = json.loads(why)
            short_memory.note(run_folder(config), told["step"], told["memory"])
        os._exit(ExitCode.RANK_LOST)

    with joined(place, config.to_yaml(), leave) as (ranks, _):
        try:
            yield ranks
        except RankLost:
            raise
        except DragomanError as error:
            # Not by an order: they may be in the middle of one, and wait for something else. On this machine they see
            # the connections end; another one's starter needs to know that this is no loss.
            if place.count > place.local_count:
                ranks.watch.dismiss(error.exit_code)
            raise


@contextmanager
def settles_before_leaving(run: "Session") -> Iterator[None]:
    """Within it a save that is under way is finished before this process leaves for the loss of a rank."""

    def settle(why: str) -> None:
        with suppress(BaseException):
            run.saver.join()
        run.journal.append(SessionEnded(outcome="stopped", reason=why, step=run.state.step, safe_step=run.safe_step))

    at_loss = run.ranks.at_loss if run.ranks else []
    at_loss.append(settle)
    try:
        yield
    finally:
        at_loss.remove(settle)


def release(ranks: Ranks | None, code: ExitCode) -> None:
    """Let the other ranks end; once they know, nobody is missed any more.

    Raises:
        RankLost: One is gone already.
    """
    if ranks:
        ranks.order("end", code=int(code))
        ranks.watch.end()


@contextmanager
def whole(run: "Session") -> Iterator[Forward]:
    """With all weights of the model, taking token ids, by this process alone."""
    is_divided = run.forward.parallel is not None and run.forward.parallel.is_divided
    if run.ranks and is_divided:
        run.ranks.order("lend")
    # Of a divided model the layers are brought in half precision.
    with run.forward.whole() as forward, run.arithmetic.autocast() if is_divided else nullcontext():
        yield forward
        if run.ranks and is_divided:
            run.ranks.order("returned")
