"""Two hosts with addresses and disks of their own: network and mount namespaces, joined by a veth pair.

As root, with iproute2. Both run the same command; the same path leads to another disk on
each, and the second host has no data: what it trains on, it gets from the first. Started as
`python -m bench.ranks_hosts NAMESPACE DISK PLACE HIDDEN WORDS …` this file is the door into
such a host.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.faults_machine import Machine, Process, wait_until
from bench.ranks_play import WAIT_SECONDS, Lab, Outcome, exit_of, judge, marks
from dragoman import journal

NETWORK = "10.77.5"
"""The hosts are .1 and .2."""
CUT_AFTER = 9
"""The step after which the link is taken down."""
END_SECONDS = 120.0
AWAY_SECONDS = 40.0
PACE = 1.0
NOTHING = "-"


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@contextmanager
def _link() -> Iterator[tuple[str, str]]:
    """Two network namespaces that reach each other, and nothing else."""
    if shutil.which("ip") is None:
        subprocess.run(["apt-get", "install", "-y", "-q", "iproute2"], check=True, stdout=sys.stderr)
    names = (f"dragoman-{os.getpid()}-1", f"dragoman-{os.getpid()}-2")
    with ExitStack() as stack:
        for name in names:
            _ip("netns", "add", name)
            stack.callback(_ip, "netns", "del", name)
        _ip("link", "add", "wire", "netns", names[0], "type", "veth", "peer", "name", "wire", "netns", names[1])
        for number, name in enumerate(names, 1):
            _ip("-n", name, "addr", "add", f"{NETWORK}.{number}/24", "dev", "wire")
            for device in ("lo", "wire"):
                _ip("-n", name, "link", "set", device, "up")
        yield names


@dataclass
class Hosts:
    """Both, with a process each."""

    lab: Lab
    name: str
    names: tuple[str, str]
    machines: tuple[Machine, Machine]

    @property
    def place(self) -> Path:
        """The path under which each host has its own disk."""
        return self.lab.folder / f"{self.name}-disk"

    def disk(self, number: int) -> Path:
        return self.lab.folder / f"{self.name}-disk-{number}"

    def start(self, number: int, **options: object) -> Process:
        """`dragoman train` on a host."""
        door = [self.names[number], self.disk(number), self.place]
        hidden = self.lab.folder / "pairs.tsv" if number else NOTHING
        words = self.lab.words(self.place / "run", **options)
        return self.machines[number].start("said", ["-m", "bench.ranks_hosts", *door, hidden, *words])

    def both(self, **options: object) -> list[Process]:
        """The same command on each, but for its number."""
        told = {"nodes": 2, "main_address": f"{NETWORK}.1"} | options
        return [self.start(number, **told, node_rank=number) for number in (0, 1)]

    def reached(self) -> int:
        """The last step that the first host has computed."""
        events = journal.read(self.disk(0) / "run/dragoman/journal.jsonl")
        return max((event["step"] for event in events if event["kind"] == "step"), default=0)

    def set_link(self, state: str) -> None:
        _ip("-n", self.names[0], "link", "set", "wire", state)

    def over(self, processes: Sequence[Process], seconds: float) -> bool:
        """Whether all ended by themselves in time, and left nothing alive."""
        return wait_until(
            lambda: (
                all(each.exit_code is not None for each in processes)
                and not any(machine.alive() for machine in self.machines)
            ),
            seconds,
        )


@contextmanager
def _hosts(lab: Lab, name: str, **told: object) -> Iterator[Hosts]:
    with (
        _link() as names,
        lab.machine(f"{name}-1", (), **told) as one,
        lab.machine(f"{name}-2", (), **told) as two,
    ):
        hosts = Hosts(lab, name, names, (one, two))
        for folder in (hosts.place, hosts.disk(0), hosts.disk(1)):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        yield hosts


def two_hosts(lab: Lab) -> Outcome:
    """Two ranks on each of two hosts, to the end."""
    outcome = Outcome("two-hosts")
    with _hosts(lab, outcome.name) as hosts:
        processes = hosts.both(devices=2, parallel="fsdp")
        hosts.over(processes, WAIT_SECONDS)
        _note_codes(outcome, processes, [0, 0])
        interfaces = {str(each["interface"]) for machine in hosts.machines for each in marks(machine.folder)}
        outcome.remarks.append(f"four ranks, FSDP2; interface chosen on both hosts: {', '.join(interfaces)}")
        there = sorted(path.relative_to(hosts.disk(1)).as_posix() for path in hosts.disk(1).glob("run/dragoman/*"))
        outcome.remarks.append(f"on the second host's disk: {', '.join(there) or 'nothing'}")
        judge(hosts.disk(0) / "run", lab.folder / "undisturbed", outcome)
    return outcome


def cut_off(lab: Lab) -> Outcome:
    """The link goes down in the middle, for good; the first host goes on alone."""
    outcome = Outcome("two-hosts-cut", bound=END_SECONDS)
    with _hosts(lab, outcome.name, pace=PACE) as hosts:
        processes = hosts.both(devices=1, max_restarts=0)
        cut = _cut(hosts, processes)
        hosts.over(processes, WAIT_SECONDS)
        outcome.seconds = time.monotonic() - cut
        _note_codes(outcome, processes, [75, 75])
        alone = hosts.start(0, devices=1)
        outcome.codes.append(exit_of(alone))
        judge(hosts.disk(0) / "run", lab.folder / "undisturbed", outcome)
    if outcome.seconds > outcome.bound:
        outcome.wrong.append("too late")
    outcome.remarks.append("the last session is the first host alone, with its link still down")
    return outcome


def cut_for_a_while(lab: Lab) -> Outcome:
    """The link goes down and comes up again: both start their ranks again, and these meet."""
    outcome = Outcome("two-hosts-cut-for-a-while", bound=END_SECONDS)
    with _hosts(lab, outcome.name, pace=PACE) as hosts:
        processes = hosts.both(devices=1)
        cut = _cut(hosts, processes)
        wait_until(lambda: False, AWAY_SECONDS)
        hosts.set_link("up")
        met = wait_until(lambda: _sessions(hosts) == 2, WAIT_SECONDS)
        outcome.seconds = time.monotonic() - cut if met else None
        hosts.over(processes, WAIT_SECONDS)
        _note_codes(outcome, processes, [0, 0])
        outcome.restarts = _sessions(hosts) - 1
        judge(hosts.disk(0) / "run", lab.folder / "undisturbed", outcome)
    if outcome.seconds is None or outcome.seconds > outcome.bound:
        outcome.wrong.append("too late")
    outcome.remarks.append(f"down for {AWAY_SECONDS:.0f} s")
    return outcome


def _cut(hosts: Hosts, processes: list[Process]) -> float:
    """Take the link down in the middle of the run; when that was."""
    is_there = wait_until(lambda: hosts.reached() >= CUT_AFTER, WAIT_SECONDS)
    assert is_there, [each.talk[-3:] for each in processes]
    hosts.set_link("down")
    return time.monotonic()


def _sessions(hosts: Hosts) -> int:
    events = journal.read(hosts.disk(0) / "run/dragoman/journal.jsonl")
    return sum(event["kind"] == "session_started" for event in events)


def _note_codes(outcome: Outcome, processes: list[Process], wanted: list[int]) -> None:
    outcome.codes = [each.exit_code if each.exit_code is not None else -1 for each in processes]
    if outcome.codes != wanted:
        outcome.wrong.append(f"exit codes {outcome.codes}: {[each.talk[-3:] for each in processes]}")


def _enter(disk: str, place: str, hidden: str) -> None:
    """Put the host's own disk in its place, for this process alone: `ip netns exec` has parted the mounts."""
    subprocess.run(["mount", "--bind", disk, place], check=True)
    if hidden != NOTHING:
        subprocess.run(["mount", "--bind", "/dev/null", hidden], check=True)


def main() -> None:
    namespace, *rest = sys.argv[1:]
    if namespace != NOTHING:
        inside = [sys.executable, "-m", "bench.ranks_hosts", NOTHING, *rest]
        os.execvp("ip", ["ip", "netns", "exec", namespace, *inside])
    _enter(*rest[:3])
    os.execv(sys.executable, [sys.executable, *rest[3:]])


if __name__ == "__main__":
    main()
