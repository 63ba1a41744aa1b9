"""What is shown before a machine is started, and what to do with it then."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dragoman import platforms
from dragoman.cli.output import data, print_json, say
from dragoman.launch.preview import PLAN_FILE
from dragoman.launch.started import words

if TYPE_CHECKING:
    from dragoman.launch.auto import Candidate
    from dragoman.launch.job import Handle, Job
    from dragoman.launch.preview import Preview


def candidates(found: "Iterable[Candidate]", chosen: "Job") -> None:
    """Every machine that was thought of, the one that is taken, and why not the others."""
    for one in found:
        takes = one.platform == chosen.platform and one.offer == chosen.offer
        mark = "*" if takes else " " if one.is_possible else "-"
        say(f"{mark} {one.platform.name} {one.offer.flavor}: {one.why}")


def preview(seen: "Preview") -> None:
    """Machine, cost, end, storage, what is sent, and what a person has to do; as talk."""
    job, plan = seen.job, seen.plan
    nodes = f"{job.num_nodes} × " if job.num_nodes > 1 else ""
    spot = ", may be taken away" if job.spot else ""
    say(f"{job.name} on {job.platform.title}: {nodes}{job.offer.flavor} ({job.offer.gpu}{spot}), trains {job.store}")
    say(f"cost: {_cost(seen)}")
    say(f"end: {_end(job)}")
    if held := seen.held:
        say(f"storage: {held} (--keep {job.config.save.keep})")
    size = sum(map(len, plan.files.values()))
    secrets = f"; secrets, if set here: {', '.join(plan.secrets)}" if plan.secrets else ""
    say(f"sent: {len(plan.files)} files, {size / 1e6:,.1f} MB{secrets}")
    for number, step in enumerate(plan.steps, start=1):
        say(f"by hand {number}: {step}")


def _cost(seen: "Preview") -> str:
    job, offer = seen.job, seen.job.offer
    if offer.usd_per_month:
        return f"comes with a subscription of ${offer.usd_per_month:g} a month"
    if not seen.costs:
        return "nothing"
    attempts = f" in each of {job.attempts} attempts" if job.attempts > 1 else ""
    most = f"at most ${job.most_usd:.2f} if it runs to its limit{attempts}"
    return f"${seen.usd_per_hour:.2f} an hour, {most}; prices of {platforms.as_of()}, without storage and traffic"


def _end(job: "Job") -> str:
    session = job.config.training.max_hours
    own = f"the run saves and stops after {session:.1f} h; " if session else ""
    budget = job.max_usd is not None and job.most_usd > 0.98 * job.max_usd
    why = f", which is what ${job.max_usd:g} buy" if budget else ""
    ends = "the platform ends the machine" if job.platform.has_limit else "the machine ends itself"
    return f"{own}{ends} after {job.max_hours:.1f} h, whatever happens{why}"


def planned(facts: Mapping[str, Any], folder: Path, as_json: bool) -> None:
    """Where the files of a dry run are."""
    if as_json:
        print_json({**facts, "folder": str(folder)})
        return
    data(f"nothing was sent; all of it is in {folder} (how it would be started: {folder / PLAN_FILE})")


def launched(handle: "Handle", job: "Job", facts: Mapping[str, Any], as_json: bool) -> None:
    """The machine that was started, how to watch it and how to stop paying."""
    if as_json:
        print_json({**facts, "handle": words(handle), "id": handle.id, "url": handle.url})
        return
    data(f"started: {words(handle)}{f'  {handle.url}' if handle.url else ''}")
    data(f"watch: dragoman status {job.store}")
    data(f"stop paying: dragoman stop {words(handle)}")


def stopped(handles: "Sequence[Handle]", as_json: bool) -> None:
    """The machines that are not paid for any more."""
    for handle in handles:
        if as_json:
            print_json({"handle": words(handle), "released": True})
        else:
            data(f"released: {words(handle)}")
