"""A rank that is not the first one: it does what the first one says, and knows nothing of stores and logs.

It holds the model, or its part of it, and computes its share of every step. When a step is
over it hears what comes next; whether that is a step, a save or the end was decided by the
first rank alone.
"""

import json
import os
import threading

import torch
import yaml

from dragoman.config import RunConfig, from_flat
from dragoman.data import planning
from dragoman.data.loader import Loader
from dragoman.errors import ExitCode, RankLost
from dragoman.host.cluster import Rank
from dragoman.training import fitting, optimizer, state, trainee
from dragoman.training.forward import Forward
from dragoman.training.ranks import Order, Ranks, joined, lost_ranks
from dragoman.training.short_memory import smaller
from dragoman.training.snapshot import HostBuffers
from dragoman.training.step import train_step
from dragoman.training.stop import Stop
from dragoman.training.watch import DISMISSED


def run(place: Rank) -> ExitCode:
    """Obey until the end; returns how the session ended.

    Raises:
        RankLost: Another rank is gone.
    """

    def leave(why: str) -> None:
        os._exit(int(why.removeprefix(DISMISSED)) if why.startswith(DISMISSED) else ExitCode.RANK_LOST)

    with Stop(None, speaks=False) as stop:
        stop.has_work = True
        with joined(place, None, leave) as (ranks, text):
            return Follower(from_flat(yaml.safe_load(text)), ranks, stop).obey()


class Follower:
    """One process life of a rank."""

    def __init__(self, config: RunConfig, ranks: Ranks, stop: Stop) -> None:
        self.config, self.ranks, self.stop = config, ranks, stop
        self.arithmetic = trainee.set_up_torch(config, ranks.place.count)
        self.scaler = self.arithmetic.scaler()
        self.buffers = HostBuffers()
        self._sending: threading.Thread | None = None
        self._failure: BaseException | None = None

    def obey(self) -> ExitCode:
        """One order after the other; returns the session's exit code."""
        while True:
            order = self.ranks.hear(self.stop.received.name if self.stop.received else "")
            if order["do"] == "end":
                self._settle()
                return ExitCode(order["code"])
            with lost_ranks():
                self._do(order)

    def _do(self, order: Order) -> None:
        match order["do"]:
            case "assemble":
                self._assemble(order)
            case "restore":
                self.scaler.load_state_dict(json.loads(self.ranks.tell()))
                state.restore(self.forward, self.optimizer, order["updates"], lambda name: self.ranks.shared(None))
            case "base":
                state.restart(self.forward, self.optimizer, self.ranks.shared(None))
            case "step":
                self._step(order)
            case "save":
                self._send(order["copies"])
            case "lend":
                with self.forward.whole():
                    self.ranks.hear()
            case unknown:
                raise AssertionError(unknown)

    def _assemble(self, order: Order) -> None:
        """Build what is trained, as the first rank does at the same time."""
        model, corpus, build = trainee.receive(self.ranks, self.config, order)
        plan = planning.plan_of(self.config, corpus)
        self.forward: Forward = trainee.assemble(
            self.config, model, self.arithmetic, Loader(corpus, plan), build, self.ranks
        )
        loader = Loader(corpus, plan, active=self.forward.active is not None)
        self.feed = trainee.feed_of(self.forward, self.config, loader)
        self.optimizer = optimizer.build(self.forward.trained(), self.config.training)

    def _step(self, order: Order) -> None:
        """This rank's share of a step.

        Raises:
            RankLost: A rank is gone, or this one has no memory left.
        """
        if order["twice"] != self.forward.checkpointing:
            self.forward = fitting.checkpointed(self.forward, order["twice"])
        step, limit = order["step"], order["limit"]
        try:
            train_step(
                self.forward,
                self.optimizer,
                self.scaler,
                self.feed,
                self.config.training,
                step=step,
                limit=limit,
                rate=order["rate"],
                before_update=self.buffers.wait_before_update,
            )
        except torch.OutOfMemoryError:
            told = {"memory": smaller(self.feed, step, limit), "step": step + 1}
            self.ranks.watch.tell(json.dumps(told))
            raise RankLost(f"rank {self.ranks.place.number} ran out of memory at step {step + 1}") from None

    def _send(self, copies: bool) -> None:
        """Send this rank's parts of a checkpoint: from a copy beside the next steps, or at once."""
        self._settle()
        live = state.asked_of_others(state.tensors(self.forward, self.optimizer))
        if not copies:
            state.send(live)
            return
        copied, wait = self.buffers.copy(live)

        def send() -> None:
            try:
                wait()
                state.send(copied)
            except BaseException as error:
                self._failure = error

        self._sending = threading.Thread(target=send, name="sender")
        self._sending.start()

    def _settle(self) -> None:
        """Wait for a checkpoint that is on its way.

        Raises:
            DragomanError: It did not get there.
        """
        if self._sending:
            self._sending.join()
        self._sending, failure = None, self._failure
        if failure:
            raise failure
