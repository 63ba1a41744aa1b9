"""`dragoman estimate`: what a run takes, before anything is rented."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from cyclopts.types import NonNegativeFloat, PositiveFloat

from dragoman.cli import figures, output, settings
from dragoman.cli.grammar import TRAIN, AsJson, ConfigFile, Options, app, verb
from dragoman.config import RunConfig
from dragoman.errors import InputError

if TYPE_CHECKING:
    from dragoman.estimate.refresh import Answer


@verb(app, TRAIN)
def estimate(
    *,
    platform: Annotated[
        list[str], Parameter(help="Only these platforms, such as `colab kaggle`; left out: all that are known.")
    ] = [],  # noqa: B006  cyclopts never changes it
    gpu: Annotated[
        list[str], Parameter(help="Only these GPUs, such as `t4 l4`; `cpu` for this machine without one.")
    ] = [],  # noqa: B006
    max_usd: Annotated[NonNegativeFloat | None, Parameter(help="Spend at most this on the whole run, in USD.")] = None,
    max_days: Annotated[PositiveFloat | None, Parameter(help="Be done after this many days at most.")] = None,
    tokens_per_pair: Annotated[
        PositiveFloat | None,
        Parameter(help="Target tokens of a pair, where nothing is prepared; left out: 27."),
    ] = None,
    measure: Annotated[
        bool, Parameter(help="Train 40 steps of the run on this machine, and reckon with the speed of 30 of them.")
    ] = False,
    refresh: Annotated[bool, Parameter(help="First ask the platforms for their prices, where they tell.")] = False,
    memory: Annotated[bool, Parameter(help="Only tell what fits where, trained in which way.")] = False,
    options: Options = RunConfig(),
    config: ConfigFile = None,
    json: AsJson = False,
) -> None:
    """Tell what a run takes: steps, hours, memory, checkpoints, sessions, price; and where to train it.

    A run that is prepared is reckoned exactly; else --max-samples says how many pairs each direction has. Hours on GPUs
    are modelled and given as a range. Without --language-pairs it shows the table of the starting document, corrected.

    Examples:

        dragoman estimate --language-pairs en-fr en-de --max-samples 20000 --epochs 3

        dragoman estimate -c run.yaml --max-usd 5 --max-days 2

        dragoman estimate -c run.yaml --platform kaggle colab --json

        dragoman estimate -c run.yaml --measure

        dragoman estimate --refresh

        dragoman estimate --memory --gpu t4 l4
    """
    wanted = [part for name in gpu for part in name.split(",") if part]
    places = [part for name in platform for part in name.split(",") if part]
    found: dict[str, Any] = {}
    if refresh:
        found["prices"] = [answer.to_json() for answer in figures.asked(_refreshed(), as_json=json)]
    loaded = settings.load(options, config, stored=_stored(options, config))
    if memory:
        from dragoman.estimate.memory import ways

        figures.memory(ways(loaded, wanted), all_ways=bool(wanted), as_json=json)
        return
    if loaded.data.language_pairs:
        found |= _run(loaded, places, wanted, (max_usd, max_days), tokens_per_pair, measure=measure, as_json=json)
    elif measure:
        raise InputError("--measure: which run? --language-pairs is missing", "dragoman estimate -c run.yaml --measure")
    elif not refresh:
        found |= _guide(loaded, wanted, tokens_per_pair, as_json=json)
    if json:
        output.print_json({"schema": 2} | found)


def _run(
    config: RunConfig,
    places: list[str],
    wanted: list[str],
    budget: tuple[float | None, float | None],
    tokens_per_pair: float | None,
    *,
    measure: bool,
    as_json: bool,
) -> dict[str, Any]:
    """Reckon with a run, and show what comes out unless a program reads it."""
    from dragoman import gpus
    from dragoman.estimate.measure import measure as time_steps
    from dragoman.estimate.ranking import Budget, rank
    from dragoman.estimate.work import corpus_of, directions_of, work_of

    work = work_of(config, tokens_per_pair)
    measured = time_steps(config, corpus_of(config, directions_of(config)), output.say) if measure else None
    here = gpus.CPU in wanted
    within = Budget(*budget)
    ranking = rank(config, work, platforms=places, only=wanted, budget=within, measured=measured, here=here)
    if within != Budget():
        ranking.chosen()
    if not as_json:
        figures.ranking(ranking, measured, config.model.model)
    return ranking.to_json() | ({"measured": measured.to_json()} if measured else {})


def _guide(config: RunConfig, wanted: list[str], tokens_per_pair: float | None, *, as_json: bool) -> dict[str, Any]:
    from dragoman.estimate.guide import corrected

    rows = corrected(config, wanted, tokens_per_pair)
    if not as_json:
        figures.guide(rows)
    return {"guide": [row.to_json() for row in rows]}


def _refreshed() -> "Iterator[Answer]":
    from dragoman.estimate.refresh import refresh
    from dragoman.store.disk import Disk

    return refresh(Disk())


def _stored(options: RunConfig, config: Path | None) -> RunConfig | None:
    """The settings of a run that has begun, where it is named alone."""
    from dragoman.checkpoint.run_folder import stored_config

    folder = options.save.output
    return stored_config(folder.expanduser()) if folder and not config else None
