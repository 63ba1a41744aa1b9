"""Starts the ranks of a session on this machine, watches them, and starts them again when one is lost.

It sets for each what torchrun would set, so a rank cannot tell the difference. torchrun
itself is not used: it counts the exit code 75 of a session that stopped as a failure and
starts it again, and gives a rank that saves after SIGTERM 30 seconds (torch 2.13,
`elastic/agent/server/api.py`). No torch here: this process must not hold a GPU.
"""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from dragoman.config import RunConfig
from dragoman.errors import ExitCode, InputError
from dragoman.host import cluster
from dragoman.host.cluster import Rank

LEAVE_SECONDS = 75.0
"""Ranks notice a loss within half a minute, and may finish a save; then they are ended."""
FOLLOW_SECONDS = 15.0
"""Once the first rank has ended, the others have nothing to finish."""
LOOK_SECONDS = 0.1
PAUSE_SECONDS = 1.0
"""Before the ranks are started again; twice as long each time."""
OBEYED = {ExitCode.DONE, ExitCode.BAD_INPUT, ExitCode.SUPERSEDED, ExitCode.CHECK_SAID_NO, ExitCode.RESUME_ME}
"""Ends that a rank chose; any other is a loss."""


def check(config: RunConfig) -> None:
    """Look at options that need one another.

    Raises:
        InputError: They do not fit one another, or this machine.
    """
    ranks, device = config.ranks, config.training.device
    if ranks.offload and ranks.parallel != "fsdp":
        raise InputError("--offload: only parts of a model are kept in the host's memory", "with --parallel fsdp")
    if ranks.offload and device == "cpu":
        raise InputError("--offload keeps parts of a model out of a GPU's memory, and --device cpu has none", "without")
    if ranks.parallel == "fsdp" and config.training.optimizer != "adamw":
        why = "it looks at whole matrices, or blocks of them, and a rank holds some rows"
        raise InputError(f"--parallel fsdp with --optimizer {config.training.optimizer}: {why}", "--optimizer adamw")
    if config.training.precision == "fp64" and device != "cpu":
        raise InputError("--precision fp64 is for proofs on a CPU", "with --device cpu")
    if ranks.node_rank is not None and ranks.node_rank >= ranks.nodes:
        raise _no_machine(ranks.node_rank, ranks.nodes)


def local_count(config: RunConfig) -> int:
    """How many ranks this machine is to have.

    Raises:
        InputError: There are not so many GPUs.
    """
    wanted, gpus = config.ranks.devices, 0 if config.training.device == "cpu" else cluster.num_gpus()
    if config.training.device == "cpu" or (gpus == 0 and config.training.device == "auto"):
        return wanted or 1
    if wanted and gpus and wanted > gpus:
        raise InputError(f"--devices {wanted}: this machine has {gpus} GPUs", f"--devices {gpus}, or --device cpu")
    return wanted or gpus or 1


def is_needed(config: RunConfig) -> bool:
    """Whether this process is to start ranks: there are to be several, and it is none of them itself.

    Raises:
        InputError: There are not so many GPUs.
    """
    check(config)
    place = cluster.rank()  # some machines tell every process that it is the only one
    return (place is None or place.count == 1) and local_count(config) * config.ranks.nodes > 1


def run(
    words: Sequence[str],
    config: RunConfig,
    say: Callable[[str], None],
    noted: Callable[[str, int], None] = lambda reason, restart: None,
) -> int:
    """Start the ranks until they end by themselves; returns the session's exit code.

    Args:
        words: The command of every rank, after `dragoman`.
        config: How many there are, and where.
        say: Shows a line to the user.
        noted: Told of every loss, and which start comes next (0: none).

    Raises:
        InputError: It is not known which machine this is, or where the first one is.
    """
    meeting = _meeting(config)
    with _Signals() as signals:
        restart = 0
        while not signals.received:
            crew = Crew.started(words, meeting(), signals)
            code, reason = crew.watched()
            if not reason:
                return code
            if signals.received or restart == config.ranks.max_restarts:
                noted(reason, 0)
                say(f"{reason}; what is recorded is safe")
                return ExitCode.BUG if code == ExitCode.BUG else ExitCode.RESUME_ME
            restart += 1
            noted(reason, restart)
            say(f"{reason}: the ranks start again, {restart} of {config.ranks.max_restarts}")
            signals.wait(PAUSE_SECONDS * 2 ** (restart - 1))
        return ExitCode.RESUME_ME


@dataclass(frozen=True)
class Meeting:
    """Where the ranks of all machines meet, and which of them are here."""

    ranks: tuple[Rank, ...]
    address: str
    port: int
    interface: str | None


def _meeting(config: RunConfig) -> Callable[[], Meeting]:
    """Makes the place of the next start; on one machine every start has a port of its own."""
    count, nodes = local_count(config), config.ranks.nodes
    if nodes == 1:
        ranks = _ranks(0, count, 1)
        interface = "lo" if sys.platform == "linux" else None
        return lambda: Meeting(ranks, "127.0.0.1", cluster.free_port(), interface)
    number = config.ranks.node_rank if config.ranks.node_rank is not None else cluster.node_rank()
    place = config.ranks.main_address or cluster.main_host()
    if number is None:
        raise InputError(f"--nodes {nodes}: which machine is this one?", f"--node-rank 0 to {nodes - 1}")
    if number >= nodes:
        raise _no_machine(number, nodes)
    if place is None:
        raise InputError(f"--nodes {nodes}: where is machine 0?", "--main-address HOST of machine 0")
    address, _, port = place.partition(":")
    if port and not (port.isdecimal() and 0 < int(port) < 1 << 16):
        raise InputError(f"--main-address {place}: {port} is no port", f"--main-address {address}:{cluster.PORT}")
    ranks = _ranks(number, count, nodes)
    return lambda: Meeting(ranks, address, int(port or cluster.PORT), cluster.interface_towards(address))


def _no_machine(number: int, nodes: int) -> InputError:
    return InputError(f"--node-rank {number}: machines are counted from 0 to {nodes - 1}", f"--nodes {number + 1}")


def _ranks(node: int, count: int, nodes: int) -> tuple[Rank, ...]:
    return tuple(Rank(node * count + local, nodes * count, local, count) for local in range(count))


class _Signals:
    """Hands SIGTERM and SIGINT on to the ranks, once each: they have a session of their own, and would not get them."""

    def __init__(self) -> None:
        self.received = False
        self.processes: list[subprocess.Popen[bytes]] = []
        self._before: dict[int, Any] = {}

    def _receive(self, number: int, _: FrameType | None) -> None:
        # The second one ends them whatever they do: one that waits for the others in C++ runs no handler.
        number, self.received = signal.SIGKILL if self.received else number, True
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(number)

    def wait(self, seconds: float) -> None:
        """Pause, but not longer than until a signal."""
        until = time.monotonic() + seconds
        while not self.received and time.monotonic() < until:
            time.sleep(LOOK_SECONDS)

    def __enter__(self) -> "_Signals":
        self._before = {each: signal.signal(each, self._receive) for each in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


@dataclass
class Crew:
    """The ranks of this machine, once started."""

    processes: dict[Rank, subprocess.Popen[bytes]]
    _ended: dict[Rank, int] = field(default_factory=dict[Rank, int])

    @staticmethod
    def started(words: Sequence[str], meeting: Meeting, signals: _Signals) -> "Crew":
        """Start every rank, with the same words."""
        crew = Crew({})
        for rank in meeting.ranks:
            environment = cluster.environment_of_rank(rank, meeting.address, meeting.port, meeting.interface)
            command = [sys.executable, "-m", "dragoman", *words]
            # A session of its own: a terminal would send Ctrl-C to all of them, beside what is handed on.
            process = subprocess.Popen(command, env=environment, start_new_session=True)
            crew.processes[rank] = process
            signals.processes.append(process)
            if signals.received:  # between two starts: nobody was there to be told
                process.send_signal(signal.SIGTERM)
        return crew

    def watched(self) -> tuple[int, str]:
        """Wait until all have ended; the exit code, and how it came that one was lost, empty when none was."""
        lost, until = "", float("inf")
        while len(self._ended) < len(self.processes):
            for rank, process in self.processes.items():
                if rank in self._ended or (code := process.poll()) is None:
                    continue
                self._ended[rank] = code
                if code not in OBEYED and not lost:
                    lost = _in_words(rank, code)
                if rank.number == 0:
                    until = min(until, time.monotonic() + FOLLOW_SECONDS)
                elif lost or code == ExitCode.BAD_INPUT:
                    until = min(until, time.monotonic() + LEAVE_SECONDS)
            if time.monotonic() >= until:
                self._end()
            time.sleep(LOOK_SECONDS)
        first = next(iter(self.processes))
        code = self._ended[first]
        if first.number == 0 and code in OBEYED:
            return code, ""  # it knew how the session ended; what became of the others later is no loss
        if ExitCode.BAD_INPUT in self._ended.values():
            return ExitCode.BAD_INPUT, ""  # something of its machine, which that rank has said
        if lost:
            return next((code for code in self._ended.values() if code == ExitCode.BUG), int(ExitCode.RESUME_ME)), lost
        return code, ""

    def _end(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()


def _in_words(rank: Rank, code: int) -> str:
    if code < 0:
        return f"rank {rank.number} was ended by {signal.Signals(-code).name}"
    if code == ExitCode.RANK_LOST:
        return f"rank {rank.number} lost the others"
    return f"rank {rank.number} ended with exit code {code}"
