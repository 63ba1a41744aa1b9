"""One row played on one side: train under a fault, look at what the repository holds, continue elsewhere."""

import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.faults_dragoman import Degraded, Dragoman, note
from bench.faults_judge import Verdict, leaked_uploads, leaks
from bench.faults_machine import Machine, Process, wait_until
from bench.faults_sides import NEW_TOKEN, REPO, START_SECONDS, TOKEN, Recipe, Resumed, Side, names_there
from dragoman.checkpoint.status import status
from tests.support.hub import Fault, HubStandIn

SAFE_FILES = ("trainer_state.json", "training/state.json")
"""With one of these in a folder the first save of either side is there."""
WORDS = re.compile(
    r"error|exception|fail|warn|degraded|not (pushed|uploaded|saved|stored|safe)|refus|denied|unable|could ?n.t|cannot"
    r"|lost|timed? ?out|revoked|invalid|quota|limit|retry|(?<![\w.,])(401|403|409|412|429|5\d\d)(?![\w.,])",
    re.IGNORECASE,
)
"""A line without any of these says nothing about a loss."""
ONLY_REQUESTS = re.compile(r"Retrying in|HTTP Error \d+ thrown|thrown while requesting|s before retrying")
"""Lines of the HTTP client about one of its requests: they do not say that anything was lost."""


@dataclass
class Outcome:
    """How one row went for one side."""

    row: str
    side: str
    ended: str = ""
    """exit N · hangs · killed (by the row itself)."""
    made: list[int] = field(default_factory=list)
    """Steps saved on the machine's disk."""
    durable: list[str] = field(default_factory=list)
    """Saves that the repository held whole at some commit."""
    end_step: int = -1
    """Step from which training would continue when all is over, by the bytes in the repository; -1 for none."""
    root_step: int = -1
    """Step of the weights at the root when all is over; -1 for none, or those of nobody."""
    commits: int = 0
    torn: list[str] = field(default_factory=list)
    """Commits that held weights of one step with the state of another."""
    torn_at_end: str = ""
    duplicates: list[str] = field(default_factory=list)
    """Titles of commits that came twice."""
    falls: list[str] = field(default_factory=list)
    """Commits at which the step from which training would continue fell."""
    silent: str = ""
    """Empty unless a save was never in the repository, or it is torn at the end, and the exit code is 0; then
    `silent` when no line speaks of it, `requests only` when lines of the HTTP client do and none says what was
    lost, `said` otherwise."""
    said: list[str] = field(default_factory=list)
    """Lines that the undisturbed run does not print and that may speak of a loss."""
    last_line: str = ""
    final_push: str = ""
    """The recipe only: what a `push_to_hub()` after `train()` did."""
    degraded: list[str] = field(default_factory=list)
    """dragoman only: reasons that `status` showed, or else the terminal."""
    degraded_seconds: float = 0.0
    """dragoman only: the greatest age of them in `status`."""
    status: dict[str, object] = field(default_factory=dict)
    """dragoman only: `safe` and `degraded` of `status` when the command had ended."""
    caught_up: str = ""
    """dragoman only: what the copying did by itself once the fault was over."""
    resumed: Resumed | None = None
    leaked: list[str] = field(default_factory=list)
    """Files, on the disk or uploaded, that hold the token."""
    held_bytes: int = 0
    peak_bytes: int = 0
    remarks: list[str] = field(default_factory=list)
    seconds: float = 0.0


@dataclass
class Lab:
    """What all rows share."""

    folder: Path
    recipe: Recipe
    dragoman: Dragoman
    usual: dict[str, set[str]] = field(default_factory=dict)
    """By side: what an undisturbed run says, without its numbers."""
    killed: dict[str, Outcome] = field(default_factory=dict)
    """By side: the run that was killed at its second save."""
    learned: dict[str, Outcome] = field(default_factory=dict)
    """By side: the undisturbed run, which the others are compared with."""
    two: "Lab | None" = None
    """The same with two ranks on each side; what is learned of one rank says nothing of two."""
    locks: dict[str, threading.Lock] = field(
        default_factory=lambda: {name: threading.Lock() for name in ("recipe", "dragoman")}
    )
    """By side: held by whoever learns."""

    @contextmanager
    def hub(self, name: str) -> Iterator[HubStandIn]:
        """A stand-in whose state is in a folder of that name."""
        hub = HubStandIn(self.folder / name)
        hub.add_token(TOKEN, "ada")
        hub.start()
        try:
            yield hub
        finally:
            hub.faults.clear()
            hub.close()
            assert not hub.bugs, hub.bugs

    def copy(self, name: str, to: str) -> str:
        """A copy of a stand-in's state, as it is now."""
        shutil.copytree(self.folder / name, self.folder / to)
        return to

    def unusual(self, side: Side, talk: Sequence[str]) -> list[str]:
        """Lines that may speak of a loss, each once."""
        usual = self.usual.get(side.name, set())
        lines = {plain(line): line for line in reversed(talk) if WORDS.search(line)}
        return [line for words, line in reversed(lines.items()) if words not in usual]


def undisturbed(lab: Lab, side: Side, row: str) -> Outcome:
    """A run without a fault; played once, and what it says and ends with is what the others are compared with."""
    with lab.locks[side.name]:
        if side.name not in lab.learned:
            lab.learned[side.name] = _learned(lab, side, row)
        return lab.learned[side.name]


def _learned(lab: Lab, side: Side, row: str) -> Outcome:
    outcome = play(lab, row, side, lambda hub, name: None, {}, limit=60.0)
    machine = lab.folder / f"{row}-{side.name}"
    for talk in machine.glob("*.txt"):
        lines = talk.read_text("utf-8", "replace").replace("\r", "\n").split("\n")
        lab.usual[side.name] = {plain(line.rstrip()) for line in lines}
    side.weights = side.final(machine)
    assert side.weights
    assert outcome.resumed is not None
    outcome.said = lab.unusual(side, outcome.said)
    outcome.silent = outcome.silent and in_a_word(outcome.said)
    outcome.resumed.exact = side.final(lab.folder / f"{row}-{side.name}-resumed") == side.weights
    return outcome


def plain(line: str) -> str:
    """A line without what differs between two runs."""
    return re.sub(r"[0-9a-f]{12,}|\d[\d.,]*(e[-+]\d+)?", "#", line)


def after_first_save(hub: HubStandIn, strike: Callable[[], object]) -> None:
    """Do something as soon as the repository holds a whole save, before that commit is answered."""
    done = threading.Event()

    def look() -> None:
        if not done.is_set() and any(name.endswith(SAFE_FILES) for name in names_there(hub)):
            done.set()
            strike()

    hub.faults.add(Fault("commit", times=None, after_effect=True, act=look))


def calm(hub: HubStandIn, machine: Machine | None = None) -> None:
    """End every fault; a token that was revoked is replaced, as by `hf auth login` on the machine."""
    hub.faults.clear()
    hub.private_quota_bytes = hub.commits_per_hour = None
    if hub.accounts.find(TOKEN) is None:
        hub.add_token(NEW_TOKEN, "ada")
        if machine:
            (machine.folder / "home/token").write_text(NEW_TOKEN)


def valid_token(hub: HubStandIn) -> str:
    return TOKEN if hub.accounts.find(TOKEN) else NEW_TOKEN


def play(
    lab: Lab,
    row: str,
    side: Side,
    strike: Callable[[HubStandIn, str], object],
    options: Mapping[str, object],
    *,
    limit: float = 90.0,
    heals: bool = False,
    kill: Callable[[], bool] | None = None,
    resumes: bool = True,
    environment: Mapping[str, str] | None = None,
) -> Outcome:
    """Train under a fault from nothing, then continue on an empty machine.

    Args:
        lab: What all rows share.
        row: Name of the row.
        side: Who trains.
        strike: Prepares the fault; told of the side's name.
        options: More options of the side.
        limit: Seconds after which it hangs.
        heals: Whether to end the fault while dragoman's copying is still alive, and see what it does.
        kill: Waits for the moment in which the machine vanishes; by default it never does.
        resumes: Whether to continue.
        environment: More variables for the machine.
    """
    started, outcome = time.monotonic(), Outcome(row, side.name)
    name = f"{row}-{side.name}"
    with lab.hub(f"{name}-hub") as hub, side.machine(lab.folder / name, hub) as machine:
        strike(hub, side.name)
        machine.environment |= environment or {}
        process = side.start(machine, **options)
        if kill:
            if not kill():
                outcome.remarks.append("the moment to kill it never came")
            outcome.ended = "killed"
            machine.vanish()
            hub.faults.drop_all_held()
        else:
            _to_the_end(side, machine, process, limit, outcome)
        verdict = side.judge(hub, [machine])
        take_down(lab, side, machine, process, verdict, outcome)
        if isinstance(side, Recipe) and outcome.ended == "exit 0":
            _push(side, hub, machine, process, outcome)
        source = f"{name}-hub"
        if isinstance(side, Dragoman) and not kill:
            after_dragoman(side, machine, process, outcome)
            if heals:
                source = lab.copy(source, f"{name}-hub-copy")
                _heal(side, hub, machine, outcome)
        machine.vanish()
        outcome.leaked = [f"disk: {path}" for path in leaks(TOKEN, machine.folder)]
        outcome.leaked += [f"uploaded: {path}" for path in leaked_uploads(hub, REPO, TOKEN)]
        if hub.key(REPO) in hub.repositories:
            outcome.held_bytes, outcome.peak_bytes = hub.held_bytes(REPO), hub.peak_bytes(REPO)
        calm(hub)
        if resumes and source == f"{name}-hub":
            with side.machine(lab.folder / f"{name}-resumed", hub, valid_token(hub)) as fresh:
                outcome.resumed = side.resume(fresh, hub)
    if source != f"{name}-hub":
        with lab.hub(source) as hub, side.machine(lab.folder / f"{name}-resumed", hub) as fresh:
            outcome.resumed = side.resume(fresh, hub)
    outcome.seconds = time.monotonic() - started
    return outcome


def _to_the_end(side: Side, machine: Machine, process: Process, limit: float, outcome: Outcome) -> None:
    """Wait until it has trained and uploaded, or hangs."""
    wait_until(lambda: process.exit_code is not None or side.has_begun(machine), START_SECONDS)
    if isinstance(side, Dragoman):
        seen = Degraded()
        side.watch(machine, process, limit, seen)
        outcome.degraded, outcome.degraded_seconds = seen.reasons, round(seen.longest_seconds, 1)
    else:
        wait_until(lambda: process.exit_code is not None or side.has_trained(machine), limit)
    if side.has_trained(machine):
        outcome.ended = "exit 0"  # it would end here
    else:
        outcome.ended = f"hangs ({limit:.0f} s)" if process.exit_code is None else f"exit {process.exit_code}"


def take_down(lab: Lab, side: Side, machine: Machine, process: Process, verdict: Verdict, outcome: Outcome) -> None:
    """What was saved, what the repository holds of it, and what was said."""
    talk = process.talk
    outcome.made, outcome.last_line = side.saved(machine), talk[-1] if talk else ""
    outcome.said = lab.unusual(side, talk)
    note_verdict(verdict, outcome)
    if outcome.ended == "exit 0" and (len(outcome.durable) < len(outcome.made) or outcome.torn_at_end):
        outcome.silent = in_a_word(outcome.said)


def note_verdict(verdict: Verdict, outcome: Outcome) -> None:
    """What the repository held."""
    outcome.durable = [f"{step}" if trainer == 0 else f"{step}b" for trainer, step in verdict.durable]
    outcome.end_step, outcome.commits, outcome.torn = verdict.end_step, verdict.commits, verdict.torn
    outcome.torn_at_end, outcome.duplicates, outcome.falls = verdict.end.torn, verdict.duplicates, verdict.falls
    outcome.root_step = verdict.end.root[1] if verdict.end.root else -1
    if verdict.bare:
        outcome.remarks.append(f"{verdict.bare} commits without weights at the root")


def in_a_word(said: Sequence[str]) -> str:
    """Whether lines say that something was lost."""
    if not said:
        return "silent"
    return "requests only" if all(map(ONLY_REQUESTS.search, said)) else "said"


def _push(side: Recipe, hub: HubStandIn, machine: Machine, process: Process, outcome: Outcome) -> None:
    """Let the recipe push its final model, as some do at the end."""
    process.go_on()
    if not process.ended(40):
        outcome.final_push = "hangs"
        return
    verdict, talk = side.judge(hub, [machine]), process.talk
    error = next((line for line in reversed(talk) if re.match(r"[\w.]+(Error|Exception)\b", line)), "")
    outcome.final_push = f"exit {process.exit_code}" + (f": {error}" if error else "")
    if verdict.end.torn:
        outcome.final_push += f"; then {verdict.end.torn}"


def after_dragoman(side: Dragoman, machine: Machine, process: Process, outcome: Outcome) -> None:
    """What `status` says once the command has ended."""
    found = status(machine.folder / "run")
    seen = Degraded(outcome.degraded, outcome.degraded_seconds)
    note(found, seen)
    outcome.degraded_seconds = round(seen.longest_seconds, 1)
    outcome.status = {name: found[name] for name in ("state", "step", "safe", "degraded")}
    skipped = [step for event in side.events(machine, "upload_skipped") for step in event["steps"]]
    if skipped:
        outcome.remarks.append(f"not uploaded, and said so: step {', '.join(map(str, skipped))}")
    if not outcome.degraded:
        failed = side.events(machine, "replication_failed")
        outcome.degraded = list(dict.fromkeys(f"(terminal only) {event['reason']}" for event in failed))


def _heal(side: Dragoman, hub: HubStandIn, machine: Machine, outcome: Outcome) -> None:
    """End the fault; the process that copies is alive and goes on by itself."""
    before, began = outcome.end_step, time.monotonic()
    calm(hub, machine)
    hub.clock = lambda: time.time() + 3700.0
    wait_until(lambda: not machine.alive(), 25)
    after = side.judge(hub, [machine]).end_step
    seconds = time.monotonic() - began
    outcome.caught_up = (
        f"from step {before} to {after} in {seconds:.1f} s" if after > before else f"nothing in {seconds:.0f} s"
    )
