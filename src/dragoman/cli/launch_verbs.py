"""The verbs that start machines elsewhere and stop paying for them."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from dragoman.cli import launch_reports as reports
from dragoman.cli import output, settings
from dragoman.cli.grammar import TRAIN, AsJson, app, verb
from dragoman.errors import InputError
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
    job, plan, candidates = _chosen(config, said) if platform == AUTO else (*_planned(config, said, platform), None)
    preview = Preview(job, plan)
    _check(preview)
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
    _confirm(preview, yes)
    reports.launched(_start(job, plan), job, facts, as_json=json)


@verb(app, TRAIN)
def stop(
    machine: Annotated[
        str, Parameter(help="PLATFORM:ID as `launch` said, or the store or name of a run that was started from here.")
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
    from dragoman.launch import clients, started

    handle = started.find(machine)
    clients.client_for(handle.platform).release(handle)
    reports.stopped(handle, as_json=json)


def _planned(config: "RunConfig", said: LaunchOptions, platform: str) -> "tuple[Job, Plan]":
    from dragoman import platforms
    from dragoman.launch import clients, loading

    job = loading.job(config, said, platforms.find(platform))
    return job, clients.plan_for(job)


def _chosen(config: "RunConfig", said: LaunchOptions) -> "tuple[Job, Plan, list[Candidate]]":
    from dragoman.launch.auto import choose

    choice = choose(config, said, _ranked(config, said))
    return choice.job, choice.plan, list(choice.candidates)


def _ranked(config: "RunConfig", said: LaunchOptions) -> "Iterator[Candidate]":
    """Every machine that is known, by its price an hour, and whether the model fits.

    To be replaced by the ranking of `estimate`, which knows speed, sessions and risk.
    """
    from dragoman import platforms
    from dragoman.launch.auto import Candidate

    every = [(place, offer) for place in platforms.every().values() for offer in place.offers]
    wanted = [(place, offer) for place, offer in every if said.gpu in (None, offer.gpu, offer.flavor)]
    for place, offer in sorted(wanted, key=lambda one: one[1].usd_per_hour or 0.0):
        fits, why = _fits(config, offer.gpu)
        price = f"${offer.usd_per_hour:.2f} an hour" if offer.usd_per_hour else "no price by the hour"
        yield Candidate(place, offer, f"{price}; {why}", fits)


def _fits(config: "RunConfig", gpu: str) -> tuple[bool, str]:
    from dragoman.estimate import estimate

    if config.model.model.startswith("scratch:"):
        return True, "a scratch model fits anywhere"
    row = estimate(config, [gpu])[0]
    need = f"needs {row.need_bytes / 2**30:.1f} of {row.machine.memory_bytes / 2**30:.1f} GiB"
    return row.fits, f"fits, {need}" if row.fits else f"does not fit, {need}"


def _check(preview: "Preview") -> None:
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


def _confirm(preview: "Preview", yes: bool) -> None:
    if yes or not preview.costs:
        return
    most = f"up to ${preview.job.most_usd:.2f}"
    if not sys.stdin.isatty():
        raise InputError(f"this may cost {most}, and nobody can be asked", "--yes, or --dry-run to look first")
    if not output.confirmed(f"Start it, for {most}?"):
        raise InputError("not started; nothing was spent", "--dry-run writes what would be sent")


def _start(job: "Job", plan: "Plan") -> "Handle":
    from dragoman.launch import clients, destination, started

    client = clients.client_for(job.platform.name)
    client.check(job, plan)
    destination.check(job)
    handle = client.submit(job, plan)
    started.note(handle, job, time.time())
    return handle
