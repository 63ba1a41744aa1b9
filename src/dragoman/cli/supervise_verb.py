"""The verb that keeps a run going from outside."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from dragoman.cli import output, settings
from dragoman.cli import supervise_reports as reports
from dragoman.cli.grammar import TRAIN, AsJson, app, verb
from dragoman.errors import ExitCode, InputError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from dragoman.launch.supervise import Look

AGAIN_SECONDS = 300.0
"""When to look again after a store or a platform did not answer."""


@verb(app, TRAIN)
def supervise(
    url: Annotated[str, Parameter(help="URL of the run's store, or USER/REPO on the Hub.")],
    /,
    *,
    on: Annotated[
        list[str], Parameter(help="Where machines may be started, in order: PLATFORM or PLATFORM:GPU, `kaggle vast`.")
    ],
    max_usd: Annotated[float, Parameter(help="Most to spend on all machines of the run together, in USD.")] = 0.0,
    max_hours: Annotated[float, Parameter(help="Most hours of all machines of the run together.")] = 100.0,
    config: Annotated[
        Path | None,
        Parameter(name=["--config", "-c"], help="The run file; only a run that never saved, or `launch:`, needs it."),
    ] = None,
    watch: Annotated[bool, Parameter(help="Look again and again until the run is done, instead of once.")] = False,
    json: AsJson = False,
) -> ExitCode:
    """Start the next machine for a run when none is at work, until it is done or the budget is spent.

    One look reads the store, does at most one thing and ends, so cron, CI or a free machine may do it; what was started
    stands in the store, not here. A machine that works no more is released first. Exit 4 when no further machine would
    help or may be paid.

    Examples:

        dragoman supervise hf://USER/fine-tuned-nllb-600M --on kaggle

        dragoman supervise USER/fine-tuned-nllb-600M --on kaggle runpod:rtx4090 --max-usd 5 --watch
    """
    look = _looking(url, on, max_usd, max_hours, config)
    while True:
        try:
            found = look()
        except StoreUnavailable as error:
            if not watch:
                raise
            output.say(f"{error.message}; looking again in {output.duration(AGAIN_SECONDS)}")
            time.sleep(AGAIN_SECONDS)
            continue
        ended = reports.look(found, as_json=json)
        if ended is not None:
            return ended
        if not watch:
            return ExitCode.DONE
        time.sleep(found.seconds)


def _looking(
    url: str, on: list[str], max_usd: float, max_hours: float, config_file: Path | None
) -> "Callable[[], Look]":
    """A function that looks once."""
    from dragoman.checkpoint.log import RunLog
    from dragoman.checkpoint.replicate import access
    from dragoman.checkpoint.stored import stored_settings
    from dragoman.config import RunConfig
    from dragoman.launch import relaunch
    from dragoman.launch.choosing import Policy
    from dragoman.launch.ledger import Ledger
    from dragoman.launch.options import LaunchOptions
    from dragoman.launch.supervise import look
    from dragoman.store.address import FILE, named, open_store

    where = named(url)
    if where.startswith(FILE):
        raise InputError(f"{url}: no other machine reaches a folder of this one", "hf://USER/REPO or s3://BUCKET/PATH")
    places = relaunch.places(on)
    if not max_usd and (dear := [one for one in places if one.offer.usd_per_hour]):
        raise InputError(f"--max-usd: {dear[0].platform.title} costs money, and nobody said how much", "--max-usd 5")
    given = settings.load(None, config_file) if config_file else RunConfig()
    options = settings.launch_options(LaunchOptions(), config_file) if config_file else LaunchOptions()
    store = open_store(where, access(given))

    def once() -> "Look":
        log = RunLog(store)
        try:
            run = stored_settings(log)
        except InputError:
            if config_file is None:
                raise
            run = given
        run = run.model_copy(update={"store": run.store.model_copy(update={"store": where, "hub_model_id": None})})
        policy = Policy(places=places, max_usd=max_usd, max_hours=max_hours, lease_seconds=run.store.lease_minutes * 60)
        return look(log, Ledger(store), policy, relaunch.begin(run, options), time.time)

    return once
