"""The verbs that start machines elsewhere and stop paying for them."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from dragoman.cli import launch_reports as reports
from dragoman.cli import output, settings
from dragoman.cli.grammar import TRAIN, AsJson, app, verb
from dragoman.errors import DragomanError, InputError
from dragoman.launch.options import LaunchOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dragoman.config import RunConfig
    from dragoman.launch.auto import Candidate
    from dragoman.launch.job import Handle, Job, Plan
    from dragoman.launch.preview import Preview

AUTO = "auto"


@verb(app, TRAIN)
def launch(
    platform: Annotated[
        str,
        Parameter(help="space, jobs, colab, kaggle, runpod, lambda, vast or sky; `auto` takes the best for --max-usd."),
    ],
    run_file: Annotated[Path, Parameter(help="The run as a YAML file; `launch:` in it takes the options below.")],
    /,
    *,
    options: Annotated[LaunchOptions, Parameter(name="*")] = LaunchOptions(),
    dry_run: Annotated[bool, Parameter(help="Send nothing: write all that would be sent into --output.")] = False,
    folder: Annotated[
        Path | None, Parameter(name="--output", help="Folder of a dry run; left out: runs/launch/NAME-PLATFORM.")
    ] = None,
    yes: Annotated[bool, Parameter(help="Do not ask before money is spent.")] = False,
    json: AsJson = False,
) -> None:
    """Start a run on a machine elsewhere, once cost, end and storage were shown and confirmed.

    The package that runs here travels along, with the run file and data files that lie here. The run's store must be
    one that the machine reaches; tokens go from this machine's environment into the platform's secrets, and nowhere
    else.

    Examples:

        dragoman launch jobs run.yaml --gpu l4 --max-hours 8

        dragoman launch jobs run.yaml --dry-run

        dragoman launch auto run.yaml --max-usd 5 --yes --json
    """
    from dragoman.launch.preview import Preview

    config, said = settings.load(None, run_file), settings.launch_options(options, run_file)
    job, plan, candidates = _chosen(config, said) if platform == AUTO else (*planned(config, said, platform), None)
    preview = Preview(job, plan)
    refuse_secrets(preview)
    facts: dict[str, Any] = preview.to_json()
    if candidates is not None:
        facts["candidates"] = [candidate.to_json() for candidate in candidates]
        reports.candidates(candidates, job)
    reports.preview(preview)
    if dry_run:
        folder = folder or Path("runs/launch") / f"{job.name}-{job.platform.name}"
        _write(preview, folder)
        reports.planned(facts, folder, as_json=json)
        return
    confirm(preview, yes)
    reports.launched(start(job, plan), job, facts, as_json=json)


@verb(app, TRAIN)
def stop(
    machine: Annotated[
        str, Parameter(help="PLATFORM:ID as `launch` said, or the store of a run, or the name of one started here.")
    ],
    /,
    *,
    json: AsJson = False,
) -> None:
    """End a machine that `launch` started, so that nothing more is paid for it. Doing so twice does no harm.

    What is safe in the store stays there. Work since the last save is lost where the platform gives no time to save.

    Examples:

        dragoman stop jobs:USER/687fb701029421ae5549d998

        dragoman stop hf://USER/fine-tuned-nllb-600M
    """
    from dragoman.launch import clients, hiring, started

    found = started.find(machine)
    if found is None:
        reports.stopped(hiring.stopped(machine, time.time), as_json=json)
        return
    clients.client_for(found.handle.platform).release(found.handle)
    if found.store:
        try:
            hiring.ended(found.store, found.handle, time.time)
        except DragomanError as error:
            output.say(f"released, but that is not written down in its store: {error.message}")
    reports.stopped([found.handle], as_json=json)


def planned(config: "RunConfig", said: LaunchOptions, platform: str) -> "tuple[Job, Plan]":
    """The run as a job on a platform, and what will be handed over for it."""
    from dragoman import platforms
    from dragoman.launch import clients, loading

    job = loading.job(config, said, platforms.find(platform))
    return job, clients.plan_for(job)


def _chosen(config: "RunConfig", said: LaunchOptions) -> "tuple[Job, Plan, list[Candidate]]":
    from dragoman.launch.auto import choose

    choice = choose(config, said, _ranked(config, said))
    return choice.job, choice.plan, list(choice.candidates)


def _ranked(config: "RunConfig", said: LaunchOptions) -> "Iterator[Candidate]":
    """Every machine that is known, the best first, by what `estimate` says of it."""
    from dragoman.estimate import ranking
    from dragoman.estimate.work import work_of
    from dragoman.launch import clients, sky_client
    from dragoman.launch.auto import Candidate

    budget = ranking.Budget(max_usd=said.max_usd)
    machines = {"devices": config.ranks.devices or said.num_gpus, "nodes": max(config.ranks.nodes, said.nodes)}
    config = config.model_copy(update={"ranks": config.ranks.model_copy(update=machines)})
    ranked = ranking.rank(config, work_of(config), budget=budget)
    for one in ranked.options:
        if said.gpu not in (None, one.offer.gpu, one.offer.flavor):
            continue
        takes = (
            f"{one.machine_hours.low:.1f} to {one.machine_hours.high:.1f} h, ${one.usd.low:.2f} to ${one.usd.high:.2f}"
        )
        if clients.way(one.platform.name) == "sky" and not sky_client.is_there():
            yield Candidate(one.platform, one.offer, "needs SkyPilot, which is not installed here", False)
        elif not one.has_ranks:
            yield Candidate(one.platform, one.offer, "there is none with so many GPUs, or machines together", False)
        elif not one.is_possible:
            yield Candidate(one.platform, one.offer, "the run does not fit, or comes not forward in a session", False)
        elif not budget.allows(one):
            yield Candidate(one.platform, one.offer, f"may cost more than is allowed: {takes}", False)
        else:
            yield Candidate(one.platform, one.offer, "; ".join([takes, *ranked.reasons(one), *one.risks]))


def refuse_secrets(preview: "Preview") -> None:
    """Nothing that leaves this machine may hold one of its secrets."""
    from dragoman.launch import credentials
    from dragoman.launch import preview as looking

    looking.check(preview.plan, credentials.known(preview.plan.secrets))


def _write(preview: "Preview", folder: Path) -> None:
    from dragoman.launch import bundle
    from dragoman.launch import preview as looking

    looking.write(preview, folder)
    run_file = folder / bundle.RUN_FILE
    if run_file.is_file():
        settings.load(None, run_file)


def confirm(preview: "Preview", yes: bool, machines: int = 1) -> None:
    """Ask a person before money is spent on so many machines.

    Raises:
        InputError: Nobody agreed.
    """
    if yes or not preview.costs:
        return
    most = f"up to ${preview.job.most_usd * machines:.2f}"
    if not sys.stdin.isatty():
        raise InputError(f"this may cost {most}, and nobody can be asked", "--yes, or --dry-run to look first")
    if not output.confirmed(f"Start it, for {most}?"):
        raise InputError("not started; nothing was spent", "--dry-run writes what would be sent")


def start(job: "Job", plan: "Plan") -> "Handle":
    """Start the machine, and remember it here and in the run's store."""
    from dragoman.launch import hiring, started

    handle = hiring.launched(job, plan, time.time)
    started.note(handle, job, time.time())
    return handle
